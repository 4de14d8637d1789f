//! Where a tree is restored to before it is shown, and how it is shown: by one rename.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat, renameat_with, syncfs};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A folder beside the destination. Unless it is committed, it is removed when it goes out of scope.
pub(super) struct Staging {
    path: PathBuf,
    dest: PathBuf,
    root: Arc<OwnedFd>,
    replaces: bool,
}

impl Staging {
    /// Makes it, if the destination may be written.
    pub(super) fn make(dest: &Path, force: bool) -> Result<Self> {
        let replaces = match rustix::fs::lstat(dest) {
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(Error::tree("read", dest)(errno)),
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() => !is_empty(dest)?,
            Ok(_) => {
                let detail = "it is there and not a directory; remove it or choose another place".to_owned();
                return Err(Error::Conflict { what: dest.display().to_string(), detail });
            }
        };
        if replaces && !force {
            let detail =
                "it is there and not empty; choose another place, or force it to be replaced".to_owned();
            return Err(Error::Conflict { what: dest.display().to_string(), detail });
        }
        let parent = match dest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(name) = dest.file_name() else {
            let reason = "it has no name of its own; give the folder by name".to_owned();
            return Err(Error::Invalid { what: "destination", given: dest.display().to_string(), reason });
        };
        for attempt in 0..1000 {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".cairn-{}-{attempt}", std::process::id()));
            let path = parent.join(hidden);
            match mkdirat(CWD, &path, Mode::RWXU) {
                Ok(()) => return Self::open(path, dest, replaces),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::tree("create", path)(errno)),
            }
        }
        Err(Error::tree("create a folder beside", dest)(Errno::EXIST))
    }

    fn open(path: PathBuf, dest: &Path, replaces: bool) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = openat(CWD, &path, flags, Mode::empty()).map_err(Error::tree("open", &path))?;
        Ok(Self { path, dest: dest.to_owned(), root: Arc::new(root), replaces })
    }

    /// The folder itself.
    pub(super) fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    /// Whether there is something at the destination that will be replaced.
    pub(super) fn replaces(&self) -> bool {
        self.replaces
    }

    /// Puts it in the destination's place. What was there is removed afterwards.
    pub(super) fn commit(self, sync: bool) -> Result<()> {
        if sync {
            syncfs(&*self.root).map_err(Error::tree("sync", &self.path))?;
        }
        let failed = |errno| Error::tree("put the restored tree in place as", &self.dest)(errno);
        if !self.replaces {
            return renameat(CWD, &self.path, CWD, &self.dest).map_err(failed);
        }
        match renameat_with(CWD, &self.path, CWD, &self.dest, RenameFlags::EXCHANGE) {
            // `self.path` is the old tree now, and is removed when this is dropped.
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS) => {
                let mut aside = self.path.clone().into_os_string();
                aside.push("-old");
                renameat(CWD, &self.dest, CWD, &aside).map_err(failed)?;
                renameat(CWD, &self.path, CWD, &self.dest).map_err(failed)?;
                remove(Path::new(&aside));
                Ok(())
            }
            Err(errno) => Err(failed(errno)),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a restored tree is not the store's own, and std removes safely"
)]
fn remove(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a temporary folder");
        }
        _ => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "the destination is not the store's own")]
fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(path).map_err(|source| Error::Tree {
        action: "list",
        path: path.to_owned(),
        source,
    })?;
    Ok(entries.next().is_none())
}
