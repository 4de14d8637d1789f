//! Reads a source tree: lists directories in canonical order, opens files, notices when they change.
//!
//! Names are taken as bytes, symbolic links are never followed below the roots, and a file is opened relative to its
//! directory, so that a directory that is swapped meanwhile cannot lead elsewhere.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::pread;

use crate::error::{Error, Result};

/// Directories this deep keep no descriptor open; their files are opened by path.
const DESCRIPTOR_DEPTH_MAX: usize = 128;

/// What tells whether a file is still the same: its identity, length and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
    /// None where a change of it says nothing: to make or remove a hard link of a file changes it too.
    pub(crate) ctime: Option<(i64, u32)>,
}

/// A directory entry and its status.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileType,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u64,
    pub(crate) device: (u32, u32),
    /// Bytes that are allocated: fewer than `stamp.size` when the file is sparse.
    pub(crate) allocated: u64,
    pub(crate) stamp: Stamp,
}

impl Item {
    /// The root of an artifact that has no directory.
    pub(crate) fn root() -> Self {
        let stamp = Stamp { dev: 0, ino: 0, size: 0, mtime: (0, 0), ctime: Some((0, 0)) };
        Self {
            name: Vec::new(),
            kind: FileType::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            links: 1,
            device: (0, 0),
            allocated: 0,
            stamp,
        }
    }

    pub(crate) fn new(name: Vec<u8>, stat: &Stat) -> Self {
        #[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
        let (dev, nanos) = (stat.st_dev as u64, |nanos| u32::try_from(nanos).unwrap_or(0));
        Self {
            name,
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: u16::try_from(stat.st_mode & 0o7777).expect("12 bits"),
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink,
            device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            stamp: Stamp {
                dev,
                ino: stat.st_ino,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
                ctime: Some((stat.st_ctime, nanos(stat.st_ctime_nsec))),
            },
        }
    }
}

impl Item {
    /// The same, its change time looked at or not.
    pub(crate) fn seen_by(mut self, change_times: bool) -> Self {
        self.stamp.ctime = self.stamp.ctime.filter(|_| change_times);
        self
    }
}

/// A directory that is being read.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: Option<OwnedFd>,
    path: PathBuf,
    is_file: bool,
}

impl Folder {
    /// Opens a directory. `depth` counts from the root of the tree.
    pub(crate) fn open(path: PathBuf, depth: usize) -> Result<(Self, Vec<Item>)> {
        let follow = if depth == 0 { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let fd = openat(CWD, &path, flags, Mode::empty()).map_err(Error::tree("open", &path))?;
        let items = list(&fd, &path)?;
        Ok((Self { fd: (depth < DESCRIPTOR_DEPTH_MAX).then_some(fd), path, is_file: false }, items))
    }

    /// Stands for a file that was named on its own: whatever name is asked for, it is that file.
    pub(crate) fn of_file(path: PathBuf) -> Self {
        Self { fd: None, path, is_file: true }
    }

    /// Stands for the root of an artifact that has no directory.
    pub(crate) fn none() -> Self {
        Self { fd: None, path: PathBuf::new(), is_file: false }
    }

    pub(crate) fn path_of(&self, name: &[u8]) -> PathBuf {
        if self.is_file { self.path.clone() } else { self.path.join(OsStr::from_bytes(name)) }
    }

    fn openat(&self, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        match &self.fd {
            Some(fd) => openat(fd, name, flags, Mode::empty()),
            // A file named by the user may be a link.
            None if self.is_file => openat(CWD, &self.path, flags - OFlags::NOFOLLOW, Mode::empty()),
            None => openat(CWD, self.path_of(name), flags, Mode::empty()),
        }
    }

    /// Where a symbolic link points.
    pub(crate) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        let path = self.path_of(name);
        readlinkat(CWD, &path, Vec::new())
            .map(CString::into_bytes)
            .map_err(Error::tree("read the link", path))
    }

    /// The extended attributes of an entry, links not followed.
    pub(crate) fn attributes(&self, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        attributes(&self.path_of(name))
    }

    pub(crate) fn own_attributes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        attributes(&self.path)
    }
}

fn list(fd: &OwnedFd, path: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in Dir::read_from(fd).map_err(Error::tree("list", path))? {
        let entry = entry.map_err(Error::tree("list", path))?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => items.push(Item::new(name.to_bytes().to_vec(), &stat)),
            // Removed since the directory was read: as if it had been removed a moment earlier.
            Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => {
                return Err(Error::tree("stat", path.join(OsStr::from_bytes(name.to_bytes())))(errno));
            }
        }
    }
    items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(items)
}

fn attributes(path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    use rustix::fs::{lgetxattr, llistxattr};
    use rustix::io::Errno;
    let fetch = |read: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>| -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 64 << 10];
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                Ok(Some(buffer))
            }
            Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(None),
            Err(errno) => Err(Error::tree("read the extended attributes of", path)(errno)),
        }
    };
    let mut found = Vec::new();
    let names = fetch(&|buffer| llistxattr(path, buffer))?.unwrap_or_default();
    for name in
        names.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
    {
        if let Some(value) = fetch(&|buffer| lgetxattr(path, name, buffer))? {
            found.push((name.to_bytes().to_vec(), value));
        }
    }
    Ok(found)
}

/// A file that is being read. Every read is checked against the length it had when it was listed.
pub(crate) struct Source {
    fd: OwnedFd,
    path: PathBuf,
    stamp: Stamp,
}

impl Source {
    /// Opens a regular file that was listed as `item`.
    pub(crate) fn open(folder: &Folder, item: &Item) -> Result<Self> {
        let path = folder.path_of(&item.name);
        // NONBLOCK: what has become a FIFO since must not hang us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = folder.openat(&item.name, flags).map_err(Error::tree("open", &path))?;
        Ok(Self { fd, path, stamp: item.stamp })
    }

    /// A file that is open already.
    pub(crate) fn of_descriptor(fd: OwnedFd, path: PathBuf, stamp: Stamp) -> Self {
        Self { fd, path, stamp }
    }

    pub(crate) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Fills `buffer` from `offset`, all of which lies within the length the file had when it was listed.
    pub(crate) fn read_at(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
        while !buffer.is_empty() {
            match pread(&self.fd, &mut *buffer, offset) {
                Ok(0) => return Err(self.changed("it shrank while it was read")),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::tree("read", &self.path)(errno)),
            }
        }
        Ok(())
    }

    /// Whether the file is what it was when it was listed.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let stat = fstat(&self.fd).map_err(Error::tree("stat", &self.path))?;
        let now = Item::new(Vec::new(), &stat).seen_by(self.stamp.ctime.is_some());
        if now.kind == FileType::RegularFile && now.stamp == self.stamp {
            Ok(())
        } else {
            Err(self.changed("it changed while it was read"))
        }
    }

    fn changed(&self, what: &str) -> Error {
        Error::Input {
            path: self.path.clone(),
            problem: format!("{what}; add it again when nothing writes to it"),
        }
    }

    /// Where the next data begins at or after `offset`; the file's length if there is none, `offset` if the file system
    /// cannot tell.
    pub(crate) fn next_data(&self, offset: u64) -> u64 {
        match rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => self.stamp.size,
            Err(_) => offset,
        }
    }
}
