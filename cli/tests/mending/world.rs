//! A folder of a test's own with trees in it, stores, and daemons that have them.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::program::{command, finish, text};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

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

    /// The lines that a command with `--json` prints that ends with this code.
    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Vec<Value> {
        let (out, _) = self.ends(code, &[arguments, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The files of a folder of the store, by their names.
    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        let Ok(listed) = fs::read_dir(self.store.join(folder)) else { return Vec::new() };
        let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The sealed packs, largest first.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let mut packs = self.files("packs");
        packs.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
        packs.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
        packs
    }

    /// A copy of the store as it is now, as the store of another.
    pub(crate) fn copy(&self) -> Self {
        let other = Self::new();
        copy(&self.store, &other.store);
        other
    }

    /// Serves the store; gives the daemon and where it is.
    pub(crate) fn serve(&self) -> (Daemon, String) {
        let daemon = self.daemon(&["--listen", "127.0.0.1:0"]);
        let status = self.json(0, &["status"]).remove(0);
        let url = status["serving"]["url"].as_str().unwrap().to_owned();
        (daemon, url)
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

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let dest = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &dest);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), dest).unwrap();
        }
    }
}

/// Passes connections on and counts what comes back.
pub(crate) struct Counter {
    pub(crate) url: String,
    bytes: Arc<AtomicU64>,
}

impl Counter {
    pub(crate) fn before(url: &str) -> Self {
        let to = url.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&bytes);
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&to).unwrap();
                let (client_in, server_in) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(client_in, server_in, &AtomicU64::new(0)));
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || pass(server, client, &counted));
            }
        });
        Self { url, bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, counted: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        counted.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
