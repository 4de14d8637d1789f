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

/// A file as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Touch {
    /// Whether it has its lasting name.
    pub(super) synced: bool,
    /// Which of all uses this was.
    turn: u64,
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

    /// A file, if it is there. It is the last to go then.
    pub(super) fn touch(&mut self, id: &FileId) -> Option<Touch> {
        let turn = self.turn();
        let entry = self.files.get_mut(id)?;
        if self.order.remove(&entry.turn).is_some() {
            self.order.insert(turn, *id);
        }
        entry.turn = turn;
        Some(Touch { synced: entry.synced, turn })
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

    /// A file that was found then is gone, unless somebody has found or made it since.
    pub(super) fn remove_as_of(&mut self, id: &FileId, touch: Touch) {
        if self.files.get(id).is_some_and(|entry| entry.turn == touch.turn) {
            self.remove(id);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: u64 = 100;

    fn file(number: u8) -> FileId {
        FileId([number; 32])
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write { file: u8, bytes: u64, grown: u64 },
        Fail { bytes: u64 },
        Touch { file: u8 },
        Hold { file: u8 },
        Release { file: u8 },
        Lose { file: u8 },
        GiveUp { bytes: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        let file = || 0..12u8;
        prop_oneof![
            4 => (file(), 1..60u64, 0..3u64).prop_map(|(file, bytes, grown)| Step::Write { file, bytes, grown }),
            1 => (1..120u64).prop_map(|bytes| Step::Fail { bytes }),
            2 => file().prop_map(|file| Step::Touch { file }),
            2 => file().prop_map(|file| Step::Hold { file }),
            2 => file().prop_map(|file| Step::Release { file }),
            1 => file().prop_map(|file| Step::Lose { file }),
            1 => (0..50u64).prop_map(|bytes| Step::GiveUp { bytes }),
        ]
    }

    /// What is there, least recently used first, and what is held.
    #[derive(Default)]
    struct Model {
        files: Vec<(u8, u64)>,
        holds: HashMap<u8, u32>,
    }

    impl Model {
        fn bytes(&self) -> u64 {
            self.files.iter().map(|(_, bytes)| bytes).sum()
        }

        fn is_held(&self, file: u8) -> bool {
            self.holds.contains_key(&file)
        }

        /// Takes out the first that may go, until no more than so many bytes are left.
        fn shrink_to(&mut self, bytes: u64) -> Vec<FileId> {
            let mut gone = Vec::new();
            while self.bytes() > bytes
                && let Some(at) = self.files.iter().position(|(number, _)| !self.holds.contains_key(number))
            {
                gone.push(file(self.files.remove(at).0));
            }
            gone
        }

        fn use_last(&mut self, number: u8) {
            if let Some(at) = self.files.iter().position(|(there, _)| *there == number) {
                let entry = self.files.remove(at);
                self.files.push(entry);
            }
        }
    }

    fn ids(victims: &[Victim]) -> Vec<FileId> {
        victims.iter().map(|victim| victim.id).collect()
    }

    proptest! {
        #[test]
        fn the_bound_is_kept_what_is_held_stays_and_the_least_used_goes_first(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let (mut entries, mut model) = (Entries::new(BYTES_MAX), Model::default());
            for step in steps {
                match step {
                    Step::Write { file: number, bytes, grown } => {
                        let held: u64 =
                            model.files.iter().filter(|(there, _)| model.is_held(*there)).map(|f| f.1).sum();
                        match entries.reserve(bytes) {
                            Err(NoRoom) => prop_assert!(held + bytes > BYTES_MAX),
                            Ok(victims) => {
                                prop_assert_eq!(ids(&victims), model.shrink_to(BYTES_MAX - bytes));
                                prop_assert!(entries.bytes + entries.reserved <= BYTES_MAX);
                                entries.commit(file(number), bytes, bytes + grown, 0);
                                model.files.retain(|(there, _)| *there != number);
                                model.files.push((number, bytes + grown));
                            }
                        }
                    }
                    Step::Fail { bytes } => {
                        if let Ok(victims) = entries.reserve(bytes) {
                            prop_assert_eq!(ids(&victims), model.shrink_to(BYTES_MAX - bytes));
                            entries.unreserve(bytes);
                        }
                    }
                    Step::Touch { file: number } => {
                        let there = model.files.iter().any(|(there, _)| *there == number);
                        prop_assert_eq!(entries.touch(&file(number)).is_some(), there);
                        model.use_last(number);
                    }
                    Step::Hold { file: number } => {
                        entries.hold(&file(number));
                        *model.holds.entry(number).or_default() += 1;
                    }
                    Step::Release { file: number } => {
                        if let Some(count) = model.holds.get_mut(&number) {
                            entries.release(&file(number));
                            *count -= 1;
                            if *count == 0 {
                                model.holds.remove(&number);
                                model.use_last(number);
                            }
                        }
                    }
                    Step::Lose { file: number } => {
                        entries.remove(&file(number));
                        model.files.retain(|(there, _)| *there != number);
                    }
                    Step::GiveUp { bytes } => {
                        let over = model.bytes().saturating_sub(BYTES_MAX);
                        let left = model.bytes().saturating_sub(bytes.max(over));
                        prop_assert_eq!(ids(&entries.give_up(bytes)), model.shrink_to(left));
                    }
                }
                prop_assert_eq!(entries.bytes(), model.bytes());
                prop_assert_eq!(entries.len(), model.files.len());
                let held = model.files.iter().filter(|(there, _)| model.is_held(*there)).count();
                prop_assert_eq!(entries.held(), held);
                prop_assert_eq!(entries.reserved, 0);
            }
        }
    }
}
