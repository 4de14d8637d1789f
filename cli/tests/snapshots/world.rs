//! A state directory, commands that note what they do, and stores.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use harness::bytes::noise;
use harness::program::{command, finish, text, until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Bytes of the state's large file.
pub(crate) const LARGE: usize = 3_000_000;

/// A temporary folder with a state in `live`, a store in `store`, and a `log` of what commands did.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// A daemon, killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) url: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// Stops it in order; gives its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut status = None;
        until("a daemon to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl World {
    /// With a state of a large file, a small one in a folder, and a `round` of 1 beside them.
    pub(crate) fn new() -> Self {
        let world = Self { dir: tempfile::Builder::new().prefix("cairn-snapshots-").tempdir().unwrap() };
        fs::create_dir_all(world.path("live/deep")).unwrap();
        fs::write(world.path("live/large"), noise(1, LARGE)).unwrap();
        fs::write(world.path("live/deep/small"), "one\n").unwrap();
        world.set_round(1);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as a text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// What the command for the round prints from now on; the state is another one then.
    pub(crate) fn set_round(&self, round: u64) {
        self.put("live/deep/small", format!("state of {round}\n").as_bytes());
        self.put("round", round.to_string().as_bytes());
    }

    /// Replaces a file as a whole.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("new"), bytes).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// A command that prints the round.
    pub(crate) fn round_cmd(&self) -> String {
        format!("cat {}", self.at("round"))
    }

    /// A command that notes a word.
    pub(crate) fn note(&self, word: &str) -> String {
        format!("echo {word} >> {}", self.at("log"))
    }

    /// The words that were noted.
    pub(crate) fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().map(ToOwned::to_owned).collect()
    }

    pub(crate) fn command_on(&self, store: &str, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.dir.path(), &self.path(store))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_on("store", arguments)
    }

    /// Runs what has to succeed; gives its standard output.
    pub(crate) fn good_on(&self, store: &str, arguments: &[&str]) -> String {
        let output = finish(self.command_on(store, arguments).spawn().unwrap());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        self.good_on("store", arguments)
    }

    /// Runs what has to fail with `code`; gives its standard error.
    pub(crate) fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = finish(self.command(arguments).spawn().unwrap());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{}", text(&output.stdout));
        said
    }

    /// Runs what has to succeed with `--json`; gives its lines.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.good(&[arguments, &["--json"]].concat());
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        printed.lines().map(parse).collect()
    }

    /// The rounds of the snapshots of `state`, newest first.
    pub(crate) fn rounds(&self) -> Vec<u64> {
        let output = finish(self.command(&["snapshot", "ls", "state", "--json"]).spawn().unwrap());
        let lines = text(&output.stdout);
        let round = |line: &str| serde_json::from_str::<Value>(line).unwrap()["round"].as_u64().unwrap();
        lines.lines().map(round).collect()
    }

    /// What `status` says of the snapshots of `state` that the daemon takes.
    pub(crate) fn status(&self) -> Value {
        self.json(&["status"])[0]["snapshots"].as_array().unwrap().first().cloned().unwrap_or_default()
    }

    /// Says what the daemon takes snapshots of by itself: `[snapshots.state]` with the state's directory, and these lines.
    pub(crate) fn configure(&self, lines: &str) {
        fs::create_dir_all(self.path("store")).unwrap();
        let text = format!("[snapshots.state]\ndir = {:?}\n{lines}\n", self.at("live"));
        self.put("store/cairn.toml", text.as_bytes());
    }

    /// A daemon, once it is ready.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Daemon {
        self.daemon_on("store", arguments)
    }

    pub(crate) fn daemon_on(&self, store: &str, arguments: &[&str]) -> Daemon {
        let log = File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let arguments = [&["daemon", "--listen", "127.0.0.1:0"], arguments].concat();
        let mut child = self.command_on(store, &arguments).stderr(log).spawn().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let mut daemon = Daemon { child, url: String::new() };
        assert_eq!(said, "ready\n", "{}", fs::read_to_string(self.path("daemon.log")).unwrap());
        let status: Value = serde_json::from_str(&self.good_on(store, &["status", "--json"])).unwrap();
        daemon.url = status["serving"]["url"].as_str().unwrap().to_owned();
        daemon
    }

    /// A FIFO. Who opens it waits for the other side.
    pub(crate) fn fifo(&self, name: &str) -> String {
        mknodat(CWD, self.path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        self.at(name)
    }

    /// Writes a snapshot out, and gives where.
    pub(crate) fn export(&self, snapshot: &str) -> PathBuf {
        let dest = self.path(&format!("out-{snapshot}"));
        self.good(&["snapshot", "export", snapshot, dest.to_str().unwrap(), "--force"]);
        dest
    }
}

/// Bytes of all packs of a store.
pub(crate) fn packed(store: &Path) -> u64 {
    let packs = fs::read_dir(store.join("packs")).unwrap();
    packs.map(|pack| pack.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}
