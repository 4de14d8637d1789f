//! Files of keys and signatures as users have them, and as they should not.

use std::num::NonZero;

use cairn_sources::Error;
use cairn_sources::config::Signatures;
use cairn_sources::signature::{self, Keys};

use crate::gnupg::Ring;
use crate::{SUMS, day, has, keys, refused, verify};

#[track_caller]
fn problem(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, bytes).unwrap();
    match keys(std::slice::from_ref(&path), &[]) {
        Err(Error::Usage { problem, hint }) => {
            assert!(hint.contains("gpg --export"), "{hint}");
            problem.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_without_keys_are_refused() {
    assert_eq!(problem(b""), "it has no key");
    assert_eq!(problem(b"hello\n"), "it has no key");
    assert_eq!(problem(b"untrusted comment: a key\n"), "it has no key");
    assert_eq!(problem(b"untrusted comment: a key\nRWQf\n"), "\"RWQf\" is no key");
    assert_eq!(
        problem(b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0\0\0"),
        "it is a key box of GnuPG, which only GnuPG reads"
    );
    assert!(problem(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZZ").contains("cut off"));
    let missing = keys(&["/nowhere/keys.asc".into()], &[]);
    assert!(matches!(missing, Err(Error::Io { action: "open", .. })), "{missing:?}");
    let text = keys(&[], &["RWQfbad"]);
    assert!(matches!(text, Err(Error::Usage { .. })), "{text:?}");
}

#[test]
fn as_many_keys_are_needed_as_signatures() {
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let settings = |required| Signatures {
        file: "SUMS.minisig".parse().unwrap(),
        key_files: Vec::new(),
        // The same one twice is one.
        minisign_keys: vec![key.to_owned(), key.to_owned()],
        required: NonZero::new(required).unwrap(),
    };
    assert_eq!(Keys::read(&settings(1)).unwrap().len(), 1);
    match Keys::read(&settings(2)) {
        Err(Error::Usage { problem, .. }) => {
            assert_eq!(problem, "2 signatures are required, and 1 keys are trusted");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_come_in_several_shapes() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    // The ring of older versions, with what gpg notes between the packets.
    std::fs::write(ring.path("pubring.gpg"), b"").unwrap();
    let ann = ring.certifier("ann");
    let subkey = ring.subkey(&ann, "sign", "never");
    ring.key("ben", "ed25519", "never");
    let signature = [ring.sign(1, &[&format!("{subkey}!")], SUMS), ring.sign(1, &["ben"], SUMS)].concat();
    let binary = ring.path("binary");
    std::fs::write(&binary, ring.run(0, &["--export"])).unwrap();
    let armored = ring.path("armored");
    let blocks = [ring.run(0, &["--armor", "--export", "ann"]), ring.run(0, &["--armor", "--export", "ben"])];
    std::fs::write(&armored, blocks.join(&b"between them\n"[..])).unwrap();
    for file in [ring.path("pubring.gpg"), binary, armored] {
        let trusted = keys(std::slice::from_ref(&file), &[]).unwrap();
        assert_eq!(trusted.len(), 2);
        let signers = verify(&trusted, &signature, 2, day(2));
        assert_eq!(signers.unwrap().valid.len(), 2, "{}", file.display());
    }
    for args in [&["--export-secret-keys"][..], &["--armor", "--export-secret-keys"]] {
        assert_eq!(problem(&ring.run(0, args)), "it has a secret key, which does not belong here");
    }
    assert!(problem(&signature).contains("and not keys alone"));
}

/// Those that are kept with the tests: no program is needed for them.
#[test]
fn kept_signatures_count() {
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing");
    let read = |name: &str| std::fs::read(kept.join(name)).unwrap();
    let trusted = keys(&["ann.asc", "ben.gpg", "mini.pub"].map(|name| kept.join(name)), &[]).unwrap();
    assert_eq!(trusted.len(), 3);
    let (sums, now) = (read("SHA256SUMS"), day(1));
    let signed = [("SHA256SUMS.asc", 2), ("SHA256SUMS.sig", 1), ("SHA256SUMS.minisig", 1), ("clear.asc", 1)];
    for (name, count) in signed {
        let required = NonZero::new(count).unwrap();
        let signers = signature::verify(&trusted, &sums, &read(name), required, now, name).unwrap();
        assert_eq!((signers.valid.len(), signers.others.len()), (count, 0), "{name}");
        let more = required.saturating_add(1);
        assert!(signature::verify(&trusted, &sums, &read(name), more, now, name).is_err());
        assert!(signature::verify(&trusted, b"other", &read(name), required, now, name).is_err());
    }
    let marked = [&b"\xef\xbb\xbf"[..], &read("SHA256SUMS.asc")].concat();
    let two = NonZero::new(2).unwrap();
    assert!(signature::verify(&trusted, &sums, &marked, two, now, "SHA256SUMS.asc").is_ok());
}

#[test]
fn files_without_signatures_are_refused() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    ring.key("ann", "ed25519", "never");
    let public = ring.export(&["ann"]);
    let trusted = keys(std::slice::from_ref(&public), &[]).unwrap();
    for nothing in [&b""[..], b"<html>404</html>", SUMS] {
        assert_eq!(refused(verify(&trusted, nothing, 1, day(2))), "0 of 1 needed signatures: it holds none");
    }
    let key = std::fs::read(public).unwrap();
    assert!(refused(verify(&trusted, &key, 1, day(2))).contains("something that is no signature"));
    let good = ring.sign(1, &["ann"], SUMS);
    for len in 1..good.len() - 1 {
        let cut = verify(&trusted, &good[..len], 1, day(2));
        assert!(cut.is_err() || len > good.len() - 30, "{len} bytes of it count");
    }
    // A whole message is no detached signature, and what it says is not what is verified.
    let message = ring.sign_as(1, &["ann"], SUMS, &["--armor", "--sign"]);
    refused(verify(&trusted, &message, 1, day(2)));
    let long = vec![b'-'; 5 << 20];
    assert!(refused(verify(&trusted, &long, 1, day(2))).contains("longer than"));
    assert!(signature::signed_text(b"-----BEGIN PGP SIGNED MESSAGE-----\n\nx", "S").is_err());
}

/// Every byte of a signature matters, or it is not looked at: none that is changed makes another signer count.
#[test]
fn no_changed_byte_makes_another_signer() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "never");
    ring.key("ben", "ed25519", "never");
    let trusted = keys(&[ring.export(&["ann", "ben"])], &[]).unwrap();
    let good = ring.sign_as(1, &["ann"], SUMS, &["--detach-sign"]);
    for at in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            if let Ok(signers) = verify(&trusted, &bytes, 1, day(2)) {
                assert_eq!(signers.valid.len(), 1);
                assert_eq!(signers.valid[0].fingerprint, ann);
            }
        }
    }
}

/// Bytes of real keys and signatures changed at random, with a seed: nothing makes a signature count of what nobody signed.
#[test]
fn changed_bytes_make_nobody_sign() {
    let kept = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing");
    let read = |name: &str| std::fs::read(kept.join(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let rounds: u64 =
        std::env::var("CAIRN_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    let pairs =
        [("SHA256SUMS.sig", "ben.gpg"), ("SHA256SUMS.asc", "ann.asc"), ("SHA256SUMS.minisig", "mini.pub")];
    for (signature, key) in pairs {
        let (signature, key, sums) = (read(signature), read(key), read("SHA256SUMS"));
        let trusted = {
            std::fs::write(&path, &key).unwrap();
            keys(std::slice::from_ref(&path), &[]).unwrap()
        };
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut change = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let [at, low, .., byte] = state.to_le_bytes();
                let at = usize::from(u16::from_le_bytes([at, low])) % bytes.len();
                bytes[at] = byte;
            }
            bytes
        };
        for _ in 0..rounds {
            assert!(verify(&trusted, &change(&signature), 1, day(1)).is_err());
            std::fs::write(&path, change(&key)).unwrap();
            if let Ok(keys) = keys(std::slice::from_ref(&path), &[]) {
                let one = NonZero::<usize>::MIN;
                let changed = signature::verify(&keys, &sums, &signature, one, day(1), "SHA256SUMS.asc");
                assert!(changed.is_err() || changed.is_ok_and(|signers| signers.valid.len() == 1));
                assert!(signature::verify(&keys, SUMS, &signature, one, day(1), "SHA256SUMS.asc").is_err());
            }
        }
    }
}
