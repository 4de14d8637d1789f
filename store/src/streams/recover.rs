//! Opening a log: what a crash, a kill or a failed sync left is put right first. Every step may itself be interrupted and is
//! then done again by the next opening.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{self, BadHeader, HEADER_LEN, Header, VERSION, Walked};
use super::segment::{self, Segment, Tail};
use crate::event::EVENT_LEN_MAX;
use crate::io::Io;
use crate::{Error, Result};

/// No segment is longer: it is left when it is long enough, and then there is one more record in it at most.
const SEGMENT_BYTES_MAX: u64 = (EVENT_LEN_MAX as u64) + (16 << 20);

/// What an opened log is.
pub(super) struct Opened {
    /// Oldest first, each with its length.
    pub(super) segments: VecDeque<(Arc<Segment>, u64)>,
    /// The newest of them. None if nothing was ever appended.
    pub(super) tail: Option<Tail>,
    /// The round after the newest.
    pub(super) next: u64,
}

struct Found {
    epoch: u64,
    first: u64,
    path: PathBuf,
    len: u64,
}

pub(super) fn open(io: &dyn Io, dir: &Path) -> Result<Opened> {
    let mut found = Vec::new();
    for entry in io.list(dir).map_err(Error::io("list", dir))? {
        let path = dir.join(&entry.name);
        if let Some((epoch, first)) = segment::parse_name(&entry.name) {
            found.push(Found { epoch, first, path, len: entry.len });
        } else if segment::is_unfinished(&entry.name) {
            io.remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    found.sort_by_key(|file| (file.epoch, file.first));
    let Some(newest) = found.pop() else {
        return Ok(Opened { segments: VecDeque::new(), tail: None, next: 0 });
    };
    let (tail, next, whole) = open_newest(io, &newest)?;
    let mut segments = VecDeque::from([(Arc::clone(&tail.segment), tail.end)]);
    let mut before = tail.segment.header.before.filter(|_| whole);
    while let Some(file) = found.pop_if(|file| file.epoch == newest.epoch && Some(file.first) == before) {
        let Some(header) = read_header(io, &file)? else {
            found.push(file);
            break;
        };
        before = header.before;
        let segment = Segment::new(file.path, header, file.first, HEADER_LEN as u64);
        segments.push_front((Arc::new(segment), file.len));
    }
    for file in found {
        tracing::info!(path = %file.path.display(), "removing a segment of an event log that is none of it any more");
        io.remove(&file.path).map_err(Error::io("remove", &file.path))?;
    }
    io.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(Opened { segments, tail: Some(tail), next })
}

/// The header of a segment; None if it is damaged.
fn read_header(io: &dyn Io, found: &Found) -> Result<Option<Header>> {
    let mut bytes = [0; HEADER_LEN];
    if found.len >= HEADER_LEN as u64 {
        let file = io.open(&found.path).map_err(Error::io("open", &found.path))?;
        file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", &found.path))?;
    }
    header_of(&bytes, found)
}

fn header_of(bytes: &[u8], found: &Found) -> Result<Option<Header>> {
    match Header::parse(bytes) {
        Ok(header) if (header.epoch, header.first) == (found.epoch, found.first) => Ok(Some(header)),
        Err(BadHeader::Newer { found: version }) => {
            let path = found.path.clone();
            Err(Error::NewerFormat { path, found: version, supported: VERSION })
        }
        Ok(_) | Err(BadHeader::Damaged) => {
            tracing::error!(path = %found.path.display(), "an event log is damaged: the header of a segment does not hold, and what is before it is gone");
            Ok(None)
        }
    }
}

/// Opens the newest segment to append, cuts a torn end off, and makes sure that the last batch is on the disk. Gives the next
/// round, and whether all from its beginning on can be read.
fn open_newest(io: &dyn Io, found: &Found) -> Result<(Tail, u64, bool)> {
    let path = &found.path;
    if found.len > SEGMENT_BYTES_MAX {
        let detail = format!("it is {} bytes long; at most {SEGMENT_BYTES_MAX} are possible", found.len);
        return Err(Error::damaged(format!("event log {}", path.display()), detail));
    }
    let bytes = io.read(path).map_err(Error::io("read", path))?;
    let Some(header) = header_of(&bytes, found)? else { return begin_again(io, found) };
    let walked = record::walk(&bytes, found.first, header.mark);
    tell(path, &bytes, &walked);
    let file = io.open_write(path).map_err(Error::io("open", path))?;
    if walked.end < bytes.len() {
        file.set_len(walked.end as u64).map_err(Error::io("cut", path))?;
    }
    let batch = &bytes[walked.last_batch..walked.end];
    if !batch.is_empty() {
        file.write_all_at(batch, walked.last_batch as u64).map_err(Error::io("write", path))?;
    }
    file.sync().map_err(Error::io("sync", path))?;
    let (first, offset) = walked.start;
    let segment = Segment::new(path.clone(), header, first, offset as u64);
    walked.marks.iter().for_each(|(round, offset)| segment.mark(*round, *offset as u64));
    segment.remember(walked.next, walked.end as u64);
    let end = walked.end as u64;
    Ok((Tail { segment: Arc::new(segment), file, end, room: end }, walked.next, offset == HEADER_LEN))
}

fn tell(path: &Path, bytes: &[u8], walked: &Walked) {
    let (path, torn) = (path.display(), bytes.len() - walked.end);
    if let Some(at) = walked.damaged_at {
        let (first, next) = (walked.start.0, walked.next);
        tracing::error!(%path, at, first, next, "an event log is damaged: it begins behind that place, or ends at it");
    } else if torn > 0 {
        tracing::warn!(%path, at = walked.end, torn, "cutting off what a crash left of an unacknowledged append");
    }
}

/// A newest segment without a sound header says nothing but its name: the log goes on from there, with nothing in it.
fn begin_again(io: &dyn Io, found: &Found) -> Result<(Tail, u64, bool)> {
    let dir = found.path.parent().unwrap_or(Path::new("."));
    let header = new_header(found.epoch.saturating_add(1), found.first, None)?;
    let tail = Tail::create(io, dir, header)?;
    if tail.segment.path != found.path {
        io.remove(&found.path).map_err(Error::io("remove", &found.path))?;
    }
    Ok((tail, found.first, false))
}

/// A header with a mark of its own.
pub(super) fn new_header(epoch: u64, first: u64, before: Option<u64>) -> Result<Header> {
    let mut mark = record::Mark::default();
    let mut filled = 0;
    while filled < mark.len() {
        let drawn = rustix::rand::getrandom(&mut mark[filled..], rustix::rand::GetRandomFlags::empty());
        filled += drawn.map_err(|errno| Error::io("draw random bytes for", "an event log")(errno.into()))?;
    }
    Ok(Header { epoch, first, before, mark })
}
