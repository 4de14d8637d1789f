//! A store with a mount and its daemon, and whoever uses it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, test_kill_process,
};
use serde_json::Value;

/// A file that is read through the page cache, and one that the kernel reads by itself.
const SMALL: usize = 20_000;
pub(crate) const LARGE: usize = 700_000;

/// Two versions of a package `tool`, of which the first is used: `bin/tool` is a copy of cat(1), `small`, `large` and
/// `version` differ between them.
pub(crate) struct World {
    pub(crate) daemon: Option<Daemon>,
    pub(crate) mnt: PathBuf,
    /// Where else something may be mounted.
    mounts: Vec<PathBuf>,
    log: PathBuf,
    dir: tempfile::TempDir,
}

/// A daemon of a test, killed when it is dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it is ready, or has ended; whether it is ready. To be asked once.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        said == "ready\n"
    }

    /// Lets it do nothing until SIGCONT, as one that hangs.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        // Who has read a request has to answer it, or its asker never ends.
        until("all of its threads to stop", || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            let mut states =
                threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
            states.all(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
        });
    }

    /// Waits for its end; gives its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let mut status = None;
        until("a daemon to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl World {
    /// None, said loudly, where nothing can be mounted.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: {test}: it takes root and /dev/fuse");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("cairn-survival-").tempdir().unwrap();
        let (mnt, log) = (dir.path().join("mnt"), dir.path().join("log"));
        fs::create_dir(&mnt).unwrap();
        let world = Self { daemon: None, mounts: vec![mnt.clone()], mnt, log, dir };
        for version in 1..=2 {
            let tree = world.path(&format!("tree-{version}"));
            fs::create_dir_all(tree.join("bin")).unwrap();
            fs::write(tree.join("small"), noise(version, SMALL)).unwrap();
            fs::write(tree.join("large"), noise(10 + version, LARGE)).unwrap();
            fs::write(tree.join("version"), format!("{version}")).unwrap();
            fs::copy("/bin/cat", tree.join("bin/tool")).unwrap();
            fs::set_permissions(tree.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
            let version = version.to_string();
            world.good(&["add", tree.to_str().unwrap(), "--name", "tool", "--version", &version]);
        }
        world.good(&["use", "tool@1"]);
        Some(world)
    }

    /// The same with a daemon that serves the mount.
    pub(crate) fn mounted(test: &str) -> Option<Self> {
        let mut world = Self::new(test)?;
        let mnt = world.mnt.to_str().unwrap().to_owned();
        world.daemon = Some(world.start(&["--mount", &mnt]));
        Some(world)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder for a mount beside the first.
    pub(crate) fn place(&mut self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        self.mounts.push(path.clone());
        path
    }

    /// Something below the mount.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.mnt.join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start(&self, arguments: &[&str]) -> Daemon {
        let mut daemon = self.begin(arguments);
        assert!(daemon.is_ready(), "{arguments:?}: {}", self.log());
        daemon
    }

    /// Starts a daemon.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Daemon {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command(&[&["daemon"], arguments].concat());
        Daemon { child: command.stderr(log).spawn().unwrap() }
    }

    /// Puts another daemon in the place of the one that runs.
    pub(crate) fn exchange(&mut self) {
        let next = self.start(&["--takeover"]);
        let old = self.daemon.replace(next).unwrap();
        assert_eq!(old.ended(), Some(0));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.dir.path(), &self.path("store"))
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
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    /// Runs what has to succeed with `--json`; gives its lines.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.good(&[arguments, &["--json"]].concat());
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        printed.lines().map(parse).collect()
    }

    /// Whether the daemon runs a command.
    pub(crate) fn is_busy(&self) -> bool {
        let mut stream = std::os::unix::net::UnixStream::connect(self.path("store/daemon.sock")).unwrap();
        stream.write_all(b"GET /v1/health HTTP/1.1\r\nhost: c\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.contains("\"jobs\":1")
    }

    pub(crate) fn status(&self) -> Value {
        self.json(&["status"]).remove(0)
    }

    /// What `status` says of a mount.
    pub(crate) fn state(&self, dir: &Path) -> Option<String> {
        let status = self.status();
        let mounts = status["mounts"].as_array().unwrap();
        let found = mounts.iter().find(|mount| mount["path"] == dir.to_str().unwrap())?;
        Some(found["state"].as_str().unwrap().to_owned())
    }
}

impl World {
    /// Kills a daemon of this store by its number, and no other process that may have got that number since: it is held
    /// before it is looked at, and has the store's lock open.
    fn kill_own(&self, pid: Pid) {
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        let Ok(lock) = fs::canonicalize(self.path("store/lock")) else { return };
        let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
        let mut open = fs::read_dir(folder).into_iter().flatten().flatten();
        if open.any(|one| fs::read_link(one.path()).is_ok_and(|there| there == lock)) {
            // It may have ended by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemons' log:\n{}", self.log());
        }
        // A daemon that this does not know as its child wrote its number there.
        let holder = fs::read(self.path("store/lock")).unwrap_or_default();
        let holder = serde_json::from_slice::<Value>(&holder).ok().and_then(|holder| holder["pid"].as_i64());
        let holder = holder.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let is_other = |pid: &Pid| self.daemon.as_ref().is_none_or(|one| Pid::from_child(&one.child) != *pid);
        if let Some(pid) = holder.filter(is_other) {
            self.kill_own(pid);
        }
        for dir in &self.mounts {
            // Without a mount it says so.
            let _ = Command::new("umount").arg("--lazy").arg(dir).stderr(Stdio::null()).status();
        }
    }
}

/// A copy of cat(1) that runs from the mount, and says back what it is told.
pub(crate) struct Echo {
    child: Child,
    says: BufReader<ChildStdout>,
    lines: usize,
}

impl Echo {
    pub(crate) fn start(tool: &Path) -> Self {
        let mut child = Command::new(tool).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says, lines: 0 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn check(&mut self) {
        self.lines += 1;
        let line = format!("line {}\n", self.lines);
        self.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.says.read_line(&mut answer).unwrap();
        assert_eq!(answer, line);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that does nothing for long, and ends when this is dropped.
pub(crate) struct Sleeper {
    pub(crate) child: Child,
}

impl Sleeper {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self { child: command.stdout(Stdio::piped()).spawn().unwrap() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process is there.
pub(crate) fn lives(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}

/// The bytes of `small` and of `large` in a version.
pub(crate) fn contents(version: u64) -> (Vec<u8>, Vec<u8>) {
    (noise(version, SMALL), noise(10 + version, LARGE))
}
