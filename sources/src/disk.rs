//! Files of this machine, as sources write them: folders made with their parents, new files that replace nothing, locks.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::error::{Error, Result};

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    let fail = Error::io(action, path);
    move |errno| fail(errno.into())
}

/// Makes a folder that only its owner enters, with those above it, unless it is there.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) if let Some(above) = path.parent() => {
            make_folder(above)?;
            match rustix::fs::mkdir(path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(failed("make", path)(errno)),
            }
        }
        Err(errno) => Err(failed("make", path)(errno)),
    }
}

/// A file for reading and, if `flags` say so, more; nothing where there is none. No symbolic link is followed.
pub(crate) fn open(path: &Path, flags: OFlags) -> Result<Option<File>> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("open", path)(errno)),
    }
}

/// A new file that its owner may write and everybody may run; one that is there is an error.
pub(crate) fn create_program(path: &Path) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::RWXU).map_err(failed("create", path))?;
    make_program(&file, path)?;
    Ok(File::from(file))
}

/// Gives a file mode 755, whatever the umask is.
pub(crate) fn make_program(file: impl std::os::fd::AsFd, path: &Path) -> Result<()> {
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    rustix::fs::fchmod(file, mode).map_err(failed("change the mode of", path))
}

/// Takes a lock if nobody has it; says whether it has been taken.
pub(crate) fn try_lock(file: &File, path: &Path, is_shared: Shared) -> Result<bool> {
    let operation = match is_shared {
        Shared::Yes => FlockOperation::NonBlockingLockShared,
        Shared::No => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(failed("lock", path)(errno)),
    }
}

/// With whom a lock is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shared {
    /// With others who read.
    Yes,
    /// With nobody.
    No,
}

/// Whether `path` is still this file, and no other one of its name.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool> {
    let open = rustix::fs::fstat(file).map_err(failed("look at", path))?;
    match rustix::fs::lstat(path) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("look at", path)(errno)),
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove", path)(errno)),
    }
}

/// Gives a file another name in its folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    rustix::fs::rename(from, to).map_err(failed("rename", from))
}

/// Notes that a file was of use now. Where that cannot be noted, it counts as older than it is.
pub(crate) fn touch(file: &File) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let time = Timespec {
        tv_sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: now.subsec_nanos().into(),
    };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time });
}
