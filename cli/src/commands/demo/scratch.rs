//! The demo's folder: made at the start, gone at the end, however it ends.

#![expect(clippy::disallowed_methods, reason = "the demo's own files are not a store's")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;

/// A temporary folder that is removed when this is dropped.
pub(super) struct Scratch {
    folder: TempDir,
    /// Says whether to stop.
    stop: Stopper,
}

/// Says whether the client wants the demo to stop.
pub(super) type Stopper = Box<dyn Fn() -> bool>;

impl Scratch {
    pub(super) fn new(stop: Stopper) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("cairn-demo-")
            .tempdir()
            .context("cannot make a temporary folder; $TMPDIR names another place for it")?;
        Ok(Self { folder, stop })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fails once Ctrl-C was pressed.
    pub(super) fn stop_if_asked(&self) -> Result<(), cairn_store::Error> {
        if (self.stop)() { Err(cairn_store::Error::Cancelled) } else { Ok(()) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Restored folders may be read-only, and then their files cannot be removed.
        make_removable(self.folder.path());
    }
}

fn make_removable(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // What cannot be changed shows when the folder is removed.
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
            make_removable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_even_if_something_in_it_is_read_only() {
        let scratch = Scratch::new(Box::new(|| false)).unwrap();
        let path = scratch.path().to_owned();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/c"), b"c").unwrap();
        fs::set_permissions(path.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
