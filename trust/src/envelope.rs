//! The envelope in which statements travel: DSSE (Dead Simple Signing Envelope, version 1.0.2 of
//! <https://github.com/secure-systems-lab/dsse>).
//!
//! An envelope carries exact bytes, what kind they are of, and any number of signatures, none included. What is signed is
//! [`Envelope::pae`], so the text form may change its white space on the way without any signature noticing.
//!
//! Invariants:
//! - [`Envelope::from_json`] and serde accept no envelope that is past the limits below, so what was decoded can be
//!   encoded, and passed on as it is;
//! - a field that is not known, one that is there twice, and base64 that is not canonical are refused: two decoders never
//!   see different things in one envelope;
//! - of an envelope's values there is one text, that of [`Envelope::to_json`].
//!
//! serde gives that form where the format is for people (JSON), and the bytes as they are where it is not.

mod base64_bytes;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest payload, in bytes.
pub const PAYLOAD_LEN_MAX: usize = 16 << 10;
/// Longest name of a payload's type, in bytes.
pub const PAYLOAD_TYPE_LEN_MAX: usize = 128;
/// Signatures, at most.
pub const SIGNATURES_MAX: usize = 16;
/// Longest key id, in bytes.
pub const KEYID_LEN_MAX: usize = 256;
/// Longest signature, in bytes: post-quantum ones of several thousand bytes fit.
pub const SIGNATURE_LEN_MAX: usize = 8 << 10;
/// Longest text form that is looked at, in bytes: the longest envelope with room for white space.
pub const JSON_LEN_MAX: usize = 256 << 10;

/// Why something is no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the text form of an envelope.
    #[error("it is not the JSON of an envelope")]
    Json(#[source] serde_json::Error),
    /// Past a limit.
    #[error("{what} has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length.
        len: usize,
        /// What would do.
        max: usize,
    },
    /// Without a type, nobody knows what the payload says.
    #[error("its payload type is empty")]
    NoType,
    /// More than [`SIGNATURES_MAX`].
    #[error("it has {0} signatures; at most 16 are allowed")]
    TooManySignatures(usize),
    /// The same key signs twice.
    #[error("key {0:?} signs it twice")]
    RepeatedKey(String),
    /// A signature without bytes.
    #[error("a signature is empty")]
    EmptySignature,
}

/// One signature over [`Envelope::pae`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Which key made it, in the words of whoever checks it.
    pub keyid: String,
    /// The signature.
    #[serde(with = "base64_bytes")]
    pub sig: Vec<u8>,
}

/// Exact bytes with their signatures. Nothing here says that any signature holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Envelope {
    /// What the payload is, a media type.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// What is stated.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
    /// Who vouches for it.
    pub signatures: Vec<Signature>,
}

/// An envelope whose limits are to be checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(rename = "payloadType")]
    payload_type: String,
    #[serde(with = "base64_bytes")]
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

impl TryFrom<Fields> for Envelope {
    type Error = EnvelopeError;

    fn try_from(fields: Fields) -> Result<Self, EnvelopeError> {
        let Fields { payload_type, payload, signatures } = fields;
        let envelope = Self { payload_type, payload, signatures };
        envelope.check()?;
        Ok(envelope)
    }
}

impl Envelope {
    /// An envelope that nobody has signed.
    ///
    /// # Errors
    /// [`EnvelopeError`] where type or payload are past the limits.
    pub fn unsigned(payload_type: &str, payload: Vec<u8>) -> Result<Self, EnvelopeError> {
        let envelope = Self { payload_type: payload_type.to_owned(), payload, signatures: Vec::new() };
        envelope.check()?;
        Ok(envelope)
    }

    /// The bytes that signatures are made over: DSSE's pre-authentication encoding.
    #[must_use]
    pub fn pae(&self) -> Vec<u8> {
        let (kind, body) = (self.payload_type.as_bytes(), &self.payload);
        let mut bytes = Vec::with_capacity(48 + kind.len() + body.len());
        bytes.extend_from_slice(format!("DSSEv1 {} ", kind.len()).as_bytes());
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(format!(" {} ", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// The text form, without white space.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and bytes are always JSON")
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`EnvelopeError`] for anything but exactly one envelope within the limits.
    pub fn from_json(text: &[u8]) -> Result<Self, EnvelopeError> {
        bounded("an envelope", text.len(), JSON_LEN_MAX)?;
        serde_json::from_slice(text).map_err(EnvelopeError::Json)
    }

    /// Whether all parts are within the limits: who makes an envelope by hand has to ask.
    ///
    /// # Errors
    /// [`EnvelopeError`] with the first that is not.
    pub fn check(&self) -> Result<(), EnvelopeError> {
        bounded("its payload type", self.payload_type.len(), PAYLOAD_TYPE_LEN_MAX)?;
        bounded("its payload", self.payload.len(), PAYLOAD_LEN_MAX)?;
        if self.payload_type.is_empty() {
            return Err(EnvelopeError::NoType);
        }
        if self.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::TooManySignatures(self.signatures.len()));
        }
        for (number, Signature { keyid, sig }) in self.signatures.iter().enumerate() {
            bounded("a key id", keyid.len(), KEYID_LEN_MAX)?;
            bounded("a signature", sig.len(), SIGNATURE_LEN_MAX)?;
            if sig.is_empty() {
                return Err(EnvelopeError::EmptySignature);
            }
            if self.signatures[..number].iter().any(|earlier| earlier.keyid == *keyid) {
                return Err(EnvelopeError::RepeatedKey(keyid.clone()));
            }
        }
        Ok(())
    }
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), EnvelopeError> {
    if len > max { Err(EnvelopeError::TooLong { what, len, max }) } else { Ok(()) }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.signatures.iter().map(|signature| &*signature.keyid).collect();
        f.debug_struct("Envelope")
            .field("payload_type", &self.payload_type)
            .field("payload_len", &self.payload.len())
            .field("signed_by", &keys)
            .finish()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature").field("keyid", &self.keyid).field("sig_len", &self.sig.len()).finish()
    }
}

#[cfg(test)]
mod tests;
