//! A store with its daemon and its mount, and what it was told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cairn_store::{Store, VerifyOptions};
use harness::bytes::{noise, text};
use harness::program::{command, finish, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::model::{Key, Model};

/// The packages: each is added to one of the stores and pulled to the other.
pub(crate) const PACKAGES: [&str; 2] = ["a", "b"];
/// Versions of each.
pub(crate) const VERSIONS: u64 = 8;
/// Trees that versions are of: some versions are of the same.
const TREES: u64 = 5;

/// Trees on disk and in memory. They share a file.
pub(crate) struct Trees {
    path: PathBuf,
    files: Vec<BTreeMap<&'static str, Vec<u8>>>,
}

impl Trees {
    pub(crate) fn make(path: &Path) -> Self {
        let files = |tree: u64| {
            let own = noise(tree, 30_000 + usize::try_from(tree).unwrap() * 9000);
            BTreeMap::from([("same", noise(100, 60_000)), ("own", own), ("text", text(tree, 7000))])
        };
        let files: Vec<_> = (0..TREES).map(files).collect();
        for (tree, files) in files.iter().enumerate() {
            let dir = path.join(tree.to_string());
            fs::create_dir_all(&dir).unwrap();
            files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
        }
        Self { path: path.to_owned(), files }
    }

    /// Where the tree of a version is.
    pub(crate) fn path(&self, (_, number): Key) -> PathBuf {
        self.path.join((number % TREES).to_string())
    }

    pub(crate) fn files(&self, (_, number): Key) -> &BTreeMap<&'static str, Vec<u8>> {
        &self.files[usize::try_from(number % TREES).unwrap()]
    }
}

/// A store, and who works on it.
pub(crate) struct Node<'a> {
    pub(crate) trees: &'a Trees,
    dir: PathBuf,
    port: u16,
    /// What it was told. A leaf lock.
    model: Mutex<Model>,
    daemon: Option<Child>,
    /// Whether its daemon was killed, or is about to be.
    pub(crate) killed: AtomicBool,
}

impl<'a> Node<'a> {
    pub(crate) fn new(dir: &Path, name: &str, trees: &'a Trees) -> Self {
        let dir = dir.join(name);
        fs::create_dir_all(dir.join("mnt")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let model = Mutex::default();
        Self { trees, dir, port, model, daemon: None, killed: AtomicBool::new(false) }
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn mnt(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_cairn"), arguments, &self.dir, &self.store());
        for variable in ["HTTP_PORT", "BINARIES_DIR", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(variable);
        }
        command
    }

    /// Starts a daemon and does not wait for it.
    pub(crate) fn begin(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let (mnt, listen) = (self.mnt(), format!("127.0.0.1:{}", self.port));
        let arguments =
            ["daemon", "--mount", mnt.to_str().unwrap(), "--listen", &listen, "--rate", "1000000"];
        self.daemon = Some(self.command(&arguments).stderr(log).spawn().unwrap());
    }

    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.begin();
        let mut said = String::new();
        let stdout = self.daemon.as_mut().and_then(|daemon| daemon.stdout.take());
        stdout.unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "ready\n", "the daemon does not start: {}", self.log());
        self.killed.store(false, Ordering::SeqCst);
    }

    /// Kills the daemon; the mount is dead from then on.
    pub(crate) fn kill(&mut self) {
        self.strike();
        self.bury();
    }

    /// Waits for the end of the daemon that was killed.
    pub(crate) fn bury(&mut self) {
        self.daemon.take().unwrap().wait().unwrap();
    }

    /// Sends the signal and waits for nothing.
    pub(crate) fn strike(&self) {
        self.killed.store(true, Ordering::SeqCst);
        let daemon = Pid::from_child(self.daemon.as_ref().unwrap());
        kill_process(daemon, Signal::KILL).unwrap();
    }

    /// Ends the daemon in order.
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
        let mut status = None;
        until("a daemon to end", || {
            status = daemon.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0), "{}", self.log());
        assert!(fs::read_dir(self.mnt()).unwrap().next().is_none(), "something stays mounted");
    }

    /// Holds the store against what was acknowledged: names in any case, and every byte, read past the daemon and through
    /// its mount.
    pub(crate) fn check(&mut self, thoroughly: bool, round: u64) {
        let store = Store::open(&self.store()).unwrap();
        let view = store.view().unwrap();
        self.model().settle(&view, PACKAGES);
        if !thoroughly {
            return;
        }
        let report = store.verify(&VerifyOptions::default(), &()).unwrap();
        assert!(
            report.is_clean(),
            "round {round}: {:?} {:?}\n{}",
            report.damage,
            report.affected,
            self.log()
        );
        for key in self.model().certain() {
            for (name, bytes) in self.trees.files(key) {
                let path = self.mnt().join(key.0).join(key.1.to_string()).join(name);
                let read = fs::read(&path).unwrap_or_else(|error| {
                    panic!("round {round}: {}: {error}\n{}", path.display(), self.log())
                });
                assert!(read == *bytes, "round {round}: {}", path.display());
            }
        }
        let profile = self.model().profile();
        if profile.current > 0 {
            let shown = fs::read_link(self.mnt().join("current")).unwrap();
            assert_eq!(shown, Path::new(&format!("generations/{}", profile.current)));
        }
        if round.is_multiple_of(16) {
            self.verify();
        }
    }

    /// What the program itself says of its store.
    pub(crate) fn verify(&self) {
        let output = finish(self.command(&["verify"]).spawn().unwrap());
        let said = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said:?}");
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.dir.display(), self.log());
        }
        // Where nothing is mounted it says so.
        let _ = Command::new("umount").arg("--lazy").arg(self.mnt()).stderr(Stdio::null()).status();
    }
}
