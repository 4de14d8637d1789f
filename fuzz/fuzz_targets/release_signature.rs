//! Files of keys and of signatures: a signature, keys, and what is signed. Under keys that are known, nothing makes text count that
//! nobody signed.
#![no_main]

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use cairn_fuzz::parts;
use cairn_sources::config::Signatures;
use cairn_sources::signature::{Keys, signed_text, verify};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(cairn_fuzz::folder);

static KNOWN: LazyLock<Keys> = LazyLock::new(|| {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sources/tests/fixtures/signing"));
    let files = ["ann.asc", "ben.gpg", "mini.pub"].map(|name| fixtures.join(name));
    read(files.to_vec()).expect("they are keys")
});

fn read(key_files: Vec<PathBuf>) -> cairn_sources::Result<Keys> {
    let file = "SHA256SUMS.asc".parse().expect("a template");
    Keys::read(&Signatures { file, key_files, minisign_keys: Vec::new(), required: NonZero::<usize>::MIN })
}

fuzz_target!(|data: &[u8]| {
    let parts = parts(data);
    let Some(signature) = parts.first() else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_153_600);
    let one = NonZero::<usize>::MIN;
    let unsigned = verify(&KNOWN, b"nobody signed this\n", signature, one, now, "signature");
    assert!(unsigned.is_err(), "{unsigned:?}");
    if let Ok(Some(text)) = signed_text(signature, "signature") {
        let _ = verify(&KNOWN, &text, signature, one, now, "signature");
    }
    if let [_, keys, signed, ..] = parts[..] {
        if let Ok(signers) = verify(&KNOWN, signed, signature, one, now, "signature") {
            assert!((1..=3).contains(&signers.valid.len()));
        }
        let path = FOLDER.join("keys");
        std::fs::write(&path, keys).expect("a file");
        if let Ok(keys) = read(vec![path]) {
            let signers = verify(&keys, signed, signature, one, now, "signature");
            assert!(signers.is_err() || signers.is_ok_and(|signers| signers.valid.len() <= keys.len()));
        }
    }
});
