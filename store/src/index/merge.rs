//! Makes one sorted run of many footers or runs: entries are gathered a range of ids at a time, so that each range is
//! sorted within the cache, on every core.

use std::collections::HashMap;
use std::num::NonZero;
use std::thread;

use super::run::{ENTRY_LEN, Entry, PACKS_MAX, Run, prefix};
use crate::id::{ID_LEN, PackId};
use crate::pack::ChunkRow;

/// Ranges of ids that are sorted one at a time once there are many entries.
const RANGES: usize = 256;
/// Entries from which on it is worth to split them by range and over threads.
const MANY: usize = 64 << 10;

/// A sorted list of entries.
trait Sorted: Sync {
    fn len(&self) -> usize;
    fn id(&self, at: usize) -> &[u8];
    fn entry(&self, at: usize) -> Entry;
}

struct FooterRows {
    pack: u16,
    rows: Vec<ChunkRow>,
}

impl Sorted for FooterRows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn id(&self, at: usize) -> &[u8] {
        &self.rows[at].id.0
    }

    fn entry(&self, at: usize) -> Entry {
        let row = &self.rows[at];
        let mut entry = [0; ENTRY_LEN];
        entry[..ID_LEN].copy_from_slice(&row.id.0);
        entry[ID_LEN..ID_LEN + 2].copy_from_slice(&self.pack.to_le_bytes());
        entry[ID_LEN + 2..ID_LEN + 4].copy_from_slice(&row.frame.to_le_bytes());
        entry[ID_LEN + 4..].copy_from_slice(&row.slot.to_le_bytes());
        entry
    }
}

struct RunEntries<'a> {
    /// The merged run's number for each of this run's packs.
    packs: Vec<u16>,
    entries: &'a [Entry],
}

impl Sorted for RunEntries<'_> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn id(&self, at: usize) -> &[u8] {
        &self.entries[at][..ID_LEN]
    }

    fn entry(&self, at: usize) -> Entry {
        let mut entry = self.entries[at];
        let old = usize::from(u16::from_le_bytes([entry[ID_LEN], entry[ID_LEN + 1]]));
        // A number out of range is a damaged run's; it is kept out of range, where a lookup finds nothing.
        let new = self.packs.get(old).copied().unwrap_or(u16::MAX);
        entry[ID_LEN..ID_LEN + 2].copy_from_slice(&new.to_le_bytes());
        entry
    }
}

/// Runs of these packs' chunks: one, unless there are more packs than a run can number.
pub(super) fn footers(footers: HashMap<PackId, Vec<ChunkRow>>) -> Vec<Run> {
    let mut packs: Vec<_> = footers.into_iter().collect();
    packs.sort_unstable_by_key(|(id, _)| *id);
    let mut runs = Vec::new();
    while !packs.is_empty() {
        let rest = packs.split_off(packs.len().min(PACKS_MAX));
        let (ids, rows): (Vec<_>, Vec<_>) = packs.into_iter().unzip();
        let lists: Vec<_> =
            (0u16..=u16::MAX).zip(rows).map(|(pack, rows)| FooterRows { pack, rows }).collect();
        runs.push(Run::build(&sort(&lists), ids));
        packs = rest;
    }
    runs
}

/// A run of these runs' entries.
pub(super) fn runs(runs: &[&Run]) -> Run {
    let mut packs = Vec::new();
    let mut lists = Vec::with_capacity(runs.len());
    for run in runs {
        let first = packs.len();
        packs.extend_from_slice(run.packs());
        let numbers = (first..packs.len()).map(|n| u16::try_from(n).unwrap_or(u16::MAX)).collect();
        lists.push(RunEntries { packs: numbers, entries: run.entries() });
    }
    Run::build(&sort(&lists), packs)
}

fn sort<T: Sorted>(lists: &[T]) -> Vec<Vec<Entry>> {
    let total: usize = lists.iter().map(Sorted::len).sum();
    if total < MANY {
        return vec![sort_range(lists, &mut vec![0; lists.len()], RANGES)];
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(RANGES);
    let bounds: Vec<_> = (0..=threads).map(|n| n * RANGES / threads).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = bounds
            .windows(2)
            .map(|pair| {
                let (from, to) = (pair[0], pair[1]);
                scope.spawn(move || {
                    let mut cursors: Vec<_> = lists.iter().map(|list| first_of_range(list, from)).collect();
                    (from..to).map(|range| sort_range(lists, &mut cursors, range + 1)).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("sorting does not panic")).collect()
    })
}

fn first_of_range<T: Sorted>(list: &T, range: usize) -> usize {
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if usize::from(list.id(middle)[0]) < range { low = middle + 1 } else { high = middle }
    }
    low
}

/// The entries from the cursors on whose first byte is below `end`, sorted, each id once.
fn sort_range<T: Sorted>(lists: &[T], cursors: &mut [usize], end: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (list, cursor) in lists.iter().zip(cursors) {
        while *cursor < list.len() && usize::from(list.id(*cursor)[0]) < end {
            entries.push(list.entry(*cursor));
            *cursor += 1;
        }
    }
    let mut order: Vec<(u64, u32)> = entries.iter().map(|entry| prefix(entry)).zip(0..).collect();
    let id = |number: u32| &entries[number as usize][..ID_LEN];
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(id(b.1)).then(a.1.cmp(&b.1))));
    order.dedup_by(|b, a| a.0 == b.0 && id(a.1) == id(b.1));
    order.into_iter().map(|(_, number)| entries[number as usize]).collect()
}
