//! Segment headers and records as bytes, and the judgement of what a crash left at a segment's end. Pure: no I/O.
//!
//! | segment header, 48 bytes | |
//! |---|---|
//! | 0..4 | magic `CEVS` |
//! | 4..8 | u32: format version, 1 |
//! | 8..16 | u64: epoch, as in the file's name |
//! | 16..24 | u64: first round, as in the file's name |
//! | 24..32 | u64: first round of the segment before it; all bits set where there is none |
//! | 32..40 | mark: random bytes, with which each record of the segment begins |
//! | 40..44 | zero |
//! | 44..48 | u32: CRC-32C of bytes 0..44 |
//!
//! | record | |
//! |---|---|
//! | 0..8 | the segment's mark |
//! | 8..12 | u32: payload length P, at most 16 MiB |
//! | 12 | 1 for the first of those that were made durable together, else 0 |
//! | 13 | length S of the state hash, at most 64; 0 where there is none |
//! | 14..16 | zero |
//! | 16..24 | u64: round |
//! | 24..56 | BLAKE3 of the payload |
//! | 56..56+S | state hash |
//! | 56+S..60+S | u32: CRC-32C of bytes 0..56+S |
//! | 60+S..60+S+P | payload |
//!
//! Payloads come from strangers, and behind a record that a crash tore others are looked for: nobody who does not know the
//! mark, which never leaves the store, can make a payload that has records in it.

use crate::event::{EVENT_LEN_MAX, Event, EventHash, EventHead, STATE_HASH_LEN_MAX, StateHash};

/// The version that is written.
pub(super) const VERSION: u32 = 1;
/// Bytes of a segment's header.
pub(super) const HEADER_LEN: usize = 48;
/// What the records of one segment begin with.
pub(super) type Mark = [u8; 8];
/// Most bytes of a record before its payload.
pub(super) const HEAD_LEN_MAX: usize = FIXED_LEN + STATE_HASH_LEN_MAX + CRC_LEN;

const SEGMENT_MAGIC: [u8; 4] = *b"CEVS";
/// What no round before is.
const NONE_BEFORE: u64 = u64::MAX;
/// Bytes of a record before its state hash.
const FIXED_LEN: usize = 56;
const CRC_LEN: usize = 4;
/// Where a record says that it is the first of its batch.
const FIRST_AT: usize = 12;
/// Where it has the length of its state hash.
const HASH_LEN_AT: usize = 13;
/// Bytes of records about which a walk tells one place.
const MARK_EVERY: usize = 64 << 10;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: u64,
    pub(super) first: u64,
    /// First round of the segment before it.
    pub(super) before: Option<u64>,
    pub(super) mark: Mark,
}

/// Why a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Newer { found: u32 },
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&SEGMENT_MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.before.unwrap_or(NONE_BEFORE).to_le_bytes());
        bytes[32..40].copy_from_slice(&self.mark);
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadHeader> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Err(BadHeader::Damaged) };
        if header[..4] != SEGMENT_MAGIC || crc32c::crc32c(&header[..44]) != u32_at(header, 44) {
            return Err(BadHeader::Damaged);
        }
        match u32_at(header, 4) {
            VERSION => {}
            0 => return Err(BadHeader::Damaged),
            found => return Err(BadHeader::Newer { found }),
        }
        let before = u64_at(header, 24);
        let before = (before != NONE_BEFORE).then_some(before);
        let mut mark = Mark::default();
        mark.copy_from_slice(&header[32..40]);
        Ok(Self { epoch: u64_at(header, 8), first: u64_at(header, 16), before, mark })
    }
}

/// A record without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) round: u64,
    pub(super) hash: EventHash,
    pub(super) state_hash: Option<StateHash>,
    /// Whether it is the first of those that were made durable together.
    pub(super) begins_batch: bool,
    /// Bytes before the payload.
    pub(super) len: usize,
    pub(super) payload_len: usize,
}

impl Head {
    /// Of the record that `bytes` begin with, if it is sound.
    pub(super) fn parse(bytes: &[u8], mark: Mark) -> Option<Self> {
        let fixed: &[u8; FIXED_LEN] = bytes.first_chunk()?;
        let payload_len = usize::try_from(u32_at(fixed, 8)).ok()?;
        let (begins_batch, hash_len) = (fixed[FIRST_AT], usize::from(fixed[HASH_LEN_AT]));
        if fixed[..8] != mark || payload_len > EVENT_LEN_MAX || hash_len > STATE_HASH_LEN_MAX {
            return None;
        }
        let len = FIXED_LEN + hash_len + CRC_LEN;
        let (covered, crc) = bytes.get(..len)?.split_at(len - CRC_LEN);
        if begins_batch > 1 || fixed[14..16] != [0, 0] || crc32c::crc32c(covered) != u32_at(crc, 0) {
            return None;
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(&fixed[24..56]);
        let state_hash = (hash_len > 0).then(|| StateHash::new(&covered[FIXED_LEN..])).transpose().ok()?;
        let (round, hash) = (u64_at(fixed, 16), EventHash(hash));
        if round == u64::MAX {
            // No round could come after it, and none like it is ever written.
            return None;
        }
        Some(Self { round, hash, state_hash, begins_batch: begins_batch == 1, len, payload_len })
    }

    /// Bytes of the whole record.
    pub(super) fn record_len(&self) -> usize {
        self.len + self.payload_len
    }

    pub(super) fn into_event_head(self) -> EventHead {
        EventHead { round: self.round, hash: self.hash, state_hash: self.state_hash }
    }

    /// The event, if this is its payload.
    pub(super) fn into_event(self, payload: &[u8]) -> Option<Event> {
        (EventHash::of(payload) == self.hash).then(|| Event {
            round: self.round,
            state_hash: self.state_hash,
            payload: payload.to_vec(),
        })
    }
}

/// Adds the record of an event, without its mark. Whoever calls this has looked at its length.
pub(super) fn push(bytes: &mut Vec<u8>, event: &Event, hash: &EventHash) {
    let state_hash = event.state_hash.as_ref().map_or(&[][..], StateHash::as_bytes);
    let len = u32::try_from(event.payload.len()).unwrap_or(u32::MAX);
    let hash_len = u8::try_from(state_hash.len()).unwrap_or(u8::MAX);
    bytes.extend(Mark::default());
    bytes.extend(len.to_le_bytes());
    bytes.extend([0, hash_len, 0, 0]);
    bytes.extend(event.round.to_le_bytes());
    bytes.extend(hash.0);
    bytes.extend(state_hash);
    bytes.extend([0; CRC_LEN]);
    bytes.extend(&event.payload);
}

/// Bytes of the record of an event.
pub(super) fn len(event: &Event) -> usize {
    let state_hash = event.state_hash.as_ref().map_or(0, |hash| hash.as_bytes().len());
    FIXED_LEN + state_hash + CRC_LEN + event.payload.len()
}

/// Makes the record that `record` begins with one of a segment.
pub(super) fn seal(record: &mut [u8], mark: Mark, begins_batch: bool) {
    let crc_at = FIXED_LEN + usize::from(record[HASH_LEN_AT]);
    record[..8].copy_from_slice(&mark);
    record[FIRST_AT] = begins_batch.into();
    let crc = crc32c::crc32c(&record[..crc_at]);
    record[crc_at..crc_at + CRC_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// What the newest segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Round and offset of the first record that can be served.
    pub(super) start: (u64, usize),
    /// Where the last batch begins: nothing before it can be in memory only.
    pub(super) last_batch: usize,
    /// The round after the last.
    pub(super) next: u64,
    /// Where the last whole record ends.
    pub(super) end: usize,
    /// Where something was not what it should be, though nothing of it is missing.
    pub(super) damaged_at: Option<usize>,
    /// Round and offset of a record every so often.
    pub(super) marks: Vec<(u64, usize)>,
}

/// Goes through the newest segment, `first` its first round. A bad record ends it if no whole one is behind it, or if bytes
/// of it are missing and what is behind it was written with it: that is what a crash leaves of an append that nobody was told
/// of. Otherwise it has rotted, and what can be served begins behind it.
pub(super) fn walk(bytes: &[u8], first: u64, mark: Mark) -> Walked {
    let mut walked = Walked {
        start: (first, HEADER_LEN),
        last_batch: HEADER_LEN,
        next: first,
        end: HEADER_LEN,
        damaged_at: None,
        marks: Vec::new(),
    };
    while walked.end < bytes.len() {
        let at = walked.end;
        if let Some(head) = whole(bytes, at, mark).filter(|head| head.round == walked.next) {
            walked.took(at, &head);
            continue;
        }
        let missing = is_missing(bytes, at, mark);
        let behind: Vec<(usize, Head)> = wholes_after(bytes, at, walked.next, mark);
        let was_acknowledged = behind.iter().any(|(_, head)| head.begins_batch);
        let Some((found, head)) = behind.into_iter().next().filter(|_| !missing || was_acknowledged) else {
            if !missing {
                walked.damaged_at = Some(at);
            }
            break;
        };
        walked.damaged_at = Some(at);
        walked.start = (head.round, found);
        walked.marks.clear();
        walked.last_batch = found;
        walked.took(found, &head);
    }
    walked
}

impl Walked {
    fn took(&mut self, at: usize, head: &Head) {
        if head.begins_batch {
            self.last_batch = at;
        }
        if self.marks.last().is_none_or(|(_, last)| at >= last + MARK_EVERY) {
            self.marks.push((head.round, at));
        }
        self.next = head.round.saturating_add(1);
        self.end = at + head.record_len();
    }
}

/// The record at `at`, if all of it is there and sound.
fn whole(bytes: &[u8], at: usize, mark: Mark) -> Option<Head> {
    let rest = bytes.get(at..)?;
    let head = Head::parse(rest, mark)?;
    let payload = rest.get(head.len..head.record_len())?;
    (EventHash::of(payload) == head.hash).then_some(head)
}

/// Whole records behind a bad one, just those that [`walk`] will take if it goes on with the first: what it will cut off must
/// not decide what stays. `next` is the round that was due at the bad one.
fn wholes_after(bytes: &[u8], at: usize, mut next: u64, mark: Mark) -> Vec<(usize, Head)> {
    let mut found: Vec<(usize, Head)> = Vec::new();
    let (mut from, mut end) = (at + 1, at);
    while let Some(place) = find(bytes, from, mark) {
        let fits = |head: &Head| if place == end { head.round == next } else { head.round > next };
        let Some(head) = whole(bytes, place, mark).filter(fits) else {
            from = place + 1;
            continue;
        };
        end = place + head.record_len();
        (from, next) = (end, head.round.saturating_add(1));
        found.push((place, head));
    }
    found
}

fn find(bytes: &[u8], from: usize, mark: Mark) -> Option<usize> {
    let windows = bytes.get(from..)?.windows(mark.len());
    windows.enumerate().find(|(_, window)| *window == mark).map(|(at, _)| from + at)
}

/// Whether bytes of the bad record at `at` are missing: the file ends within it, or is zeros from within it on, or one of its
/// sectors is zeros.
fn is_missing(bytes: &[u8], at: usize, mark: Mark) -> bool {
    let rest = &bytes[at..];
    let end = match Head::parse(rest, mark) {
        Some(head) => at + head.record_len(),
        // Where a head is none it may be the end of it that is missing.
        None => {
            let hash_len = rest.get(HASH_LEN_AT).map_or(0, |len| usize::from(*len).min(STATE_HASH_LEN_MAX));
            at + FIXED_LEN + hash_len + CRC_LEN
        }
    };
    let Some(record) = bytes.get(at..end) else { return true };
    let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let (first, others) = record.split_at(record.len().min(SECTOR - at % SECTOR));
    let zeros = |sector: &[u8]| sector.iter().all(|&byte| byte == 0);
    written < end || zeros(first) || others.chunks(SECTOR).any(zeros)
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
    use crate::streams::open_segment;

    const MARK: Mark = *b"markmark";

    fn event(round: u64) -> Event {
        let state_hash = StateHash::new(&[9; 3]).ok().filter(|_| round.is_multiple_of(2));
        let payload = blake3::hash(&round.to_le_bytes()).as_bytes().repeat(8);
        Event { round, state_hash, payload }
    }

    /// Rounds 5 to 10, written as 5 and 6, 7, and 8 to 10; and where each record begins, and the last ends.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let header = Header { epoch: 1, first: 5, before: None, mark: MARK };
        let (mut bytes, mut places) = (header.to_bytes().to_vec(), Vec::new());
        for round in 5..=10 {
            let (at, event) = (bytes.len(), event(round));
            push(&mut bytes, &event, &event.head().hash);
            assert_eq!(bytes.len() - at, len(&event));
            seal(&mut bytes[at..], MARK, [5, 7, 8].contains(&round));
            places.push(at);
        }
        places.push(bytes.len());
        (bytes, places)
    }

    #[test]
    fn what_is_written_is_walked() {
        let (bytes, places) = segment();
        let walked = walk(&bytes, 5, MARK);
        assert_eq!(walked.start, (5, HEADER_LEN));
        assert_eq!((walked.next, walked.end, walked.last_batch), (11, bytes.len(), places[3]));
        assert_eq!(walked.damaged_at, None);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.epoch, header.first, header.before), (1, 5, None));
        let mut newer = bytes.clone();
        newer[4] = 2;
        let crc = crc32c::crc32c(&newer[..44]);
        newer[44..48].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::parse(&newer), Err(BadHeader::Newer { found: 2 }));
    }

    #[test]
    fn every_cut_end_and_every_lost_sector_of_the_last_batch_is_torn() {
        let (bytes, places) = segment();
        for len in places[3] + 1..bytes.len() {
            let whole = places[4..].iter().filter(|place| **place <= len).count() as u64;
            let mut zeroed = bytes.clone();
            zeroed[len..].fill(0);
            for (what, torn) in [("cut", &bytes[..len]), ("zeroed", &zeroed[..])] {
                let walked = walk(torn, 5, MARK);
                assert_eq!((walked.start.0, walked.damaged_at), (5, None), "{what} at {len}");
                assert_eq!(walked.next, 8 + whole, "{what} at {len}: {walked:?}");
            }
        }
        for sector in places[3] / SECTOR..=bytes.len() / SECTOR {
            let mut lost = bytes.clone();
            let (from, to) = (places[3].max(sector * SECTOR), bytes.len().min((sector + 1) * SECTOR));
            lost[from..to].fill(0);
            let walked = walk(&lost, 5, MARK);
            // Those behind it were written with it, and nobody was told of them.
            assert_eq!((walked.start.0, walked.damaged_at), (5, None), "{sector}");
            assert!((8..=10).contains(&walked.next), "{sector}: {walked:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_no_torn_end_where_something_was_acknowledged_behind_it() {
        let (bytes, places) = segment();
        for position in places[0] * 8..places[3] * 8 {
            let mut flipped = bytes.clone();
            flipped[position / 8] ^= 1 << (position % 8);
            let walked = walk(&flipped, 5, MARK);
            let record = places.iter().rposition(|place| *place <= position / 8).unwrap();
            assert_eq!(walked.damaged_at, Some(places[record]), "bit {position}");
            assert_eq!((walked.start.0, walked.next), (6 + record as u64, 11), "bit {position}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_is_read_is_what_was_written(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            at in 0..2500_usize,
            cut in prop::option::of(0..2500_usize),
            flip in prop::option::of(0..2500 * 8_usize),
        ) {
            let (mut bytes, _) = segment();
            let at = at.min(bytes.len());
            let end = bytes.len().min(at + noise.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
            if let Some(position) = flip.filter(|position| position / 8 < bytes.len()) {
                bytes[position / 8] ^= 1 << (position % 8);
            }
            bytes.truncate(cut.unwrap_or(usize::MAX));
            for found in open_segment(&bytes).unwrap_or_default() {
                prop_assert_eq!(&found, &event(found.round));
            }
        }
    }
}
