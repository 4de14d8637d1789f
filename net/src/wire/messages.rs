//! The JSON messages. Whatever they name is valid once it is decoded: names, versions and ids check themselves.

use std::fmt;
use std::str::FromStr;

use cairn_store::{ArtifactId, Channel, ChunkId, Name, Platform, Version};
use cairn_trust::Envelope;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An id in a JSON message: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HexId<T>(pub T);

impl<T: fmt::Display> Serialize for HexId<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for HexId<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// `GET /v1/peer`: who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAnswer {
    /// `cairn`.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Version of the protocol.
    pub protocol: u32,
}

/// `GET /v1/refs` and `GET /v1/refs/{name}`: what is published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RefList {
    /// By name, version and platform.
    pub refs: Vec<RemoteRef>,
}

/// A ref as a list has it. It is a claim: a pull takes the signed statement, not this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRef {
    /// The package or snapshot series.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// What it runs on.
    pub platform: Platform,
    /// What it is.
    pub artifact: HexId<ArtifactId>,
    /// Files in it.
    pub files: u64,
    /// Bytes in its files.
    pub bytes: u64,
    /// Chunks that its files refer to, repeats counted.
    pub chunks: u64,
    /// Channels that name this version for this platform.
    #[serde(default)]
    pub channels: Vec<Channel>,
}

/// `GET /v1/refs/{name}/{version or channel}`, and the body of `PUT /v1/refs/{name}/{version}`: what is stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefAnswer {
    /// The statement of the ref, in its envelope.
    #[serde(rename = "ref")]
    pub reference: Envelope,
    /// The statement of the channel, if one was asked for or is to move.
    #[serde(default)]
    pub channel: Option<Envelope>,
}

/// `POST /v1/upload`: what was new of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// Chunks and objects that were not there before.
    pub kept: u64,
    /// Their plain bytes.
    #[serde(default)]
    pub plain_bytes: u64,
    /// What they take in packs, in bytes.
    #[serde(default)]
    pub stored_bytes: u64,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: Failure,
    /// The oldest round that a stream keeps, where the answer is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_round: Option<u64>,
    /// The round that it takes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_round: Option<u64>,
}

/// What went wrong, as a peer says it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure: `not_found`, `gone`, `incomplete`, `refused`, `busy`, `conflict`, `usage`, `failed`.
    pub kind: String,
    /// What went wrong, for people.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub hint: Option<String>,
    /// Chunks and objects that lack, at most [`MISSING_MAX`](Self::MISSING_MAX): with `incomplete`, and the ids that are
    /// unknown with `not_found`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<HexId<ChunkId>>,
}

impl Failure {
    /// Ids that a failure names, at most.
    pub const MISSING_MAX: usize = 64;
}
