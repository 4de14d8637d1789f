//! What is derived, and kept to save time: refs in the catalogue, what files held when they were last read, and what each
//! artifact alone takes.
#![no_main]

use cairn_fuzz::parts;
use cairn_store::fuzzing::{catalogue_entry, decode_stat_cache, decode_usage};
use libfuzzer_sys::fuzz_target;

const STAT_HEADER_LEN: usize = 40;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let parts = parts(data);
            let (Some(key), Some(value)) = (parts.first(), parts.get(1)) else { return };
            if let Some((_, record, written)) = catalogue_entry(key, value) {
                assert_eq!(written, *key, "a key has two encodings");
                let value = postcard::to_stdvec(&record).expect("memory takes everything");
                assert!(catalogue_entry(key, &value).is_some_and(|(_, again, _)| again == record));
            }
        }
        1 => {
            let _ = decode_stat_cache(data);
            let mut mended = data.to_vec();
            if mended.len() >= STAT_HEADER_LEN {
                let hash = *blake3::hash(&mended[STAT_HEADER_LEN..]).as_bytes();
                mended[8..STAT_HEADER_LEN].copy_from_slice(&hash);
                let _ = decode_stat_cache(&mended);
            }
        }
        _ => {
            let _ = decode_usage(data);
            let hash = blake3::hash(data);
            let _ = decode_usage(&[data, hash.as_bytes()].concat());
        }
    }
});
