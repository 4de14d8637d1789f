//! Where files lie on their way into the store: finished and unfinished downloads, kept answers of servers, and for each package
//! a folder whose content is then added.
//!
//! ```text
//! CACHE/sources/downloads/   by SHA-256 or address, shared by all processes
//! CACHE/sources/answers/     what servers said, with its ETag
//! CACHE/sources/staged/      a folder a package and process; what a killed process left is removed by the next one
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::FlockOperation;
use tempfile::TempDir;

use crate::commands::fetch;

/// The folder in the cache.
const FOLDER: &str = "sources";
/// What begins the name of a lock that says that the folder beside it is in use.
const LOCK: &str = "lock-";

/// The folders.
pub(crate) struct Staging {
    downloads: PathBuf,
    answers: PathBuf,
    staged: PathBuf,
}

/// A folder for one package, which goes with this.
pub(crate) struct Staged {
    folder: TempDir,
    lock: PathBuf,
    /// Locked until it is closed.
    _lock: File,
}

impl Staging {
    /// Makes what is not there, and removes what nobody uses any more.
    pub(crate) fn open(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let cache = std::path::absolute(fetch::cache_folder(given)?)?;
        let folder = cache.join(FOLDER);
        let [downloads, answers, staged] = ["downloads", "answers", "staged"].map(|name| folder.join(name));
        for folder in [&downloads, &answers, &staged] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        clean(&staged);
        Ok(Self { downloads, answers, staged })
    }

    pub(crate) fn downloads(&self) -> &Path {
        &self.downloads
    }

    pub(crate) fn answers(&self) -> &Path {
        &self.answers
    }

    /// A new folder. The lock is there before it, so that nobody takes it for left.
    pub(crate) fn begin(&self, package: &str) -> anyhow::Result<Staged> {
        let failed = || format!("cannot write in {}", self.staged.display());
        let unique = tempfile::Builder::new().prefix(&format!("{LOCK}{package}-")).tempfile_in(&self.staged);
        let (lock, path) = unique.with_context(failed)?.keep().with_context(failed)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.trim_start_matches(LOCK).to_owned();
        let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&self.staged);
        Ok(Staged { folder: folder.with_context(failed)?, lock: path, _lock: lock })
    }
}

impl Staged {
    /// The folder that becomes the artifact.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A folder in it, made.
    pub(crate) fn make(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.path().join(name);
        DirBuilder::new()
            .mode(0o755)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Whoever cleans up next finds it otherwise.
        let _ = rustix::fs::unlink(&self.lock);
    }
}

/// Removes the folders whose lock nobody holds, and locks without a folder.
#[expect(clippy::disallowed_methods, reason = "nothing of it is needed: not its order of syncs either")]
fn clean(staged: &Path) {
    let Ok(entries) = staged.read_dir() else { return };
    let names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    for name in &names {
        if let Some(of) = name.strip_prefix(LOCK) {
            let lock = OpenOptions::new().read(true).open(staged.join(name));
            let Ok(lock) = lock else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                tracing::info!(folder = of, "a sync that was cut off left this; it is removed");
                let _ = std::fs::remove_dir_all(staged.join(of));
                let _ = std::fs::remove_file(staged.join(name));
            }
        } else if !names.iter().any(|lock| lock.strip_prefix(LOCK) == Some(name))
            && !staged.join(format!("{LOCK}{name}")).exists()
        {
            let _ = std::fs::remove_dir_all(staged.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test makes files as it likes")]
    fn what_was_left_goes_and_what_is_used_stays() {
        let cache = tempfile::tempdir().unwrap();
        let staging = Staging::open(Some(cache.path().to_owned())).unwrap();
        let used = staging.begin("used").unwrap();
        // What a kill leaves: nobody has the lock.
        let (folder, lock) = (staging.staged.join("left-x"), staging.staged.join("lock-left-x"));
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::fs::write(&lock, "").unwrap();
        Staging::open(Some(cache.path().to_owned())).unwrap();
        assert!(!folder.exists() && !lock.exists());
        assert!(used.path().is_dir());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
