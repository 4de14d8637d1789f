//! Who signed some bytes, and whether that is enough: OpenPGP and minisign.
//!
//! The keys that are trusted are those that the configuration names, and no others: no key is fetched, no key ring of the user is
//! looked at, and no key vouches for another. Whoever calls says how many of them have to have signed. A signer counts once, whatever
//! subkey signed and how often.
//!
//! What does not count, and why, is told line by line: a signature that is bad, made with a broken hash, expired or of the future; a
//! key that is unknown, expired, revoked, not for signing, or not bound to its primary key. A bad signature keeps no good one from
//! counting, or anybody could undo a release by adding one.
//!
//! - A certificate is judged as it is at `now`, not as it was when it signed: what a key signed before it expired or was
//!   revoked does not count any more.
//! - Revocations that another key was to make (designated revokers) are not followed.
//! - The time in a minisign signature is a comment of its maker, and not looked at.
//!
//! Nothing here reads a clock or a network.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::SystemTime;

use crate::config::Signatures;
use crate::error::{Error, Result};

mod armor;
mod certificate;
mod cleartext;
mod keyfile;
mod minisign;
mod openpgp;

use certificate::Certificates;

/// Signatures that are looked at of one file.
const SIGNATURES_MAX: usize = 256;

/// Bytes of a file of signatures, or of signed text.
const SIGNATURE_BYTES_MAX: usize = 4 << 20;

/// Keys that are trusted.
#[derive(Debug, Default)]
pub struct Keys {
    openpgp: Certificates,
    minisign: Vec<minisign::Key>,
}

/// Who signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers {
    /// Those that count, each once, by fingerprint.
    pub valid: Vec<Signer>,
    /// Why other signatures do not, one line each: `unknown key 9F…`.
    pub others: Vec<String>,
}

/// A trusted key that signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// Of the primary key, in upper-case hexadecimal digits; of minisign, the key's id.
    pub fingerprint: String,
    /// Whose key it says to be.
    pub name: Option<String>,
}

/// What is known of the signatures of a file while they are looked at.
#[derive(Debug, Default)]
struct Tally {
    valid: BTreeMap<String, Option<String>>,
    others: Vec<String>,
}

impl Keys {
    /// Reads the keys that the configuration names: OpenPGP certificates, armored or binary, and public keys of minisign, several
    /// a file or not.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`Error::Usage`] for one that has no key or a secret one, for
    /// a text that is no key of minisign, and if fewer keys are named than have to sign.
    pub fn read(signatures: &Signatures) -> Result<Self> {
        let mut keys = Self::default();
        for path in &signatures.key_files {
            keyfile::read(path, &mut keys)?;
        }
        for text in &signatures.minisign_keys {
            keys.minisign.extend(minisign::parse_keys(text).map_err(|problem| Error::Usage {
                problem: format!("{text:?} is no public key of minisign: {problem}"),
                hint: "it is the second line of the .pub file, and begins with RW".to_owned(),
            })?);
        }
        keys.minisign.sort();
        keys.minisign.dedup();
        let (known, required) = (keys.len(), signatures.required.get());
        if known < required {
            return Err(Error::Usage {
                problem: format!("{required} signatures are required, and {known} keys are trusted"),
                hint: "name more key files, or require fewer signatures".to_owned(),
            });
        }
        Ok(keys)
    }

    /// How many there are, a primary key with its subkeys as one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.openpgp.len() + self.minisign.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The text that a file carries within its own signature (`-----BEGIN PGP SIGNED MESSAGE-----`), as it was signed but for the ends
/// of its lines, which are `\n`; nothing where it is no such file. It is not verified: give it to [`verify`] as `data`,
/// the file as `signature`.
///
/// # Errors
/// [`Error::Untrusted`] if it begins like one and is not one, or has something in front of or behind it.
pub fn signed_text(file: &[u8], what: &str) -> Result<Option<Vec<u8>>> {
    match cleartext::split(file) {
        Ok(None) => Ok(None),
        Ok(Some(message)) => Ok(Some(message.text)),
        Err(problem) => Err(unreadable(what, problem)),
    }
}

/// Says who signed `data`, if as many trusted keys did as are `required`.
///
/// `signature` is of OpenPGP, detached, armored or binary, with any number of signatures and blocks of armor; or a text with its
/// signature, whose text has to be `data` ([`signed_text`]); or of minisign. `what` is what it is called.
///
/// # Errors
/// [`Error::Untrusted`] if they are too few, or if it is no signature.
pub fn verify(
    keys: &Keys,
    data: &[u8],
    signature: &[u8],
    required: NonZero<usize>,
    now: SystemTime,
    what: &str,
) -> Result<Signers> {
    if signature.len() > SIGNATURE_BYTES_MAX {
        return Err(unreadable(what, format!("it is longer than {SIGNATURE_BYTES_MAX} bytes")));
    }
    let mut tally = Tally::default();
    if minisign::is_signature(signature) {
        minisign::verify(&keys.minisign, data, signature, &mut tally);
    } else if let Some(message) = cleartext::split(signature).map_err(|problem| unreadable(what, problem))? {
        if !cleartext::is_same_text(data, &message.text) {
            return Err(unreadable(what, "it signs another text".to_owned()));
        }
        openpgp::verify(&keys.openpgp, &message.signed, message.signatures, now, &mut tally);
    } else {
        openpgp::verify(&keys.openpgp, data, signature, now, &mut tally);
    }
    tally.decide(required.get(), keys.len(), what)
}

impl Tally {
    /// A trusted key signed.
    fn count(&mut self, fingerprint: String, name: Option<String>) {
        self.valid.insert(fingerprint, name);
    }

    /// A signature does not count.
    fn dismiss(&mut self, line: String) {
        if !self.others.contains(&line) {
            self.others.push(line);
        }
    }

    fn decide(self, required: usize, known: usize, what: &str) -> Result<Signers> {
        let Self { valid, others } = self;
        let valid: Vec<Signer> =
            valid.into_iter().map(|(fingerprint, name)| Signer { fingerprint, name }).collect();
        if valid.len() >= required {
            return Ok(Signers { valid, others });
        }
        let mut reason = format!("{} of {required} needed signatures", valid.len());
        if others.is_empty() && valid.is_empty() {
            reason += ": it holds none";
        } else if !others.is_empty() {
            reason = format!("{reason}: {}", others.join("; "));
        }
        let hint = hint(&others, known);
        Err(Error::Untrusted { what: what.to_owned(), reason, hint })
    }
}

impl Signer {
    /// For a line about it.
    fn label(fingerprint: &str, name: Option<&str>) -> String {
        match name {
            Some(name) => format!("{fingerprint} ({name})"),
            None => fingerprint.to_owned(),
        }
    }
}

/// What somebody can do about signatures that do not count.
fn hint(others: &[String], known: usize) -> String {
    let any = |word: &str| others.iter().any(|line| line.contains(word));
    if any("bad signature") {
        "what came is not what was signed: do not use it before its makers have said why".to_owned()
    } else if any("expired key") || any("expired subkey") {
        "the files of keys may have a key as it was before it was prolonged: bring it anew from its owner"
            .to_owned()
    } else if any("unknown key") {
        format!("{known} keys are trusted; if you trust one of the others, add it to the files of keys")
    } else {
        format!("{known} keys are trusted; see whether the release has more signatures elsewhere")
    }
}

fn unreadable(what: &str, reason: String) -> Error {
    let hint = "it is not a signature as OpenPGP or minisign make them".to_owned();
    Error::Untrusted { what: what.to_owned(), reason, hint }
}
