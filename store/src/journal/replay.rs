//! Reading the journal, with or without the lock.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::apply::apply;
use super::frame::{self, Bad, HEADER_LEN, damaged};
use super::record::{Body, Record, Stored};
use super::segments::{self, Segment};
use crate::io::Io;
use crate::refs::View;
use crate::{Error, Result};

/// A reader without the lock may meet a writer that is cutting a torn end off and going on; it looks again.
const READ_ATTEMPTS: u32 = 4;
const READ_PAUSE: Duration = Duration::from_millis(2);

/// How far the journal had been read: unchanged as long as nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// First sequence number of the newest segment; 0 if there was none.
    first_seq: u64,
    /// Where its last whole group ends.
    end: u64,
}

/// What the newest segment holds.
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    pub(super) first_seq: u64,
    /// Its format.
    pub(super) version: u32,
    /// Where the checkpoint ends.
    pub(super) checkpoint_end: usize,
    /// Where the last whole group begins and ends. What is behind is torn.
    pub(super) last_start: usize,
    pub(super) end: usize,
    /// All of the file.
    pub(super) bytes: Vec<u8>,
}

/// What the journal says, and what is to be done about its files.
pub(super) struct Replayed {
    pub(super) view: View,
    /// The newest segment with a whole checkpoint.
    pub(super) newest: Option<Loaded>,
    /// A newer one that has none.
    pub(super) unborn: Option<PathBuf>,
}

pub(super) fn read(io: &dyn Io, dir: &Path) -> Result<(View, Position)> {
    let replayed = again_if_raced(|| replay(io, &segments::list(io, dir)?.segments))?;
    let position = replayed
        .newest
        .map(|newest| Position { first_seq: newest.first_seq, end: newest.end as u64 })
        .unwrap_or_default();
    Ok((replayed.view, position))
}

pub(super) fn refresh(io: &dyn Io, dir: &Path, position: &Position) -> Result<Option<(View, Position)>> {
    let listing = segments::list(io, dir)?;
    let now = listing
        .segments
        .last()
        .map(|newest| Position { first_seq: newest.first_seq, end: newest.len })
        .unwrap_or_default();
    if now == *position {
        return Ok(None);
    }
    Ok(Some(read(io, dir)?).filter(|(_, now)| now != position))
}

fn again_if_raced<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..READ_ATTEMPTS {
        match attempt() {
            Err(Error::Damaged { .. }) => {}
            Err(Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof
                ) => {}
            done => return done,
        }
        std::thread::sleep(READ_PAUSE);
    }
    attempt()
}

/// Replays the newest segment, or the one before if the newest was never begun.
pub(super) fn replay(io: &dyn Io, segments: &[Segment]) -> Result<Replayed> {
    let mut older = segments.iter().rev();
    let Some(last) = older.next() else {
        return Ok(Replayed { view: View::default(), newest: None, unborn: None });
    };
    if let Some((view, newest)) = load(io, last)? {
        return Ok(Replayed { view, newest: Some(newest), unborn: None });
    }
    let unborn = Some(last.path.clone());
    let replayed = match older.next() {
        None => Replayed { view: View::default(), newest: None, unborn },
        Some(before) => match load(io, before)? {
            Some((view, newest)) => Replayed { view, newest: Some(newest), unborn },
            None => {
                return Err(damaged(&before.path, 0, "it has no checkpoint, nor has the segment after it"));
            }
        },
    };
    if replayed.view.seq + 1 != last.first_seq {
        let detail = format!(
            "it has no checkpoint, and record {} is not in the segment before it",
            last.first_seq.saturating_sub(1)
        );
        return Err(damaged(&last.path, 0, detail));
    }
    Ok(replayed)
}

/// Replays one segment up to its torn end, if it has one; `None` if it was never begun.
fn load(io: &dyn Io, segment: &Segment) -> Result<Option<(View, Loaded)>> {
    let path = &segment.path;
    let bytes = segments::read(io, path)?;
    let mut groups = Groups::of(&bytes, segment);
    let mut view = match groups.checkpoint() {
        Ok(view) => view,
        Err(Bad::Torn { .. }) => return Ok(None),
        Err(bad) => return Err(bad.into_error(path)),
    };
    let checkpoint_end = groups.offset;
    let mut last_start = HEADER_LEN;
    loop {
        let start = groups.offset;
        let records = match groups.changes() {
            Ok(Some(records)) => records,
            Ok(None) | Err(Bad::Torn { .. }) => break,
            Err(bad) => return Err(bad.into_error(path)),
        };
        for record in records {
            apply(&mut view, &record.op, record.seq).map_err(|mismatch| {
                let (seq, key, detail) = (record.seq, mismatch.key(), mismatch.detail());
                damaged(path, start, format!("record {seq} does not fit what is before it: {key}: {detail}"))
            })?;
            view.seq = record.seq;
        }
        last_start = start;
    }
    let (first_seq, version, end) = (segment.first_seq, groups.version, groups.offset);
    let path = path.clone();
    Ok(Some((view, Loaded { path, first_seq, version, checkpoint_end, last_start, end, bytes })))
}

/// The groups of a segment, each checked to follow the one before it.
pub(super) struct Groups<'a> {
    bytes: &'a [u8],
    segment: &'a Segment,
    /// As the header says, once it was read.
    version: u32,
    /// Where what was read ends.
    pub(super) offset: usize,
    next_seq: u64,
}

impl<'a> Groups<'a> {
    pub(super) fn of(bytes: &'a [u8], segment: &'a Segment) -> Self {
        Self { bytes, segment, version: 0, offset: 0, next_seq: segment.first_seq }
    }

    /// Header and checkpoint, which come first.
    pub(super) fn checkpoint(&mut self) -> Result<View, Bad> {
        let header = frame::parse_header(self.bytes)?;
        if header.first_seq != self.segment.first_seq {
            return Err(self.damaged("the header has another sequence number than the file's name"));
        }
        (self.version, self.offset) = (header.version, HEADER_LEN);
        let Some(records) = self.next()? else {
            return Err(Bad::Torn { offset: HEADER_LEN, detail: "there is no checkpoint" });
        };
        let at = HEADER_LEN;
        match <[Stored; 1]>::try_from(records) {
            Ok([Stored { seq, body: Body::Checkpoint(state), .. }]) => {
                state.into_view(seq).map_err(|detail| Bad::Damaged { offset: at, detail: detail.into() })
            }
            _ => Err(Bad::Damaged { offset: at, detail: "the first group is not a checkpoint".into() }),
        }
    }

    /// The next group, none of which is a checkpoint.
    pub(super) fn changes(&mut self) -> Result<Option<Vec<Record>>, Bad> {
        let offset = self.offset;
        let Some(records) = self.next()? else { return Ok(None) };
        let change = |Stored { seq, time_ms, who, body }| match body {
            Body::Change(op) => Ok(Record { seq, time_ms, who, op }),
            Body::Checkpoint(_) => {
                Err(Bad::Damaged { offset, detail: "a checkpoint is not at the beginning".into() })
            }
        };
        records.into_iter().map(change).collect::<Result<_, _>>().map(Some)
    }

    fn next(&mut self) -> Result<Option<Vec<Stored>>, Bad> {
        let Some(group) = frame::next_group(self.bytes, self.offset)? else { return Ok(None) };
        if group.first_seq != self.next_seq {
            let (found, expected) = (group.first_seq, self.next_seq);
            return Err(self.damaged(&format!("record {found} follows where {expected} is due")));
        }
        let records = group.records(self.version)?;
        self.offset = group.end;
        self.next_seq += records.len() as u64;
        Ok(Some(records))
    }

    fn damaged(&self, detail: &str) -> Bad {
        Bad::Damaged { offset: self.offset, detail: detail.to_owned() }
    }
}

/// The journal's records, oldest first; checkpoints are left out. Ends at the first error. Holds one segment in memory
/// at a time.
pub struct Log {
    io: Arc<dyn Io>,
    segments: VecDeque<Segment>,
    /// Records up to this one are left out.
    after: u64,
    /// The number that the next segment begins with, once one was read.
    next_seq: Option<u64>,
    records: std::vec::IntoIter<Record>,
}

impl Log {
    pub(super) fn open(io: Arc<dyn Io>, dir: &Path, after: u64) -> Result<Self> {
        let listing = segments::list(&*io, dir)?;
        let mut segments = VecDeque::from(listing.segments);
        while segments.get(1).is_some_and(|second| second.first_seq <= after.saturating_add(1)) {
            segments.pop_front();
        }
        Ok(Self { io, segments, after, next_seq: None, records: Vec::new().into_iter() })
    }

    fn segment(&mut self, segment: &Segment) -> Result<Vec<Record>> {
        let path = &segment.path;
        if let Some(due) = self.next_seq.filter(|due| *due != segment.first_seq) {
            return Err(damaged(path, 0, format!("it begins where record {due} is due")));
        }
        let newest = self.segments.is_empty();
        let bytes = segments::read(&*self.io, path)?;
        let mut groups = Groups::of(&bytes, segment);
        let mut records = Vec::new();
        let mut read = || -> Result<(), Bad> {
            groups.checkpoint()?;
            while let Some(changes) = groups.changes()? {
                records.extend(changes);
            }
            Ok(())
        };
        match read() {
            Ok(()) => {}
            Err(Bad::Torn { .. }) if newest => {}
            Err(bad) => return Err(bad.into_error(path)),
        }
        self.next_seq = Some(groups.next_seq);
        let after = self.after;
        records.retain(|record| record.seq > after);
        Ok(records)
    }
}

impl Iterator for Log {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(Ok(record));
            }
            let segment = self.segments.pop_front()?;
            match again_if_raced(|| self.segment(&segment)) {
                Ok(records) => self.records = records.into_iter(),
                Err(error) => {
                    self.segments.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
