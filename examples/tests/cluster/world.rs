//! A temporary folder with a network in it: a daemon that has the stream, nodes that write, and whoever joins.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use harness::program::{DEADLINE, command, finish, text, until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// The name of the network: of its stream and of its snapshots.
pub(crate) const NAME: &str = "kv";

/// A temporary folder.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// A daemon of cairn that serves, killed when it is dropped.
pub(crate) struct Daemon {
    /// None if somebody else started it.
    child: Option<Child>,
    pub(crate) url: String,
}

/// A running node of the example, killed when it is dropped.
pub(crate) struct Node {
    child: Child,
    pub(crate) dir: PathBuf,
    pub(crate) socket: PathBuf,
}

/// A joiner, killed with all that it started when it is dropped.
pub(crate) struct Join {
    child: Child,
    lines: Receiver<String>,
    /// What it has said.
    pub(crate) said: Vec<Value>,
    log: PathBuf,
}

/// A binary of this workspace. That of cairn is another package's: it lies beside this one's when the whole workspace is
/// tested.
pub(crate) fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_kv-node")).with_file_name(name);
    assert!(path.exists(), "{} is not there: cargo build -p cairn-cli makes it", path.display());
    path
}

/// What is asked of a snapshot of a running node.
fn hooks(socket: &Path) -> [String; 6] {
    let [freeze, thaw, round] = ["freeze", "thaw", "round"].map(|word| kv_command(word, socket));
    ["--freeze".into(), freeze, "--thaw".into(), thaw, "--round-cmd".into(), round]
}

/// A shell command that asks a node.
fn kv_command(word: &str, socket: &Path) -> String {
    format!("'{}' {word} '{}'", binary("kv-node").display(), socket.display())
}

/// What says what a joined state hashes to.
pub(crate) fn verify_command() -> String {
    format!("'{}' hash \"$CAIRN_DIR\"", binary("kv-node").display())
}

/// What applies rounds to a joined state.
pub(crate) fn replay_command() -> String {
    format!("'{}' apply \"$CAIRN_DIR\"", binary("kv-node").display())
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("cairn-cluster-").tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `cairn` on the store of this name.
    pub(crate) fn cairn(&self, store: &str, arguments: &[&str]) -> Command {
        let mut command = command(binary("cairn"), arguments, self.dir.path(), &self.path(store));
        for variable in ["HTTP_PORT", "BINARIES_DIR", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) fn run(&self, store: &str, arguments: &[&str]) -> Output {
        finish(self.cairn(store, arguments).spawn().unwrap())
    }

    /// Runs `cairn`, which has to succeed; gives its standard output.
    pub(crate) fn good(&self, store: &str, arguments: &[&str]) -> String {
        let output = self.run(store, arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {out}\n{err}\n{}", self.log(store));
        out
    }

    pub(crate) fn json(&self, store: &str, arguments: &[&str]) -> Vec<Value> {
        let out = self.good(store, &[arguments, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What daemons of a store and its joiners have said.
    pub(crate) fn log(&self, store: &str) -> String {
        fs::read_to_string(self.path(&format!("{store}.log"))).unwrap_or_default()
    }

    fn log_file(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap()
    }

    /// Serves a store on a port that the system chooses.
    pub(crate) fn serve(&self, store: &str) -> Daemon {
        self.serve_at(store, "127.0.0.1:0")
    }

    /// Serves a store at an address.
    pub(crate) fn serve_at(&self, store: &str, address: &str) -> Daemon {
        let mut command = self.cairn(store, &["serve", "--listen", address]);
        let mut child = command.stderr(self.log_file(store)).spawn().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let mut daemon = Daemon { child: Some(child), url: String::new() };
        assert_eq!(said, "ready\n", "{}", self.log(store));
        daemon.url = self.json(store, &["status"])[0]["serving"]["url"].as_str().unwrap().to_owned();
        daemon
    }

    /// A token that lets producers in at a store's daemon.
    pub(crate) fn token(&self, store: &str) -> PathBuf {
        let path = self.path(&format!("{store}.token"));
        fs::write(&path, self.good(store, &["token", "create", "--scope", "publish"])).unwrap();
        path
    }

    /// Makes a state to begin with, of so many entries.
    pub(crate) fn init(&self, node: &str, entries: u64, value_bytes: u32) {
        let mut command = Command::new(binary("kv-node"));
        command.arg("init").arg(self.path(node)).args(["--entries", &entries.to_string()]);
        command.args(["--value-bytes", &value_bytes.to_string()]).stdout(Stdio::null());
        assert!(command.status().unwrap().success());
    }

    /// Starts a node of the example, and waits until it answers.
    pub(crate) fn node(&self, role: &str, node: &str, daemon: &Daemon, more: &[&str]) -> Node {
        let (dir, socket) = (self.path(node), self.path(&format!("{node}.sock")));
        let mut command = Command::new(binary("kv-node"));
        command.args(["run", "--role", role, "--stream", &stream_url(&daemon.url)]).arg("--dir").arg(&dir);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log_file(node));
        if role != "listener" {
            command.arg("--token").arg(self.path("a.token"));
        }
        let mut node = Node { child: command.spawn().unwrap(), dir, socket };
        until("a node to answer", || {
            assert!(node.child.try_wait().unwrap().is_none(), "it ended: {}", self.log_of(&node));
            UnixStream::connect(&node.socket).is_ok()
        });
        node
    }

    /// What a node said on standard error.
    pub(crate) fn log_of(&self, node: &Node) -> String {
        self.log(&node.dir.file_name().unwrap().to_string_lossy())
    }

    /// Takes a snapshot of a running node into a store.
    pub(crate) fn snapshot(&self, store: &str, node: &Node, more: &[&str]) -> Value {
        let hooks = hooks(&node.socket);
        let mut arguments = vec!["snapshot", "create", NAME, node.dir.to_str().unwrap()];
        arguments.extend(hooks.iter().map(String::as_str));
        arguments.extend(more);
        self.json(store, &arguments).pop().unwrap()
    }

    /// Joins: the state comes to `node`, through the store `node-store`.
    pub(crate) fn join(&self, node: &str, from: &[&str], more: &[&str]) -> Join {
        self.join_with(node, from, &replay_command(), more)
    }

    /// The same with another command that applies rounds.
    pub(crate) fn join_with(&self, node: &str, from: &[&str], replay: &str, more: &[&str]) -> Join {
        let to = self.path(node);
        self.join_to(&to, &format!("{node}-store"), from, replay, more)
    }

    /// The same to another place and through another store.
    pub(crate) fn join_to(&self, to: &Path, store: &str, from: &[&str], replay: &str, more: &[&str]) -> Join {
        let verify = verify_command();
        let mut arguments = vec!["join", NAME, "--to", to.to_str().unwrap(), "--json"];
        arguments.extend(from.iter().flat_map(|url| ["--from", *url]));
        arguments.extend(["--verify", &verify, "--replay", replay]);
        arguments.extend(more);
        let mut command = self.cairn(store, &arguments);
        // In a group of its own, so that what it started ends with it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let log = format!("join-{}", name_of(to));
        let mut child = command.stderr(self.log_file(&log)).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Join { child, lines, said: Vec::new(), log: self.path(&format!("{log}.log")) }
    }

    /// What the stream has: the rounds from the first of these on, before the second.
    pub(crate) fn span(&self, daemon: &Daemon) -> (u64, u64) {
        let address: SocketAddr = daemon.url.strip_prefix("http://").unwrap().parse().unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let ask = format!("GET /v1/streams/{NAME}?span=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let span: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        (span["first_round"].as_u64().unwrap(), span["next_round"].as_u64().unwrap())
    }

    /// Stops all nodes that run, lets each state have everything that the stream has, and compares all states, byte for
    /// byte: theirs and those of `joined`, which lie still.
    pub(crate) fn all_are_equal(&self, daemon: &Daemon, running: Vec<Node>, joined: &[&str]) {
        let stopped: Vec<_> = running.into_iter().map(|node| name_of(&node.stop())).collect();
        let (_, next) = self.span(daemon);
        let names = stopped.iter().map(String::as_str).chain(joined.iter().copied());
        let nodes: Vec<_> = names.map(|name| self.node("listener", name, daemon, &[])).collect();
        for node in &nodes {
            node.reaches(next - 1, || self.log_of(node));
        }
        let dirs: Vec<_> = nodes.into_iter().map(Node::stop).collect();
        let first = dump(&dirs[0]);
        assert!(first.len() > 100, "there is next to nothing in {}", dirs[0].display());
        for dir in &dirs[1..] {
            assert!(dump(dir) == first, "{} is not what {} is", dir.display(), dirs[0].display());
        }
    }
}

/// Where a daemon has the stream.
pub(crate) fn stream_url(url: &str) -> String {
    format!("{url}/v1/streams/{NAME}")
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap().to_string_lossy().into_owned()
}

/// Round, hash and all contents of a state that nobody has open.
pub(crate) fn dump(dir: &Path) -> Vec<u8> {
    let run = |word: &str| {
        let mut command = Command::new(binary("kv-node"));
        command.arg(word).arg(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command.spawn().unwrap());
        assert!(output.status.success(), "{word} {}: {}", dir.display(), text(&output.stderr));
        output.stdout
    };
    [run("hash"), run("dump")].concat()
}

impl Daemon {
    /// One that was started by somebody else.
    pub(crate) fn at(url: String) -> Self {
        Self { child: None, url }
    }

    /// Kills it at once.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Node {
    /// Asks it by its socket; none if it does not answer.
    pub(crate) fn ask(&self, request: &str) -> Option<String> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream.write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.trim_end().to_owned())
    }

    /// The round of its state.
    pub(crate) fn round(&self) -> Option<u64> {
        self.ask("round")?.split(' ').next()?.parse().ok()
    }

    /// Waits until its state is of this round at least.
    pub(crate) fn reaches(&self, round: u64, log: impl Fn() -> String) {
        until("a node to reach a round", || {
            let at = self.round();
            assert!(at.is_some(), "{} does not answer: {}", self.dir.display(), log());
            at >= Some(round)
        });
    }

    /// Lets it end in order; gives where its state is.
    pub(crate) fn stop(mut self) -> PathBuf {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut status = None;
        until("a node to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{}: {status:?}", self.dir.display());
        self.dir.clone()
    }

    /// Kills it at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; gives its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let mut status = None;
        until("a node to end by itself", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Join {
    /// Waits until it says that it is in this state; false if it ends before.
    pub(crate) fn reaches(&mut self, state: &str) -> bool {
        if self.said.iter().any(|line| line["state"] == state) {
            return true;
        }
        while let Some(line) = self.next_line() {
            let is_it = line["state"] == state;
            self.said.push(line);
            if is_it {
                return true;
            }
        }
        false
    }

    fn next_line(&self) -> Option<Value> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("a joiner says nothing: {:?}\n{}", self.said, self.log())
            }
        }
    }

    /// Waits for its end; gives its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        while let Some(line) = self.next_line() {
            self.said.push(line);
        }
        self.child.wait().unwrap().code()
    }

    /// Waits for its end, which has to be a good one.
    pub(crate) fn joined(mut self) -> Vec<Value> {
        let code = self.ended();
        assert_eq!(code, Some(0), "{:?}\n{}", self.said, self.log());
        assert!(self.said.iter().any(|line| line["state"] == "consistent"), "{:?}", self.said);
        std::mem::take(&mut self.said)
    }

    /// Waits for its end, which must not be a good one; gives what it said on standard error.
    pub(crate) fn refused(mut self) -> String {
        let code = self.ended();
        assert!(code.is_some_and(|code| code > 0), "{code:?} {:?}\n{}", self.said, self.log());
        self.log()
    }

    /// The first line of this state.
    pub(crate) fn line(said: &[Value], state: &str) -> Value {
        let found = said.iter().find(|line| line["state"] == state);
        found.unwrap_or_else(|| panic!("never {state}: {said:?}")).clone()
    }

    /// Kills it, and all that it started, at once.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Asks it to end, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&mut self) {
        // What it started may have ended; the group is there as long as it was not waited for.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Join {
    fn drop(&mut self) {
        self.end();
    }
}
