//! The payload of codec 3: where a block's chunks lie in their file and where what they stand on lies in another, then
//! what is left of them after they were predicted from that ([`cairn_delta::reloc`]; docs/format.md, "Codec 3").

use std::ops::Range;

use cairn_delta::DeltaError;
use cairn_delta::reloc::{Coder, Old};
use serde::{Deserialize, Serialize};

use super::{Bases, FrameError, FrameHeader, Undecoded};

/// Chunks that follow each other in a file: bytes between the end of the run before and this one, and how many they are.
pub(crate) type Run = (u64, u32);

/// Where chunks lie in the two files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placed {
    /// How many of the frame's bases are the map, one after the other; the others are bytes of the other file.
    pub(crate) map_chunks: u16,
    /// Where the frame's chunks lie, all of them.
    pub(crate) chunks: Vec<Run>,
    /// Where the bases lie that are not the map, all of them.
    pub(crate) bases: Vec<Run>,
}

impl Placed {
    /// The payload of a frame.
    pub(crate) fn payload(&self, residual: &[u8]) -> Vec<u8> {
        let mut bytes =
            postcard::to_allocvec(self).expect("postcard fails only for what has no known length");
        bytes.extend_from_slice(residual);
        bytes
    }

    /// Runs of chunks at these offsets, with these lengths, in ascending order.
    pub(crate) fn runs(chunks: impl Iterator<Item = (u64, u32)>) -> Vec<Run> {
        let (mut runs, mut end): (Vec<Run>, u64) = (Vec::new(), 0);
        for (offset, len) in chunks {
            match runs.last_mut() {
                Some((_, count)) if offset == end => *count += 1,
                _ => runs.push((offset.saturating_sub(end), 1)),
            }
            end = offset.saturating_add(len.into());
        }
        runs
    }
}

/// The ranges of a file that runs of chunks with these lengths are; nothing if there are more or fewer chunks.
pub(crate) fn ranges(runs: &[Run], lens: impl IntoIterator<Item = u64>) -> Option<Vec<Range<u64>>> {
    let (mut lens, mut end, mut ranges) = (lens.into_iter(), 0u64, Vec::new());
    for (gap, count) in runs {
        let start = end.checked_add(*gap)?;
        end = start;
        for _ in 0..*count {
            end = end.checked_add(lens.next()?)?;
        }
        ranges.push(start..end);
    }
    lens.next().is_none().then_some(ranges)
}

/// Parts of a file.
pub(crate) struct Parts<'a> {
    /// Ascending; their bytes follow each other in `bytes`.
    ranges: Vec<(Range<u64>, usize)>,
    bytes: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Parts whose bytes follow each other in `bytes`; nothing if it has more or fewer.
    pub(crate) fn new(ranges: Vec<Range<u64>>, bytes: &'a [u8]) -> Option<Self> {
        let (mut placed, mut at) = (Vec::with_capacity(ranges.len()), 0usize);
        for range in ranges {
            let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
            placed.push((range, at));
            at = at.checked_add(len)?;
        }
        (at == bytes.len()).then_some(Self { ranges: placed, bytes })
    }
}

impl Old for Parts<'_> {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), DeltaError> {
        let (mut at, mut rest) = (at, buffer);
        // Parts may touch each other.
        while !rest.is_empty() {
            let number = self.ranges.partition_point(|(range, _)| range.start <= at).checked_sub(1);
            let (range, start) = &self.ranges[number.ok_or(DeltaError::Base)?];
            let left = range.end.checked_sub(at).filter(|left| *left > 0).ok_or(DeltaError::Base)?;
            let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let from = start + usize::try_from(at - range.start).map_err(|_| DeltaError::Base)?;
            let (part, after) = rest.split_at_mut(len);
            part.copy_from_slice(self.bytes.get(from..from + len).ok_or(DeltaError::Base)?);
            (at, rest) = (at + len as u64, after);
        }
        Ok(())
    }
}

/// The plain bytes of a frame of codec 3. The room of `buffer` is used again.
pub(super) fn decode(
    header: &FrameHeader,
    payload: &[u8],
    bases: &dyn Bases,
    buffer: Vec<u8>,
) -> Result<Vec<u8>, Undecoded> {
    let (placed, residual): (Placed, &[u8]) =
        postcard::take_from_bytes(payload).map_err(|_| FrameError::Decompress)?;
    let split = header.bases.split_at_checked(placed.map_chunks.into());
    let (map, base_ids) = split.filter(|(map, _)| !map.is_empty()).ok_or(FrameError::Lengths)?;
    let lens = header.chunks.iter().map(|(_, len)| u64::from(*len));
    let wanted = ranges(&placed.chunks, lens).ok_or(FrameError::Lengths)?;
    let map = bases.map(map)?;
    let based = bases.read(base_ids)?;
    let old = ranges(&placed.bases, based.lens()).and_then(|ranges| Parts::new(ranges, &based.bytes));
    let old = old.ok_or(FrameError::Lengths)?;
    Coder::new(&map).decode(&old, &wanted, residual, buffer).map_err(|_| FrameError::Decompress.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_say_where_chunks_lie() {
        let chunks = [(10, 5), (15, 1), (20, 4), (24, 6)];
        let runs = Placed::runs(chunks.into_iter());
        assert_eq!(runs, [(10, 2), (4, 2)]);
        let lens = || chunks.iter().map(|(_, len)| u64::from(*len));
        assert_eq!(ranges(&runs, lens()).unwrap(), [10..16, 20..30]);
        assert_eq!(ranges(&runs, lens().take(3)), None);
        assert_eq!(ranges(&runs[..1], lens()), None);
        assert_eq!(ranges(&[(u64::MAX, 1)], [2]), None);
        assert_eq!(ranges(&[(0, u32::MAX)], [1]), None);
    }

    #[test]
    fn parts_are_read_where_they_are_and_nowhere_else() {
        let parts = Parts::new(vec![4..6, 6..9, 20..22], b"abcdefg").unwrap();
        let read = |at, len| {
            let mut buffer = vec![0; len];
            parts.read_at(at, &mut buffer).map(|()| buffer)
        };
        assert_eq!(read(4, 5).unwrap(), b"abcde");
        assert_eq!(read(20, 2).unwrap(), b"fg");
        assert_eq!(read(7, 0).unwrap(), b"");
        for (at, len) in [(3, 1), (8, 2), (9, 1), (21, 2), (22, 1), (u64::MAX, 1)] {
            assert_eq!(read(at, len), Err(DeltaError::Base), "{at} {len}");
        }
        for wrong in [vec![0..1, 4..6], vec![0..1, 4..4], vec![3..4, Range { start: 3, end: 2 }]] {
            assert!(Parts::new(wrong, b"ab").is_none());
        }
    }
}
