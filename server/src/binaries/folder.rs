//! The folder as the file system shows it: what lies in it, and files of it, opened so that they are in it.
//!
//! The folder itself may be reached through links. A link in it is followed only to what lies below it too.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Names in the folder that are looked at, at most.
pub(super) const NAMES_MAX: usize = 65_536;

/// By what a file is recognised as the one that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) mtime_ns: i64,
    /// As the last; set by the kernel alone, and so what the age of a change is told by.
    pub(super) ctime_ns: i64,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let time = |seconds: i64, nanoseconds: u64| {
            let nanoseconds = i64::try_from(nanoseconds).unwrap_or(0);
            seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
        };
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// The stamp of an open file.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }

    /// Whether the bytes may be taken to be the same. Permissions and links may have changed, which a change of `ctime_ns`
    /// alone says.
    pub(super) fn has_bytes_of(&self, other: &Self) -> bool {
        (self.inode, self.size, self.mtime_ns) == (other.inode, other.size, other.mtime_ns)
    }
}

/// What a name in the folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File(Stamp),
    /// Something that is never registered, in words.
    Other(&'static str),
}

/// A name in the folder. Bytes that are not text are shown as U+FFFD, which no name that fits has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// The watched folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

/// Why a file of the folder is not given out.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("it is gone")]
    Gone,
    #[error("it is a symbolic link that leads out of the folder")]
    Outside,
    #[error("it is {0}")]
    NoFile(&'static str),
    #[error("it cannot be read: {0}")]
    Io(#[source] io::Error),
}

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> io::Result<rustix::fd::OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, &self.path, flags, Mode::empty())?)
    }

    /// What tells this folder from another one at the same path.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::stat(&self.path)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// What lies in it, by name; without names that begin with a dot, which is how programs call what is not ready.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let folder = self.open()?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let name = entry?.file_name().to_owned();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            if found.len() == NAMES_MAX {
                tracing::warn!(folder = %self.path.display(), max = NAMES_MAX, "more names are not looked at");
                break;
            }
            let kind = match rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => kind(&stat).unwrap_or_else(|| self.behind(&name)),
                // Removed since.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let name = std::ffi::OsString::from_vec(name.into_bytes()).to_string_lossy().into_owned();
            found.push(Listed { name, kind });
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// What a symbolic link leads to.
    fn behind(&self, name: &std::ffi::CStr) -> Kind {
        let found = self.open_beneath(name, OFlags::PATH).and_then(|file| Ok(rustix::fs::fstat(&file)?));
        match found {
            Ok(stat) => kind(&stat).unwrap_or(Kind::Other("a symbolic link")),
            Err(error) if is_outside(&error) => Kind::Other("a symbolic link that leads out of the folder"),
            Err(_) => Kind::Other("a symbolic link that leads nowhere"),
        }
    }

    /// Opens a regular file of the folder.
    pub(super) fn open_file(&self, name: &str) -> Result<(File, Stamp), OpenError> {
        // NONBLOCK: what has become a named pipe since must not hang us.
        let file =
            self.open_beneath(name, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|error| match error {
                error if error.kind() == io::ErrorKind::NotFound => OpenError::Gone,
                error if is_outside(&error) => OpenError::Outside,
                error => OpenError::Io(error),
            })?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| OpenError::Io(errno.into()))?;
        match kind(&stat) {
            Some(Kind::File(stamp)) => Ok((file, stamp)),
            Some(Kind::Other(what)) => Err(OpenError::NoFile(what)),
            None => Err(OpenError::Outside),
        }
    }

    fn open_beneath(&self, name: impl rustix::path::Arg + Copy, flags: OFlags) -> io::Result<File> {
        let folder = self.open()?;
        let flags = flags | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = match rustix::fs::openat2(&folder, name, flags, Mode::empty(), beneath) {
            // Kernels before 5.6, and sandboxes: no link is followed there.
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())
            }
            opened => opened,
        };
        Ok(File::from(opened?))
    }
}

fn is_outside(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno == Some(Errno::XDEV) || errno == Some(Errno::LOOP)
}

/// What it is; `None` for a symbolic link.
fn kind(stat: &Stat) -> Option<Kind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => return None,
        FileType::RegularFile => Kind::File(Stamp::of(stat)),
        FileType::Directory => Kind::Other("a directory"),
        FileType::Fifo => Kind::Other("a named pipe"),
        FileType::Socket => Kind::Other("a socket"),
        _ => Kind::Other("a device"),
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a test")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_file_in_the_folder_is_told_apart() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("folder");
        std::fs::create_dir_all(folder.join("directory")).unwrap();
        std::fs::write(scratch.path().join("outside"), b"secret").unwrap();
        std::fs::write(folder.join("file"), b"bytes").unwrap();
        std::fs::write(folder.join(".hidden"), b"").unwrap();
        symlink("file", folder.join("inside")).unwrap();
        symlink("../outside", folder.join("out")).unwrap();
        symlink(scratch.path().join("outside"), folder.join("absolute")).unwrap();
        symlink("nothing", folder.join("nowhere")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        rustix::fs::mknodat(CWD, folder.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let folder = Folder::at(&folder);
        let listed = folder.list().unwrap();
        let found: Vec<(&str, &str)> = listed
            .iter()
            .map(|listed| match listed.kind {
                Kind::File(_) => (&*listed.name, "file"),
                Kind::Other(what) => (&*listed.name, what),
            })
            .collect();
        let outside = "a symbolic link that leads out of the folder";
        assert_eq!(
            found,
            [
                ("absolute", outside),
                ("directory", "a directory"),
                ("file", "file"),
                ("inside", "file"),
                ("loop", outside),
                ("nowhere", "a symbolic link that leads nowhere"),
                ("out", outside),
                ("pipe", "a named pipe"),
            ]
        );
        for name in ["file", "inside"] {
            assert_eq!(folder.open_file(name).unwrap().1.size, 5);
        }
        for name in ["out", "absolute", "../outside", "/etc/passwd", "loop"] {
            assert!(matches!(folder.open_file(name), Err(OpenError::Outside)), "{name}");
        }
        assert!(matches!(folder.open_file("pipe"), Err(OpenError::NoFile("a named pipe"))));
        assert!(matches!(folder.open_file("directory"), Err(OpenError::NoFile("a directory"))));
        assert!(matches!(folder.open_file("nowhere"), Err(OpenError::Gone)));
        assert!(matches!(folder.open_file("a\0b"), Err(OpenError::Io(_))));
    }
}
