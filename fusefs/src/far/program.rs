//! What the loader of a program goes through before its first instruction, told by its ELF headers: the segments that are
//! written to, which relocation touches from end to end, the table of relocations itself, and the place where it starts.
//! Everybody who starts it would fault these in one after the other, each fault a way there and back.
//!
//! Total: whatever the bytes are, nothing is asked for beyond the file's end, and a bounded amount. What is no ELF file of 64
//! bits in this machine's byte order is left alone.

use std::ops::Range;

/// Bytes of the file header and of one program header, and program headers that are looked at.
const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const SEGMENTS_MAX: usize = 32;
/// Bytes of one stage, at most.
const STAGE_BYTES_MAX: u64 = 8 << 20;
/// What is brought around the place where it starts.
const START_BYTES: u64 = 64 << 10;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PF_W: u32 = 2;
const DT_NULL: u64 = 0;
const DT_INIT: u64 = 12;
/// Tables of relocations, each with the entry that has its length.
const TABLES: [(u64, u64); 3] = [(7, 8), (23, 2), (36, 35)];

struct Segment {
    kind: u32,
    flags: u32,
    /// Where it lies in the file.
    bytes: Range<u64>,
    /// Where it is put in memory.
    address: u64,
}

struct Program {
    entry: u64,
    segments: Vec<Segment>,
}

/// Gives `bring` the ranges of each stage: first what the headers name, then what that in turn names. It ends when `read` or
/// `bring` cannot.
pub(super) fn stages(
    size: u64,
    read: impl Fn(Range<u64>) -> Option<Vec<u8>>,
    bring: impl Fn(&[Range<u64>]) -> Option<()>,
) {
    // Nothing depends on how far it came.
    let _ = try_stages(size, read, bring);
}

fn try_stages(
    size: u64,
    read: impl Fn(Range<u64>) -> Option<Vec<u8>>,
    bring: impl Fn(&[Range<u64>]) -> Option<()>,
) -> Option<()> {
    let program = Program::parse(&read(0..(HEADER_LEN + SEGMENTS_MAX * SEGMENT_LEN) as u64)?)?;
    let written = |segment: &&Segment| segment.kind == PT_LOAD && segment.flags & PF_W != 0;
    let mut ranges: Vec<_> =
        program.segments.iter().filter(written).map(|segment| segment.bytes.clone()).collect();
    ranges.extend(program.around(program.entry));
    let dynamic = program.segments.iter().find(|segment| segment.kind == PT_DYNAMIC);
    ranges.extend(dynamic.map(|segment| segment.bytes.clone()));
    bring(&bounded(ranges, size))?;
    let dynamic = dynamic?.bytes.clone();
    let dynamic = read(dynamic.start..dynamic.end.min(dynamic.start.checked_add(64 << 10)?))?;
    bring(&bounded(program.named_by(&dynamic), size))
}

impl Program {
    fn parse(bytes: &[u8]) -> Option<Self> {
        // Of 64 bits, with the least byte first.
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let table = usize::try_from(u64_at(bytes, 32)?).ok()?;
        let (len, count) = (u16_at(bytes, 54)?, u16_at(bytes, 56)?);
        if usize::from(len) != SEGMENT_LEN {
            return None;
        }
        let segment = |number: usize| {
            let at = table.checked_add(number * SEGMENT_LEN)?;
            let (start, len) = (u64_at(bytes, at.checked_add(8)?)?, u64_at(bytes, at.checked_add(32)?)?);
            Some(Segment {
                kind: u32_at(bytes, at)?,
                flags: u32_at(bytes, at.checked_add(4)?)?,
                bytes: start..start.checked_add(len)?,
                address: u64_at(bytes, at.checked_add(16)?)?,
            })
        };
        let segments = (0..usize::from(count).min(SEGMENTS_MAX)).map_while(segment).collect();
        Some(Self { entry: u64_at(bytes, 24)?, segments })
    }

    /// Where in the file lies what is put at an address.
    fn place(&self, address: u64) -> Option<u64> {
        let loaded = self.segments.iter().filter(|segment| segment.kind == PT_LOAD);
        let within = |segment: &Segment| {
            let offset = address.checked_sub(segment.address)?;
            (offset < segment.bytes.end - segment.bytes.start).then(|| segment.bytes.start + offset)
        };
        loaded.filter_map(within).next()
    }

    fn around(&self, address: u64) -> Option<Range<u64>> {
        let place = self.place(address)?;
        Some(place.saturating_sub(START_BYTES / 2)..place.saturating_add(START_BYTES / 2))
    }

    /// What the table for the loader names.
    fn named_by(&self, dynamic: &[u8]) -> Vec<Range<u64>> {
        let entries = dynamic.as_chunks::<16>().0.iter();
        let entries: Vec<_> = entries
            .filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)))
            .take_while(|(tag, _)| *tag != DT_NULL)
            .collect();
        let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let table = |(start, len): &(u64, u64)| {
            let start = self.place(value(*start)?)?;
            Some(start..start.checked_add(value(*len)?)?)
        };
        let init = value(DT_INIT).and_then(|address| self.around(address));
        TABLES.iter().filter_map(table).chain(init).collect()
    }
}

/// Ranges within the file, and no more than a stage's bytes of them.
fn bounded(ranges: Vec<Range<u64>>, size: u64) -> Vec<Range<u64>> {
    let mut left = STAGE_BYTES_MAX;
    let within = ranges.into_iter().filter_map(|range| {
        let start = range.start.min(size);
        let end = range.end.min(size).min(start.saturating_add(left));
        left -= end.checked_sub(start)?;
        (start < end).then_some(start..end)
    });
    within.collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    fn stages_of(bytes: &[u8]) -> Vec<Vec<Range<u64>>> {
        let found = RefCell::new(Vec::new());
        let read = |range: Range<u64>| {
            let end = usize::try_from(range.end).ok()?.min(bytes.len());
            bytes.get(usize::try_from(range.start).ok()?..end).map(<[u8]>::to_vec)
        };
        stages(bytes.len() as u64, read, |ranges| {
            found.borrow_mut().push(ranges.to_vec());
            Some(())
        });
        found.into_inner()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "this program itself is a sample")]
    fn this_program_names_its_written_segment_its_relocations_and_its_start() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = stages_of(&bytes);
        assert_eq!(found.len(), 2, "{found:?}");
        let program = Program::parse(&bytes[..4096]).unwrap();
        let entry = program.place(program.entry).unwrap();
        assert!(found[0].iter().any(|range| range.contains(&entry)));
        let written = program.segments.iter().find(|s| s.kind == PT_LOAD && s.flags & PF_W != 0).unwrap();
        assert!(found[0].iter().any(|range| range.contains(&written.bytes.start)));
        // A program of this size that may be loaded anywhere has more than a page of relocations.
        assert!(found[1].iter().any(|range| range.end - range.start > 4096), "{found:?}");
    }

    #[test]
    fn what_is_no_program_is_left_alone() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01\x01", &[0x7f; 8192]] {
            assert_eq!(stages_of(bytes), Vec::<Vec<Range<u64>>>::new());
        }
    }

    proptest! {
        #[test]
        fn whatever_the_headers_say_little_is_asked_for_and_nothing_past_the_end(
            mut bytes in prop::collection::vec(any::<u8>(), 64..4096),
            table in 0..200u64,
            count in any::<u16>(),
        ) {
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            bytes[32..40].copy_from_slice(&table.to_le_bytes());
            bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
            bytes[56..58].copy_from_slice(&count.to_le_bytes());
            for stage in stages_of(&bytes) {
                prop_assert!(stage.iter().all(|range| range.start < range.end && range.end <= bytes.len() as u64));
                prop_assert!(stage.iter().map(|range| range.end - range.start).sum::<u64>() <= STAGE_BYTES_MAX);
            }
        }
    }
}
