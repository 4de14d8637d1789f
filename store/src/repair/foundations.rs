//! What a store stands on: the file that says that it is one, and the journal. Without them it cannot be opened to write,
//! so they are looked at, and put right, before that.

use std::path::Path;

use super::QUARANTINE;
use crate::error::{Error, Result};
use crate::io::{Io, Os};
use crate::journal::{JournalRepair, salvage};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::store::{check_format, write_format};
use crate::writer::WriterOptions;

/// What is wrong with a store's foundations.
#[derive(Debug, Clone, Default)]
pub struct Foundations {
    /// What is wrong with the file that names the store's format. It is written again.
    pub format: Option<String>,
    /// What can be done about the journal. That loses changes.
    pub journal: Option<JournalRepair>,
}

impl Foundations {
    /// Looks at the store in a folder, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Absent`] when there is nothing that was a store, [`Error::Damaged`] when nothing can be done,
    /// [`Error::NewerFormat`], [`Error::Io`].
    pub fn examine(path: &Path) -> Result<Self> {
        Self::examine_on(&Os, path)
    }

    /// The same on another file system.
    ///
    /// # Errors
    /// As [`Foundations::examine`].
    pub fn examine_on(io: &dyn Io, path: &Path) -> Result<Self> {
        let format = match check_format(io, path) {
            Ok(true) => None,
            Ok(false) if was_store(io, path) => Some("it is gone".to_owned()),
            Ok(false) => return Err(Error::Absent { what: format!("a store in {}", path.display()) }),
            Err(Error::Damaged { detail, .. }) if was_store(io, path) => Some(detail),
            Err(error) => return Err(error),
        };
        Ok(Self { format, journal: salvage::plan(io, &path.join("journal"))? })
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn are_sound(&self) -> bool {
        self.format.is_none() && self.journal.is_none()
    }

    /// Puts right what is wrong, the journal too. What was damaged is in `quarantine/` afterwards.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process holds the store, [`Error::Cancelled`], [`Error::Io`]: it can be begun anew.
    pub fn mend(&self, path: &Path, options: &WriterOptions, progress: &dyn Progress) -> Result<()> {
        let _held = Lock::acquire(path, options.wait, &options.command, &|| progress.cancelled())?;
        self.mend_on(&Os, path)
    }

    /// The same on another file system, which nobody else writes.
    ///
    /// # Errors
    /// As [`Foundations::mend`].
    pub fn mend_on(&self, io: &dyn Io, path: &Path) -> Result<()> {
        if self.format.is_some() {
            write_format(io, path)?;
        }
        match &self.journal {
            Some(plan) => salvage::run(io, &path.join("journal"), plan, &path.join(QUARANTINE)),
            None => Ok(()),
        }
    }
}

/// Whether a folder without a sound file of its format has what only a store has.
fn was_store(io: &dyn Io, path: &Path) -> bool {
    let has = |folder: &str, extension: &str| {
        let names = io.names(&path.join(folder)).unwrap_or_default();
        names.iter().any(|name| name.ends_with(extension))
    };
    has("journal", ".journal")
}
