//! What is needed of each pack: a bit for each of its chunks, in the order of frames and of chunks in them. 8 M chunks
//! take 2 MB, where a set of their ids would take 300.
//!
//! Bits are only ever set. A second bit says of an object that everything below it is marked too. It is one of its own,
//! since a file may hold the very bytes of an object: that its chunk is needed says nothing of what the object leads to.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::block::format::{id_at, u16_at};
use crate::error::{Error, Result};
use crate::id::{ChunkId, ID_LEN, PackId};
use crate::index::Place;
use crate::pack::{FrameRow, Pack, PackKind, SEALED};
use crate::store::Store;

/// The marks of all packs that an index knew.
pub(super) struct Marks {
    packs: Vec<Marked>,
    by_id: HashMap<PackId, usize>,
}

/// A pack, and what is needed of it.
pub(super) struct Marked {
    pub(super) id: PackId,
    pub(super) kind: PackKind,
    pub(super) file_bytes: u64,
    pub(super) frames: Vec<FrameRow>,
    /// The number of the first chunk of each frame, and of all chunks.
    starts: Vec<u32>,
    needed: Bits,
    complete: Bits,
    /// What is wrong with its header or footer.
    pub(super) damage: Option<String>,
}

struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(len: u32) -> Self {
        Self((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether it was not set before.
    fn set(&self, at: u32) -> bool {
        let (word, bit) = (at as usize / 64, 1 << (at % 64));
        // The one bit says all that one thread has to know of another's work.
        self.0[word].fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    fn get(&self, at: u32) -> bool {
        self.0[at as usize / 64].load(Ordering::Acquire) >> (at % 64) & 1 == 1
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Acquire).count_ones())).sum()
    }
}

impl Marked {
    fn new(
        id: PackId,
        kind: PackKind,
        file_bytes: u64,
        frames: Vec<FrameRow>,
        chunks: impl Iterator<Item = (u16, u16)>,
        damage: Option<String>,
    ) -> Result<Self> {
        let mut counts = vec![0u32; frames.len()];
        for (frame, slot) in chunks {
            // A footer whose rows lead past its frames is refused before this.
            let count = counts.get_mut(usize::from(frame)).ok_or_else(|| contradiction(id))?;
            *count = (*count).max(u32::from(slot) + 1);
        }
        let (mut starts, mut start) = (Vec::with_capacity(frames.len() + 1), 0u32);
        for count in counts {
            starts.push(start);
            start = start.checked_add(count).ok_or_else(|| contradiction(id))?;
        }
        starts.push(start);
        let (needed, complete) = (Bits::new(start), Bits::new(start));
        Ok(Self { id, kind, file_bytes, frames, starts, needed, complete, damage })
    }

    fn ordinal(&self, frame: u16, slot: u16) -> Option<u32> {
        let frame = usize::from(frame);
        let at = self.starts.get(frame)?.checked_add(u32::from(slot))?;
        self.starts.get(frame + 1).is_some_and(|end| at < *end).then_some(at)
    }

    /// Chunks in it, as far as its footer tells.
    pub(super) fn chunks(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0).into()
    }

    /// How many of them are needed.
    pub(super) fn needed(&self) -> u64 {
        self.needed.count()
    }

    pub(super) fn is_needed(&self, frame: u16, slot: u16) -> bool {
        self.ordinal(frame, slot).is_none_or(|at| self.needed.get(at))
    }

    /// Marks a chunk of it as needed.
    pub(super) fn need(&self, frame: u16, slot: u16) {
        if let Some(at) = self.ordinal(frame, slot) {
            self.needed.set(at);
        }
    }

    /// Chunks of a frame, and how many of them are needed.
    pub(super) fn of_frame(&self, frame: usize) -> (u32, u32) {
        let (from, to) = (self.starts[frame], self.starts[frame + 1]);
        let needed = (from..to).filter(|at| self.needed.get(*at)).count();
        (to - from, u32::try_from(needed).expect("at most as many as there are"))
    }

    /// Bytes of its frames that are needed, about, and of all of them: a frame counts by its part of chunks.
    pub(super) fn stored_bytes(&self) -> (u64, u64) {
        let (mut needed, mut all) = (0, 0);
        for (number, row) in self.frames.iter().enumerate() {
            let (there, wanted) = self.of_frame(number);
            all += u64::from(row.len);
            needed += (u64::from(row.len) * u64::from(wanted)).checked_div(there.into()).unwrap_or(0);
        }
        (needed, all)
    }

    /// Its chunks that are not needed, in no order. Reads its footer again.
    pub(super) fn unneeded(&self, store: &Store) -> Result<Vec<(ChunkId, Place)>> {
        let path = store.packs_dir().join(format!("{}.{SEALED}", self.id));
        let mut buffer = Vec::new();
        let (rows, _) = Pack::chunk_table(&**store.io(), &path, self.id, &mut buffer)?;
        let place = |row: &[u8; ID_LEN + 4]| {
            let (frame, slot) = (u16_at(row, ID_LEN), u16_at(row, ID_LEN + 2));
            (id_at(row), Place { pack: self.id, frame, slot })
        };
        let is_not = |(_, place): &(ChunkId, Place)| !self.is_needed(place.frame, place.slot);
        Ok(rows.iter().map(place).filter(is_not).collect())
    }
}

fn contradiction(id: PackId) -> Error {
    let detail = "its chunk table contradicts itself".to_owned();
    Error::Damaged { what: format!("pack {id}"), chunk: None, pack: Some(id), offset: None, detail }
}

impl Marks {
    /// Reads the footers of packs; nothing is needed yet. Those that are gone are left out.
    pub(super) fn of(store: &Store, packs: &HashSet<PackId>, threads: NonZero<usize>) -> Result<Self> {
        let mut packs: Vec<PackId> = packs.iter().copied().collect();
        packs.sort_unstable();
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(packs.len())));
        let read = || {
            let mut buffer = Vec::new();
            while let Some(id) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(marked) = read(store, *id, &mut buffer)? {
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(marked);
                }
            }
            Ok(())
        };
        on_threads(threads, &read)?;
        let mut packs = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        packs.sort_unstable_by_key(|pack| pack.id);
        let by_id = packs.iter().enumerate().map(|(number, pack)| (pack.id, number)).collect();
        Ok(Self { packs, by_id })
    }

    /// The packs, ascending by id.
    pub(super) fn packs(&self) -> &[Marked] {
        &self.packs
    }

    pub(super) fn pack(&self, id: &PackId) -> Option<&Marked> {
        self.by_id.get(id).map(|number| &self.packs[*number])
    }

    /// Marks the chunk at a place as needed. Packs that are younger than the marks are none of its business.
    pub(super) fn need(&self, place: &Place) {
        if let Some(pack) = self.pack(&place.pack) {
            pack.need(place.frame, place.slot);
        }
    }

    /// Whether all below the object at a place is marked.
    pub(super) fn is_complete(&self, place: &Place) -> bool {
        let ordinal = |pack: &Marked| Some(pack.complete.get(pack.ordinal(place.frame, place.slot)?));
        self.pack(&place.pack).and_then(ordinal).unwrap_or(false)
    }

    /// Notes that all below the object at a place is marked, or will be before anybody asks; whether that is news.
    /// Nothing where the pack is younger than the marks.
    pub(super) fn complete(&self, place: &Place) -> Option<bool> {
        let pack = self.pack(&place.pack)?;
        Some(pack.complete.set(pack.ordinal(place.frame, place.slot)?))
    }
}

/// Nothing if it is gone.
fn read(store: &Store, id: PackId, buffer: &mut Vec<u8>) -> Result<Option<Marked>> {
    let path = store.packs_dir().join(format!("{id}.{SEALED}"));
    let is_gone = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
    match Pack::tables(&**store.io(), &path, id, buffer) {
        Ok((Ok(tables), len)) => {
            let rows = tables.chunks.iter().map(|row| (u16_at(row, ID_LEN), u16_at(row, ID_LEN + 2)));
            Marked::new(id, tables.kind, len, tables.frames().collect(), rows, None).map(Some)
        }
        Ok((Err(detail), len)) => {
            let pack = Pack::open(&**store.io(), &path, id)?;
            let footer = pack.footer();
            let rows = footer.chunks.iter().map(|row| (row.frame, row.slot));
            Marked::new(id, footer.kind, len, footer.frames.clone(), rows, Some(detail.to_owned())).map(Some)
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs `work` on so many threads, of which the caller's is one.
pub(super) fn on_threads<T: Send>(
    threads: NonZero<usize>,
    work: &(impl Fn() -> Result<T> + Sync),
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(work)).collect();
        let mut results = vec![work()];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results.into_iter().collect()
    })
}
