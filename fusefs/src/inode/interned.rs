//! Ids and texts that inodes refer to by a number of 4 bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::IsHash;

/// Numbers of ids, each counted by the inodes that refer to it.
#[derive(Default)]
pub(super) struct Ids {
    /// Guards the numbers. A leaf lock.
    table: RwLock<IdTable>,
}

#[derive(Default)]
struct IdTable {
    numbers: HashMap<[u8; 32], u32, IsHash>,
    slots: Vec<IdSlot>,
    free: Vec<u32>,
}

struct IdSlot {
    id: [u8; 32],
    uses: AtomicU32,
    /// Whether the number is given out; between the last use and the removal it still is.
    live: bool,
}

impl Ids {
    /// The number of an id, with one more use.
    pub(super) fn take(&self, id: &[u8; 32]) -> u32 {
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(number) = table.numbers.get(id) {
                table.slots[*number as usize].uses.fetch_add(1, Ordering::Relaxed);
                return *number;
            }
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = table.numbers.get(id) {
            table.slots[*number as usize].uses.fetch_add(1, Ordering::Relaxed);
            return *number;
        }
        let slot = IdSlot { id: *id, uses: AtomicU32::new(1), live: true };
        let number = match table.free.pop() {
            Some(number) => {
                table.slots[number as usize] = slot;
                number
            }
            None => {
                table.slots.push(slot);
                u32::try_from(table.slots.len() - 1).expect("4 billion directories do not fit into memory")
            }
        };
        table.numbers.insert(*id, number);
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
            let id = slot.id;
            table.numbers.remove(&id);
            table.free.push(number);
        }
    }

    pub(super) fn get(&self, number: u32) -> [u8; 32] {
        self.table.read().unwrap_or_else(PoisonError::into_inner).slots[number as usize].id
    }

    pub(super) fn bytes(&self) -> usize {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        super::map_bytes::<[u8; 32], u32>(table.numbers.capacity())
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
