//! What is not here may be somewhere else: the trait by which a store asks for it. Who answers, over what network and
//! within what time, is not known here.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::content::{ChunkRef, Content, chunks};
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::object::ObjectSource;
use crate::store::{Store, lock};

/// Why chunks are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// They are not here.
    Absent,
    /// They are here, and not what their ids say.
    Damaged,
}

/// Brings chunks here that somebody else has.
pub trait Fetch: Send + Sync {
    /// Brings chunks into the store through [`crate::Intake`], within a deadline of its own. It blocks, and many threads
    /// may ask at once, also for the same chunks. A length of 0 is one that is not known. While it runs, nothing that its
    /// thread reads of the store is fetched in turn.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when nobody answers or nobody has them, and whatever storing them returns.
    fn fetch(&self, wanted: &[ChunkRef], why: Why) -> Result<()>;
}

thread_local! {
    /// Whether this thread is in a [`Fetch::fetch`], where nothing is fetched in turn.
    static FETCHING: Cell<bool> = const { Cell::new(false) };
}

/// Ends with the fetch that it was made for.
struct Fetching;

impl Fetching {
    fn begin() -> Self {
        FETCHING.set(true);
        Self
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        FETCHING.set(false);
    }
}

/// Asks for chunks; nothing that this thread reads meanwhile is fetched in turn.
pub(crate) fn ask(fetch: &dyn Fetch, wanted: &[ChunkRef], why: Why) -> Result<()> {
    let _fetching = Fetching::begin();
    fetch.fetch(wanted, why)
}

impl Store {
    /// Sets who is asked for what is absent or damaged: by [`Store::chunk`], [`Store::whole_chunk`], whatever reads
    /// objects, files or whole trees, and [`Store::ensure`]. All clones of the store share it.
    pub fn set_fetch(&self, fetch: Option<Arc<dyn Fetch>>) {
        *lock(self.fetch_slot()) = fetch;
    }

    /// Who is asked, if this store asks anybody and this thread is not just answering.
    fn fetcher(&self) -> Option<Arc<dyn Fetch>> {
        if FETCHING.get() || self.is_local() { None } else { lock(self.fetch_slot()).clone() }
    }

    /// Whether there is somebody to ask for what is not here, though not necessarily by this [`Store::local`] clone.
    #[must_use]
    pub fn has_fetch(&self) -> bool {
        lock(self.fetch_slot()).is_some()
    }

    /// Fetches chunks; false where there is nobody to ask.
    pub(crate) fn try_fetch(&self, wanted: &[ChunkRef], why: Why) -> Result<bool> {
        let Some(fetch) = self.fetcher() else { return Ok(false) };
        ask(&*fetch, wanted, why).map(|()| true)
    }

    /// Fetches those of a file's chunks that are not here, in one call, if there is somebody to ask.
    pub(crate) fn bring(&self, chunks: &[(u64, ChunkRef)]) -> Result<()> {
        if self.fetcher().is_none() {
            return Ok(());
        }
        let wanted: Vec<ChunkRef> = chunks.iter().map(|(_, chunk)| *chunk).collect();
        let lacking = self.lacks(&wanted)?;
        if lacking.is_empty() { Ok(()) } else { self.try_fetch(&lacking, Why::Absent).map(drop) }
    }

    /// Fetches those of some chunks that are not here, in one call. Damage is not looked for.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Io`].
    pub fn ensure(&self, wanted: &[ChunkRef]) -> Result<()> {
        let lacking = self.lacks(wanted)?;
        self.fetch_all(&lacking, Why::Absent)
    }

    /// Fetches sound copies of chunks that whoever read them found damaged, in one call.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Io`].
    pub fn heal(&self, damaged: &[ChunkRef]) -> Result<()> {
        self.fetch_all(damaged, Why::Damaged)
    }

    fn fetch_all(&self, wanted: &[ChunkRef], why: Why) -> Result<()> {
        let [first, others @ ..] = wanted else { return Ok(()) };
        if self.try_fetch(wanted, why)? {
            return Ok(());
        }
        let what = match others.len() {
            0 => format!("chunk {}", first.id),
            more => format!("chunk {} and {more} more", first.id),
        };
        Err(Error::Unavailable { what, detail: "it is not here, and there is nobody to ask".to_owned() })
    }

    /// Those of some chunks that are not here, each once, in their order. Holes are everywhere.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lacks(&self, wanted: &[ChunkRef]) -> Result<Vec<ChunkRef>> {
        let lacking = self.unknown(wanted)?;
        if lacking.is_empty() {
            return Ok(lacking);
        }
        // Among packs that are new, and once more without damaged runs, before they count as absent.
        self.index_now()?;
        let lacking = self.unknown(&lacking)?;
        if lacking.first().is_some_and(|first| self.locate(&first.id).is_ok_and(|place| place.is_none())) {
            return Ok(lacking);
        }
        self.unknown(&lacking)
    }

    /// Those that are in no place that is known.
    fn unknown(&self, wanted: &[ChunkRef]) -> Result<Vec<ChunkRef>> {
        let (mut lacking, mut seen) = (Vec::new(), HashSet::new());
        for chunk in wanted {
            if !chunk.is_hole() && self.counted_place(&chunk.id)?.is_none() && seen.insert(chunk.id) {
                lacking.push(*chunk);
            }
        }
        Ok(lacking)
    }

    /// Whether all of a file is here: its chunks, and the nodes of their list. Nothing is read but these nodes.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the list is, [`Error::Io`].
    pub fn file_is_here(&self, content: &Content, size: u64) -> Result<bool> {
        let here = Here(self.local());
        for chunk in chunks(content, size, &here) {
            match chunk {
                Ok((_, chunk)) if chunk.is_hole() || self.locate(&chunk.id)?.is_some() => {}
                Ok(_) | Err(Error::Absent { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Objects that are here; the others are absent, whatever names them.
struct Here(Store);

impl ObjectSource for Here {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.0.chunk(id).map(|chunk| Arc::from(&*chunk))
    }
}

#[cfg(test)]
mod tests;
