//! The files of a log: their names, reading events out of one, and adding to the newest.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::record::{HEAD_LEN_MAX, HEADER_LEN, Head, Header, Mark};
use crate::event::{Event, EventHead};
use crate::io::{Io, ReadFile, WriteFile, is_full};
use crate::store::lock;
use crate::{Error, Result};

const EXTENSION: &str = ".events";
/// What [`Io::write_atomic`] adds while a file is not whole.
const UNFINISHED: &str = ".part";
/// Bytes that are read at a time, and about which there is one mark in memory.
const WINDOW: u64 = 64 << 10;
/// Places that are remembered because somebody stopped reading there.
const RECENT_MAX: usize = 64;
/// Taken on the disk at a time, so that most appends take none.
const AHEAD: u64 = 256 << 10;

/// A segment that readers know.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    /// First round that can be read.
    pub(super) first: u64,
    /// Guards where rounds are, as far as somebody has come by them. A leaf lock.
    places: Mutex<Places>,
}

struct Places {
    /// Ascending, one for each window or fewer.
    marks: Vec<(u64, u64)>,
    /// Where readers stopped, and where batches begin; the newest last.
    recent: VecDeque<(u64, u64)>,
}

/// What is to be read of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// From this round on.
    pub(super) from: u64,
    /// Where records that are durable end.
    pub(super) end: u64,
    /// The round that would stand there.
    pub(super) next: u64,
}

/// A segment's file name.
pub(super) fn file_name(epoch: u64, first: u64) -> String {
    format!("{epoch:016x}-{first:016x}{EXTENSION}")
}

/// Epoch and first round of a segment, by its file name.
pub(super) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (epoch, first) = name.strip_suffix(EXTENSION)?.split_once('-')?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (epoch, first) = (number(epoch)?, number(first)?);
    (file_name(epoch, first) == name).then_some((epoch, first))
}

/// Whether a file is a segment that was never finished.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| parse_name(name).is_some())
}

impl Segment {
    /// A segment whose first record that can be read is of round `first`, at `offset`.
    pub(super) fn new(path: PathBuf, header: Header, first: u64, offset: u64) -> Self {
        let places = Places { marks: vec![(first, offset)], recent: VecDeque::new() };
        Self { path, header, first, places: Mutex::new(places) }
    }

    /// Remembers where a round is.
    pub(super) fn remember(&self, round: u64, offset: u64) {
        let mut places = lock(&self.places);
        if places.recent.len() == RECENT_MAX {
            places.recent.pop_front();
        }
        places.recent.push_back((round, offset));
    }

    /// The last known place at or before a round.
    fn place(&self, round: u64) -> (u64, u64) {
        let places = lock(&self.places);
        let at = places.marks.partition_point(|(mark, _)| *mark <= round).saturating_sub(1);
        let recent = places.recent.iter().filter(|(recent, _)| *recent <= round);
        let best = recent.copied().max().into_iter().chain(places.marks.get(at).copied()).max();
        best.unwrap_or((self.first, HEADER_LEN as u64))
    }

    /// Marks a place that somebody came by, if none is near before it.
    pub(super) fn mark(&self, round: u64, offset: u64) {
        let mut places = lock(&self.places);
        let at = places.marks.partition_point(|(_, known)| *known <= offset);
        if at.checked_sub(1).is_none_or(|before| offset >= places.marks[before].1 + WINDOW) {
            places.marks.insert(at, (round, offset));
        }
    }

    /// Events from a round on: at least one, and as many as have together at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] if one is not what it should be and nothing before it was read; [`Error::Io`].
    pub(super) fn events(&self, io: &dyn Io, part: Part, bytes_max: usize) -> Result<Vec<Event>> {
        let mut room = bytes_max;
        self.collect(io, part, |head, window, offset| {
            let weight = head.record_len();
            if weight > room && room != bytes_max {
                return Ok(None);
            }
            room = room.saturating_sub(weight);
            let payload = window.bytes(offset + head.len as u64, head.payload_len)?;
            let what = head.round;
            let event = head.into_event(payload);
            event.map(Some).ok_or_else(|| {
                self.damaged(offset, &format!("the event of round {what} is not what its hash says"))
            })
        })
    }

    /// Heads from a round on, at most so many. No payload is looked at.
    pub(super) fn heads(&self, io: &dyn Io, part: Part, count_max: usize) -> Result<Vec<EventHead>> {
        let mut left = count_max;
        self.collect(io, part, |head, _, _| {
            let wanted = left > 0;
            left = left.saturating_sub(1);
            Ok(wanted.then(|| head.into_event_head()))
        })
    }

    fn collect<T>(
        &self,
        io: &dyn Io,
        part: Part,
        mut take: impl FnMut(Head, &mut Window, u64) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let file = io.open(&self.path).map_err(Error::io("open", &self.path))?;
        let mut window = Window { file: &*file, segment: self, end: part.end, bytes: Vec::new(), base: 0 };
        let (mut round, mut offset) = self.place(part.from);
        let mut taken = Vec::new();
        while round < part.next {
            let read = window.head(round, offset).and_then(|head| {
                let len = head.record_len() as u64;
                let wanted = round >= part.from;
                let item = if wanted { take(head, &mut window, offset)? } else { None };
                Ok((len, wanted, item))
            });
            match read {
                // What is sound is given; who comes back for the rest is told.
                Err(Error::Damaged { .. }) if !taken.is_empty() => break,
                Err(error) => return Err(error),
                Ok((_, true, None)) => break,
                Ok((len, _, item)) => {
                    taken.extend(item);
                    (round, offset) = (round + 1, offset + len);
                    self.mark(round, offset);
                }
            }
        }
        self.remember(round, offset);
        Ok(taken)
    }

    /// That something at an offset is not what it should be.
    pub(super) fn damaged(&self, offset: u64, detail: &str) -> Error {
        Error::Damaged {
            what: format!("event log {}", self.path.display()),
            chunk: None,
            pack: None,
            offset: Some(offset),
            detail: format!("at offset {offset}, {detail}"),
        }
    }
}

/// Bytes of a segment, read ahead.
struct Window<'a> {
    file: &'a dyn ReadFile,
    segment: &'a Segment,
    /// Where what is durable ends.
    end: u64,
    bytes: Vec<u8>,
    /// Offset of the first of them.
    base: u64,
}

impl Window<'_> {
    /// The head at `offset`, which is to be of `round`.
    fn head(&mut self, round: u64, offset: u64) -> Result<Head> {
        let most = self.end.saturating_sub(offset).min(HEAD_LEN_MAX as u64);
        let mark = self.segment.header.mark;
        let bytes = self.bytes(offset, usize::try_from(most).unwrap_or(HEAD_LEN_MAX))?;
        let head = Head::parse(bytes, mark).filter(|head| head.round == round);
        head.ok_or_else(|| {
            self.segment.damaged(offset, &format!("the event of round {round} does not begin"))
        })
    }

    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let wanted_end = offset.saturating_add(len as u64);
        if wanted_end > self.end {
            return Err(self.segment.damaged(offset, "an event goes beyond the end"));
        }
        if offset < self.base || wanted_end > self.base + self.bytes.len() as u64 {
            let ahead = (self.end - offset).min(WINDOW.max(len as u64));
            self.bytes.resize(usize::try_from(ahead).unwrap_or(len), 0);
            self.base = offset;
            let read = self.file.read_exact_at(&mut self.bytes, offset);
            read.map_err(|error| {
                self.bytes.clear();
                match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.segment.damaged(offset, "the file ends too early"),
                    _ => Error::io("read", &self.segment.path)(error),
                }
            })?;
        }
        let start = usize::try_from(offset - self.base).unwrap_or(usize::MAX);
        Ok(&self.bytes[start..start + len])
    }
}

/// The newest segment, open for appending.
pub(super) struct Tail {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn WriteFile>,
    /// Where the last durable record ends.
    pub(super) end: u64,
    /// Up to where there is room on the disk, as far as is known.
    pub(super) room: u64,
}

/// How an append ended that left the segment sound.
pub(super) enum Written {
    Durable,
    /// There was no room, and nothing of it is there.
    Full(io::Error),
}

impl Tail {
    /// Makes a segment and its name durable.
    pub(super) fn create(io: &dyn Io, dir: &Path, header: Header) -> Result<Self> {
        let path = dir.join(file_name(header.epoch, header.first));
        io.write_atomic(&path, &header.to_bytes()).map_err(Error::io("create", &path))?;
        let file = io.open_write(&path).map_err(Error::io("open", &path))?;
        let end = HEADER_LEN as u64;
        let segment = Arc::new(Segment::new(path, header, header.first, end));
        Ok(Self { segment, file, end, room: end })
    }

    pub(super) fn mark(&self) -> Mark {
        self.segment.header.mark
    }

    /// Appends records, durably.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<Written> {
        let path = &self.segment.path;
        let end = self.end + records.len() as u64;
        if let Err(error) = take_room(&*self.file, self.end, end, &mut self.room) {
            return if is_full(&error) {
                Ok(Written::Full(error))
            } else {
                Err(Error::io("make room in", path)(error))
            };
        }
        if let Err(error) = self.file.write_all_at(records, self.end) {
            if !is_full(&error) {
                return Err(Error::io("append to", path)(error));
            }
            self.file.set_len(self.end).map_err(Error::io("cut", path))?;
            self.file.sync().map_err(Error::io("sync", path))?;
            self.room = self.end;
            return Ok(Written::Full(error));
        }
        self.file.sync().map_err(Error::io("sync", path))?;
        self.end = end;
        Ok(Written::Durable)
    }

    /// Gives back what was taken behind its end: nothing more is appended.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.room = self.end;
        self.file.set_len(self.end).map_err(Error::io("cut", &self.segment.path))
    }
}

/// Takes room up to `end`, and some more if there is.
fn take_room(file: &dyn WriteFile, from: u64, end: u64, room: &mut u64) -> io::Result<()> {
    if end <= *room {
        return Ok(());
    }
    let ahead = end.max(from + AHEAD);
    let (to, taken) = match file.allocate(from, ahead - from) {
        Err(error) if is_full(&error) => (end, file.allocate(from, end - from)?),
        taken => (ahead, taken?),
    };
    // Where room cannot be taken it is not asked for again.
    *room = if taken { to } else { u64::MAX };
    Ok(())
}
