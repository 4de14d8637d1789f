//! Maps of executables, and segments that are decoded by them: old file, map, ranges, payload. Where a compressed map would stop
//! the fuzzer, the map of a seed is taken and the segment alone is the input.
#![no_main]

use std::ops::Range;

use cairn_delta::reloc::{Coder, Map, SEGMENT_MAX};
use cairn_fuzz::parts;
use libfuzzer_sys::fuzz_target;

const RANGES_MAX: usize = 8;

/// Each is two numbers of four bytes: where it begins, and how long it is.
fn ranges(bytes: &[u8]) -> Vec<Range<u64>> {
    let number = |bytes: &[u8]| u64::from(u32::from_le_bytes(bytes.try_into().expect("four bytes")));
    let range = |bytes: &[u8]| number(&bytes[..4])..number(&bytes[..4]) + number(&bytes[4..]);
    bytes.chunks_exact(8).take(RANGES_MAX).map(range).collect()
}

fuzz_target!(|data: &[u8]| {
    let [old, map, wanted, payload, ..] = parts(data)[..] else { return };
    let Ok(map) = Map::from_bytes(map) else { return };
    // A map that is read is written the same way it is read again.
    let again = Map::from_bytes(&map.to_bytes()).expect("a map that was written");
    assert_eq!((again.old_len(), again.new_len()), (map.old_len(), map.new_len()));
    let wanted = ranges(wanted);
    let reads = map.reads(&wanted);
    assert!(reads.windows(2).all(|pair| pair[0].end <= pair[1].start), "reads that overlap");
    if let Ok(plain) = Coder::new(&map).decode(&old, &wanted, payload, Vec::new()) {
        let len: u64 = wanted.iter().map(|range| range.end - range.start).sum();
        assert!(plain.len() as u64 == len && plain.len() <= SEGMENT_MAX);
    }
});
