//! Chunks that are here before the index knows them: in packs that are still filled, and in packs that were sealed since
//! the index was opened. They are as good to read as all others; whether they are durable is another matter, which is
//! why those of sealed packs can be told apart.
//!
//! An open pack goes by an id that is made up for it, under which it can be read until the index has taken its place.
//! Bounded by who fills it: [`Overlay::is_large`] says when the index has to take over what is sealed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Place;
use crate::id::{ChunkId, PackId};
use crate::pack::{FrameRow, Pack};

/// Entries of sealed packs with which it is large: some 16 MB of memory.
const ENTRIES_MAX: usize = 1 << 18;
/// Sealed packs with which it is large. Each holds a file open.
const SEALED_MAX: usize = 32;

/// What is here and not yet in the index.
#[derive(Default)]
pub(crate) struct Overlay {
    /// Guards the entries; a leaf lock, held for the entries of one frame at most.
    entries: RwLock<Entries>,
    /// Their number, so that nobody takes the lock while there are none.
    len: AtomicUsize,
}

#[derive(Default)]
struct Entries {
    places: HashMap<ChunkId, At>,
    packs: HashMap<PackNumber, Slot>,
    /// The packs by the ids that were made up for them.
    by_alias: HashMap<PackId, PackNumber>,
    next: u32,
}

/// Which of the packs that were ever begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PackNumber(u32);

#[derive(Clone, Copy)]
struct At {
    pack: PackNumber,
    frame: u16,
    slot: u16,
}

struct Slot {
    /// By the id that was made up for it.
    pack: Arc<Pack>,
    /// Its own id, once it has one.
    sealed: Option<PackId>,
}

impl Overlay {
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Takes a pack that is about to be filled.
    pub(crate) fn begin(&self, pack: Arc<Pack>) -> PackNumber {
        let mut entries = self.write();
        let number = PackNumber(entries.next);
        entries.next = entries.next.wrapping_add(1);
        entries.by_alias.insert(pack.id(), number);
        entries.packs.insert(number, Slot { pack, sealed: None });
        number
    }

    /// Adds a frame that was written to a pack. Its chunks are found here from now on, wherever else they are.
    pub(crate) fn add(&self, number: PackNumber, row: FrameRow, chunks: &[(ChunkId, u32)]) {
        let mut entries = self.write();
        let Some(slot) = entries.packs.get(&number) else { return };
        let frame = slot.pack.push(row);
        for (slot, (id, _)) in (0u16..).zip(chunks) {
            entries.places.insert(*id, At { pack: number, frame, slot });
        }
        self.len.store(entries.places.len(), Ordering::Release);
    }

    /// The pack was sealed, and this is its id.
    pub(crate) fn sealed(&self, number: PackNumber, id: PackId) {
        if let Some(slot) = self.write().packs.get_mut(&number) {
            slot.sealed = Some(id);
        }
    }

    /// The pack came to nothing.
    pub(crate) fn forget(&self, number: PackNumber) {
        self.drop_packs(|other, _| *other == number);
    }

    /// The index has these packs now.
    pub(crate) fn absorbed(&self, packs: &HashSet<PackId>) {
        if !self.read().packs.is_empty() {
            self.drop_packs(|_, slot| slot.sealed.is_some_and(|id| packs.contains(&id)));
        }
    }

    fn drop_packs(&self, is_gone: impl Fn(&PackNumber, &Slot) -> bool) {
        let mut entries = self.write();
        let before = entries.packs.len();
        entries.packs.retain(|number, slot| !is_gone(number, slot));
        if entries.packs.len() < before {
            let Entries { places, packs, by_alias, .. } = &mut *entries;
            places.retain(|_, at| packs.contains_key(&at.pack));
            places.shrink_to(ENTRIES_MAX / 8);
            by_alias.retain(|_, number| packs.contains_key(number));
        }
        self.len.store(entries.places.len(), Ordering::Release);
    }

    /// Whether the index should take over what is sealed.
    pub(crate) fn is_large(&self) -> bool {
        let entries = self.read();
        let sealed = entries.packs.values().filter(|slot| slot.sealed.is_some()).count();
        sealed >= SEALED_MAX || sealed > 0 && entries.places.len() >= ENTRIES_MAX
    }

    /// The packs that are sealed and not yet in the index.
    pub(crate) fn sealed_packs(&self) -> HashSet<PackId> {
        self.read().packs.values().filter_map(|slot| slot.sealed).collect()
    }

    /// Where a chunk lies.
    pub(crate) fn lookup(&self, id: &ChunkId) -> Option<Place> {
        if self.is_empty() {
            return None;
        }
        let entries = self.read();
        let at = entries.places.get(id)?;
        let slot = entries.packs.get(&at.pack)?;
        let pack = slot.sealed.unwrap_or_else(|| slot.pack.id());
        Some(Place { pack, frame: at.frame, slot: at.slot })
    }

    /// Whether a chunk lies in a sealed pack.
    pub(crate) fn is_sealed(&self, id: &ChunkId) -> bool {
        if self.is_empty() {
            return false;
        }
        let entries = self.read();
        let slot = entries.places.get(id).and_then(|at| entries.packs.get(&at.pack));
        slot.is_some_and(|slot| slot.sealed.is_some())
    }

    /// A pack by the id that was made up for it.
    pub(crate) fn pack(&self, alias: &PackId) -> Option<Arc<Pack>> {
        let entries = self.read();
        let number = entries.by_alias.get(alias)?;
        entries.packs.get(number).map(|slot| Arc::clone(&slot.pack))
    }
}
