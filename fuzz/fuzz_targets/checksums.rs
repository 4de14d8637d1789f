//! Files of checksums. What is read is written as `sha256sum` writes it, and read again.
#![no_main]

use std::fmt::Write;

use cairn_sources::checksum::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(sums) = parse(data) else { return };
    assert!(!sums.is_empty());
    let mut text = String::new();
    for (name, hash) in &sums {
        let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        let mark = if escaped == *name { "" } else { "\\" };
        let name = if name.is_empty() { "-" } else { &escaped };
        writeln!(text, "{mark}{hash}  {name}").expect("memory takes everything");
    }
    match parse(text.as_bytes()) {
        Ok(again) => assert_eq!(again, sums, "{text:?}"),
        Err(error) => panic!("{text:?}: {error}"),
    }
});
