//! How what is shown changes, and how another process takes it over.

use std::sync::{Arc, PoisonError};

use cairn_store::View;

use super::Fs;
use crate::inode::{SavedInodes, SavedInodesError};

impl Fs {
    /// Shows a new view from now on; whether the kernel had to be told.
    ///
    /// If anything that it may have kept is not so any more, `notify` is called, which has to make it forget all names
    /// at once: from then until the new view is shown, look-ups wait. `notify` must not wait for the kernel in turn. `hold`
    /// is called right before look-ups begin to wait, and what it gives is dropped when they no longer do. Views that are
    /// older than the one shown are passed over.
    pub fn publish<H>(&self, view: Arc<View>, hold: impl FnOnce() -> H, notify: impl FnOnce()) -> bool {
        let _one = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.shown();
        if view.seq < old.view().seq {
            return false;
        }
        let new = Arc::new(old.with_view(view));
        let changes = !old.holds_in(&new);
        let held = changes.then(hold);
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if changes {
            notify();
        }
        // The old one may be large, and is taken apart when nobody waits.
        let replaced = std::mem::replace(&mut *shown, new);
        drop(shown);
        drop(held);
        drop(replaced);
        changes
    }

    /// Writes down which inodes the kernel knows, for the process that takes the mount over. Until [`Fs::changes`] or
    /// [`Fs::end_saving`] it is noted what changes, so that the most of it is done while the mount is in use.
    #[must_use]
    pub fn save(&self) -> SavedInodes {
        self.inodes.save()
    }

    /// What changed since [`Fs::save`]. Complete once nothing is looked up or forgotten any more.
    #[must_use]
    pub fn changes(&self) -> SavedInodes {
        self.inodes.changes()
    }

    /// Nobody takes the mount over after all.
    pub fn end_saving(&self) {
        self.inodes.end_saving();
    }

    /// Takes over what another process wrote down: what [`Fs::save`] gave, then what [`Fs::changes`] did. Both file
    /// systems have the same key.
    ///
    /// # Errors
    /// [`SavedInodesError`] for what this code does not know.
    pub fn restore(&self, saved: &SavedInodes) -> Result<(), SavedInodesError> {
        self.inodes.restore(saved)
    }
}
