//! A folder of a test's own with trees in it, stores, and daemons that have them.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use harness::program::{command, finish, text};
use rustix::process::{Pid, Signal, kill_process};

/// A temporary folder; the store of its commands is `store` in it, or somewhere else.
pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) store: PathBuf,
}

/// A daemon, killed when it is dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Lets it end in order.
    pub(crate) fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("cairn-mending-").tempdir().unwrap();
        let store = dir.path().join("store");
        Self { dir, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.dir.path(), &self.store)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// Runs what has to end with `code`; gives its standard output and its standard error.
    pub(crate) fn ends(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}\n{err}");
        (out, err)
    }

    /// Runs what has to succeed; gives its standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        self.ends(0, arguments).0
    }

    /// Starts a daemon and waits until it is ready. Its log is `log`.
    pub(crate) fn daemon(&self, options: &[&str]) -> Daemon {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&[&["daemon"], options].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "ready\n", "{}", self.log());
        Daemon(child)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}
