//! Bitcode files that are taken apart, and tokens that make them again.
#![no_main]

use cairn_delta::bitcode::{MAGIC, pack, tokens, unpack};
use libfuzzer_sys::fuzz_target;

const FILE_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    if data.starts_with(MAGIC) {
        if let Some(tokens) = unpack(data) {
            let again = pack(&tokens, data.len(), Vec::new());
            assert!(again.is_ok_and(|again| again == data), "a file is not made again");
        }
        if let Some(tokens) = tokens(data) {
            let _ = pack(&tokens, FILE_MAX, Vec::new());
        }
    } else if let Ok(made) = pack(data, FILE_MAX, Vec::new()) {
        assert!(made.len() <= FILE_MAX);
    }
});
