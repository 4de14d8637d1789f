//! Statements about names: one encoding each.
#![no_main]

use cairn_store::refs::RefStatement;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(statement) = RefStatement::decode(data) {
        assert_eq!(statement.encode(), data);
    }
});
