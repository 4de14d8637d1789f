//! The journal's files: their names, reading one whole, and making one.

use std::path::{Path, PathBuf};

use super::frame::{self, damaged};
use super::record::{Body, Stored};
use super::state::State;
use super::{CHECKPOINT_BYTES_MAX, OpenSegment};
use crate::io::Io;
use crate::refs::View;
use crate::{Error, Result};

/// No segment is longer: a checkpoint, what makes it be left, and one more group.
const SEGMENT_BYTES_MAX: u64 = 2 << 30;
const EXTENSION: &str = ".journal";
/// What [`Io::write_atomic`] adds while a file is not whole.
const UNFINISHED: &str = ".part";

/// A segment in the directory.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its first sequence number, by its name.
    pub(super) first_seq: u64,
    pub(super) path: PathBuf,
    /// Its length when it was listed.
    pub(super) len: u64,
}

/// What is in the journal's directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Ascending.
    pub(super) segments: Vec<Segment>,
    /// Segments that a crash kept from being made whole.
    pub(super) unfinished: Vec<PathBuf>,
}

pub(super) fn list(io: &dyn Io, dir: &Path) -> Result<Listing> {
    let listed = match io.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Listing::default()),
        listed => listed.map_err(Error::io("list", dir))?,
    };
    let mut listing = Listing::default();
    for entry in listed.into_iter().filter(|entry| !entry.is_dir) {
        let path = dir.join(&entry.name);
        if let Some(first_seq) = parse_name(&entry.name) {
            listing.segments.push(Segment { first_seq, path, len: entry.len });
        } else if entry.name.strip_suffix(UNFINISHED).and_then(parse_name).is_some() {
            listing.unfinished.push(path);
        }
    }
    listing.segments.sort_by_key(|segment| segment.first_seq);
    Ok(listing)
}

fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    let seq = u64::from_str_radix(digits, 16).ok()?;
    (format!("{seq:016x}") == digits).then_some(seq)
}

/// The bytes of a segment, as far as it reaches now.
pub(super) fn read(io: &dyn Io, path: &Path) -> Result<Vec<u8>> {
    let file = io.open(path).map_err(Error::io("open", path))?;
    let len = file.len().map_err(Error::io("measure", path))?;
    if len > SEGMENT_BYTES_MAX {
        let detail = format!("it is {len} bytes long; at most {SEGMENT_BYTES_MAX} are possible");
        return Err(damaged(path, 0, detail));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|error| damaged(path, 0, error.to_string()))?];
    file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Makes the segment that begins with a checkpoint of `view` as record `seq`, durably.
pub(super) fn create(
    io: &dyn Io,
    dir: &Path,
    view: &View,
    seq: u64,
    who: &str,
    now_ms: u64,
) -> Result<OpenSegment> {
    let body = Body::Checkpoint(State::of(view));
    let record = Stored { seq, time_ms: now_ms, who: who.to_owned(), body };
    let mut bytes = frame::header(seq);
    bytes.extend(frame::group(&[record], CHECKPOINT_BYTES_MAX)?);
    let path = dir.join(format!("{seq:016x}{EXTENSION}"));
    io.write_atomic(&path, &bytes).map_err(Error::io("create", &path))?;
    let file = io.open_write(&path).map_err(Error::io("open", &path))?;
    let end = bytes.len() as u64;
    Ok(OpenSegment { path, file, version: frame::VERSION, checkpoint_end: end, end, room: end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_segments() {
        assert_eq!(parse_name("00000000000000ff.journal"), Some(255));
        for name in [
            "ff.journal",
            "00000000000000FF.journal",
            "00000000000000ff.journal.part",
            "+0000000000000ff.journal",
        ] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
