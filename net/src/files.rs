//! Small files of settings: read with a bound, replaced whole.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::{Error, Result};

fn io<E: Into<std::io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source: source.into() }
}

/// A whole file of at most `max` bytes; nothing where there is none.
pub(crate) fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(io("open", path)(errno)),
    };
    let mut bytes = Vec::new();
    (&mut file).take(max + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
    if bytes.len() as u64 > max {
        let long =
            std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("it is longer than {max} bytes"));
        return Err(io("read", path)(long));
    }
    Ok(Some(bytes))
}

/// Holds whoever else changes the file beside `path` until it is dropped.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let lock = path.with_extension("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&lock, flags, Mode::RUSR | Mode::WUSR).map_err(io("open", &lock))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).map_err(io("lock", &lock))?;
    Ok(File::from(file))
}

/// Replaces a file, or leaves it as it was. Only its owner may read it. Whoever calls this holds its [`lock`].
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR).map_err(io("create", &beside))?;
    let mut file = File::from(file);
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write", &beside))?;
    rustix::fs::rename(&beside, path).map_err(io("replace", path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let folder_file = opened.map_err(io("open", folder))?;
    rustix::fs::fsync(folder_file).map_err(io("sync", folder))
}
