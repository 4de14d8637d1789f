//! Typed identifiers. Every id is the BLAKE3 hash (32 bytes) of the bytes it names; the types keep a chunk from being
//! taken for an artifact. Text form: 64 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes in an id.
pub const ID_LEN: usize = 32;

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 64 hexadecimal digits")]
pub struct ParseIdError;

fn parse_hex(text: &str) -> Result<[u8; ID_LEN], ParseIdError> {
    let digits = text.as_bytes();
    if digits.len() != ID_LEN * 2 {
        return Err(ParseIdError);
    }
    let mut bytes = [0; ID_LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(ParseIdError),
        };
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

/// The text form. Listings are full of ids, and `{:02x}` for each byte takes ten times as long.
fn hex(bytes: &[u8; ID_LEN]) -> [u8; ID_LEN * 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; ID_LEN * 2];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; ID_LEN]);

        impl $name {
            /// The id of `bytes`.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// The first 12 hexadecimal digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                String::from_utf8_lossy(&hex(&self.0)[..12]).into_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&hex(&self.0)).expect("digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

id_type!(
    /// A chunk: a run of a file's bytes, or the bytes of one metadata object.
    ChunkId
);
id_type!(
    /// The root node of a directory's canonical encoding.
    TreeId
);
id_type!(
    /// The root node of a long file's list of chunks.
    ContentId
);
id_type!(
    /// An artifact's canonical bytes.
    ArtifactId
);
id_type!(
    /// A sealed pack: the hash of its footer.
    PackId
);

/// Metadata objects are stored as chunks of metadata packs: their ids are chunk ids to the pack and the index.
macro_rules! object_id {
    ($($name:ident),*) => {$(
        impl From<$name> for ChunkId {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }
    )*};
}
object_id!(TreeId, ContentId, ArtifactId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_rejects_everything_else() {
        let id = ChunkId::of(b"cairn");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "abc", &"G".repeat(64), &"A".repeat(64), &"0".repeat(65)] {
            assert_eq!(bad.parse::<ChunkId>(), Err(ParseIdError), "{bad}");
        }
    }
}
