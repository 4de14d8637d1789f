//! Envelopes as texts: what comes back, what is refused, and what is signed.

use proptest::prelude::*;

use super::*;

fn signature(keyid: &str, sig: &[u8]) -> Signature {
    Signature { keyid: keyid.to_owned(), sig: sig.to_vec() }
}

fn envelope(payload: &[u8], signatures: &[Signature]) -> Envelope {
    Envelope {
        payload_type: "http://example.com/HelloWorld".to_owned(),
        payload: payload.to_vec(),
        signatures: signatures.to_vec(),
    }
}

#[test]
fn what_is_signed_is_the_encoding_of_the_specification() {
    // The test vector of DSSE's protocol.md.
    let pae = envelope(b"hello world", &[]).pae();
    assert_eq!(pae, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn the_text_form_is_the_one_of_the_specification() {
    let signed = envelope(b"hello world", &[signature("k1", b"sig?"), signature("", &[0xfb, 0xff])]);
    let text = r#"{"payloadType":"http://example.com/HelloWorld","payload":"aGVsbG8gd29ybGQ=","signatures":[{"keyid":"k1","sig":"c2lnPw=="},{"keyid":"","sig":"+/8="}]}"#;
    assert_eq!(signed.to_json(), text);
    assert_eq!(Envelope::from_json(text.as_bytes()).unwrap(), signed);
    // White space and the order of fields are JSON's own business.
    let spaced = r#" { "signatures" : [ ], "payload":"", "payloadType":"t" } "#;
    let plain = Envelope::from_json(spaced.as_bytes()).unwrap();
    assert_eq!((plain.payload_type.as_str(), plain.payload.len(), plain.signatures.len()), ("t", 0, 0));
}

#[test]
fn what_two_decoders_could_read_in_two_ways_is_refused() {
    let good = r#"{"payloadType":"t","payload":"AA==","signatures":[{"keyid":"k","sig":"AA=="}]}"#;
    Envelope::from_json(good.as_bytes()).unwrap();
    let bad = [
        good.replace("\"AA==\",\"sig", "\"AA\",\"sig"),
        good.replacen("AA==", "AB==", 1),
        good.replacen("AA==", "_-==", 1),
        good.replacen("AA==", "AA==\\n", 1),
        good.replacen("AA==", " AA==", 1),
        good.replace("\"payloadType\":\"t\"", "\"payloadType\":\"t\",\"payloadType\":\"u\""),
        good.replace("\"payloadType\":\"t\"", "\"payloadType\":\"t\",\"extra\":1"),
        good.replace("\"keyid\":\"k\"", "\"keyid\":\"k\",\"extra\":1"),
        good.replace("\"keyid\":\"k\",", ""),
        good.replace("\"payloadType\":\"t\",", ""),
        good.replace("\"t\"", "\"\""),
        good.replace("\"sig\":\"AA==\"", "\"sig\":\"\""),
        good.replace("[{", "[{\"keyid\":\"k\",\"sig\":\"AA==\"},{"),
        good.replace("[{\"keyid\":\"k\",\"sig\":\"AA==\"}]", "null"),
        format!("{good}{good}"),
        format!("{good}x"),
        format!("[{good}]"),
        String::new(),
    ];
    for text in bad {
        assert!(Envelope::from_json(text.as_bytes()).is_err(), "{text}");
    }
    for cut in 0..good.len() {
        assert!(Envelope::from_json(&good.as_bytes()[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn every_part_has_a_bound() {
    let largest = Envelope {
        payload_type: "t".repeat(PAYLOAD_TYPE_LEN_MAX),
        payload: vec![1; PAYLOAD_LEN_MAX],
        signatures: (0..SIGNATURES_MAX)
            .map(|n| signature(&format!("{n:0>KEYID_LEN_MAX$}"), &[2; SIGNATURE_LEN_MAX]))
            .collect(),
    };
    largest.check().unwrap();
    let text = largest.to_json();
    assert!(text.len() <= JSON_LEN_MAX, "{}", text.len());
    assert_eq!(Envelope::from_json(text.as_bytes()).unwrap(), largest);

    let mut long = vec![largest.clone(); 5];
    long[0].payload_type.push('t');
    long[1].payload.push(1);
    long[2].signatures.push(signature("one more", &[1]));
    long[3].signatures[0].keyid.push('0');
    long[4].signatures[0].sig.push(0);
    for envelope in long {
        assert!(envelope.check().is_err(), "{envelope:?}");
        assert!(Envelope::from_json(envelope.to_json().as_bytes()).is_err(), "{envelope:?}");
    }
    let mut padded = text.into_bytes();
    padded.resize(JSON_LEN_MAX + 1, b' ');
    assert!(matches!(Envelope::from_json(&padded), Err(EnvelopeError::TooLong { .. })));
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    let signature = ("[ -~]{0,20}", prop::collection::vec(any::<u8>(), 1..80))
        .prop_map(|(keyid, sig)| Signature { keyid, sig });
    let signatures = prop::collection::vec(signature, 0..4).prop_map(|mut signatures| {
        signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        signatures.dedup_by(|a, b| a.keyid == b.keyid);
        signatures
    });
    let parts = ("[ -~]{1,40}", prop::collection::vec(any::<u8>(), 0..300), signatures);
    parts.prop_map(|(payload_type, payload, signatures)| Envelope { payload_type, payload, signatures })
}

proptest! {
    #[test]
    fn envelopes_come_back(envelope in any_envelope()) {
        prop_assert_eq!(Envelope::from_json(envelope.to_json().as_bytes()).unwrap(), envelope);
    }

    #[test]
    fn mutated_texts_are_other_envelopes_or_none(
        envelope in any_envelope(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut text = envelope.to_json().into_bytes();
        for (at, byte) in &edits {
            let at = at.index(text.len());
            text[at] = *byte;
        }
        if let Some(cut) = &cut {
            text.truncate(cut.index(text.len() + 1));
        }
        if let Ok(decoded) = Envelope::from_json(&text) {
            decoded.check().unwrap();
            prop_assert_eq!(Envelope::from_json(decoded.to_json().as_bytes()).unwrap(), decoded);
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Envelope::from_json(&noise).is_err());
    }

    #[test]
    fn different_statements_are_signed_as_different_bytes(a in any_envelope(), b in any_envelope()) {
        let same = (&a.payload_type, &a.payload) == (&b.payload_type, &b.payload);
        prop_assert_eq!(a.pae() == b.pae(), same);
    }
}
