//! Lists of ids, and bitmaps.
#![no_main]

use cairn_net::wire::{bitmap_from_bytes, bitmap_to_bytes, ids_from_bytes, ids_to_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(ids) = ids_from_bytes(data) {
        assert_eq!(ids_to_bytes(&ids), data);
    }
    let Some((count, bitmap)) = data.split_first_chunk() else { return };
    let count = usize::from(u16::from_le_bytes(*count));
    if let Ok(bits) = bitmap_from_bytes(bitmap, count) {
        assert_eq!(bits.len(), count);
        assert_eq!(bitmap_to_bytes(&bits), bitmap);
    }
});
