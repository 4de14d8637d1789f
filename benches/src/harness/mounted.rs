//! A mount that goes when it is dropped.

use std::path::{Path, PathBuf};

use super::command::Line;
use super::janitor::Janitor;
use crate::error::{Error, Result};

/// A folder that something is mounted on, or will be.
#[derive(Debug)]
pub(crate) struct Mounted {
    dir: PathBuf,
}

impl Mounted {
    /// Makes the folder, and takes it over: from now on, whatever gets mounted on it goes with this value.
    pub(crate) fn on(dir: &Path, janitor: &Janitor) -> Result<Mounted> {
        std::fs::create_dir_all(dir).map_err(Error::io("make the folder", dir))?;
        janitor.mount(dir)?;
        Ok(Mounted { dir: dir.to_owned() })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.dir) {
            // Lazily: nothing that still has a file open must keep the mount. The janitor tries again if it fails.
            let _ = Line::new("umount").arg("-l").arg(&self.dir).run();
        }
    }
}

/// Whether something is mounted on `dir`, which is absolute and without spaces.
pub(crate) fn is_mounted(dir: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|path| Path::new(path) == dir))
}
