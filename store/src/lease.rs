//! What is held beside what is named, and how a process that only reads says so.
//!
//! Such a process writes a file into `leases/` that says what it needs, and keeps it locked (`flock(2)`) for as long as
//! it reads. Whoever collects looks at the names first and at the leases after that. So a reader makes its lease first,
//! and then looks whether what it wants is still named: it is held from then on, or the reader sees that it is gone.
//!
//! A lease whose lock is free is a dead process': whoever lists leases removes it. The lock is taken before the file has
//! any content, and a reader that gets it looks whether its file was taken for a dead one's meanwhile, so nothing is held
//! by nobody and nobody holds nothing. A locked file that does not say what it holds, holds everything.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::content::{ChunkRef, Content};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, ContentId, TreeId};
use crate::store::Store;

/// The folder in the store where leases lie.
pub const LEASES: &str = "leases";
/// More of a lease is not read: it then holds everything.
const LEASE_BYTES_MAX: usize = 64 << 10;
/// Longer commands are cut.
const COMMAND_CHARS_MAX: usize = 200;
/// Leases that are listed, at most. Beyond, everything is held.
const LEASES_MAX: usize = 4096;
/// How often a lease is made anew that was taken for a dead process'.
const ATTEMPTS_MAX: usize = 16;

/// Something that must not be collected, though no name may lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Held {
    /// An artifact with all below it, as far as it is here.
    Artifact(ArtifactId),
    /// A directory with all below it.
    Tree(TreeId),
    /// What a file holds.
    Content {
        /// Its chunks, or where their list is.
        content: Content,
        /// Its bytes.
        size: u64,
    },
    /// One chunk or object, and nothing below it.
    Chunk(ChunkId),
    /// All packs that there are.
    Everything,
}

/// Who holds what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What is held.
    pub held: Held,
    /// By whom, for people: `process 4711 has /opt/bins/app/1.0/bin/app open`.
    pub by: String,
}

/// Somebody in the process that writes the store who holds more than fits into guards: open files of a mount.
pub trait Holder: Send + Sync {
    /// What it holds now. Asked after what is named was read, before packs are chosen and again before they go; what is
    /// said then stays until the packs that it needs are safe, however soon it is let go. It must not change names, and
    /// not wait for anybody who does.
    fn holds(&self) -> Vec<Hold>;
}

/// A lease of this process on something in a store that it reads, until dropped.
#[derive(Debug)]
#[must_use = "it holds nothing once it is dropped"]
pub struct Lease {
    path: PathBuf,
    /// Has the lock.
    file: OwnedFd,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // While it is locked: nobody else removes it then.
        if let Err(error) = rustix::fs::unlink(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a lease stays, for whoever collects to remove");
        }
    }
}

/// A lease, as JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    pid: u32,
    command: String,
    what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Artifact(String),
    Tree(String),
    Chunk(String),
    /// A file's chunks.
    Chunks(Vec<(String, u32)>),
    /// A file with a long list of chunks.
    Content {
        root: String,
        chunks: u64,
        size: u64,
    },
    Everything,
}

impl Store {
    /// Holds something for as long as the result lives, against whoever collects. Afterwards the caller looks whether
    /// what it wants is still named: only then is it certain to be there. None where this process may not write to the
    /// store's folder, or no room is left: then reading goes without.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lease(&self, held: Held, command: &str) -> Result<Option<Lease>> {
        let dir = self.path().join(LEASES);
        match make(&dir, &held, command) {
            Ok(lease) => Ok(Some(lease)),
            Err(errno) if is_refusal(errno) => {
                tracing::debug!(path = %dir.display(), %errno, "reading without a lease");
                Ok(None)
            }
            Err(errno) => Err(Error::io("make a lease in", dir)(errno.into())),
        }
    }

    /// What other processes hold. Leases of processes that have ended are removed.
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be listed.
    pub fn leases(&self) -> Result<Vec<Hold>> {
        let dir = self.path().join(LEASES);
        list(&dir).map_err(|errno| Error::io("list", dir)(errno.into()))
    }
}

/// Whether a store in this state is read without leases.
fn is_refusal(errno: Errno) -> bool {
    [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::NOSPC, Errno::DQUOT].contains(&errno)
}

fn make(dir: &Path, held: &Held, command: &str) -> rustix::io::Result<Lease> {
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let pid = std::process::id();
    for _ in 0..ATTEMPTS_MAX {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let path = dir.join(format!("{pid}-{:016x}", u64::from_le_bytes(random)));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644))?;
        let lease = Lease { path, file };
        flock(&lease.file, FlockOperation::LockExclusive)?;
        if rustix::fs::fstat(&lease.file)?.st_nlink == 0 {
            continue;
        }
        let command = command.chars().take(COMMAND_CHARS_MAX).collect();
        let text = serde_json::to_vec(&Written { pid, command, what: What::of(held) }).unwrap_or_default();
        // What is cut short holds everything.
        let written = rustix::io::pwrite(&lease.file, &text, 0)?;
        if written < text.len() {
            return Err(Errno::NOSPC);
        }
        return Ok(lease);
    }
    Err(Errno::AGAIN)
}

fn flock(file: &OwnedFd, operation: FlockOperation) -> rustix::io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn list(dir: &Path) -> rustix::io::Result<Vec<Hold>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(CWD, dir, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut holds = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if holds.len() >= LEASES_MAX {
            let by = format!("there are more than {LEASES_MAX} leases in {}", dir.display());
            holds.push(Hold { held: Held::Everything, by });
            break;
        }
        holds.extend(look_at(&folder, name, &dir.join(name))?);
    }
    Ok(holds)
}

/// What a lease holds; a dead process' is removed.
fn look_at(folder: &OwnedFd, name: &OsStr, path: &Path) -> rustix::io::Result<Option<Hold>> {
    let unknown = |why: &str| Hold { held: Held::Everything, by: format!("{}, {why}", path.display()) };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        // It has ended in between.
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Ok(Some(unknown(&format!("which cannot be read ({errno})")))),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // Locked, so that who has just made it sees that it is gone.
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => tracing::debug!(path = %path.display(), %errno, "a stale lease stays"),
            }
            return Ok(None);
        }
        Err(Errno::WOULDBLOCK) => {}
        Err(errno) => return Ok(Some(unknown(&format!("which cannot be locked ({errno})")))),
    }
    let mut text = vec![0; LEASE_BYTES_MAX];
    let read = rustix::io::pread(&file, &mut text, 0)?;
    let written: Option<Written> = serde_json::from_slice(&text[..read]).ok();
    let Some(written) = written else { return Ok(Some(unknown("which does not say what it holds"))) };
    let by = format!("process {} reads it: {}", written.pid, Printable(&written.command));
    Ok(Some(Hold { held: written.what.held().unwrap_or(Held::Everything), by }))
}

/// Text that anybody may have written, without what a terminal should not be shown.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write!(f, "{}", if c.is_control() { '?' } else { c }))
    }
}

impl What {
    fn of(held: &Held) -> Self {
        match held {
            Held::Artifact(id) => Self::Artifact(id.to_string()),
            Held::Tree(id) => Self::Tree(id.to_string()),
            Held::Chunk(id) => Self::Chunk(id.to_string()),
            Held::Content { content: Content::Inline(_), .. } => Self::Chunks(Vec::new()),
            Held::Content { content: Content::Chunks(list), .. } => {
                Self::Chunks(list.iter().map(|chunk| (chunk.id.to_string(), chunk.len)).collect())
            }
            Held::Content { content: Content::Long { root, chunks }, size } => {
                Self::Content { root: root.to_string(), chunks: *chunks, size: *size }
            }
            Held::Everything => Self::Everything,
        }
    }

    /// Nothing where an id is none.
    fn held(self) -> Option<Held> {
        let id = |text: &str| text.parse::<ChunkId>().ok().map(|id| id.0);
        Some(match self {
            Self::Artifact(text) => Held::Artifact(ArtifactId(id(&text)?)),
            Self::Tree(text) => Held::Tree(TreeId(id(&text)?)),
            Self::Chunk(text) => Held::Chunk(ChunkId(id(&text)?)),
            Self::Chunks(list) => {
                let chunk =
                    |(text, len): &(String, u32)| Some(ChunkRef { id: ChunkId(id(text)?), len: *len });
                let list: Vec<ChunkRef> = list.iter().map(chunk).collect::<Option<_>>()?;
                let size = list.iter().map(|chunk| u64::from(chunk.len)).sum();
                Held::Content { content: Content::Chunks(list), size }
            }
            Self::Content { root, chunks, size } => {
                Held::Content { content: Content::Long { root: ContentId(id(&root)?), chunks }, size }
            }
            Self::Everything => Held::Everything,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::io::{Io, Os};

    fn store(dir: &Path) -> Store {
        let options = crate::writer::WriterOptions {
            wait: std::time::Duration::ZERO,
            command: String::new(),
            who: String::new(),
        };
        drop(crate::Writer::open(dir, &options, &()).unwrap());
        Store::open(dir).unwrap()
    }

    fn all_kinds() -> Vec<Held> {
        let id = ChunkId::of(b"x");
        let chunks = vec![ChunkRef { id, len: 7 }, ChunkRef::hole(9)];
        vec![
            Held::Artifact(ArtifactId(id.0)),
            Held::Tree(TreeId(id.0)),
            Held::Content { content: Content::Chunks(chunks), size: 16 },
            Held::Content { content: Content::Long { root: ContentId(id.0), chunks: 99 }, size: 1000 },
            Held::Chunk(id),
            Held::Everything,
        ]
    }

    #[test]
    fn a_lease_says_what_is_held_and_by_whom_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.leases().unwrap(), []);
        for held in all_kinds() {
            let lease = store.lease(held.clone(), "cairn cat \u{1b}[2J").unwrap().unwrap();
            let [hold] = &store.leases().unwrap()[..] else { panic!("one lease") };
            assert_eq!(hold.held, held);
            assert_eq!(hold.by, format!("process {} reads it: cairn cat ?[2J", std::process::id()));
            drop(lease);
            assert_eq!(store.leases().unwrap(), []);
        }
        assert!(Os.names(&dir.path().join(LEASES)).unwrap().is_empty());
    }

    #[test]
    fn a_dead_process_holds_nothing_and_a_silent_one_everything() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let leases = dir.path().join(LEASES);
        Os.create_dir_all(&leases).unwrap();
        Os.write_atomic(&leases.join("1-dead"), b"{\"pid\":1,\"command\":\"\",\"what\":\"everything\"}")
            .unwrap();
        assert_eq!(store.leases().unwrap(), []);
        assert!(Os.names(&leases).unwrap().is_empty(), "it is removed");
        for text in
            [&b""[..], b"{\"pid\":1,\"comm", b"{\"pid\":1,\"command\":\"\",\"what\":{\"tree\":\"12\"}}"]
        {
            Os.write_atomic(&leases.join("2-silent"), text).unwrap();
            let file = rustix::fs::open(leases.join("2-silent"), OFlags::RDONLY, Mode::empty()).unwrap();
            flock(&file, FlockOperation::LockExclusive).unwrap();
            let holds = store.leases().unwrap();
            assert_eq!(holds.len(), 1);
            assert_eq!(holds[0].held, Held::Everything);
        }
    }

    #[test]
    fn a_lease_that_was_taken_for_a_dead_ones_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        // Whoever lists all the time finds files between their making and their locking.
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    store.leases().unwrap();
                }
            });
            for _ in 0..500 {
                let lease = store.lease(Held::Everything, "reader").unwrap().unwrap();
                assert!(lease.path.exists());
                assert!(store.leases().unwrap().iter().any(|hold| hold.held == Held::Everything));
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
    }

    #[test]
    fn a_killed_reader_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let leases = dir.path().join(LEASES);
        Os.create_dir_all(&leases).unwrap();
        let mut reader = Command::new("flock")
            .arg("--no-fork")
            .arg(leases.join("3-reader"))
            .args(["sh", "-c", "echo held; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock(1) is there");
        let mut line = String::new();
        let out = reader.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(store.leases().unwrap().len(), 1);
        reader.kill().unwrap();
        reader.wait().unwrap();
        assert_eq!(store.leases().unwrap(), []);
    }
}
