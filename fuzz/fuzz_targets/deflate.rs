//! Gzip files that are taken apart, and recipes that make them again. One part: a file. Two: content and recipe.
#![no_main]

use cairn_delta::deflate::{repack, unpack};
use cairn_fuzz::parts;
use libfuzzer_sys::fuzz_target;

const FILE_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    if let Some(unpacked) = unpack(data) {
        let again = repack(&unpacked.plain, &unpacked.recipe, data.len(), Vec::new());
        assert!(again.is_ok_and(|again| again == data), "a file is not made again");
    }
    if let [plain, recipe, ..] = parts(data)[..] {
        if let Ok(made) = repack(plain, recipe, FILE_MAX, Vec::new()) {
            assert!(made.len() <= FILE_MAX);
        }
    }
});
