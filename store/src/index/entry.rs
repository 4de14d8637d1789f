//! An entry of the index, as bytes, and the search among sorted ones: the same on disk and in memory.

use std::cmp::Ordering;

use super::Place;
use crate::block::format::u16_at;
use crate::id::{ChunkId, ID_LEN, PackId};

/// Bytes of an entry.
pub(super) const ENTRY_LEN: usize = ID_LEN + 6;
/// Entries that share a fan-out bucket, about.
const BUCKET: usize = 64;
/// The fan-out's bits, at most.
pub(super) const FANOUT_BITS_MAX: u32 = 24;

/// id 32 | pack u16 | frame u16 | slot u16. Entries ascend as bytes do.
pub(super) type Entry = [u8; ENTRY_LEN];

/// The entry of a row of a footer's chunk table, of the pack with this number.
pub(super) fn entry(row: &[u8; ID_LEN + 4], pack: u16) -> Entry {
    let mut entry = [0; ENTRY_LEN];
    entry[..ID_LEN].copy_from_slice(&row[..ID_LEN]);
    entry[ID_LEN..ID_LEN + 2].copy_from_slice(&pack.to_le_bytes());
    entry[ID_LEN + 2..].copy_from_slice(&row[ID_LEN..]);
    entry
}

pub(super) fn id(entry: &Entry) -> &[u8] {
    &entry[..ID_LEN]
}

/// The number that its run gives to its pack.
pub(super) fn pack_number(entry: &Entry) -> u16 {
    u16_at(entry, ID_LEN)
}

pub(super) fn renumber(entry: &mut Entry, pack: u16) {
    entry[ID_LEN..ID_LEN + 2].copy_from_slice(&pack.to_le_bytes());
}

/// Nothing when its pack has no number here: a damaged run's.
pub(super) fn place(entry: &Entry, packs: &[PackId]) -> Option<Place> {
    let pack = *packs.get(usize::from(pack_number(entry)))?;
    Some(Place { pack, frame: u16_at(entry, ID_LEN + 2), slot: u16_at(entry, ID_LEN + 4) })
}

/// The first eight bytes of an id, as a number that sorts like the id.
pub(super) fn prefix(id: &[u8]) -> u64 {
    u64::from_be_bytes(*id.first_chunk().expect("an id has 32 bytes"))
}

/// The fan-out's bits for so many entries.
pub(super) fn fanout_bits(entries: usize) -> u32 {
    (entries / BUCKET).max(1).ilog2().min(FANOUT_BITS_MAX)
}

/// The bucket of a prefix.
pub(super) fn bucket(prefix: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { usize::try_from(prefix >> (64 - bits)).expect("at most 24 bits") }
}

/// Sorted entries with the first entry of each bucket, `starts`: asked for buckets 0 to 2^`bits`.
pub(super) struct Sorted<'a, S: Fn(usize) -> usize> {
    pub(super) entries: &'a [Entry],
    pub(super) bits: u32,
    /// Bits that all the entries' ids have in common, before those that the buckets are of.
    pub(super) skipped_bits: u32,
    pub(super) starts: S,
}

impl<'a, S: Fn(usize) -> usize> Sorted<'a, S> {
    /// The entry of an id. Starts that contradict each other, as damage may make them, lead to nothing.
    pub(super) fn find(&self, id: &ChunkId) -> Option<&'a Entry> {
        let wanted = prefix(&id.0) << self.skipped_bits;
        let bucket = bucket(wanted, self.bits);
        let entries = self.entries.get((self.starts)(bucket)..(self.starts)(bucket + 1))?;
        let within = u128::from(wanted << self.bits);
        let guess = usize::try_from((within * entries.len() as u128) >> 64).unwrap_or(0);
        search(entries, guess, id)
    }
}

/// Looks around a guess: steps that double, until the place is bounded on both sides, and halves from there on. Three
/// steps where ids are distributed as hashes are; twice the logarithm however they are.
fn search<'a>(entries: &'a [Entry], guess: usize, id: &ChunkId) -> Option<&'a Entry> {
    let wanted = prefix(&id.0);
    let (mut low, mut high, mut at, mut step) = (0, entries.len(), guess, 1);
    while low < high {
        let entry = &entries[at];
        let middle = |low, high| low + (high - low) / 2;
        match prefix(entry).cmp(&wanted).then_with(|| self::id(entry).cmp(&id.0)) {
            Ordering::Equal => return Some(entry),
            Ordering::Less => {
                low = at + 1;
                at = (at + step).min(middle(low, high));
            }
            Ordering::Greater => {
                high = at;
                at = at.saturating_sub(step).max(middle(low, high));
            }
        }
        step *= 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(numbers: impl IntoIterator<Item = u64>) -> Vec<Entry> {
        let entry_of = |number: u64| {
            let mut row = [7; ID_LEN + 4];
            row[..8].copy_from_slice(&number.to_be_bytes());
            entry(&row, 3)
        };
        numbers.into_iter().map(entry_of).collect()
    }

    #[test]
    fn every_guess_finds_what_is_there_and_nothing_else() {
        for len in 0..70 {
            let entries = entries((0..len).map(|n| n * 2 + 1));
            for guess in 0..entries.len() {
                for number in 0..len * 2 + 2 {
                    let mut id = ChunkId([7; ID_LEN]);
                    id.0[..8].copy_from_slice(&number.to_be_bytes());
                    let found = search(&entries, guess, &id).map(|entry| prefix(entry));
                    assert_eq!(found, (number % 2 == 1 && number < len * 2).then_some(number));
                }
            }
        }
    }

    #[test]
    fn a_row_becomes_an_entry() {
        let mut row = [0; ID_LEN + 4];
        row[..ID_LEN].copy_from_slice(&ChunkId::of(b"row").0);
        row[ID_LEN..].copy_from_slice(&[1, 2, 3, 4]);
        let mut entry = entry(&row, 1);
        let packs = [PackId::of(b"0"), PackId::of(b"1")];
        assert_eq!(place(&entry, &packs), Some(Place { pack: packs[1], frame: 0x0201, slot: 0x0403 }));
        renumber(&mut entry, 2);
        assert_eq!(place(&entry, &packs), None);
        assert_eq!(id(&entry), ChunkId::of(b"row").0);
    }
}
