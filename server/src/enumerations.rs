//! What one artifact has that another has not, found once for all who ask for it at the same time, and kept for a while.
//!
//! A comparison reads metadata and costs computing; the answer is a list of ids. Few are made at a time; each that is
//! asked for by several is made once; lists are kept up to a number of bytes, the least recently used go first. A list
//! of what is not wholly here is not kept: more of it may come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_store::{ArtifactId, ChunkId, Progress, Store};
use tokio::sync::{OnceCell, Semaphore};

use crate::metrics::Labelled;
use crate::peer_error::PeerRefusal;
use crate::work::Work;

/// Comparisons that are made at a time.
const AT_A_TIME: usize = 2;
/// Bytes of lists that are kept, about, and lists.
const KEPT_BYTES_MAX: usize = 24 << 20;
const KEPT_MAX: usize = 512;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Comparison {
    pub(crate) have: Option<ArtifactId>,
    pub(crate) want: ArtifactId,
    pub(crate) part: Part,
}

/// What of the artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Metadata objects.
    Objects,
    /// Chunks of files.
    Chunks,
}

/// What is lacking.
#[derive(Debug)]
pub(crate) struct Enumeration {
    pub(crate) ids: Arc<[ChunkId]>,
    pub(crate) plain_bytes: u64,
    pub(crate) stored_bytes: u64,
    /// Whether all of it is here.
    pub(crate) is_here: bool,
}

impl Enumeration {
    fn kept_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.ids)
    }
}

/// The lists that are kept or being made.
#[derive(Debug)]
pub(crate) struct Enumerations {
    /// Guards the table. A leaf lock.
    entries: Mutex<HashMap<Comparison, Entry>>,
    places: Semaphore,
    tick: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    cell: Arc<OnceCell<Arc<Enumeration>>>,
    used: u64,
}

impl Default for Enumerations {
    fn default() -> Self {
        Self { entries: Mutex::default(), places: Semaphore::new(AT_A_TIME), tick: AtomicU64::new(0) }
    }
}

impl Enumerations {
    /// What is lacking.
    pub(crate) async fn get(
        &self,
        comparison: Comparison,
        store: &Store,
        work: &Work,
        counts: &Labelled,
    ) -> Result<Arc<Enumeration>, PeerRefusal> {
        let cell = self.cell(comparison);
        if let Some(kept) = cell.get() {
            counts.add("kept");
            return Ok(Arc::clone(kept));
        }
        let make = async || {
            // It is never closed.
            let _place = self.places.acquire().await.map_err(|error| PeerRefusal::Failed(error.into()))?;
            counts.add("made");
            let (store, abandoned) = (store.clone(), Abandoned::default());
            let asked = abandoned.0.clone();
            work.run(move || compare(&store, comparison, &Asked(asked))).await?.map(Arc::new)
        };
        let made = cell.get_or_try_init(make).await.map(Arc::clone);
        self.settle(comparison, made.as_deref().ok());
        made
    }

    fn cell(&self, comparison: Comparison) -> Arc<OnceCell<Arc<Enumeration>>> {
        let used = self.tick.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.lock();
        let entry = entries.entry(comparison).or_insert_with(|| Entry { cell: Arc::default(), used });
        entry.used = used;
        Arc::clone(&entry.cell)
    }

    /// Keeps the bounds after a list was made, or was not.
    fn settle(&self, comparison: Comparison, made: Option<&Enumeration>) {
        let mut entries = self.lock();
        let is_kept = made.is_some_and(|made| made.is_here && made.kept_bytes() <= KEPT_BYTES_MAX / 2);
        if !is_kept {
            entries.remove(&comparison);
        }
        loop {
            let lists = entries.values().filter_map(|entry| entry.cell.get());
            let bytes: usize = lists.map(|list| list.kept_bytes()).sum();
            if bytes <= KEPT_BYTES_MAX && entries.len() <= KEPT_MAX {
                return;
            }
            let whole = entries.iter().filter(|(_, entry)| entry.cell.initialized());
            let Some(oldest) = whole.min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key) else { return };
            entries.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Comparison, Entry>> {
        // Each change is one insertion or removal: a panic elsewhere leaves it sound.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn compare(
    store: &Store,
    comparison: Comparison,
    progress: &dyn Progress,
) -> Result<Enumeration, PeerRefusal> {
    let Comparison { have, want, part } = comparison;
    let lacking = match part {
        Part::Objects => store.lacking_objects(have.as_ref(), &want, progress),
        Part::Chunks => store.lacking_chunks(have.as_ref(), &want, progress),
    }?;
    let ids: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    drop(lacking.chunks);
    let is_here = store.have(&ids)?.into_iter().all(|is_here| is_here);
    let (plain_bytes, stored_bytes) = (lacking.plain_bytes, lacking.stored_bytes);
    Ok(Enumeration { ids: ids.into(), plain_bytes, stored_bytes, is_here })
}

/// Tells the work, when dropped, that nobody waits for it.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Asked(Arc<AtomicBool>);

impl Progress for Asked {
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
