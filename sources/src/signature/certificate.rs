//! OpenPGP certificates: what a primary key says of itself, its names and its subkeys, judged at one moment.
//!
//! Everything that counts is signed by the primary key itself; what others signed about it is ignored. A statement that is
//! newer replaces an older one. The hash of such a statement may be SHA-1, as in many an old key: whoever could profit by two statements
//! with one hash would have to be the owner of the key. That of a file may not.

use std::time::{Duration, SystemTime};

use pgp::composed::SignedPublicKey;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicSubkey, Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{
    Duration as Seconds, KeyDetails, KeyVersion, PublicParams, RsaPublicParams, Tag, Timestamp,
};

use crate::signature::openpgp::SKEW;

/// Bits of an RSA key below which it does not count.
const RSA_BITS_MIN: u16 = 2048;

/// Characters of a name that are told.
const NAME_CHARS_MAX: usize = 100;

/// The certificates that are trusted, each once.
#[derive(Debug, Default)]
pub(super) struct Certificates(Vec<SignedPublicKey>);

/// The primary key of a certificate, or a subkey of it.
pub(super) struct Key<'a> {
    certificate: &'a SignedPublicKey,
    /// None: the primary key.
    subkey: Option<&'a PublicSubkey>,
}

impl Certificates {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one. Of a certificate that is there, what is new is added to it: a revocation counts in whichever file it
    /// is.
    pub(super) fn add(&mut self, new: SignedPublicKey) {
        let same = |old: &&mut SignedPublicKey| old.fingerprint() == new.fingerprint();
        let Some(old) = self.0.iter_mut().find(same) else { return self.0.push(new) };
        old.details.revocation_signatures.extend(new.details.revocation_signatures);
        old.details.direct_signatures.extend(new.details.direct_signatures);
        old.details.users.extend(new.details.users);
        old.public_subkeys.extend(new.public_subkeys);
    }

    /// The keys that a signature says to be made by, each once.
    pub(super) fn of(&self, signature: &Signature) -> Vec<Key<'_>> {
        let fingerprints = signature.issuer_fingerprint();
        let ids = signature.issuer_key_id();
        let is_issuer = |key: &dyn KeyDetails| {
            fingerprints.iter().any(|issuer| **issuer == key.fingerprint())
                || fingerprints.is_empty() && ids.iter().any(|issuer| **issuer == key.legacy_key_id())
        };
        let mut keys = Vec::new();
        for certificate in &self.0 {
            if is_issuer(&certificate.primary_key) {
                keys.push(Key { certificate, subkey: None });
            }
            let subkey = certificate.public_subkeys.iter().find(|subkey| is_issuer(&subkey.key));
            keys.extend(subkey.map(|subkey| Key { certificate, subkey: Some(&subkey.key) }));
        }
        keys
    }
}

impl Key<'_> {
    /// Of the primary key.
    pub(super) fn fingerprint(&self) -> String {
        format!("{:X}", self.certificate.fingerprint())
    }

    /// The name that the primary key signed last, as it can be shown.
    pub(super) fn name(&self, now: SystemTime) -> Option<String> {
        let statements = self.names(now);
        let primary = statements.iter().filter(|(_, statement)| statement.is_primary());
        let newest = primary.max_by_key(|(_, statement)| statement.created());
        let newest = newest.or_else(|| statements.iter().max_by_key(|(_, statement)| statement.created()));
        let name = String::from_utf8_lossy(newest?.0).into_owned();
        let name: String = name.chars().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
        Some(name.replace("\\'", "'").replace("\\\"", "\""))
    }

    /// Whether the key made this signature of `data`; else what is the matter, as in [`Key::check`].
    pub(super) fn check_bytes(&self, signature: &Signature, data: &[u8]) -> Result<(), &'static str> {
        use pgp::errors::Error::{Unimplemented, Unsupported};
        let verified = match self.subkey {
            Some(subkey) => signature.verify(subkey, data),
            None => signature.verify(&self.certificate.primary_key, data),
        };
        verified.map_err(|error| match error {
            Unimplemented { .. } | Unsupported { .. } => "signature of a kind that is not known here by",
            _ => "bad signature by",
        })
    }

    /// Whether what it signed counts at `now`; else why not, as the beginning of a line that ends with the key.
    pub(super) fn check(&self, signature: &Signature, now: SystemTime) -> Result<(), &'static str> {
        self.check_primary(now)?;
        let made = signature.created().map(time);
        let created = self.subkey.map_or(self.certificate.created_at(), KeyDetails::created_at);
        if made.is_none_or(|made| made < time(created)) {
            return Err("signature older than its key by");
        }
        match self.subkey {
            Some(subkey) => self.check_subkey(subkey, now),
            None => {
                let says =
                    self.says(now, |statement| has_flags(statement).then(|| statement.key_flags().sign()));
                // A key that says nothing of what it is for is for everything.
                if says.unwrap_or(true) { Ok(()) } else { Err("signature by a key that is not for signing:") }
            }
        }
    }

    fn check_primary(&self, now: SystemTime) -> Result<(), &'static str> {
        let primary = &self.certificate.primary_key;
        if !is_strong(primary) {
            return Err("signature by a weak key:");
        }
        let revocations = &self.certificate.details.revocation_signatures;
        if revocations.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
            return Err("revoked key");
        }
        if self.direct(now).is_empty() && self.names(now).is_empty() {
            return Err("signature by a key without a valid name or statement of its own:");
        }
        let lasts = self.says(now, Signature::key_expiration_time);
        if expiry(time(primary.created_at()), lasts).is_some_and(|end| end <= now) {
            return Err("expired key");
        }
        Ok(())
    }

    fn check_subkey(&self, subkey: &PublicSubkey, now: SystemTime) -> Result<(), &'static str> {
        let primary = &self.certificate.primary_key;
        if !is_strong(subkey) {
            return Err("signature by a weak subkey of");
        }
        let same = self.certificate.public_subkeys.iter().filter(|other| other.key == *subkey);
        let statements: Vec<&Signature> = same.flat_map(|subkey| &subkey.signatures).collect();
        let of_type = |typ| statements.iter().filter(move |statement| statement.typ() == Some(typ));
        let is_own = |statement: &&&Signature| statement.verify_subkey_binding(primary, subkey).is_ok();
        if of_type(SignatureType::SubkeyRevocation).any(|revocation| is_own(&revocation)) {
            return Err("signature by a revoked subkey of");
        }
        let bindings =
            of_type(SignatureType::SubkeyBinding).filter(|binding| holds(binding, now)).filter(is_own);
        let Some(binding) = bindings.max_by_key(|binding| binding.created()) else {
            return Err("signature by a subkey that is not bound to");
        };
        if !binding.key_flags().sign() {
            return Err("signature by a subkey that is not for signing of");
        }
        let back = binding.embedded_signature().filter(|back| holds(back, now));
        if back.is_none_or(|back| back.verify_primary_key_binding(subkey, primary).is_err()) {
            return Err("signature by a subkey that does not say to belong to");
        }
        if expiry(time(subkey.created_at()), binding.key_expiration_time()).is_some_and(|end| end <= now) {
            return Err("signature by an expired subkey of");
        }
        Ok(())
    }

    /// What the newest statement says that says anything: one about the key itself, else one about a name.
    fn says<T>(&self, now: SystemTime, read: impl Fn(&Signature) -> Option<T>) -> Option<T> {
        let mut direct = self.direct(now);
        direct.sort_by_key(|statement| std::cmp::Reverse(statement.created()));
        let mut names = self.names(now);
        names.sort_by_key(|(_, statement)| std::cmp::Reverse(statement.created()));
        // Of names only the newest: that it does not say when the key ends says that it does not.
        let of_names = names.first().and_then(|(_, statement)| read(statement));
        direct.into_iter().find_map(&read).or(of_names)
    }

    /// What the primary key says of itself.
    fn direct(&self, now: SystemTime) -> Vec<&Signature> {
        let primary = &self.certificate.primary_key;
        let statements = self.certificate.details.direct_signatures.iter();
        statements
            .filter(|statement| statement.typ() == Some(SignatureType::Key) && holds(statement, now))
            .filter(|statement| statement.verify_key(primary).is_ok())
            .collect()
    }

    /// What it says of each of its names, the newest of each; without those that it took back.
    fn names(&self, now: SystemTime) -> Vec<(&[u8], &Signature)> {
        let primary = &self.certificate.primary_key;
        let mut newest = std::collections::BTreeMap::<&[u8], &Signature>::new();
        for user in &self.certificate.details.users {
            let own = user.signatures.iter().filter(|statement| {
                holds(statement, now)
                    && statement.verify_certification(primary, Tag::UserId, &user.id).is_ok()
            });
            for statement in own {
                let kept = newest.entry(user.id.id()).or_insert(statement);
                let revokes = |statement: &Signature| statement.typ() == Some(SignatureType::CertRevocation);
                if (statement.created(), revokes(statement)) > (kept.created(), revokes(kept)) {
                    *kept = statement;
                }
            }
        }
        newest
            .into_iter()
            .filter(|(_, statement)| statement.typ() != Some(SignatureType::CertRevocation))
            .collect()
    }
}

/// Whether a statement of a key about itself is made, not over, and of a hash that nobody can make again.
fn holds(statement: &Signature, now: SystemTime) -> bool {
    let hash = matches!(
        statement.hash_alg(),
        Some(
            HashAlgorithm::Sha1
                | HashAlgorithm::Sha224
                | HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    );
    let Some(made) = statement.created().map(time) else { return false };
    let is_over = expiry(made, statement.signature_expiration_time()).is_some_and(|end| end <= now);
    hash && made <= now + SKEW && !is_over
}

fn has_flags(statement: &Signature) -> bool {
    let is_flags = |data: &SubpacketData| matches!(data, SubpacketData::KeyFlags(_));
    statement.config().is_some_and(|config| config.hashed_subpackets().any(|packet| is_flags(&packet.data)))
}

/// Whether a key is of a kind and length that nobody breaks.
fn is_strong(key: &impl KeyDetails) -> bool {
    if !matches!(key.version(), KeyVersion::V4 | KeyVersion::V6) {
        return false;
    }
    match key.public_params() {
        PublicParams::RSA(params) => rsa_bits(params) >= RSA_BITS_MIN,
        PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => true,
        _ => false,
    }
}

/// How long a modulus is: the first of two numbers, each behind its length in bits.
fn rsa_bits(params: &RsaPublicParams) -> u16 {
    let bytes = params.to_bytes().unwrap_or_default();
    bytes.first_chunk().map_or(0, |bits| u16::from_be_bytes(*bits))
}

pub(super) fn time(stamp: Timestamp) -> SystemTime {
    stamp.into()
}

/// When something ends that lasts so long; never where that is not said, or zero.
pub(super) fn expiry(from: SystemTime, lasts: Option<Seconds>) -> Option<SystemTime> {
    lasts
        .filter(|lasts| lasts.as_secs() > 0)
        .map(|lasts| from + Duration::from_secs(u64::from(lasts.as_secs())))
}
