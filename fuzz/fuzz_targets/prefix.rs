//! Payloads behind a prefix: prefix, payload, and how many bytes it should be. What decodes has that many.
#![no_main]

use cairn_delta::prefix::Decoder;
use cairn_fuzz::parts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [prefix, payload, len, ..] = parts(data)[..] else { return };
    let len = len.iter().rev().take(4).fold(0, |len, byte| len << 8 | usize::from(*byte));
    if let Ok(plain) = Decoder::new().decode(prefix, payload, len, vec![7; 50]) {
        assert_eq!(plain.len(), len);
    }
});
