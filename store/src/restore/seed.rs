//! Files that are there already, of which some bytes may be the ones that are wanted. A seed is never trusted: bytes
//! are used only if they hash to the chunk's id.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, ioctl_ficlone, openat};

/// Folders with files that may serve.
pub(super) struct Seeds {
    folders: Vec<PathBuf>,
    /// Cleared at the first refusal, so that a file system that cannot clone is asked once.
    may_clone: AtomicBool,
}

/// An open file that may have the wanted bytes at the wanted places.
pub(super) struct Seed {
    pub(super) file: OwnedFd,
    pub(super) len: u64,
}

impl Seeds {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, may_clone: AtomicBool::new(true) }
    }

    /// A file of the same path, one of the same length if there is any.
    pub(super) fn find(&self, path: &[u8], len: u64) -> Option<Seed> {
        let mut found = None;
        for folder in &self.folders {
            let path = folder.join(OsStr::from_bytes(path));
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let Ok(file) = openat(CWD, &path, flags, Mode::empty()) else { continue };
            let Ok(stat) = fstat(&file) else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                continue;
            }
            let seed = Seed { file, len: u64::try_from(stat.st_size).unwrap_or(0) };
            if seed.len == len {
                return Some(seed);
            }
            found.get_or_insert(seed);
        }
        found
    }

    /// Makes `file` share the seed's blocks, if both lie on a file system that can. The bytes are unverified then.
    pub(super) fn clone_into(&self, seed: &Seed, file: &OwnedFd) -> bool {
        if !self.may_clone.load(Ordering::Relaxed) {
            return false;
        }
        let cloned = ioctl_ficlone(file, &seed.file).is_ok();
        if !cloned {
            self.may_clone.store(false, Ordering::Relaxed);
        }
        cloned
    }
}
