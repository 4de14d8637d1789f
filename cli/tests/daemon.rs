//! Commands with a daemon: the same results as without, clients that go away, requests that are none, a daemon that dies.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use harness::program::{DEADLINE, command, text, until};
use rustix::process::{Pid, Signal, kill_process};

struct World {
    dir: tempfile::TempDir,
    store: PathBuf,
    daemon: Option<Child>,
}

impl World {
    fn new() -> Self {
        Self::with_store("store")
    }

    fn with_store(store: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join(store);
        fs::create_dir_all(dir.path().join("one")).unwrap();
        fs::write(dir.path().join("one/hello"), "one\n").unwrap();
        let mut world = Self { dir, store, daemon: None };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let mut daemon = self.command(&["daemon"]).stderr(Stdio::null()).spawn().unwrap();
        let mut said = String::new();
        daemon.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.daemon = Some(daemon);
        assert_eq!(said, "ready\n");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(env!("CARGO_BIN_EXE_cairn"), arguments, self.dir.path(), &self.store)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.daemon.as_ref().unwrap()), signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        self.daemon.take().unwrap().wait().unwrap().code()
    }

    /// What the daemon answers to these bytes.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.store.join("daemon.sock")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // It may have answered and hung up before all is written.
        let _ = stream.write_all(bytes);
        if !bytes.ends_with(b"}") && !bytes.starts_with(b"GET /") && !bytes.starts_with(b"POST") {
            // It would wait for the rest of what is no request.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        text(&answer)
    }

    fn post(&self, body: &str) -> String {
        self.ask(
            format!(
                "POST /v1/control/run HTTP/1.1\r\nhost: c\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
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

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn commands_are_the_same_with_a_daemon_and_after_it_was_killed() {
    let mut world = World::new();
    assert_eq!(mode(&world.store.join("daemon.sock")), 0o600);
    world.good(&["add", "one", "--name", "hello", "--version", "1", "--channel", "stable"]);
    let with =
        ["ls", "show", "log"].map(|name| if name == "show" { vec![name, "hello@1"] } else { vec![name] });
    let before: Vec<String> = with.iter().map(|arguments| world.good(arguments)).collect();
    assert_eq!(world.good(&["cat", "hello@stable:hello"]), "one\n");
    assert_eq!(world.run(&["show", "hello@2"]).status.code(), Some(3));
    assert_eq!(world.run(&["daemon"]).status.code(), Some(5), "a second one");
    world.signal(Signal::KILL);
    world.wait();
    assert!(world.store.join("daemon.sock").exists());
    let after: Vec<String> = with.iter().map(|arguments| world.good(arguments)).collect();
    assert_eq!(before, after);
    world.good(&["tag", "hello@1", "beta"]);
    world.begin();
    world.good(&["tag", "hello@1", "gamma"]);
    world.signal(Signal::TERM);
    assert_eq!(world.wait(), Some(0));
    assert!(!world.store.join("daemon.sock").exists());
    assert_eq!(world.good(&["log"]).lines().count(), 4);
}

#[test]
fn a_client_that_is_stopped_or_killed_takes_its_add_with_it() {
    let world = World::new();
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let add = ["add", "-", "--file-name", "f", "--name", "cut", "--version", "1"];
        let mut child = world.command(&add).stdin(Stdio::piped()).spawn().unwrap();
        // Waiting for the child would close its input, and let it end.
        let mut input = child.stdin.take().unwrap();
        input.write_all(&vec![7; 1 << 20]).unwrap();
        until("the job to run", || {
            world.ask(b"GET /v1/health HTTP/1.1\r\nhost: c\r\n\r\n").contains("\"jobs\":1")
        });
        assert!(world.good(&["ls"]).is_empty(), "others are answered meanwhile");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code);
        until("the job to end", || {
            world.ask(b"GET /v1/health HTTP/1.1\r\nhost: c\r\n\r\n").contains("\"jobs\":0")
        });
        assert_eq!(world.run(&["show", "cut@1"]).status.code(), Some(3));
    }
    world.good(&["verify"]);
}

#[test]
fn what_is_no_request_is_refused_and_harms_nothing() {
    let world = World::new();
    for body in ["", "{", "[]", "null", "\u{1}", r#"{"command":{"nix":{}}}"#, r#"{"command":{"ls":{"x":1}}}"#]
    {
        let answer = world.post(body);
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains(r#"{"error":{"kind":"usage""#),
            "{body}: {answer}"
        );
    }
    let long = world.post(&"x".repeat(9 << 20));
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 413"), "{long}");
    assert!(world.ask(b"GET /nothing HTTP/1.1\r\nhost: c\r\n\r\n").contains("not_found"));
    assert!(world.ask(b"GET /v1/control/run HTTP/1.1\r\nhost: c\r\n\r\n").starts_with("HTTP/1.1 405"));
    for garbage in [&b"\0\xff\0\xff\r\n\r\n"[..], b"GET", b"", &[b'a'; 200_000]] {
        world.ask(garbage);
    }
    assert!(world.post(r#"{"command":{"demo":{}}}"#).contains(r#"{"exit":2}"#));
    assert!(world.post(r#"{"command":{"ls":{}}}"#).contains(r#"{"exit":0}"#));
}

#[test]
fn a_store_may_lie_deeper_than_a_socket_address_is_long() {
    let deep = format!("{}/store", ["deep".repeat(20), "er".repeat(40)].join("/"));
    let world = World::with_store(&deep);
    world.good(&["add", "one", "--name", "hello", "--version", "1"]);
    assert!(world.good(&["ls"]).contains("hello"));
}
