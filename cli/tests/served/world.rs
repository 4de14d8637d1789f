//! A store of a test's own with some trees beside it, and a daemon that has it, or none.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use harness::program::{DEADLINE, command, finish, text, until};
use rustix::process::{Pid, Signal, kill_process};

/// A temporary folder with a store in it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl World {
    /// Without a daemon.
    pub(crate) fn alone() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), daemon: None };
        for (tree, command, lines) in
            [("one", "hello", 1), ("two", "hello", 2), ("tool", "tool", 1), ("rival", "hello", 3)]
        {
            world.file(
                &format!("{tree}/bin/{command}"),
                format!("#!/bin/sh\necho {tree}\n").as_bytes(),
                0o755,
            );
            let text: String = (0..lines * 3000).map(|line| format!("{line} of all\n")).collect();
            world.file(&format!("{tree}/share/text"), text.as_bytes(), 0o644);
        }
        world
    }

    /// With a daemon, started with these options.
    pub(crate) fn served(options: &[&str]) -> Self {
        let mut world = Self::alone();
        let arguments = [&["daemon"], options].concat();
        let mut daemon = world.command(&arguments);
        world.begin(&mut daemon, Stdio::null());
        world
    }

    /// Starts a daemon, whose log goes there, and waits until it answers.
    pub(crate) fn begin(&mut self, command: &mut Command, log: Stdio) {
        self.daemon = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        until("the daemon to answer", || self.ask(HEALTH).is_ok_and(|answer| answer.contains(" 200 ")));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The binary, or a program that runs it, with nothing of this process's settings.
    pub(crate) fn program(&self, program: &str, arguments: &[&str]) -> Command {
        command(program, arguments, self.dir.path(), &self.path("store"))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_cairn"), arguments)
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // Who takes none may have ended by now.
        let _ = child.stdin.take().unwrap().write_all(input);
        finish(child)
    }

    /// Runs what has to succeed; gives its standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, b"");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Whether a daemon answers, by its own words.
    pub(crate) fn jobs(&self) -> Option<u64> {
        let answer = self.ask(HEALTH).ok()?;
        let (_, rest) = answer.split_once("\"jobs\":")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// What the daemon answers to these bytes.
    pub(crate) fn ask(&self, bytes: &[u8]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.path("store/daemon.sock"))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        // It may have answered and hung up before all is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        read.map(|_| text(&answer))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.daemon.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for the daemon to end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.daemon.take().unwrap().wait().unwrap().code()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

const HEALTH: &[u8] = b"GET /v1/health HTTP/1.1\r\nhost: c\r\n\r\n";

/// Says loudly that a test did not run.
pub(crate) fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED: {test}: {why}");
}
