//! A folder in a folder, for files that are not whole yet.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, mkdirat, openat, unlinkat};

use crate::error::{Error, Result};

/// A folder that goes with all files in it when it is dropped. What is to stay is moved out before.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one in `place`, under a name that no program has.
    pub(crate) fn make(place: &Path) -> Result<Self> {
        for number in 0..1000_u32 {
            let path = place.join(format!(".bringing-{}-{number}", std::process::id()));
            match mkdirat(CWD, &path, Mode::RWXU) {
                Ok(()) => return Ok(Self { path }),
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(Error::io("make the folder", &path)(errno.into())),
            }
        }
        Err(Error::io("make a folder in", place)(std::io::ErrorKind::AlreadyExists.into()))
    }

    /// A path in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(folder) = openat(CWD, &self.path, flags, Mode::empty())
            && let Ok(entries) = Dir::read_from(&folder)
        {
            let names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_owned()).collect();
            for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
                let _ = unlinkat(&folder, name, AtFlags::empty());
            }
        }
        let _ = unlinkat(CWD, &self.path, AtFlags::REMOVEDIR);
    }
}
