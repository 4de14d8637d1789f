//! Bytes of an old file, as far as a segment is predicted from them: read in order, so that each frame that they lie in is
//! decoded once.

use std::ops::Range;

use cairn_delta::DeltaError;
use cairn_delta::reloc::Old;

use super::gap::{Gap, OldFile};
use crate::error::Result;
use crate::store::Store;

/// Bytes of an old file that one segment may need, at most. Where it would need more, it is not told that way.
pub(super) const BYTES_MAX: u64 = 48 << 20;

/// Some ranges of an old file.
pub(super) struct OldRanges {
    /// Ascending, and none touches the next.
    ranges: Vec<(u64, Vec<u8>)>,
}

/// Whether so much may be read for one segment.
pub(super) fn is_allowed(ranges: &[Range<u64>]) -> bool {
    let mut total = 0u64;
    ranges.iter().all(|range| {
        total = total.saturating_add(range.end.saturating_sub(range.start));
        total <= BYTES_MAX
    })
}

impl OldRanges {
    /// Reads ranges, which ascend; what lies behind the end of the file is left out.
    pub(super) fn read(store: &Store, gap: &Gap, file: &OldFile, ranges: &[Range<u64>]) -> Result<Self> {
        let mut wanted: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            let range = range.start.min(file.size)..range.end.min(file.size);
            match wanted.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => wanted.push(range),
            }
        }
        let mut read = Vec::with_capacity(wanted.len());
        for Range { start, end } in wanted {
            let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
            read_into(store, gap, file, start, &mut bytes)?;
            read.push((start, bytes));
        }
        Ok(Self { ranges: read })
    }
}

/// Fills `bytes`, which are zero, with what a file has from `start` on.
pub(super) fn read_into(
    store: &Store,
    gap: &Gap,
    file: &OldFile,
    start: u64,
    bytes: &mut [u8],
) -> Result<()> {
    let list = gap.list(file);
    let end = start + bytes.len() as u64;
    let first = list.partition_point(|(offset, _)| *offset <= start).saturating_sub(1);
    for (offset, number) in list[first..].iter().take_while(|(offset, _)| *offset < end) {
        let chunk = gap.old_chunks[*number as usize];
        let chunk_end = offset + u64::from(chunk.len);
        if chunk_end <= start {
            continue;
        }
        let there = store.whole_chunk(chunk)?;
        let (from, to) = (start.max(*offset), end.min(chunk_end));
        // All of these are below the lengths of the two slices.
        let at = |from: u64, base: u64| usize::try_from(from - base).unwrap_or(usize::MAX);
        bytes[at(from, start)..at(to, start)].copy_from_slice(&there[at(from, *offset)..at(to, *offset)]);
    }
    Ok(())
}

impl Old for OldRanges {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), DeltaError> {
        let number = self.ranges.partition_point(|(start, _)| *start <= at).checked_sub(1);
        let (start, bytes) = &self.ranges[number.ok_or(DeltaError::Base)?];
        let from = usize::try_from(at - start).map_err(|_| DeltaError::Base)?;
        let end = from.checked_add(buffer.len()).ok_or(DeltaError::Base)?;
        buffer.copy_from_slice(bytes.get(from..end).ok_or(DeltaError::Base)?);
        Ok(())
    }
}
