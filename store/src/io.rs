//! Every durable system call of a store goes through [`Io`], so that a simulator can stand in for the disk: lose what
//! was not synced, tear writes, fail any call, and stop the world at any sync.
//!
//! Contract, which both implementations keep and the store relies on:
//! - Bytes written are durable only after [`WriteFile::sync`]; a name (create, rename, remove) only after
//!   [`Io::sync_dir`] of its directory.
//! - `rename` is atomic: a crash leaves the old or the new name, never neither.
//! - A failed `sync` means that the file's unsynced bytes are in an unknown state; callers poison the writer and never
//!   retry.
//!
//! Source trees being read and restored trees being written are not the store's own and do not pass through here.

mod map;
mod os;
pub mod sim;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use map::Bytes;
pub use os::Os;
pub use sim::{Fault, Sim};

/// A directory entry's name and the file's length in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// File name, without the directory. Names that are not UTF-8 are not the store's and are left out.
    pub name: String,
    /// Length in bytes; 0 for directories.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The file system, as a store sees it.
pub trait Io: Send + Sync {
    /// Opens for positioned reads.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>>;
    /// Creates a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn WriteFile>>;
    /// Opens an existing file for positioned writes.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn WriteFile>>;
    /// Atomically renames, replacing the destination.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents; existing ones are fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;
    /// Their names alone, which takes no look at each.
    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        Ok(self.list(path)?.into_iter().map(|listed| listed.name).collect())
    }

    /// A whole small file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Writes a whole small file so that a crash leaves the old bytes or the new, and syncs it and its directory. Where
    /// there is no room for it nothing of it stays.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        match self.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.create(&temporary)?;
        let written = file
            .write_all_at(bytes, 0)
            .and_then(|()| file.sync())
            .and_then(|()| self.rename(&temporary, path));
        if let Err(error) = written {
            drop(file);
            if is_full(&error) {
                // Half a file is of no use, and takes what others want.
                let _ = self.remove(&temporary);
            }
            return Err(error);
        }
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

/// Whether the disk, or the user's share of it, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file open for reading.
pub trait ReadFile: Send + Sync {
    /// Fills `buf` from `offset`; `UnexpectedEof` when the file is shorter.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Length in bytes, now.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty, now.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Says that a part will not be read again soon, and what is kept of it in memory is of no use: who reads it next wants
    /// what is on the disk. A hint.
    fn forget_cached(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
    /// The whole file as bytes that stay valid when its name goes away. Only for files that are never rewritten in
    /// place.
    fn map(&self) -> io::Result<Bytes>;
}

/// A file open for writing.
pub trait WriteFile: Send + Sync {
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Takes room on the disk for `len` bytes from `offset` on, so that to write them needs none any more; the file's
    /// length stays as it is. False where the file system has no such thing: nothing is promised then. When the disk is
    /// full, what there was may be taken.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<bool>;
    /// Cuts or extends the file, and gives back what was allocated behind its end.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
}
