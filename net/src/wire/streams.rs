//! The JSON messages about streams and snapshots. What a peer says in them is a claim; a snapshot's statement and its
//! artifact are what is believed.

use cairn_store::{ArtifactId, Name, StateHash};
use cairn_trust::Envelope;
use serde::{Deserialize, Serialize};

use super::HexId;

/// `GET /v1/streams`: the streams of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamList {
    /// By name.
    pub streams: Vec<StreamAnswer>,
}

/// `GET /v1/streams/{name}?span=1`, and one of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAnswer {
    /// The stream.
    pub name: Name,
    /// The oldest round that is kept.
    pub first_round: u64,
    /// The round after the newest.
    pub next_round: u64,
    /// Bytes that it takes there.
    pub bytes: u64,
}

/// `POST /v1/streams/{name}/events`: what was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendAnswer {
    /// Events that were not there before.
    pub appended: u64,
    /// The round that comes next.
    pub next_round: u64,
}

/// `GET /v1/snapshots`: the names of which there are snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeriesList {
    /// By name.
    pub snapshots: Vec<RemoteSeries>,
}

/// The snapshots of one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteSeries {
    /// The name.
    pub name: Name,
    /// How many there are.
    pub rounds: u64,
    /// The newest round.
    pub latest: u64,
}

/// `GET /v1/snapshots/{name}`: its snapshots that are wholly there, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotList {
    /// The name.
    pub name: Name,
    /// At most 1,000.
    pub snapshots: Vec<RemoteSnapshot>,
}

/// A snapshot as a peer tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteSnapshot {
    /// The name, where one is told of by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The round after which the state was like that.
    pub round: u64,
    /// What it is.
    pub artifact: HexId<ArtifactId>,
    /// What whoever made it says that the state hashes to.
    #[serde(default)]
    pub state_hash: Option<StateHash>,
    /// Files in it.
    pub files: u64,
    /// Bytes in its files.
    pub bytes: u64,
    /// Chunks that its files refer to, repeats counted.
    pub chunks: u64,
    /// When it was named there, in milliseconds since 1970.
    pub time_ms: u64,
}

/// `GET /v1/snapshots/{name}/latest` and `/{round}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAnswer {
    /// What it is.
    pub snapshot: RemoteSnapshot,
    /// The statement of its ref, in its envelope.
    #[serde(rename = "ref")]
    pub reference: Envelope,
    /// The statement of the channel `latest`, if it leads there.
    #[serde(default)]
    pub channel: Option<Envelope>,
}
