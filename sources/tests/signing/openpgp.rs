//! OpenPGP.

use cairn_sources::signature;

use crate::gnupg::Ring;
use crate::{SUMS, day, has, keys, refused, verify};

#[test]
fn signers_are_counted_by_primary_key() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "never");
    let ben = ring.key("ben", "rsa3072", "never");
    ring.key("cid", "nistp256", "never");
    ring.key("eve", "ed25519", "never");
    let trusted = keys(&[ring.export(&["ann", "ben"]), ring.export(&["cid"])], &[]).unwrap();
    assert_eq!(trusted.len(), 3);

    // As Bitcoin Core has them: a block of armor of each builder, one after another.
    let blocks = [&["ann"][..], &["ben"], &["cid"], &["eve"]].map(|signer| ring.sign(1, signer, SUMS));
    let signers = verify(&trusted, &blocks.concat(), 3, day(2)).unwrap();
    assert_eq!(signers.valid.len(), 3);
    assert!(signers.valid.is_sorted());
    let found = signers.valid.iter().find(|signer| signer.fingerprint == ann).unwrap();
    assert_eq!(found.name.as_deref(), Some("ann <ann@example.org>"));
    let eve = ring.fingerprints("eve").remove(0);
    assert_eq!(signers.others, [format!("unknown key {eve}")]);
    // One of them is damaged.
    let mut damaged = blocks.clone();
    let middle = damaged[1].len() / 2;
    damaged[1][middle] = b'*';
    let signers = verify(&trusted, &damaged.concat(), 2, day(2)).unwrap();
    assert_eq!(signers.valid.len(), 2);
    assert_eq!(signers.others.len(), 2, "{:?}", signers.others);

    // One block, and binary.
    let both = ring.sign(1, &["ann", "ben"], SUMS);
    assert_eq!(verify(&trusted, &both, 2, day(2)).unwrap().valid.len(), 2);
    let binary = ring.sign_as(1, &["ann", "ben"], SUMS, &["--detach-sign"]);
    assert_eq!(binary[0] & 0x80, 0x80);
    assert_eq!(verify(&trusted, &binary, 2, day(2)).unwrap().valid.len(), 2);

    // The same signer twice is one.
    let twice = [ring.sign(1, &["ben"], SUMS), ring.sign(2, &["ben"], SUMS)].concat();
    let reason = refused(verify(&trusted, &twice, 2, day(3)));
    assert!(reason.starts_with("1 of 2 needed signatures"), "{reason}");
    assert_eq!(verify(&trusted, &twice, 1, day(3)).unwrap().valid[0].fingerprint, ben);

    // Text that is signed as text.
    let text = ring.sign_as(1, &["ann"], SUMS, &["--armor", "--textmode", "--detach-sign"]);
    assert_eq!(verify(&trusted, &text, 1, day(2)).unwrap().valid.len(), 1);
}

#[test]
fn a_bad_signature_keeps_no_good_one_from_counting() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "never");
    let ben = ring.key("ben", "ed25519", "never");
    let trusted = keys(&[ring.export(&["ann", "ben"])], &[]).unwrap();
    let bad = ring.sign(1, &["ann"], b"another file");
    let reason = refused(verify(&trusted, &bad, 1, day(2)));
    assert_eq!(reason, format!("0 of 1 needed signatures: bad signature by {ann} (ann <ann@example.org>)"));
    let both = [bad, ring.sign(1, &["ben"], SUMS)].concat();
    let signers = verify(&trusted, &both, 1, day(2)).unwrap();
    assert_eq!(signers.valid[0].fingerprint, ben);
    assert_eq!(signers.others, [format!("bad signature by {ann} (ann <ann@example.org>)")]);
    assert!(
        refused(verify(&trusted, &both, 2, day(2))).starts_with("1 of 2 needed signatures: bad signature")
    );
}

#[test]
fn a_text_may_carry_its_signature() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "never");
    let trusted = keys(&[ring.export(&["ann"])], &[]).unwrap();
    let file = ring.sign_as(1, &["ann"], SUMS, &["--clear-sign"]);
    let text = signature::signed_text(&file, "SHA256SUMS.asc").unwrap().unwrap();
    assert_eq!(text, SUMS);
    let signers = verify(&trusted, &file, 1, day(2)).unwrap();
    assert_eq!(signers.valid[0].fingerprint, ann);

    let forged = String::from_utf8(file.clone()).unwrap().replace("app-1.0", "app-9.9");
    let text = signature::signed_text(forged.as_bytes(), "SHA256SUMS.asc").unwrap().unwrap();
    assert_ne!(text, SUMS);
    assert_eq!(refused(verify(&trusted, forged.as_bytes(), 1, day(2))), "it signs another text");
    let one = std::num::NonZero::<usize>::MIN;
    let bad = signature::verify(&trusted, &text, forged.as_bytes(), one, day(2), "SHA256SUMS.asc");
    assert!(refused(bad).contains("bad signature by"));
    assert!(signature::signed_text(SUMS, "SHA256SUMS").unwrap().is_none());
}
