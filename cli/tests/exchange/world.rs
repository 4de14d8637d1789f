//! Stores, those that serve them, and the binary that works on them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Bytes of the file that versions of `tool` have in common, and of the two that differ.
pub(crate) const SAME: usize = 3_000_000;
pub(crate) const OWN: usize = 1_000_000;
pub(crate) const REST: usize = 300_000;

/// A temporary folder with stores in it.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// A store, and what is run with it.
pub(crate) struct Node<'a> {
    world: &'a World,
    name: &'static str,
}

/// A server of a test, killed when it is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    mounts: Vec<PathBuf>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for dir in &self.mounts {
            // Without a mount it says so.
            let _ = Command::new("umount").arg("--lazy").arg(dir).stderr(Stdio::null()).status();
        }
    }
}

impl Server {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// Stops it in order; gives its exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for its end; gives its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        // Its mounts are a successor's by now, or gone.
        self.mounts.clear();
        let mut status = None;
        until("a server to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("cairn-exchange-").tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn node(&self, name: &'static str) -> Node<'_> {
        Node { world: self, name }
    }

    /// A store `origin` with `tool` 1 and 2, the channel `stable` at 1.
    pub(crate) fn origin(&self) -> Node<'_> {
        let node = self.node("origin");
        for version in 1..=2 {
            let tree = self.tree(version);
            let version = version.to_string();
            node.good(&["add", tree.to_str().unwrap(), "--name", "tool", "--version", &version]);
        }
        node.good(&["tag", "tool@1", "stable"]);
        node
    }

    /// The files of a version of `tool`: `same`, `own`, `rest`, and `bin/tool`, a copy of cat(1).
    pub(crate) fn tree(&self, version: u64) -> PathBuf {
        let tree = self.path(&format!("tree-{version}"));
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("same"), noise(100, SAME)).unwrap();
        fs::write(tree.join("own"), noise(version, OWN)).unwrap();
        fs::write(tree.join("rest"), noise(200 + version, REST)).unwrap();
        fs::copy("/bin/cat", tree.join("bin/tool")).unwrap();
        fs::set_permissions(tree.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        tree
    }
}

impl Node<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.world.path(self.name).join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let (dir, store) = (self.world.dir.path(), self.path(""));
        let mut command = command(env!("CARGO_BIN_EXE_cairn"), arguments, dir, &store);
        for variable in ["HTTP_PORT", "BINARIES_DIR", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs what has to succeed; gives its standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = finish(self.command(arguments).spawn().unwrap());
        assert!(output.status.success(), "{arguments:?}: {}\n{}", text(&output.stderr), self.log());
        text(&output.stdout)
    }

    /// Runs what has to fail with `code`; gives its standard error.
    pub(crate) fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = finish(self.command(arguments).spawn().unwrap());
        let (said, printed) = (text(&output.stderr), text(&output.stdout));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{printed}\n{}", self.log());
        said
    }

    /// Runs what has to succeed with `--json`; gives its lines.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.good(&[arguments, &["--json"]].concat());
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        printed.lines().map(parse).collect()
    }

    /// Serves it on a port that the system chooses.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Server {
        self.serve_at("127.0.0.1:0", arguments)
    }

    /// Serves it at an address.
    pub(crate) fn serve_at(&self, address: &str, arguments: &[&str]) -> Server {
        self.begin(&[&["serve", "--listen", address], arguments].concat(), Vec::new())
    }

    /// Starts a daemon with a mount.
    pub(crate) fn mount(&self, dir: &Path, arguments: &[&str]) -> Server {
        fs::create_dir_all(dir).unwrap();
        let mount = ["daemon", "--mount", dir.to_str().unwrap()];
        self.begin(&[&mount, arguments].concat(), vec![dir.to_owned()])
    }

    /// Starts a daemon, and waits until it is ready.
    pub(crate) fn begin(&self, arguments: &[&str], mounts: Vec<PathBuf>) -> Server {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut child = self.command(arguments).stderr(log).spawn().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let mut server = Server { child, url: String::new(), mounts };
        assert_eq!(said, "ready\n", "{arguments:?}: {}", self.log());
        server.url = self.status()["serving"]["url"].as_str().unwrap_or_default().to_owned();
        server
    }

    pub(crate) fn status(&self) -> Value {
        self.json(&["status"]).remove(0)
    }

    fn log_path(&self) -> PathBuf {
        self.world.path(&format!("{}.log", self.name))
    }

    /// What its daemons have said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Bytes of its packs, whole or not.
    pub(crate) fn pack_bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(self.path("packs")) else { return 0 };
        // One may be renamed meanwhile.
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// Whether a version can be seen.
    pub(crate) fn has(&self, spec: &str) -> bool {
        let output = finish(self.command(&["ls", spec]).spawn().unwrap());
        output.status.success()
    }

    /// A version's files are what they should be.
    pub(crate) fn check(&self, version: u64) {
        let dest = self.world.path(&format!("{}-exported-{version}", self.name));
        self.good(&["export", &format!("tool@{version}"), dest.to_str().unwrap(), "--force"]);
        assert!(fs::read(dest.join("own")).unwrap() == noise(version, OWN));
        assert!(fs::read(dest.join("same")).unwrap() == noise(100, SAME));
        let clean = &self.json(&["verify"])[0];
        assert_eq!(clean["clean"], true, "{clean}");
    }
}

/// Whether something can be mounted; says loudly if not.
pub(crate) fn can_mount(test: &str) -> bool {
    let can = Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root();
    if !can {
        eprintln!("SKIPPED: {test}: it takes root and /dev/fuse");
    }
    can
}
