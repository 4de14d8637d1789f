//! Segment headers and groups as bytes, and the judgement whether a bad one is a torn end. Pure: no I/O.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::record::{Body, Stored};
use super::state::{State, State1, State2};
use crate::{Error, Result};

/// The version that is written; earlier ones are read.
pub(super) const VERSION: u32 = 3;
const SEGMENT_MAGIC: [u8; 4] = *b"CJNL";
const GROUP_MAGIC: [u8; 4] = *b"CJGR";
const END_MARK: [u8; 4] = *b"CJGE";

/// Bytes of a segment's header.
pub(super) const HEADER_LEN: usize = 24;
const GROUP_HEADER_LEN: usize = 32;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Why a place in a segment cannot be read.
#[derive(Debug)]
pub(super) enum Bad {
    /// Bytes are missing, as a crash during an append leaves it, and nothing whole follows.
    Torn { offset: usize, detail: &'static str },
    /// The bytes are there and wrong.
    Damaged { offset: usize, detail: String },
    /// Made by a later cairn.
    Newer { found: u32 },
}

impl Bad {
    /// The error where no torn end can be.
    pub(super) fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Torn { offset, detail } => damaged(path, offset, detail),
            Self::Damaged { offset, detail } => damaged(path, offset, detail),
            Self::Newer { found } => Error::NewerFormat { path: path.to_owned(), found, supported: VERSION },
        }
    }
}

pub(super) fn damaged(path: &Path, offset: usize, detail: impl Into<String>) -> Error {
    Error::Damaged {
        what: format!("journal {}", path.display()),
        chunk: None,
        pack: None,
        offset: Some(offset as u64),
        detail: format!("at offset {offset}, {}", detail.into()),
    }
}

/// The bytes of a segment's header.
pub(super) fn header(first_seq: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend(SEGMENT_MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(first_seq.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// The bytes of a group of `records`, which are not empty and whose numbers follow one another.
pub(super) fn group(records: &[Stored], payload_max: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; GROUP_HEADER_LEN];
    bytes = postcard::to_extend(records, bytes).map_err(|error| not_encodable(&error.to_string()))?;
    let payload = &bytes[GROUP_HEADER_LEN..];
    if payload.len() > payload_max {
        return Err(not_encodable(&format!("{} bytes; at most {payload_max} are allowed", payload.len())));
    }
    let size = |n: usize| u32::try_from(n).map_err(|_| not_encodable("more than 4 GiB"));
    let (len, count, payload_crc) = (size(payload.len())?, size(records.len())?, crc32c::crc32c(payload));
    let first_seq = records.first().map_or(0, |record| record.seq);
    bytes[0..4].copy_from_slice(&GROUP_MAGIC);
    bytes[4..8].copy_from_slice(&len.to_le_bytes());
    bytes[8..16].copy_from_slice(&first_seq.to_le_bytes());
    bytes[16..20].copy_from_slice(&count.to_le_bytes());
    bytes[20..24].copy_from_slice(&payload_crc.to_le_bytes());
    let header_crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&header_crc.to_le_bytes());
    bytes.extend(END_MARK);
    Ok(bytes)
}

fn not_encodable(reason: &str) -> Error {
    Error::Invalid { what: "group", given: "of journal records".to_owned(), reason: reason.to_owned() }
}

/// What a segment's header says.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) first_seq: u64,
}

/// The header of the segment that `bytes` are.
pub(super) fn parse_header(bytes: &[u8]) -> Result<Header, Bad> {
    let header: &[u8; HEADER_LEN] = match bytes.first_chunk() {
        Some(header) => header,
        None => return Err(Bad::Torn { offset: 0, detail: "the file ends within its header" }),
    };
    if header[..4] != SEGMENT_MAGIC || crc32c::crc32c(&header[..20]) != u32_at(header, 20) {
        return Err(bad(bytes, 0, HEADER_LEN, "the header does not match its checksum"));
    }
    match u32_at(header, 4) {
        version @ 1..=VERSION => Ok(Header { version, first_seq: u64_at(header, 8) }),
        0 => Err(Bad::Damaged { offset: 0, detail: "the header has version 0".to_owned() }),
        found => Err(Bad::Newer { found }),
    }
}

/// A group that is whole and matches its checksums.
pub(super) struct Group<'a> {
    pub(super) first_seq: u64,
    count: u32,
    payload: &'a [u8],
    start: usize,
    /// Where the next one begins.
    pub(super) end: usize,
}

/// The group at `offset`; `None` at the end of the bytes.
pub(super) fn next_group(bytes: &[u8], offset: usize) -> Result<Option<Group<'_>>, Bad> {
    if offset == bytes.len() {
        return Ok(None);
    }
    let Some(len) = group_len(bytes, offset) else {
        return Err(bad(bytes, offset, GROUP_HEADER_LEN, "no group begins"));
    };
    match whole_group(bytes, offset, len) {
        Some(group) => Ok(Some(group)),
        None => Err(bad(bytes, offset, len, "a group does not match its checksum")),
    }
}

/// The length of the group whose valid header is at `offset`.
fn group_len(bytes: &[u8], offset: usize) -> Option<usize> {
    let header: &[u8; GROUP_HEADER_LEN] = bytes.get(offset..)?.first_chunk()?;
    let valid = header[..4] == GROUP_MAGIC && crc32c::crc32c(&header[..28]) == u32_at(header, 28);
    let payload = usize::try_from(u32_at(header, 4)).ok()?;
    if valid { payload.checked_add(GROUP_HEADER_LEN + END_MARK.len()) } else { None }
}

fn whole_group(bytes: &[u8], offset: usize, len: usize) -> Option<Group<'_>> {
    let end = offset.checked_add(len)?;
    let group = bytes.get(offset..end)?;
    let (header, body) = group.split_at(GROUP_HEADER_LEN);
    let (payload, mark) = body.split_at(body.len() - END_MARK.len());
    (mark == END_MARK && crc32c::crc32c(payload) == u32_at(header, 20)).then(|| Group {
        first_seq: u64_at(header, 8),
        count: u32_at(header, 16),
        payload,
        start: offset,
        end,
    })
}

impl Group<'_> {
    /// The records, if they are what the header says and canonically encoded as `version` has them.
    pub(super) fn records(&self, version: u32) -> Result<Vec<Stored>, Bad> {
        let records = match version {
            1 => self.decode::<State1>()?.into_iter().map(|record| record.map(State::from)).collect(),
            2 => self.decode::<State2>()?.into_iter().map(|record| record.map(State::from)).collect(),
            _ => self.decode::<State>()?,
        };
        let is_later = |body: &Body| matches!(body, Body::Change(op) if op.since() > version);
        if records.iter().any(|record| is_later(&record.body)) {
            return Err(self.damaged("a group has a change of a later version"));
        }
        Ok(records)
    }

    fn damaged(&self, detail: &str) -> Bad {
        Bad::Damaged { offset: self.start, detail: detail.to_owned() }
    }

    fn decode<S: Serialize + DeserializeOwned>(&self) -> Result<Vec<Stored<S>>, Bad> {
        let damaged = |detail: &str| self.damaged(detail);
        // postcard allocates as it reads, never by what a length claims.
        let records: Vec<Stored<S>> = postcard::from_bytes(self.payload)
            .map_err(|error| damaged(&format!("a group cannot be decoded: {error}")))?;
        if records.is_empty() || u32::try_from(records.len()) != Ok(self.count) {
            return Err(damaged("a group has another number of records than it says"));
        }
        if !records.iter().zip(self.first_seq..).all(|(record, seq)| record.seq == seq) {
            return Err(damaged("the records of a group are not numbered as it says"));
        }
        match postcard::to_stdvec(&records) {
            Ok(bytes) if bytes == self.payload => Ok(records),
            _ => Err(damaged("a group is not in canonical form")),
        }
    }
}

/// Judges what begins at `offset` and is to be `len` bytes long, by the rule in the journal's documentation.
fn bad(bytes: &[u8], offset: usize, len: usize, detail: &'static str) -> Bad {
    if missing_bytes(bytes, offset, len) && !whole_group_after(bytes, offset) {
        Bad::Torn { offset, detail }
    } else {
        Bad::Damaged { offset, detail: detail.to_owned() }
    }
}

/// Whether the file ends within the `len` bytes at `offset`, or is zeros from within them on, or one of their sectors
/// is zeros.
fn missing_bytes(bytes: &[u8], offset: usize, len: usize) -> bool {
    let end = offset.saturating_add(len);
    let Some(group) = bytes.get(offset..end) else { return true };
    let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let to_boundary = group.len().min(SECTOR - offset % SECTOR);
    let (first, others) = group.split_at(to_boundary);
    let zeros = |sector: &[u8]| sector.iter().all(|&byte| byte == 0);
    written < end || zeros(first) || others.chunks(SECTOR).any(zeros)
}

fn whole_group_after(bytes: &[u8], offset: usize) -> bool {
    let from = offset + 1;
    let candidates = bytes.get(from..).unwrap_or_default().windows(GROUP_MAGIC.len()).enumerate();
    candidates
        .filter(|(_, window)| *window == GROUP_MAGIC)
        .map(|(at, _)| from + at)
        .any(|at| group_len(bytes, at).is_some_and(|len| whole_group(bytes, at, len).is_some()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::refs::View;

    fn checkpoint(seq: u64) -> Stored {
        let who = "w".repeat(700);
        Stored { seq, time_ms: 1, who, body: Body::Checkpoint(State::of(&View::default())) }
    }

    /// Two groups of 700-odd bytes after a header.
    fn segment() -> (Vec<u8>, usize) {
        let mut bytes = header(5);
        bytes.extend(group(&[checkpoint(5)], 9999).unwrap());
        let second = bytes.len();
        bytes.extend(group(&[checkpoint(6), checkpoint(7)], 9999).unwrap());
        (bytes, second)
    }

    fn walk(bytes: &[u8]) -> Result<Vec<u64>, Bad> {
        let mut seqs = vec![parse_header(bytes)?.first_seq];
        let mut offset = HEADER_LEN;
        while let Some(group) = next_group(bytes, offset)? {
            seqs.extend(group.records(VERSION)?.iter().map(|record| record.seq));
            offset = group.end;
        }
        Ok(seqs)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, _) = segment();
        assert_eq!(walk(&bytes).unwrap(), [5, 5, 6, 7]);
        assert!(matches!(group(&[checkpoint(1)], 100), Err(Error::Invalid { .. })));
    }

    #[test]
    fn every_flipped_bit_is_damage_and_no_torn_end() {
        let (bytes, second) = segment();
        for position in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[position / 8] ^= 1 << (position % 8);
            match walk(&flipped) {
                Err(Bad::Damaged { offset, .. }) => assert!([0, HEADER_LEN, second].contains(&offset)),
                // A length that leads beyond the end cannot be told from an end that is missing; its checksum can.
                other => panic!("bit {position}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_cut_end_is_torn_and_every_lost_sector_too() {
        let (bytes, second) = segment();
        for len in second + 1..bytes.len() {
            assert!(
                matches!(walk(&bytes[..len]), Err(Bad::Torn { offset, .. }) if offset == second),
                "{len}"
            );
            let mut zeroed = bytes.clone();
            zeroed[len..].fill(0);
            assert!(matches!(walk(&zeroed), Err(Bad::Torn { offset, .. }) if offset == second), "{len}");
        }
        for sector in second / SECTOR..=bytes.len() / SECTOR {
            let mut lost = bytes.clone();
            let end = bytes.len().min((sector + 1) * SECTOR);
            lost[second.max(sector * SECTOR)..end].fill(0);
            assert!(matches!(walk(&lost), Err(Bad::Torn { offset, .. }) if offset == second), "{sector}");
        }
        for len in 0..HEADER_LEN {
            assert!(matches!(walk(&bytes[..len]), Err(Bad::Torn { offset: 0, .. })));
        }
    }

    #[test]
    fn missing_bytes_before_a_whole_group_are_damage() {
        let (mut bytes, second) = segment();
        bytes[HEADER_LEN..second].fill(0);
        assert!(matches!(walk(&bytes), Err(Bad::Damaged { offset: HEADER_LEN, .. })));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = header(1);
        bytes[4] = 9;
        let crc = crc32c::crc32c(&bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(walk(&bytes), Err(Bad::Newer { found: 9 })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0..1500usize) {
            let (mut bytes, _) = segment();
            let at = at.min(bytes.len());
            let end = bytes.len().min(at + noise.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
            let _ = walk(&bytes);
            let _ = next_group(&noise, 0);
        }
    }
}
