//! A server with a watched folder, and a client with a cache of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

use harness::program::{DEADLINE, command, finish, text, until};

/// A temporary folder, and the server whose folder is in it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    server: Option<Child>,
    pub(crate) url: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self { dir: tempfile::tempdir().unwrap(), server: None, url: String::new() };
        fs::create_dir(world.path("binaries")).unwrap();
        world.serve();
        world
    }

    fn serve(&mut self) {
        let binaries = self.path("binaries");
        let binaries = binaries.to_str().unwrap();
        // Waiting asks as often as it can.
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--rate", "1000000", "--binaries-dir", binaries];
        let mut server = self.command(&arguments);
        self.server = Some(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the server", || {
            let status = self.run(&["status", "--json"]);
            let url = text(&status.stdout);
            let url = url.split("\"url\":\"").nth(1).and_then(|rest| rest.split('"').next());
            self.url = url.unwrap_or_default().to_owned();
            !self.url.is_empty()
        });
    }

    /// Ends the server at once.
    pub(crate) fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command =
            command(env!("CARGO_BIN_EXE_cairn"), arguments, self.dir.path(), &self.path("store"));
        command.env("CAIRN_CACHE", self.path("cache"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// Starts a `fetch` and leaves it running.
    pub(crate) fn begin(&self, program: &str, to: &str, more: &[&str]) -> Child {
        let arguments = [&["fetch", program, "--from", &self.url, "--to", to, "--json"], more].concat();
        self.command(&arguments).spawn().unwrap()
    }

    pub(crate) fn fetch(&self, program: &str, to: &str, more: &[&str]) -> Output {
        finish(self.begin(program, to, more))
    }

    /// Fetches what has to come; gives its report.
    pub(crate) fn good(&self, program: &str, to: &str, more: &[&str]) -> Report {
        let output = self.fetch(program, to, more);
        assert!(output.status.success(), "{program}: {}", text(&output.stderr));
        Report(text(&output.stdout))
    }

    /// Puts a file into the watched folder, and waits until the server has it, also by chunks.
    pub(crate) fn publish(&self, file: &str, bytes: &[u8]) {
        self.place(file, bytes);
        let (name, rest) = file.split_once('-').unwrap();
        let (rest, arch) = rest.rsplit_once('-').unwrap();
        let (version, system) = rest.rsplit_once('-').unwrap();
        let platform = format!("{system}/{arch}");
        until(file, || {
            let listed = text(&self.run(&["ls", "--json", name]).stdout);
            let has = |field: &str, value: &str| listed.contains(&format!("\"{field}\":\"{value}\""));
            has("version", version) && has("platform", &platform)
        });
    }

    /// Puts a file into the watched folder, and waits until the server has it, however.
    pub(crate) fn place(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path("new"), bytes).unwrap();
        fs::rename(self.path("new"), self.path("binaries").join(file)).unwrap();
        until(file, || self.ask("/api/binaries").contains(&format!("\"{file}\"")));
    }

    /// What the server answers to a GET.
    fn ask(&self, path: &str) -> String {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Names in the folder of what is fetched.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let names = self.path(folder).read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

/// What `fetch` says of itself.
pub(crate) struct Report(pub(crate) String);

impl Report {
    pub(crate) fn number(&self, field: &str) -> u64 {
        let rest = self.0.split(&format!("\"{field}\":")).nth(1);
        let rest = rest.unwrap_or_else(|| panic!("no {field} in {}", self.0));
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    pub(crate) fn has(&self, part: &str) -> bool {
        self.0.contains(part)
    }
}

/// Bytes that do not compress and differ by their seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}
