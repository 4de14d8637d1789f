//! The journal, and who follows it.

use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::error::{Error, Result};
use crate::journal::{Journal, Op};
use crate::refs::View;
use crate::time::now_ms;

/// Of so many records one makes the catalogue catch up unasked.
const FOLLOW_EVERY: u64 = 64;

/// What is called after each change of names, with what is named then.
pub type Observer = Box<dyn Fn(&Arc<View>) + Send + Sync>;

pub(crate) struct Names {
    pub(super) journal: Journal,
    /// Absent where the store is on a simulated file system, which sled does not know.
    catalogue: Option<Catalogue>,
    /// The last record when it was told to follow, or when the store was opened.
    followed: u64,
    pub(super) observers: Vec<Observer>,
    /// Whether another process may be writing the journal by now.
    is_handed_over: bool,
}

impl Names {
    pub(super) fn new(journal: Journal, catalogue: Option<Catalogue>) -> Self {
        let followed = journal.view().seq;
        Self { journal, catalogue, followed, observers: Vec::new(), is_handed_over: false }
    }

    /// Lets another process write the journal and open the catalogue: from now on nothing is appended here.
    pub(super) fn hand_over(&mut self) {
        self.is_handed_over = true;
        if let Some(catalogue) = &mut self.catalogue {
            catalogue.close();
        }
    }

    /// No other process writes the journal after all.
    pub(super) fn resume(&mut self) {
        self.is_handed_over = false;
    }

    pub(super) fn append(&mut self, ops: Vec<Op>, who: &str) -> Result<u64> {
        if self.is_handed_over {
            return Err(Error::Unavailable {
                what: "the journal".to_owned(),
                detail: "another process is taking the store over".to_owned(),
            });
        }
        self.journal.append(ops, who, now_ms())
    }

    /// Has the catalogue catch up; whether it had to be made again.
    pub(crate) fn check_catalogue(&mut self) -> Result<bool> {
        let Some(catalogue) = &mut self.catalogue else { return Ok(false) };
        catalogue.follow(&self.journal)?;
        Ok(catalogue.was_rebuilt())
    }

    /// The catalogue catches up when it is asked something, and every [`FOLLOW_EVERY`] changes of refs, so that it never
    /// has much to catch up with: opening it costs 8 ms, as much as adding a small release. A flip never waits for it.
    pub(super) fn let_catalogue_follow(&mut self) {
        let seq = self.journal.view().seq;
        if seq / FOLLOW_EVERY == self.followed / FOLLOW_EVERY {
            return;
        }
        self.followed = seq;
        // It is derived, and the next one to ask it something tries again.
        if let Some(Err(error)) = self.catalogue.as_mut().map(|catalogue| catalogue.follow(&self.journal)) {
            tracing::warn!(%error, "the catalogue does not follow the journal");
        }
    }
}
