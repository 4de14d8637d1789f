//! What the tests have in common: a server, what is held here, and somebody who listens.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_sources::config::MachineSource;
use cairn_sources::{Held, Sha256, Watch};

use crate::ssh_server::SshServer;

/// A server, and a folder for what is brought.
pub(crate) struct Machine {
    pub(crate) server: SshServer,
    folder: tempfile::TempDir,
}

impl Machine {
    /// None where there is no sshd.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with_path(&std::env::var("PATH").unwrap())
    }

    pub(crate) fn start_with_path(path: &str) -> Option<Self> {
        if !SshServer::is_installed() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ssh")).unwrap();
        let server = SshServer::start_with_path(&folder.path().join("ssh"), path).unwrap();
        Some(Self { server, folder })
    }

    pub(crate) fn source(&self, path: &str) -> MachineSource {
        MachineSource {
            machines: vec![SshServer::HOST.to_owned()],
            user: None,
            path: path.parse().unwrap(),
            tree: None,
            ssh: self.server.client(),
            is_multipass: false,
        }
    }

    /// Puts a file into the home of the machine.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.server.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// An empty folder.
    pub(crate) fn empty(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

/// What is here: files by name, in the order in which they were built.
#[derive(Default)]
pub(crate) struct Here(pub(crate) Vec<(String, Vec<u8>)>);

impl Here {
    pub(crate) fn one(binary: &str, bytes: &[u8]) -> Self {
        Self(vec![(binary.to_owned(), bytes.to_owned())])
    }
}

impl Held for Here {
    fn copy(&self, sha256: &Sha256, to: &Path) -> io::Result<bool> {
        let Some((_, bytes)) = self.0.iter().find(|(_, bytes)| Sha256::of(bytes) == *sha256) else {
            return Ok(false);
        };
        std::fs::write(to, bytes)?;
        Ok(true)
    }

    fn copy_newest(&self, _package: &str, binary: &str, to: &Path) -> io::Result<bool> {
        let Some((_, bytes)) = self.0.iter().rev().find(|(name, _)| name == binary) else {
            return Ok(false);
        };
        std::fs::write(to, bytes)?;
        Ok(true)
    }
}

/// Somebody who listens, and may not want any more.
#[derive(Default)]
pub(crate) struct Ear {
    pub(crate) warnings: Mutex<Vec<String>>,
    pub(crate) is_over: AtomicBool,
}

impl Watch for Ear {
    fn warn(&self, line: &str) {
        self.warnings.lock().unwrap().push(line.to_owned());
    }

    fn cancelled(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

pub(crate) fn binaries(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Bytes that are like a program: words that come again, and some that do not. Always the same.
pub(crate) fn program(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let words: Vec<[u8; 8]> = (0..4096).map(|_| random.next().to_le_bytes()).collect();
    let mut program = Vec::with_capacity(bytes + 8);
    while program.len() < bytes {
        let draw = random.next();
        let word = words[draw as usize % words.len()];
        let len = 2 + (draw >> 32) as usize % 6;
        program.extend_from_slice(&word[..len]);
        if draw >> 40 & 7 == 0 {
            program.extend_from_slice(&random.next().to_le_bytes()[..4]);
        }
    }
    program.truncate(bytes);
    program
}

/// A sequence that is always the same (xorshift64*).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
