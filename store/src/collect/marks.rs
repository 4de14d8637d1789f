//! What is needed of each pack: a bit for each of its chunks, in the order of frames and of chunks in them. 8 M chunks
//! take 2 MB, where a set of their ids would take 300.
//!
//! Bits are only ever set. A second bit says of an object that everything below it is marked too. It is one of its own,
//! since a file may hold the very bytes of an object: that its chunk is needed says nothing of what the object leads to. A
//! third one says of a chunk that frames stand on it: it is needed then, though perhaps for nothing else.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::block::format::{id_at, u16_at};
use crate::error::{Error, Result};
use crate::id::{ChunkId, ID_LEN, PackId};
use crate::index::Place;
use crate::pack::{FrameRow, Pack, PackKind, SEALED};
use crate::store::{Store, is_damage};

/// The marks of all packs that an index knew.
pub(super) struct Marks {
    packs: Vec<Marked>,
    by_id: HashMap<PackId, usize>,
    /// Whether frames that stand on what nobody else needs are to stand alone.
    alone_pays: AtomicBool,
}

/// A pack, and what is needed of it.
pub(super) struct Marked {
    pub(super) id: PackId,
    pub(super) kind: PackKind,
    pub(super) file_bytes: u64,
    pub(super) frames: Vec<FrameRow>,
    /// The number of the first chunk of each frame, and of all chunks.
    starts: Vec<u32>,
    /// What names and holders lead to.
    named: Bits,
    complete: Bits,
    /// What frames stand on, in packs of deltas that stay for now.
    based: Bits,
    /// What each frame stands on; nothing at all but for packs of deltas.
    pub(super) bases: BasesOfFrames,
    /// Whether all that its frames stand on is marked.
    stands: AtomicBool,
    /// What is wrong with its header or footer.
    pub(super) damage: Option<String>,
}

/// What each frame of a pack stands on.
type BasesOfFrames = Vec<Box<[ChunkId]>>;

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

    /// How many are set in either.
    fn count_with(&self, other: &Self) -> u64 {
        let words = self.0.iter().zip(&other.0);
        words
            .map(|(a, b)| u64::from((a.load(Ordering::Acquire) | b.load(Ordering::Acquire)).count_ones()))
            .sum()
    }
}

impl Marked {
    fn new(
        id: PackId,
        kind: PackKind,
        file_bytes: u64,
        frames: Vec<FrameRow>,
        chunks: impl Iterator<Item = (u16, u16)>,
        bases: BasesOfFrames,
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
        let [named, complete, based] = [(); 3].map(|()| Bits::new(start));
        let stands = AtomicBool::new(false);
        Ok(Self { id, kind, file_bytes, frames, starts, named, complete, based, bases, stands, damage })
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
        self.named.count_with(&self.based)
    }

    pub(super) fn is_needed(&self, frame: u16, slot: u16) -> bool {
        self.ordinal(frame, slot).is_none_or(|at| self.is_marked(at))
    }

    fn is_marked(&self, at: u32) -> bool {
        self.named.get(at) || self.based.get(at)
    }

    /// Whether a chunk is needed for itself, not only because frames stand on it.
    fn is_named(&self, frame: u16, slot: u16) -> bool {
        self.ordinal(frame, slot).is_none_or(|at| self.named.get(at))
    }

    /// Whether a frame is needed for itself, though not all that it stands on is, and is to stand alone: where that pays.
    pub(super) fn is_to_stand_alone(
        &self,
        frame: u16,
        marks: &Marks,
        find: &dyn Fn(&ChunkId) -> Option<Place>,
    ) -> bool {
        marks.alone_pays.load(Ordering::Acquire) && self.stands_on_others(frame, marks, find)
    }

    /// Whether a frame is needed for itself, though not all that it stands on is.
    fn stands_on_others(&self, frame: u16, marks: &Marks, find: &dyn Fn(&ChunkId) -> Option<Place>) -> bool {
        let Some(bases) = self.bases.get(usize::from(frame)).filter(|bases| !bases.is_empty()) else {
            return false;
        };
        let (from, to) = (self.starts[usize::from(frame)], self.starts[usize::from(frame) + 1]);
        // What is younger than the marks is needed by whoever has just stored it. A map is of use to frames alone.
        let stays = |place: Place| {
            let pack = marks.pack(&place.pack);
            pack.is_none_or(|pack| pack.is_map(place.frame) || pack.is_named(place.frame, place.slot))
        };
        (from..to).any(|at| self.named.get(at)) && !bases.iter().all(|base| find(base).is_some_and(stays))
    }

    /// Whether a frame holds a map: what stands on nothing in a pack of deltas.
    fn is_map(&self, frame: u16) -> bool {
        self.bases.get(usize::from(frame)).is_some_and(|bases| bases.is_empty())
    }

    /// Marks a chunk of it as needed.
    pub(super) fn need(&self, frame: u16, slot: u16) {
        if let Some(at) = self.ordinal(frame, slot) {
            self.named.set(at);
        }
    }

    fn need_as_base(&self, frame: u16, slot: u16) {
        if let Some(at) = self.ordinal(frame, slot) {
            self.based.set(at);
        }
    }

    /// Chunks of a frame, and how many of them are needed.
    pub(super) fn of_frame(&self, frame: usize) -> (u32, u32) {
        let (from, to) = (self.starts[frame], self.starts[frame + 1]);
        let needed = (from..to).filter(|at| self.is_marked(*at)).count();
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
        Ok(Self { packs, by_id, alone_pays: AtomicBool::new(false) })
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

    /// Marks what frames stand on in packs of deltas of which something is needed, or which are among those that stay; and
    /// so on, for what they stand on may be in such packs. All frames of such a pack count, needed or not: as long as a
    /// pack is there, each of its frames can be decoded.
    pub(super) fn need_bases(
        &self,
        find: &dyn Fn(&ChunkId) -> Option<Place>,
        stays: &dyn Fn(&PackId) -> bool,
    ) {
        loop {
            let mut is_news = false;
            for pack in self.packs.iter().filter(|pack| pack.kind == PackKind::Delta) {
                if !(pack.needed() > 0 || stays(&pack.id)) || pack.stands.swap(true, Ordering::AcqRel) {
                    continue;
                }
                is_news = true;
                for place in pack.bases.iter().flatten().filter_map(find) {
                    if let Some(below) = self.pack(&place.pack) {
                        below.need_as_base(place.frame, place.slot);
                    }
                }
            }
            if !is_news {
                return;
            }
        }
    }

    /// Finds out whether it frees more than it takes that frames which stand on what nobody else needs stand alone: all
    /// of them, or none, so that no collection makes a store larger.
    pub(super) fn weigh(&self, find: &dyn Fn(&ChunkId) -> Option<Place>) {
        let (mut freed, mut stored, mut plain) = (0u64, 0u64, 0u64);
        for pack in self.packs.iter().filter(|pack| pack.kind != PackKind::Delta) {
            for (frame, row) in pack.frames.iter().enumerate() {
                let (from, to) = (pack.starts[frame], pack.starts[frame + 1]);
                let idle = (from..to).filter(|at| pack.based.get(*at) && !pack.named.get(*at)).count() as u64;
                if idle > 0 {
                    freed += u64::from(row.len) * idle / u64::from(to - from);
                    (stored, plain) = (stored + u64::from(row.len), plain + u64::from(row.plain_len));
                }
            }
        }
        // What stands on chunks is like them, and is compressed as much.
        let alone = |row: &FrameRow| (u64::from(row.plain_len) * stored).checked_div(plain).unwrap_or(0);
        let frames = self.packs.iter().flat_map(|pack| (0u16..).zip(&pack.frames).map(move |it| (pack, it)));
        let others = frames.filter(|(pack, (frame, _))| pack.stands_on_others(*frame, self, find));
        let taken: u64 = others.map(|(_, (_, row))| alone(row).saturating_sub(row.len.into())).sum();
        self.alone_pays.store(taken <= freed, Ordering::Release);
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
            let (kind, frames): (_, Vec<FrameRow>) = (tables.kind, tables.frames().collect());
            let (bases, damage) = bases(store, id, kind)?;
            Marked::new(id, kind, len, frames, rows, bases, damage).map(Some)
        }
        Ok((Err(detail), len)) => {
            let pack = Pack::open(&**store.io(), &path, id)?;
            let footer = pack.footer();
            let rows = footer.chunks.iter().map(|row| (row.frame, row.slot));
            let (bases, _) = bases(store, id, footer.kind)?;
            let damage = Some(detail.to_owned());
            Marked::new(id, footer.kind, len, footer.frames.clone(), rows, bases, damage).map(Some)
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What each frame of a pack of deltas stands on, and what is wrong with one that does not say. Of other packs nothing is
/// read.
fn bases(store: &Store, id: PackId, kind: PackKind) -> Result<(BasesOfFrames, Option<String>)> {
    if kind != PackKind::Delta {
        return Ok((Vec::new(), None));
    }
    let (pack, mut damage) = (store.pack(id)?, None);
    let mut bases = Vec::with_capacity(pack.footer().frames.len());
    for number in (0u16..).take(pack.footer().frames.len()) {
        bases.push(match pack.header(number) {
            Ok(header) => header.bases.into_boxed_slice(),
            Err(error) if is_damage(&error) => {
                damage.get_or_insert(error.to_string());
                Box::default()
            }
            Err(error) => return Err(error),
        });
    }
    Ok((bases, damage))
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
