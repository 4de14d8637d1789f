//! Merges sorted parts of the index into one run, which is written as it is made.

use std::path::{Path, PathBuf};

use super::Loose;
use super::entry::{Entry, id, pack_number, prefix, renumber};
use super::run::{Run, RunWriter};
use crate::error::Result;
use crate::id::PackId;
use crate::io::Io;

/// Entries that ascend, and what the merged run calls their packs.
pub(super) struct Part<'a> {
    /// The rest of the entries; none is empty.
    slices: std::vec::IntoIter<&'a [Entry]>,
    /// The slice that is gone through.
    slice: &'a [Entry],
    packs: &'a [PackId],
    /// The number of the first of its packs in the merged run.
    first_pack: usize,
    entries: usize,
}

impl<'a> Part<'a> {
    pub(super) fn of_run(run: &'a Run) -> Self {
        Self::new(vec![run.entries()], run.packs())
    }

    pub(super) fn of_loose(loose: &'a Loose) -> Self {
        Self::new(loose.slices().collect(), loose.packs())
    }

    fn new(mut slices: Vec<&'a [Entry]>, packs: &'a [PackId]) -> Self {
        slices.retain(|slice| !slice.is_empty());
        let entries = slices.iter().map(|slice| slice.len()).sum();
        let mut slices = slices.into_iter();
        Self { slice: slices.next().unwrap_or_default(), slices, packs, first_pack: 0, entries }
    }

    /// The number of entries that it had in the beginning.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    fn pop(&mut self) -> Option<Entry> {
        loop {
            let (first, rest) = self.slice.split_first()?;
            self.slice = if rest.is_empty() { self.slices.next().unwrap_or_default() } else { rest };
            let mut entry = *first;
            let number = usize::from(pack_number(&entry));
            // What leads nowhere is left out.
            if number < self.packs.len() {
                let number = u16::try_from(self.first_pack + number).expect("at most PACKS_MAX together");
                renumber(&mut entry, number);
                return Some(entry);
            }
        }
    }
}

/// Writes the entries of `parts` as one run, each id once: of two entries with one id the earlier part's stays. The
/// caller sees to it that the parts' packs and entries together are not above what a run may have.
pub(super) fn write(io: &dyn Io, dir: &Path, mut parts: Vec<Part<'_>>) -> Result<PathBuf> {
    let mut packs = Vec::new();
    for part in &mut parts {
        part.first_pack = packs.len();
        packs.extend_from_slice(part.packs);
    }
    let mut writer = RunWriter::create(io, dir, parts.iter().map(Part::entries).sum())?;
    // Few parts are merged at a time, so that going through all of them beats a heap.
    let mut heads: Vec<_> = parts.iter_mut().filter_map(Head::of).collect();
    let mut last: Option<Entry> = None;
    while let Some(least) = least(&heads) {
        let head = &mut heads[least];
        if last.is_none_or(|last| id(&last) != id(&head.entry)) {
            writer.push(&head.entry)?;
            last = Some(head.entry);
        }
        if !head.advance() {
            heads.remove(least);
        }
    }
    writer.finish(&packs)
}

/// A part's first entry.
struct Head<'p, 'a> {
    part: &'p mut Part<'a>,
    entry: Entry,
    prefix: u64,
}

impl<'p, 'a> Head<'p, 'a> {
    fn of(part: &'p mut Part<'a>) -> Option<Self> {
        let entry = part.pop()?;
        Some(Self { part, prefix: prefix(&entry), entry })
    }

    /// False when the part has no more.
    fn advance(&mut self) -> bool {
        let Some(entry) = self.part.pop() else { return false };
        (self.entry, self.prefix) = (entry, prefix(&entry));
        true
    }
}

/// The first of the heads with the lowest id.
fn least(heads: &[Head<'_, '_>]) -> Option<usize> {
    let (mut least, rest) = (0, heads.get(1..)?);
    for (number, head) in (1..).zip(rest) {
        let best = &heads[least];
        if head.prefix < best.prefix || head.prefix == best.prefix && id(&head.entry) < id(&best.entry) {
            least = number;
        }
    }
    Some(least)
}
