//! Ids and texts that inodes refer to by a number of 4 bytes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use hashbrown::HashTable;

/// The slots grow by so many at least.
const SLOTS_GROWTH_MIN: usize = 64;

/// Numbers of ids, each counted by the inodes that refer to it.
#[derive(Default)]
pub(super) struct Ids {
    /// Guards the numbers. A leaf lock.
    table: RwLock<IdTable>,
}

#[derive(Default)]
struct IdTable {
    /// Numbers, found by the ids in their slots.
    numbers: HashTable<u32>,
    slots: Vec<IdSlot>,
    free: Vec<u32>,
}

struct IdSlot {
    id: [u8; 32],
    uses: AtomicU32,
    /// Whether the number is given out; between the last use and the removal it still is.
    live: bool,
}

/// An id is a hash.
fn hash(id: &[u8; 32]) -> u64 {
    id.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

impl IdTable {
    /// The number of an id, with one more use, if it has one.
    fn reuse(&self, id: &[u8; 32]) -> Option<u32> {
        let number = *self.numbers.find(hash(id), |number| self.slots[*number as usize].id == *id)?;
        self.slots[number as usize].uses.fetch_add(1, Ordering::Relaxed);
        Some(number)
    }
}

impl Ids {
    /// The number of an id, with one more use.
    pub(super) fn take(&self, id: &[u8; 32]) -> u32 {
        if let Some(number) = self.table.read().unwrap_or_else(PoisonError::into_inner).reuse(id) {
            return number;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = table.reuse(id) {
            return number;
        }
        let slot = IdSlot { id: *id, uses: AtomicU32::new(1), live: true };
        let number = match table.free.pop() {
            Some(number) => {
                table.slots[number as usize] = slot;
                number
            }
            None => {
                if table.slots.len() == table.slots.capacity() {
                    let growth = (table.slots.len() / 8).max(SLOTS_GROWTH_MIN);
                    table.slots.reserve_exact(growth);
                }
                table.slots.push(slot);
                u32::try_from(table.slots.len() - 1).expect("4 billion directories do not fit into memory")
            }
        };
        let IdTable { numbers, slots, .. } = &mut *table;
        numbers.insert_unique(hash(id), number, |number| hash(&slots[*number as usize].id));
        number
    }

    /// Ends one use of a number.
    pub(super) fn release(&self, number: u32) {
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if table.slots[number as usize].uses.fetch_sub(1, Ordering::AcqRel) > 1 {
                return;
            }
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut table.slots[number as usize];
        // It may have been taken again since, and released again, too.
        if slot.live && slot.uses.load(Ordering::Relaxed) == 0 {
            slot.live = false;
            let hash = hash(&slot.id);
            if let Ok(entry) = table.numbers.find_entry(hash, |other| *other == number) {
                entry.remove();
            }
            table.free.push(number);
        }
    }

    pub(super) fn get(&self, number: u32) -> [u8; 32] {
        self.table.read().unwrap_or_else(PoisonError::into_inner).slots[number as usize].id
    }

    pub(super) fn bytes(&self) -> usize {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.numbers.allocation_size()
            + table.slots.capacity() * size_of::<IdSlot>()
            + table.free.capacity() * size_of::<u32>()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).numbers.len()
    }
}

/// Numbers of texts, each of one inode.
#[derive(Default)]
pub(super) struct Texts {
    /// Guards the texts. A leaf lock.
    table: Mutex<TextTable>,
}

#[derive(Default)]
struct TextTable {
    texts: Vec<Option<Arc<[u8]>>>,
    free: Vec<u32>,
    /// Lengths of the texts, added up.
    len: usize,
}

/// What an allocation of a shared text takes beside it: two counts, and the allocator's own.
const TEXT_OVERHEAD: usize = 24;

impl Texts {
    fn lock(&self) -> MutexGuard<'_, TextTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, text: &[u8]) -> u32 {
        let mut table = self.lock();
        table.len += text.len();
        let text = Some(Arc::from(text));
        match table.free.pop() {
            Some(number) => {
                table.texts[number as usize] = text;
                number
            }
            None => {
                table.texts.push(text);
                u32::try_from(table.texts.len() - 1).expect("4 billion names do not fit into memory")
            }
        }
    }

    pub(super) fn remove(&self, number: u32) {
        let mut table = self.lock();
        if let Some(text) = table.texts[number as usize].take() {
            table.len -= text.len();
            table.free.push(number);
        }
    }

    pub(super) fn get(&self, number: u32) -> Arc<[u8]> {
        self.lock().texts[number as usize].clone().expect("an inode's text lives as long as the inode")
    }

    pub(super) fn bytes(&self) -> usize {
        let table = self.lock();
        let there = table.texts.len() - table.free.len();
        table.texts.capacity() * size_of::<Option<Arc<[u8]>>>()
            + table.free.capacity() * size_of::<u32>()
            + table.len
            + there * TEXT_OVERHEAD
    }
}
