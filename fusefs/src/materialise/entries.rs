//! Which whole files there are, who uses them and which goes first: plain bookkeeping, no disk.
//!
//! Invariants:
//! - `bytes + reserved <= bytes_max`, but for what was there before the bound was set and for files that turn out
//!   longer on disk than was reserved for them; the next reservation makes that good.
//! - a file that is held is not in `order`, so it is never chosen to go.

use std::collections::{BTreeMap, HashMap};

use crate::files::FileId;

/// A whole file.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Bytes on disk.
    bytes: u64,
    /// Whether it has its lasting name.
    synced: bool,
    /// Its place in the order of use.
    turn: u64,
    /// When its use was last noted on disk, in seconds of the cache's own clock.
    noted: u64,
}

/// A file that has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) id: FileId,
    pub(super) synced: bool,
}

/// There is no room, whatever is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

pub(super) struct Entries {
    files: HashMap<FileId, Entry>,
    /// Files that may go, by when they were used, oldest first.
    order: BTreeMap<u64, FileId>,
    holds: HashMap<FileId, u32>,
    bytes: u64,
    /// Bytes of files that are being written.
    reserved: u64,
    bytes_max: u64,
    next_turn: u64,
}

impl Entries {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            files: HashMap::new(),
            order: BTreeMap::new(),
            holds: HashMap::new(),
            bytes: 0,
            reserved: 0,
            bytes_max,
            next_turn: 0,
        }
    }

    pub(super) fn contains(&self, id: &FileId) -> bool {
        self.files.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Files that are there and held.
    pub(super) fn held(&self) -> usize {
        self.files.len() - self.order.len()
    }

    /// Whether a file is there, and if so whether it has its lasting name. It is the last to go then.
    pub(super) fn touch(&mut self, id: &FileId) -> Option<bool> {
        let turn = self.turn();
        let entry = self.files.get_mut(id)?;
        if self.order.remove(&entry.turn).is_some() {
            self.order.insert(turn, *id);
        }
        entry.turn = turn;
        Some(entry.synced)
    }

    /// Whether the use of a file, noted on disk `every` seconds at most, is to be noted now.
    pub(super) fn is_to_be_noted(&mut self, id: &FileId, now: u64, every: u64) -> bool {
        match self.files.get_mut(id) {
            Some(entry) if entry.noted + every <= now => {
                entry.noted = now;
                true
            }
            _ => false,
        }
    }

    pub(super) fn hold(&mut self, id: &FileId) {
        let count = self.holds.entry(*id).or_default();
        *count += 1;
        if *count == 1
            && let Some(entry) = self.files.get(id)
        {
            self.order.remove(&entry.turn);
        }
    }

    /// # Panics
    /// When it is not held.
    pub(super) fn release(&mut self, id: &FileId) {
        let count = self.holds.get_mut(id).expect("what is released is held");
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.holds.remove(id);
        let turn = self.turn();
        if let Some(entry) = self.files.get_mut(id) {
            entry.turn = turn;
            self.order.insert(turn, *id);
        }
    }

    /// Sets `bytes` aside, and says what has to go for that; it is not there any more.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<Vec<Victim>, NoRoom> {
        let wanted = self.bytes.saturating_add(self.reserved).saturating_add(bytes);
        let excess = wanted.saturating_sub(self.bytes_max);
        let (mut freed, mut count) = (0, 0);
        for id in self.order.values() {
            if freed >= excess {
                break;
            }
            freed += self.files[id].bytes;
            count += 1;
        }
        if freed < excess {
            return Err(NoRoom);
        }
        let victims = (0..count).filter_map(|_| self.pop()).collect();
        self.reserved += bytes;
        Ok(victims)
    }

    /// Chooses what has to go so that `bytes` are freed, and as much as is over the bound. It is not there any more.
    pub(super) fn give_up(&mut self, bytes: u64) -> Vec<Victim> {
        let over = (self.bytes + self.reserved).saturating_sub(self.bytes_max);
        let target = self.bytes.saturating_sub(bytes.max(over));
        let mut victims = Vec::new();
        while self.bytes > target
            && let Some(victim) = self.pop()
        {
            victims.push(victim);
        }
        victims
    }

    fn pop(&mut self) -> Option<Victim> {
        let (_, id) = self.order.pop_first()?;
        let entry = self.files.remove(&id)?;
        self.bytes -= entry.bytes;
        Some(Victim { id, synced: entry.synced })
    }

    /// Gives back what was set aside.
    pub(super) fn unreserve(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// A file is there for which `reserved` bytes were set aside.
    pub(super) fn commit(&mut self, id: FileId, reserved: u64, bytes: u64, now: u64) {
        self.unreserve(reserved);
        self.insert(id, bytes, false, now);
    }

    /// A file is there now.
    pub(super) fn insert(&mut self, id: FileId, bytes: u64, synced: bool, now: u64) {
        self.remove(&id);
        let turn = self.turn();
        self.files.insert(id, Entry { bytes, synced, turn, noted: now });
        self.bytes += bytes;
        if !self.holds.contains_key(&id) {
            self.order.insert(turn, id);
        }
    }

    /// A file is gone.
    pub(super) fn remove(&mut self, id: &FileId) {
        if let Some(entry) = self.files.remove(id) {
            self.order.remove(&entry.turn);
            self.bytes -= entry.bytes;
        }
    }

    /// A file has its lasting name now.
    pub(super) fn set_synced(&mut self, id: &FileId) {
        if let Some(entry) = self.files.get_mut(id) {
            entry.synced = true;
        }
    }

    fn turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }
}
