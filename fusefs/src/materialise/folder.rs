//! The cache's folder: how whole files are named there, and how they come and go.
//!
//! - `xx/<id>`: a whole file that was synced; `xx` are the first two digits of its id.
//! - `xx/<id>.<boot>`: a whole file that was not synced yet. After a power cut its bytes may be anything, so it counts
//!   only while the machine runs under the same boot id.
//! - `part/<pid>-<n>`: a file that is being written, under an exclusive `flock`, or one that is being removed.
//!
//! A name appears by `rename`, so that what has one of the first two names was written whole and verified by a process
//! that had not failed; a process that is killed leaves parts, and the next start removes those that nobody has locked.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, fchmod, fdatasync, flock, fstat, mkdirat, openat, openat2, renameat, unlinkat, utimensat,
};
use rustix::io::{Errno, Result};

use crate::files::FileId;

const PART: &str = "part";
/// Digits of the boot id that are in a name.
const BOOT_DIGITS: usize = 16;

/// The folder, open.
pub(super) struct Folder {
    root: OwnedFd,
    path: PathBuf,
    boot: String,
    next_part: AtomicU64,
}

/// A whole file that was there at the start.
pub(super) struct Found {
    pub(super) id: FileId,
    /// Bytes that it takes on disk.
    pub(super) bytes: u64,
    /// When it was last used, about, in nanoseconds since 1970.
    pub(super) used: i128,
    pub(super) synced: bool,
}

/// A file that is being written. It is removed when it is dropped.
pub(super) struct Part<'a> {
    folder: &'a Folder,
    name: String,
    pub(super) file: OwnedFd,
    published: bool,
}

impl Folder {
    /// Opens the folder for a machine that runs under the boot id `boot`.
    pub(super) fn open(path: &Path, boot: &str) -> std::io::Result<Self> {
        make_folders(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty())?;
        make(&root, PART)?;
        let boot: String = boot.chars().filter(char::is_ascii_hexdigit).take(BOOT_DIGITS).collect();
        Ok(Self { root, path: path.to_owned(), boot, next_part: AtomicU64::new(0) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn root(&self) -> impl AsFd {
        self.root.as_fd()
    }

    /// Removes what is not to be believed, and gives what is.
    pub(super) fn scan(&self) -> Result<Vec<Found>> {
        for name in self.list(PART)? {
            self.remove_stale_part(&format!("{PART}/{name}"));
        }
        let mut found: HashMap<FileId, Found> = HashMap::new();
        for folder in self.list(".")? {
            if folder == PART {
                continue;
            }
            for name in self.list(&folder).unwrap_or_default() {
                let path = format!("{folder}/{name}");
                let Some(file) = self.look(&path, &name) else {
                    // Should it not go now, it goes at the next start.
                    let _ = unlinkat(&self.root, &path, AtFlags::empty());
                    continue;
                };
                let id = file.id;
                if let Some(other) = found.get(&id) {
                    // Two processes made it at the same time.
                    let _ = unlinkat(&self.root, self.name(&id, false), AtFlags::empty());
                    if other.synced {
                        continue;
                    }
                }
                found.insert(id, file);
            }
        }
        Ok(found.into_values().collect())
    }

    /// A file of these names that is to be believed.
    fn look(&self, path: &str, name: &str) -> Option<Found> {
        let (id, boot) = name.split_once('.').map_or((name, None), |(id, boot)| (id, Some(boot)));
        let id: cairn_store::ChunkId = id.parse().ok()?;
        if path.get(..2) != name.get(..2) || boot.is_some_and(|boot| boot != self.boot || boot.is_empty()) {
            return None;
        }
        let stat = rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let used = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        Some(Found { id: FileId(id.0), bytes: allocated(&stat), used, synced: boot.is_none() })
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::new(openat(&self.root, folder, flags, Mode::empty())?)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Removes a part unless a process is writing it.
    fn remove_stale_part(&self, name: &str) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let Ok(file) = openat(&self.root, name, flags, Mode::empty()) else { return };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Should it not go now, it goes at the next start.
            let _ = unlinkat(&self.root, name, AtFlags::empty());
        }
    }

    /// Begins a file.
    pub(super) fn begin(&self) -> Result<Part<'_>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut made = false;
        loop {
            let name = self.part_name();
            match openat(&self.root, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    let part = Part { folder: self, name, file, published: false };
                    flock(&part.file, FlockOperation::NonBlockingLockExclusive)?;
                    return Ok(part);
                }
                // Left by a process of the same number.
                Err(Errno::EXIST) => {}
                // Somebody emptied the cache.
                Err(Errno::NOENT) if !made => {
                    made = true;
                    make(&self.root, PART)?;
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn part_name(&self) -> String {
        let number = self.next_part.fetch_add(1, Ordering::Relaxed);
        format!("{PART}/{}-{number}", std::process::id())
    }

    /// Opens a whole file for reading, whichever name it has; `synced` says which is tried first.
    pub(super) fn open_file(&self, id: &FileId, synced: bool) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&self.root, self.name(id, synced), flags, Mode::empty()) {
            Err(Errno::NOENT) => openat(&self.root, self.name(id, !synced), flags, Mode::empty()),
            result => result,
        }
    }

    /// The same, if its name is in memory; else `EAGAIN`. Before Linux 5.12 nobody can tell, and it may wait.
    pub(super) fn try_open_file(&self, id: &FileId, synced: bool) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open =
            |synced| openat2(&self.root, self.name(id, synced), flags, Mode::empty(), ResolveFlags::CACHED);
        match open(synced) {
            Err(Errno::NOENT) => open(!synced),
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => self.open_file(id, synced),
            result => result,
        }
    }

    /// Syncs a file's bytes. It keeps its name.
    pub(super) fn sync(&self, id: &FileId) -> Result<()> {
        fdatasync(self.open_file(id, false)?)
    }

    /// Gives a synced file its lasting name. Should a power cut lose that name, the other one is not believed.
    pub(super) fn mark_synced(&self, id: &FileId) -> Result<()> {
        renameat(&self.root, self.name(id, false), &self.root, self.name(id, true))
    }

    /// Takes a file's name away; what it is called then is to be given to [`Folder::discard`]. Quick, unlike that.
    pub(super) fn detach(&self, id: &FileId, synced: bool) -> Option<String> {
        let name = self.part_name();
        let first = renameat(&self.root, self.name(id, synced), &self.root, &name);
        let result = first.or_else(|_| renameat(&self.root, self.name(id, !synced), &self.root, &name));
        result.is_ok().then_some(name)
    }

    /// Removes what was detached.
    pub(super) fn discard(&self, name: &str) {
        if let Err(errno) = unlinkat(&self.root, name, AtFlags::empty()) {
            tracing::warn!(name, %errno, "a file of the cache is removed at the next start only");
        }
    }

    /// Notes that a file is in use, for the order after the next start.
    pub(super) fn mark_used(&self, id: &FileId, synced: bool) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times =
            Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: now };
        // It only makes the order after a start less exact.
        let _ = utimensat(&self.root, self.name(id, synced), &times, AtFlags::SYMLINK_NOFOLLOW);
    }

    fn name(&self, id: &FileId, synced: bool) -> String {
        let id = id.to_string();
        if synced { format!("{}/{id}", &id[..2]) } else { format!("{}/{id}.{}", &id[..2], self.boot) }
    }
}

impl Part<'_> {
    /// Gives the file, which is whole, its name. Gives it open for reading, and the bytes that it takes on disk.
    pub(super) fn publish(mut self, id: &FileId) -> Result<(OwnedFd, u64)> {
        let folder = self.folder;
        fchmod(&self.file, Mode::RUSR)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let reading = openat(&folder.root, &self.name, flags, Mode::empty())?;
        let name = folder.name(id, false);
        match renameat(&folder.root, &self.name, &folder.root, &name) {
            Err(Errno::NOENT) => {
                make(&folder.root, &name[..2])?;
                renameat(&folder.root, &self.name, &folder.root, &name)?;
            }
            result => result?,
        }
        self.published = true;
        let bytes = allocated(&fstat(&reading)?);
        Ok((reading, bytes))
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.published {
            self.folder.discard(&self.name);
        }
    }
}

/// Bytes on disk.
fn allocated(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

fn make(root: &OwnedFd, name: &str) -> Result<()> {
    match mkdirat(root, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

fn make_folders(path: &Path) -> Result<()> {
    match mkdirat(CWD, path, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                make_folders(parent)?;
                make_folders(path)
            }
            _ => Err(Errno::NOENT),
        },
        result => result,
    }
}
