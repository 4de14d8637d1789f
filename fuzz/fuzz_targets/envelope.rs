//! Envelopes, and the statements in them: what is read is written alike.
#![no_main]

use cairn_store::refs::RefStatement;
use cairn_trust::Envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(envelope) = Envelope::from_json(data) else { return };
    let again = Envelope::from_json(envelope.to_json().as_bytes()).expect("it is what was read");
    assert_eq!(again, envelope);
    assert_eq!(again.pae(), envelope.pae());
    if let Ok(statement) = RefStatement::of(&envelope) {
        assert_eq!(statement.encode(), envelope.payload);
    }
});
