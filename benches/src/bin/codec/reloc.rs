//! A whole executable, in segments, from the one before.

use std::ops::Range;

use cairn_delta::Effort;
use cairn_delta::reloc::{Coder, Limits, Map, SEGMENT_MAX, map};

use super::{Encoded, Result};

pub(super) struct File {
    map: Vec<u8>,
    segments: Vec<Vec<u8>>,
}

/// None where the two are no pair that it knows.
pub(super) fn encode(old: &[u8], new: &[u8], effort: Effort) -> Result<Option<Encoded<File>>> {
    let Some(map) = map(old, new, effort, &Limits::default(), &|| false) else { return Ok(None) };
    let map_bytes = map.to_bytes();
    let mut coder = Coder::new(&map);
    let mut segments = Vec::new();
    for (range, plain) in ranges(new) {
        segments.push(coder.encode(&old, &[range], plain, effort)?);
    }
    let bytes = segments.iter().chain([&map_bytes]).map(|part| part.len() as u64).sum();
    Ok(Some(Encoded { encoded: File { map: map_bytes, segments }, bytes }))
}

pub(super) fn decode(old: &[u8], new: &[u8], file: &File) -> Result<()> {
    let map = Map::from_bytes(&file.map)?;
    let mut coder = Coder::new(&map);
    let mut out = Vec::new();
    for (segment, (range, plain)) in file.segments.iter().zip(ranges(new)) {
        out = coder.decode(&old, &[range], segment, out)?;
        if out != plain {
            return Err("a segment is not what it was".into());
        }
    }
    Ok(())
}

fn ranges(new: &[u8]) -> impl Iterator<Item = (Range<u64>, &[u8])> {
    new.chunks(SEGMENT_MAX).scan(0u64, |at, plain| {
        let range = *at..*at + plain.len() as u64;
        *at = range.end;
        Some((range, plain))
    })
}
