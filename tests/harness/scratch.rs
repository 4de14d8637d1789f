//! Folders that are gone when the test is, however it ends.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder for one test.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A folder on a disk.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self(named().tempdir().expect("a temporary folder"))
    }

    /// A folder in memory where there is such a place: for many small files.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn in_memory() -> Self {
        named().tempdir_in("/dev/shm").map_or_else(|_| Self::new(), Self)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Something in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Lets every user in.
    ///
    /// # Panics
    /// If that is not possible.
    pub fn open_to_all(&self) {
        fs::set_permissions(self.path(), Permissions::from_mode(0o755)).expect("its owner may");
    }

    /// A new folder in it.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).expect("a new folder");
        path
    }

    /// A new file in it.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, bytes).expect("a new file");
        path
    }

    /// Waits until the clock of the file system is so far past the last change of `path` that a later change has later
    /// times: what is added then is not read again.
    ///
    /// # Panics
    /// If files cannot be made here.
    pub fn let_grain_pass(&self, path: &Path) {
        const GRAIN_NS: i128 = 50_000_000;
        let changed = |path: &Path| {
            let stat = path.symlink_metadata().expect("it is there");
            i128::from(stat.ctime()) * 1_000_000_000 + i128::from(stat.ctime_nsec())
        };
        let last = changed(path);
        let probe = self.join(".clock");
        loop {
            fs::write(&probe, b"tick").expect("a new file");
            if changed(&probe) > last + GRAIN_NS {
                break;
            }
            std::thread::yield_now();
        }
        fs::remove_file(probe).expect("the file that was just made");
    }

    /// The names of what lies in a folder, sorted.
    ///
    /// # Panics
    /// If it cannot be listed.
    #[must_use]
    pub fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        open_up(self.path());
    }
}

fn named() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("cairn-test-");
    builder
}

/// Lets everything be removed, by whoever may not read what they own.
fn open_up(path: &Path) {
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        // What cannot be opened cannot be removed either, and TempDir leaves it.
        let _ = fs::set_permissions(&path, Permissions::from_mode(0o700));
        let Ok(entries) = fs::read_dir(&path) else { continue };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(folders.map(|entry| entry.path()));
    }
}
