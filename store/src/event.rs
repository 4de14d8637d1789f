//! What happens in a network after a snapshot: one event a round, opaque to everybody but the program that applies it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest payload of an event, in bytes.
pub const EVENT_LEN_MAX: usize = 16 << 20;
/// Longest hash of a state, in bytes.
pub const STATE_HASH_LEN_MAX: usize = 64;

/// The BLAKE3 of an event's payload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventHash(pub [u8; 32]);

impl EventHash {
    /// The hash of a payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(*blake3::hash(payload).as_bytes())
    }

    /// Enough digits to tell it from others at a glance.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EventHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventHash({self})")
    }
}

impl FromStr for EventHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = unhex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| Error::Invalid {
            what: "hash of an event",
            given: text.chars().take(200).collect(),
            reason: "it is not 64 hexadecimal digits".to_owned(),
        })
    }
}

/// What a program says that its state hashes to: 1 to [`STATE_HASH_LEN_MAX`] bytes that mean nothing to anybody else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateHash(Box<[u8]>);

impl StateHash {
    /// A hash of these bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for none, or too many.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        if (1..=STATE_HASH_LEN_MAX).contains(&bytes.len()) {
            return Ok(Self(bytes.into()));
        }
        Err(Error::Invalid {
            what: "state hash",
            given: format!("{} bytes", bytes.len()),
            reason: format!("it has 1 to {STATE_HASH_LEN_MAX} bytes"),
        })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Enough digits to tell it from others at a glance.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(12).collect()
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

impl FromStr for StateHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = unhex(text.strip_prefix("0x").unwrap_or(text)).ok_or_else(|| Error::Invalid {
            what: "state hash",
            given: text.chars().take(200).collect(),
            reason: "it is not an even number of hexadecimal digits".to_owned(),
        })?;
        Self::new(&bytes)
    }
}

impl Serialize for StateHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StateHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What happened in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The round.
    pub round: u64,
    /// What the state hashes to after it, if its producer says so.
    pub state_hash: Option<StateHash>,
    /// What it is to the program that applies it; at most [`EVENT_LEN_MAX`] bytes.
    pub payload: Vec<u8>,
}

impl Event {
    /// What is told of it without its payload.
    #[must_use]
    pub fn head(&self) -> EventHead {
        EventHead {
            round: self.round,
            hash: EventHash::of(&self.payload),
            state_hash: self.state_hash.clone(),
        }
    }
}

/// An event without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHead {
    /// The round.
    pub round: u64,
    /// The hash of the payload.
    pub hash: EventHash,
    /// What the state hashes to after it, if its producer says so.
    pub state_hash: Option<StateHash>,
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * STATE_HASH_LEN_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_come_back_from_their_texts() {
        let hash = EventHash::of(b"x");
        assert_eq!(hash.to_string().parse::<EventHash>().unwrap(), hash);
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
            bad.parse::<EventHash>().unwrap_err();
        }
        for bytes in [vec![7], vec![0; 64]] {
            let hash = StateHash::new(&bytes).unwrap();
            assert_eq!(hash.to_string().parse::<StateHash>().unwrap(), hash);
            assert_eq!(format!("0x{hash}").parse::<StateHash>().unwrap(), hash);
        }
        for bad in ["", "0", "0x", "é", &"0".repeat(130)] {
            bad.parse::<StateHash>().unwrap_err();
        }
        StateHash::new(&[]).unwrap_err();
        StateHash::new(&[0; 65]).unwrap_err();
    }
}
