//! What must not count, though it is signed.

use std::time::Duration;

use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey, SignedSecretKey};
use pgp::packet::{KeyFlags, PublicSubkey, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, Password};

use crate::gnupg::Ring;
use crate::{SUMS, day, has, keys, refused, verify};

/// Why no signature counted.
#[track_caller]
fn only_reason(ring: &Ring, files: &[&str], signature: &[u8], at: u64) -> String {
    let files: Vec<_> = files.iter().map(|name| ring.export(&[name])).collect();
    let reason = refused(verify(&keys(&files, &[]).unwrap(), signature, 1, day(at)));
    reason.strip_prefix("0 of 1 needed signatures: ").unwrap_or_else(|| panic!("{reason}")).to_owned()
}

#[test]
fn keys_end() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "30d");
    let old = ring.export(&["ann"]);
    let signature = ring.sign(1, &["ann"], SUMS);
    let trusted = keys(std::slice::from_ref(&old), &[]).unwrap();
    assert!(verify(&trusted, &signature, 1, day(29)).is_ok());
    let label = format!("{ann} (ann <ann@example.org>)");
    let reason = refused(verify(&trusted, &signature, 1, day(31)));
    assert_eq!(reason, format!("0 of 1 needed signatures: expired key {label}"));

    // Prolonged, it counts again, whichever file is read first.
    ring.run(20, &["--quick-set-expire", &ann, "100d"]);
    let kept = ring.path("old.asc");
    std::fs::rename(old, &kept).unwrap();
    let new = ring.export(&["ann"]);
    for files in [[kept.clone(), new.clone()], [new, kept]] {
        let trusted = keys(&files, &[]).unwrap();
        assert_eq!(trusted.len(), 1);
        assert!(verify(&trusted, &signature, 1, day(31)).is_ok());
        assert!(verify(&trusted, &signature, 1, day(121)).is_err());
    }
}

#[test]
fn signatures_end_and_begin() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "never");
    let label = format!("{ann} (ann <ann@example.org>)");
    let brief = ring.sign_as(1, &["ann"], SUMS, &["--default-sig-expire", "2d", "--armor", "--detach-sign"]);
    assert_eq!(only_reason(&ring, &["ann"], &brief, 4), format!("expired signature by {label}"));
    let trusted = keys(&[ring.export(&["ann"])], &[]).unwrap();
    assert!(verify(&trusted, &brief, 1, day(2)).is_ok());

    let late = ring.sign(10, &["ann"], SUMS);
    assert_eq!(only_reason(&ring, &["ann"], &late, 9), format!("signature of the future by {label}"));
    let minute = Duration::from_secs(60);
    assert!(verify(&trusted, &late, 1, day(10) - 14 * minute).is_ok());
    assert!(verify(&trusted, &late, 1, day(10) - 16 * minute).is_err());
}

#[test]
fn revoked_keys_do_not_count() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "never");
    let signature = ring.sign(1, &["ann"], SUMS);
    let before = ring.path("before.asc");
    std::fs::rename(ring.export(&["ann"]), &before).unwrap();
    // As gpg leaves it, so that nobody takes it in by mistake.
    let kept = ring.path(&format!("openpgp-revocs.d/{ann}.rev"));
    let revocation = std::fs::read_to_string(kept).unwrap().replace(":-----BEGIN", "-----BEGIN");
    std::fs::write(ring.path("revocation"), revocation).unwrap();
    ring.import(&ring.path("revocation"));
    let label = format!("{ann} (ann <ann@example.org>)");
    assert_eq!(only_reason(&ring, &["ann"], &signature, 2), format!("revoked key {label}"));
    // In whichever file it is.
    let trusted = keys(&[before.clone(), ring.export(&["ann"])], &[]).unwrap();
    assert!(refused(verify(&trusted, &signature, 1, day(2))).contains("revoked key"));
    assert!(verify(&keys(&[before], &[]).unwrap(), &signature, 1, day(2)).is_ok());
}

#[test]
fn subkeys_sign_for_their_primary_key() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.certifier("ann");
    let label = format!("{ann} (ann <ann@example.org>)");
    let (one, two) = (ring.subkey(&ann, "sign", "never"), ring.subkey(&ann, "sign", "30d"));
    let by_one = ring.sign(1, &[&format!("{one}!")], SUMS);
    let by_two = ring.sign(1, &[&format!("{two}!")], SUMS);
    let both = [&by_one[..], &by_two].concat();
    let trusted = keys(&[ring.export(&["ann"])], &[]).unwrap();
    let signers = verify(&trusted, &both, 1, day(2)).unwrap();
    assert_eq!(signers.valid.len(), 1);
    assert_eq!(signers.valid[0].fingerprint, ann);
    assert!(refused(verify(&trusted, &both, 2, day(2))).starts_with("1 of 2 needed signatures"));

    assert!(verify(&trusted, &by_one, 1, day(31)).is_ok());
    assert_eq!(
        only_reason(&ring, &["ann"], &by_two, 31),
        format!("signature by an expired subkey of {label}")
    );

    let steps = format!("key {one}\nrevkey\ny\n0\n\ny\nsave\n");
    ring.feed(3, &["--edit-key", &ann], steps.as_bytes());
    assert_eq!(only_reason(&ring, &["ann"], &by_one, 4), format!("signature by a revoked subkey of {label}"));
    let trusted = keys(&[ring.export(&["ann"])], &[]).unwrap();
    assert_eq!(verify(&trusted, &both, 1, day(4)).unwrap().valid.len(), 1);
}

#[test]
fn keys_that_are_not_for_signing_do_not_count() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "ed25519", "never");
    let signature = ring.sign(1, &["ann"], SUMS);
    let trusted = keys(&[ring.export(&["ann"])], &[]).unwrap();
    assert!(verify(&trusted, &signature, 1, day(2)).is_ok());
    ring.feed(2, &["--edit-key", &ann], b"change-usage\ns\nq\nsave\n");
    let label = format!("{ann} (ann <ann@example.org>)");
    assert_eq!(
        only_reason(&ring, &["ann"], &signature, 3),
        format!("signature by a key that is not for signing: {label}")
    );
}

#[test]
fn weak_hashes_and_keys_do_not_count() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.key("ann", "rsa2048", "never");
    let label = format!("{ann} (ann <ann@example.org>)");
    for hash in ["SHA1", "MD5", "RIPEMD160", "SHA224"] {
        let weak = ring.sign_as(1, &["ann"], SUMS, &["--digest-algo", hash, "--armor", "--detach-sign"]);
        let reason = only_reason(&ring, &["ann"], &weak, 2);
        assert_eq!(reason, format!("signature with a weak hash by {label}"), "{hash}");
    }
    for hash in ["SHA256", "SHA384", "SHA512"] {
        let strong = ring.sign_as(1, &["ann"], SUMS, &["--digest-algo", hash, "--armor", "--detach-sign"]);
        assert!(verify(&keys(&[ring.export(&["ann"])], &[]).unwrap(), &strong, 1, day(2)).is_ok(), "{hash}");
    }
    let ben = ring.key("ben", "rsa1024", "never");
    let signature = ring.sign(1, &["ben"], SUMS);
    assert_eq!(
        only_reason(&ring, &["ben"], &signature, 2),
        format!("signature by a weak key: {ben} (ben <ben@example.org>)")
    );
}

/// Somebody whose key is trusted claims another's key as a subkey of his, to be counted for what that one signs.
#[test]
fn a_claimed_subkey_has_to_agree() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    ring.key("ann", "ed25519", "never");
    let mal = ring.key("mal", "ed25519", "never");
    let ann = SignedPublicKey::from_bytes(&ring.run(0, &["--export", "ann"])[..]).unwrap();
    let secret = SignedSecretKey::from_bytes(&ring.run(0, &["--export-secret-keys", "mal"])[..]).unwrap();
    let claimed = {
        let primary = &ann.primary_key;
        let (version, algorithm) = (primary.version(), primary.algorithm());
        let params = primary.public_params().clone();
        PublicSubkey::from_inner(
            pgp::packet::PubKeyInner::new(version, algorithm, primary.created_at(), None, params).unwrap(),
        )
        .unwrap()
    };
    assert_eq!(claimed.fingerprint(), ann.fingerprint());
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let hash = pgp::crypto::hash::HashAlgorithm::Sha512;
    let mut config = SignatureConfig::v4(SignatureType::SubkeyBinding, secret.algorithm(), hash);
    config.hashed_subpackets = [
        SubpacketData::SignatureCreationTime(secret.created_at()),
        SubpacketData::IssuerFingerprint(secret.fingerprint()),
        SubpacketData::KeyFlags(flags),
    ]
    .map(|data| Subpacket::regular(data).unwrap())
    .to_vec();
    let binding = config
        .sign_subkey_binding(
            &secret.primary_key,
            secret.primary_key.public_key(),
            &Password::empty(),
            &claimed,
        )
        .unwrap();
    let mut certificate = secret.to_public_key();
    certificate.public_subkeys.push(SignedPublicSubKey::new(claimed, vec![binding]));
    let file = ring.path("mal.gpg");
    std::fs::write(&file, certificate.to_bytes().unwrap()).unwrap();

    let signature = ring.sign(1, &["ann"], SUMS);
    let trusted = keys(std::slice::from_ref(&file), &[]).unwrap();
    let reason = refused(verify(&trusted, &signature, 1, day(2)));
    let label = format!("{mal} (mal <mal@example.org>)");
    assert_eq!(
        reason,
        format!("0 of 1 needed signatures: signature by a subkey that does not say to belong to {label}")
    );
    // Where ann is trusted herself, it is her who signed, and she alone.
    let trusted = keys(&[file, ring.export(&["ann"])], &[]).unwrap();
    let signers = verify(&trusted, &signature, 1, day(2)).unwrap();
    assert_eq!(signers.valid.len(), 1);
    assert_eq!(signers.valid[0].name.as_deref(), Some("ann <ann@example.org>"));
}

/// What belongs to another certificate is moved behind this one.
#[test]
fn a_binding_of_another_key_binds_nothing() {
    if !has("gpg") {
        return;
    }
    let ring = Ring::new();
    let ann = ring.certifier("ann");
    let subkey = ring.subkey(&ann, "sign", "never");
    ring.key("mal", "ed25519", "never");
    let mut mal = SignedPublicKey::from_bytes(&ring.run(0, &["--export", "mal"])[..]).unwrap();
    let ann = SignedPublicKey::from_bytes(&ring.run(0, &["--export", "ann"])[..]).unwrap();
    mal.public_subkeys = ann.public_subkeys;
    let file = ring.path("mal.gpg");
    std::fs::write(&file, mal.to_bytes().unwrap()).unwrap();
    let signature = ring.sign(1, &[&format!("{subkey}!")], SUMS);
    let reason = refused(verify(&keys(&[file], &[]).unwrap(), &signature, 1, day(2)));
    assert!(reason.contains("signature by a subkey that is not bound to"), "{reason}");
}
