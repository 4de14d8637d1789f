//! What one store says of a name, as exact bytes that can be signed: a ref names this artifact, a channel this version.
//!
//! A statement names the store where the name was published first (its [`Origin`]) and the sequence number of the change
//! there. Of two statements of one origin about one subject, the later number is the later word; whoever keeps the last
//! one that it saw can tell when it is shown an older one again. Stores pass statements on as they got them.
//!
//! Invariants: one value has one encoding, and decoding refuses every other. docs/format.md has the bytes.

use std::fmt;

use cairn_trust::Envelope;
use serde::{Deserialize, Serialize};

use super::{ChannelKey, RefKey, Version};
use crate::cursor::{Cursor, Defect};
use crate::error::{Error, Result};
use crate::id::ArtifactId;

const MAGIC: [u8; 4] = *b"CREF";
const VERSION: u8 = 1;
/// Longest statement, in bytes. The longest that its parts allow has fewer.
const LEN_MAX: usize = 1024;

/// Names the store where a name was published first: 16 random bytes, drawn once in a store's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin(pub [u8; 16]);

impl Origin {
    /// A name that no other store has.
    pub(crate) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// What a store says of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefStatement {
    /// The store where the name was published first.
    pub origin: Origin,
    /// Number of the change in that store's journal. Later words have higher ones.
    pub seq: u64,
    /// When it was published there, in milliseconds since 1970.
    pub time_ms: u64,
    /// What is said, and of which name.
    pub subject: Subject,
}

/// A name, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// A version is this artifact.
    Ref {
        /// The ref.
        key: RefKey,
        /// What it names.
        artifact: ArtifactId,
    },
    /// A channel points to this version, which is this artifact.
    Channel {
        /// The channel.
        key: ChannelKey,
        /// The version that it names.
        version: Version,
        /// What that version is.
        artifact: ArtifactId,
    },
}

impl Subject {
    /// The name that is spoken of.
    #[must_use]
    pub fn name(&self) -> SubjectName {
        match self {
            Self::Ref { key, .. } => SubjectName::Ref(key.clone()),
            Self::Channel { key, .. } => SubjectName::Channel(key.clone()),
        }
    }

    /// The artifact that the name leads to.
    #[must_use]
    pub fn artifact(&self) -> ArtifactId {
        match self {
            Self::Ref { artifact, .. } | Self::Channel { artifact, .. } => *artifact,
        }
    }
}

/// The name that a statement speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectName {
    /// A ref.
    Ref(RefKey),
    /// A channel.
    Channel(ChannelKey),
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref(key) => fmt::Display::fmt(key, f),
            Self::Channel(key) => write!(f, "channel {key}"),
        }
    }
}

impl RefStatement {
    /// What kind of payload a statement is in an envelope.
    pub const PAYLOAD_TYPE: &str = "application/vnd.cairn.ref";

    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        postcard::to_extend(self, bytes).expect("memory takes everything and every length is known")
    }

    /// The statement that these bytes are the canonical encoding of.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is none, [`Error::NewerFormat`] for a later format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::try_decode(bytes).map_err(|defect| match defect {
            Defect::Malformed(detail) => Error::damaged("statement of a ref", detail),
            Defect::Newer { found, supported } => {
                Error::NewerFormat { path: "statement of a ref".into(), found, supported }
            }
        })
    }

    fn try_decode(bytes: &[u8]) -> Result<Self, Defect> {
        if bytes.len() > LEN_MAX {
            return Err(Defect::new("longer than 1,024 bytes"));
        }
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(Defect::new("does not begin with its magic"));
        }
        match cursor.u8()? {
            VERSION => {}
            0 => return Err(Defect::new("format version 0")),
            found => return Err(Defect::Newer { found: found.into(), supported: VERSION.into() }),
        }
        let statement: Self = postcard::from_bytes(cursor.take(cursor.left())?)
            .map_err(|error| Defect::new(format!("its fields do not decode: {error}")))?;
        if statement.seq == 0 {
            return Err(Defect::new("no change has number 0"));
        }
        if statement.encode() != bytes {
            return Err(Defect::new("not its canonical encoding"));
        }
        Ok(statement)
    }

    /// The statement in an envelope. Its signatures are not looked at.
    ///
    /// # Errors
    /// As [`RefStatement::decode`]; [`Error::Damaged`] for an envelope of something else.
    pub fn of(envelope: &Envelope) -> Result<Self> {
        if envelope.payload_type != Self::PAYLOAD_TYPE {
            let detail = format!("the envelope holds {:?}", envelope.payload_type);
            return Err(Error::damaged("statement of a ref", detail));
        }
        Self::decode(&envelope.payload)
    }

    /// The statement in an envelope that nobody has signed.
    #[must_use]
    pub fn to_envelope(&self) -> Envelope {
        Envelope::unsigned(Self::PAYLOAD_TYPE, self.encode())
            .expect("a statement is within an envelope's limits")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> RefKey {
        RefKey {
            name: "uv".parse().unwrap(),
            version: "0.13.1".parse().unwrap(),
            platform: "linux/x86_64".parse().unwrap(),
        }
    }

    fn samples() -> [RefStatement; 2] {
        let artifact = ArtifactId([7; 32]);
        let channel = ChannelKey {
            name: "uv".parse().unwrap(),
            channel: "stable".parse().unwrap(),
            platform: "linux/x86_64".parse().unwrap(),
        };
        [
            Subject::Ref { key: key(), artifact },
            Subject::Channel { key: channel, version: key().version, artifact },
        ]
        .map(|subject| RefStatement {
            origin: Origin([9; 16]),
            seq: 300,
            time_ms: 1_763_700_000_000,
            subject,
        })
    }

    #[test]
    fn statements_come_back_bare_and_in_envelopes() {
        for statement in samples() {
            assert_eq!(RefStatement::decode(&statement.encode()).unwrap(), statement);
            let envelope = statement.to_envelope();
            assert_eq!(RefStatement::of(&envelope).unwrap(), statement);
            let text = envelope.to_json();
            assert_eq!(Envelope::from_json(text.as_bytes()).unwrap(), envelope);
            let other = Envelope { payload_type: "text/plain".to_owned(), ..envelope };
            assert!(matches!(RefStatement::of(&other), Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn the_longest_parts_fit() {
        let key = RefKey {
            name: "n".repeat(64).parse().unwrap(),
            version: "v".repeat(128).parse().unwrap(),
            platform: format!("{}/{}", "o".repeat(32), "a".repeat(32)).parse().unwrap(),
        };
        let channel = ChannelKey {
            name: key.name.clone(),
            channel: "c".repeat(64).parse().unwrap(),
            platform: key.platform.clone(),
        };
        let subject =
            Subject::Channel { key: channel, version: key.version, artifact: ArtifactId([0xff; 32]) };
        let longest = RefStatement { origin: Origin([0xff; 16]), seq: u64::MAX, time_ms: u64::MAX, subject };
        assert!(longest.encode().len() <= LEN_MAX);
        assert_eq!(RefStatement::of(&longest.to_envelope()).unwrap(), longest);
    }

    #[test]
    fn other_bytes_for_the_same_statement_are_refused() {
        for statement in samples() {
            let bytes = statement.encode();
            let mut longer = bytes.clone();
            longer.push(0);
            // The subject's kind as a varint of two bytes.
            let at = 5 + 16 + 2 + 6;
            let mut padded = bytes.clone();
            padded.splice(at..=at, [bytes[at] | 0x80, 0]);
            let zero = RefStatement { seq: 0, ..statement }.encode();
            for bytes in [longer, padded, zero, Vec::new(), vec![0; 2000]] {
                assert!(matches!(RefStatement::decode(&bytes), Err(Error::Damaged { .. })));
            }
            for cut in 0..bytes.len() {
                assert!(matches!(RefStatement::decode(&bytes[..cut]), Err(Error::Damaged { .. })), "{cut}");
            }
            let mut newer = bytes;
            newer[4] = 2;
            let error = RefStatement::decode(&newer).unwrap_err();
            assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1, .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn mutated_bytes_are_another_statement_or_none(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            for statement in samples() {
                let mut bytes = statement.encode();
                for (at, byte) in &edits {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                if let Some(cut) = &cut {
                    bytes.truncate(cut.index(bytes.len() + 1));
                }
                if let Ok(decoded) = RefStatement::decode(&bytes) {
                    prop_assert_eq!(decoded == statement, bytes == statement.encode());
                    prop_assert_eq!(decoded.encode(), bytes);
                }
            }
        }

        #[test]
        fn noise_is_refused_without_a_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = b"CREF\x01".to_vec();
            bytes.extend(noise);
            if let Ok(decoded) = RefStatement::decode(&bytes) {
                prop_assert_eq!(decoded.encode(), bytes);
            }
        }
    }
}
