//! What can be made again from the journal and the packs: the index and the catalogue.

use crate::error::Result;
use crate::index::Index;
use crate::writer::Writer;

impl Writer {
    /// Removes what is damaged of the index on disk, and writes it again from the packs.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn rebuild_index(&self) -> Result<()> {
        let store = self.local();
        self.while_no_run_is_written(|| {
            let index = Index::open(store.io(), store.path())?;
            let sound = index.without_damaged_runs(store.io(), store.path())?.unwrap_or(index);
            sound.persist(&**store.io(), store.path(), true)
        })?;
        self.refresh_index();
        Ok(())
    }

    /// Has the catalogue take in all that the journal has. One that cannot be used is moved aside and made again: whether
    /// that was so.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the system refuses.
    pub fn check_catalogue(&self) -> Result<bool> {
        self.lock_names().0.check_catalogue()
    }
}
