//! Signatures of OpenPGP: each one looked at by itself, and held against the certificates.

use std::time::{Duration, SystemTime};

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, Signature, SignatureType, SignatureVersion};
use pgp::types::{Fingerprint, KeyId};

use crate::signature::certificate::{Certificates, expiry, time};
use crate::signature::{SIGNATURES_MAX, Signer, Tally, armor};

/// How far a clock may be behind that of a signer.
pub(super) const SKEW: Duration = Duration::from_secs(15 * 60);

/// Counts who of `keys` signed `data`.
pub(super) fn verify(keys: &Certificates, data: &[u8], file: &[u8], now: SystemTime, tally: &mut Tally) {
    let mut count = 0;
    for block in armor::blocks(file) {
        let block = match block {
            Ok(block) => block,
            Err(problem) => {
                tally.dismiss(format!("what cannot be read: {problem}"));
                continue;
            }
        };
        for packet in armor::packets(&block.bytes) {
            count += 1;
            if count > SIGNATURES_MAX {
                return tally.dismiss(format!("signatures past the first {SIGNATURES_MAX}"));
            }
            match packet {
                Ok(Packet::Signature(signature)) => verify_one(keys, data, &signature, now, tally),
                Ok(Packet::Marker(_) | Packet::Padding(_)) => {}
                Ok(_) => tally.dismiss("something that is no signature".to_owned()),
                Err(_) => {
                    tally.dismiss("a damaged signature".to_owned());
                    break;
                }
            }
        }
    }
}

fn verify_one(keys: &Certificates, data: &[u8], signature: &Signature, now: SystemTime, tally: &mut Tally) {
    let Some(issuer) = issuer(signature) else {
        return tally.dismiss("a signature that does not say whose it is".to_owned());
    };
    let known = keys.of(signature);
    if known.is_empty() {
        return tally.dismiss(format!("unknown key {issuer}"));
    }
    // Two certificates may claim one subkey; the one that is right about it can say so.
    let mut problem = None;
    for key in known {
        let found = key.check_bytes(signature, data).and_then(|()| match fault(signature, now) {
            Some(fault) => Err(fault),
            None => key.check(signature, now),
        });
        let (fingerprint, name) = (key.fingerprint(), key.name(now));
        match found {
            Ok(()) => return tally.count(fingerprint, name),
            Err(found) => problem = Some(format!("{found} {}", Signer::label(&fingerprint, name.as_deref()))),
        }
    }
    if let Some(problem) = problem {
        tally.dismiss(problem);
    }
}

/// What keeps a signature from counting, whoever made it.
fn fault(signature: &Signature, now: SystemTime) -> Option<&'static str> {
    let is_current = matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6);
    let Some(made) = signature.created().map(time) else {
        return Some("undated signature by");
    };
    if !is_current {
        Some("signature of an obsolete version by")
    } else if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        Some("signature that is for something else than a file by")
    } else if !is_strong(signature) {
        Some("signature with a weak hash by")
    } else if made > now + SKEW {
        Some("signature of the future by")
    } else if expiry(made, signature.signature_expiration_time()).is_some_and(|end| end <= now) {
        Some("expired signature by")
    } else {
        None
    }
}

/// Whether nobody can make two files with the same hash.
fn is_strong(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

/// Which key says to have signed.
fn issuer(signature: &Signature) -> Option<String> {
    let fingerprint =
        signature.issuer_fingerprint().first().map(|issuer: &&Fingerprint| format!("{issuer:X}"));
    fingerprint.or_else(|| {
        signature.issuer_key_id().first().map(|issuer: &&KeyId| issuer.to_string().to_uppercase())
    })
}
