//! What is known of one package, and its bytes on disk.
//!
//! The bytes: 8 of magic with a version, the BLAKE3 of what follows, and that in postcard. They are believed if they are
//! exactly what this module would write; anything else is as if there were none. Bounded are the files of a package, the runs
//! of a file, and the bytes in all.

use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::touched;
use crate::files::FileId;

/// The last byte is the version.
const MAGIC: &[u8; 8] = b"cairnWS\x01";
const HEADER_LEN: usize = MAGIC.len() + 32;
/// Bytes of a record, at most; what a longer one has last is left out.
pub(super) const RECORD_LEN_MAX: usize = 4 << 20;
/// Files of a package of which something is known, at most.
const FILES_MAX: usize = 8192;
/// Runs of one file, at most: gaps between them are closed, the smallest first.
const RUNS_MAX: usize = 2048;
/// Bytes of a path, at most.
const PATH_LEN_MAX: usize = 4096;

/// What was touched of one file with one content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trace {
    id: [u8; 32],
    size: u64,
    /// Granules, ascending, with gaps between them: where each run begins, and how many they are.
    runs: Vec<(u32, u32)>,
    /// It was opened so that nobody could tell.
    is_opaque: bool,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    /// Of the content that was read last.
    pub(super) latest: Trace,
    /// Of the one before: who has just begun to read a new version has not touched all yet.
    pub(super) before: Option<Trace>,
}

/// What is known of a package: paths in the order in which they were first touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    entries: Vec<Entry>,
    /// Where each path is.
    places: HashMap<Vec<u8>, usize>,
}

impl Trace {
    fn new(id: FileId, size: u64) -> Self {
        Self { id: id.0, size, runs: Vec::new(), is_opaque: false }
    }

    pub(super) fn id(&self) -> FileId {
        FileId(self.id)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether all of it counts, since nothing is known exactly.
    pub(super) fn is_whole(&self) -> bool {
        self.runs.is_empty() && self.is_opaque
    }

    /// The bytes that were touched.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let granule = touched::granule(self.size);
        self.runs.iter().map(move |(start, count)| {
            let (start, end) = (u64::from(*start), u64::from(*start) + u64::from(*count));
            start.saturating_mul(granule)..end.saturating_mul(granule).min(self.size)
        })
    }

    /// Takes note of more; whether it is news.
    fn add(&mut self, runs: &[Range<u32>], is_opaque: bool) -> bool {
        let is_new = is_opaque && !self.is_opaque;
        self.is_opaque |= is_opaque;
        if runs.is_empty() {
            return is_new;
        }
        let own = self.runs.iter().map(|(start, count)| *start..start.saturating_add(*count));
        let all = union(own.chain(runs.iter().cloned()).collect());
        let has_grown = all != self.runs;
        self.runs = all;
        is_new || has_grown
    }

    fn is_sound(&self) -> bool {
        let granules = self.size.div_ceil(touched::granule(self.size));
        let mut last = None;
        let is_next = |(start, count): &(u32, u32)| {
            let follows = last.is_none_or(|end| *start > end) && *count > 0;
            last = start.checked_add(*count);
            follows && last.is_some_and(|end| u64::from(end) <= granules)
        };
        self.runs.len() <= RUNS_MAX && self.runs.iter().all(is_next)
    }
}

/// All that is in one of some runs, in runs with gaps between them that grow until they are few enough.
fn union(mut runs: Vec<Range<u32>>) -> Vec<(u32, u32)> {
    runs.sort_unstable_by_key(|run| run.start);
    let mut gap = 0;
    loop {
        let mut merged: Vec<Range<u32>> = Vec::with_capacity(runs.len());
        for run in runs {
            match merged.last_mut() {
                Some(last) if run.start <= last.end.saturating_add(gap) => last.end = last.end.max(run.end),
                _ => merged.push(run),
            }
        }
        if merged.len() <= RUNS_MAX {
            return merged.into_iter().map(|run| (run.start, run.end - run.start)).collect();
        }
        runs = merged;
        gap = gap * 2 + 1;
    }
}

impl Record {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Takes note of what was touched of a file; whether that is news.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        id: FileId,
        size: u64,
        runs: &[Range<u32>],
        is_opaque: bool,
    ) -> bool {
        let is_path = (1..=PATH_LEN_MAX).contains(&path.len());
        if !is_path || (runs.is_empty() && !is_opaque) {
            return false;
        }
        let mut fresh = Trace::new(id, size);
        let Some(entry) = self.places.get(path).and_then(|at| self.entries.get_mut(*at)) else {
            if self.entries.len() >= FILES_MAX {
                return false;
            }
            fresh.add(runs, is_opaque);
            self.places.insert(path.to_vec(), self.entries.len());
            self.entries.push(Entry { path: path.to_vec(), latest: fresh, before: None });
            return true;
        };
        if entry.latest.id() == id {
            return entry.latest.add(runs, is_opaque);
        }
        // It may be that two versions take turns.
        let mut latest = entry.before.take().filter(|before| before.id() == id).unwrap_or(fresh);
        latest.add(runs, is_opaque);
        entry.before = Some(std::mem::replace(&mut entry.latest, latest));
        true
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut entries = &self.entries[..];
        loop {
            // Numbers, bytes and options: nothing that postcard could refuse.
            let body = postcard::to_allocvec(entries).unwrap_or_default();
            if HEADER_LEN + body.len() <= RECORD_LEN_MAX || entries.is_empty() {
                return [MAGIC, &blake3::hash(&body).as_bytes()[..], &body].concat();
            }
            entries = &entries[..entries.len() / 2];
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > RECORD_LEN_MAX {
            return None;
        }
        let (hash, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        if blake3::hash(body).as_bytes() != hash {
            return None;
        }
        let entries: Vec<Entry> = postcard::from_bytes(body).ok()?;
        let is_sound = |entry: &Entry| {
            let traces = [Some(&entry.latest), entry.before.as_ref()];
            (1..=PATH_LEN_MAX).contains(&entry.path.len())
                && traces.into_iter().flatten().all(Trace::is_sound)
        };
        if entries.len() > FILES_MAX || !entries.iter().all(is_sound) {
            return None;
        }
        let places: HashMap<_, _> =
            entries.iter().enumerate().map(|(at, entry)| (entry.path.clone(), at)).collect();
        let record = Self { entries, places };
        (record.places.len() == record.entries.len() && record.encode() == bytes).then_some(record)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "runs are ranges")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRANULE: u64 = 16 << 10;

    fn id(number: u8) -> FileId {
        FileId([number; 32])
    }

    #[test]
    fn exact_places_are_kept_beside_what_nobody_could_tell() {
        let mut record = Record::default();
        assert!(record.add(b"bin/uv", id(1), 100 * GRANULE, &[], true));
        assert!(record.entries[0].latest.is_whole());
        assert!(record.add(b"bin/uv", id(1), 100 * GRANULE, &[3..5, 90..100], false));
        assert!(!record.entries[0].latest.is_whole());
        assert!(!record.add(b"bin/uv", id(1), 100 * GRANULE, &[4..5], true), "all of that is known");
        let ranges: Vec<_> = record.entries[0].latest.ranges().collect();
        assert_eq!(ranges, [3 * GRANULE..5 * GRANULE, 90 * GRANULE..100 * GRANULE]);
        assert!(!record.add(b"bin/uv", id(2), 5, &[], false), "nothing was touched");
    }

    #[test]
    fn a_new_content_keeps_what_is_known_of_the_one_before_and_two_that_take_turns_keep_both() {
        let mut record = Record::default();
        for (number, runs) in [(1, 0..1), (2, 1..2), (1, 2..3), (2, 3..4)] {
            record.add(b"f", id(number), 100 * GRANULE, &[runs], false);
        }
        let entry = &record.entries[0];
        assert_eq!(entry.latest.runs, [(1, 1), (3, 1)]);
        assert_eq!(entry.before.as_ref().unwrap().runs, [(0, 1), (2, 1)]);
        record.add(b"f", id(3), 100 * GRANULE, &[], true);
        assert_eq!(record.entries[0].before.as_ref().unwrap().id(), id(2));
    }

    #[test]
    fn files_runs_and_bytes_are_bounded() {
        let mut record = Record::default();
        let scattered: Vec<_> = (0..20_000).map(|at| at * 3..at * 3 + 1).collect();
        for number in 0..FILES_MAX as u64 + 10 {
            let runs = if number < 2 { &scattered[..] } else { &scattered[..600] };
            record.add(number.to_string().as_bytes(), id(1), 1 << 30, runs, false);
        }
        assert_eq!(record.entries.len(), FILES_MAX);
        assert!(record.entries.iter().all(|entry| entry.latest.runs.len() <= RUNS_MAX));
        let bytes = record.encode();
        assert!(bytes.len() <= RECORD_LEN_MAX);
        assert!(Record::decode(&bytes).unwrap().entries.len() > 100);
        assert_eq!(Record::decode(&vec![0; RECORD_LEN_MAX + 1]), None);
    }

    #[test]
    fn what_this_would_not_write_is_not_believed() {
        let mut record = Record::default();
        record.add(b"f", id(1), 100 * GRANULE, &[1..3, 7..9], false);
        let sealed = |entries: &[Entry]| {
            let body = postcard::to_allocvec(entries).unwrap();
            [MAGIC, &blake3::hash(&body).as_bytes()[..], &body].concat()
        };
        assert_eq!(Record::decode(&sealed(&record.entries)), Some(record.clone()));
        let unsound =
            [vec![(1, 0)], vec![(3, 2), (1, 1)], vec![(1, 2), (3, 1)], vec![(99, 2)], vec![(u32::MAX, 1)]];
        for runs in unsound {
            let mut entries = record.entries.clone();
            entries[0].latest.runs = runs;
            assert_eq!(Record::decode(&sealed(&entries)), None, "{entries:?}");
        }
        assert_eq!(
            Record::decode(&sealed(&[&record.entries[..], &record.entries].concat())),
            None,
            "one path twice"
        );
        assert_eq!(Record::decode(&[&sealed(&record.entries)[..], b"x"].concat()), None);
        assert_eq!(Record::decode(b""), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_damaged_bytes_are_not(
            files in prop::collection::vec(
                (0..6u8, 0..3u8, prop::collection::vec(0..500u32, 0..8), any::<bool>()), 0..20),
            at in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let mut record = Record::default();
            for (path, content, runs, is_opaque) in files {
                let runs: Vec<_> = runs.into_iter().map(|start| start..start + 3).collect();
                record.add(&[b'a' + path], id(content), 600 * GRANULE, &runs, is_opaque);
            }
            let mut bytes = record.encode();
            prop_assert_eq!(Record::decode(&bytes), Some(record));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let sealed = [MAGIC, &blake3::hash(&bytes).as_bytes()[..], &bytes].concat();
            let _ = Record::decode(&sealed);
        }
    }
}
