//! How a transfer tells how far it is, and what it came to.

use std::sync::Arc;
use std::time::Duration;

use cairn_store::{ArtifactId, HoldGuard, Progress, RefKey};
use serde::{Serialize, Serializer};

use crate::address::{PeerUrl, Source};
use crate::transfer::{DeltaReport, DeltaUse, HealReport, Unsound};
use crate::wire::HexId;

/// What the caller of a transfer gives it. Called often, from the caller's own thread: keep it cheap.
pub trait Watch: Sync {
    /// Bytes came from a peer. Adds to earlier calls.
    fn received(&self, peer: &PeerUrl, bytes: u64) {
        let _ = (peer, bytes);
    }

    /// Chunks were verified and kept: so many plain bytes. Adds to earlier calls.
    fn kept(&self, plain_bytes: u64, chunks: u64) {
        let _ = (plain_bytes, chunks);
    }

    /// A peer is not asked any more.
    fn dropped(&self, peer: &PeerUrl, why: &str) {
        let _ = (peer, why);
    }

    /// Whether to stop. What was kept stays.
    fn cancelled(&self) -> bool {
        false
    }
}

impl Watch for () {}

/// Work of which nobody is told, and that stops when the transfer is to.
pub(crate) struct Cancelling<'a>(pub(crate) &'a dyn Watch);

impl Progress for Cancelling<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

/// What is to come, before it does. What leads to the artifact's files is here already.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The wanted artifact.
    #[serde(serialize_with = "as_text")]
    pub artifact: ArtifactId,
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub key: RefKey,
    /// The artifact that is held and that it was compared with.
    #[serde(serialize_with = "as_hex")]
    pub have: Option<ArtifactId>,
    /// Metadata objects that came.
    pub objects: u64,
    /// Their plain bytes.
    pub object_bytes: u64,
    /// Chunks to come.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// About what they come to on the wire, in bytes.
    pub stored_bytes: u64,
    /// Bytes of the artifact's files.
    pub total_bytes: u64,
    /// Bytes of the artifact's files that need not come.
    pub saved_bytes: u64,
    /// Who has it.
    pub peers: Vec<PeerUrl>,
    /// Who does not take part, and why.
    pub dropped: Vec<PeerReport>,
    /// Whether it may come as a delta.
    #[serde(skip)]
    pub deltas: DeltaUse,
    #[serde(skip)]
    pub(crate) sources: Vec<Source>,
    /// Who may have some of it by now.
    #[serde(skip)]
    pub(crate) partial: Vec<Source>,
    #[serde(skip)]
    pub(crate) totals: Totals,
    /// A version that was to be compared with, and is damaged here.
    #[serde(skip)]
    pub(crate) unsound: Option<Unsound>,
    /// What is counted on stays here until this is over, whatever becomes of its names.
    #[serde(skip)]
    pub(crate) _holds: Arc<[HoldGuard]>,
}

impl Plan {
    /// Asks these for chunks too. They need not have the artifact: who is getting it himself gives on what he has got, and
    /// is asked again for what he had not.
    pub fn also_ask(&mut self, sources: impl IntoIterator<Item = Source>) {
        for source in sources {
            let is_known = |known: &Source| known.url == source.url;
            let is_dropped = self.dropped.iter().any(|report| report.url == source.url && report.lied);
            if !is_dropped && !self.sources.iter().any(is_known) && !self.partial.iter().any(is_known) {
                self.partial.push(source);
            }
        }
    }
}

fn as_text<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_hex<S: Serializer>(id: &Option<ArtifactId>, serializer: S) -> Result<S::Ok, S::Error> {
    id.map(HexId).serialize(serializer)
}

/// What went over the wire so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) round_trips: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.received += other.received;
        self.sent += other.sent;
        self.round_trips += other.round_trips;
    }
}

/// What a transfer came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Each peer that was asked, in the order given.
    pub peers: Vec<PeerReport>,
    /// Requests that were answered, with those that found and planned it.
    pub round_trips: u64,
    /// Bytes that came, with heads of answers and what found and planned it.
    pub wire_bytes: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Chunks that came and were new.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// What they take in packs, in bytes.
    pub stored_bytes: u64,
    /// What of it came as a delta.
    pub delta: Option<DeltaReport>,
    /// What was damaged here of the version that a delta was to build on.
    pub healed: Option<HealReport>,
    /// Milliseconds from the first request for data to the last byte made durable.
    pub elapsed_ms: u64,
}

/// What came of one peer.
#[derive(Debug, Clone, Serialize)]
pub struct PeerReport {
    /// Who.
    pub url: PeerUrl,
    /// Bytes of data that came from it, with heads of answers.
    pub bytes: u64,
    /// Chunks that it brought first.
    pub chunks: u64,
    /// Bytes a second over the time of the transfer.
    pub rate: u64,
    /// Why it was not asked any more, if so.
    pub dropped: Option<String>,
    /// Whether what it sent was not what it should be.
    pub lied: bool,
}

impl PeerReport {
    pub(crate) fn dropped(url: &PeerUrl, why: impl Into<String>, lied: bool) -> Self {
        Self { url: url.clone(), bytes: 0, chunks: 0, rate: 0, dropped: Some(why.into()), lied }
    }
}

/// What a push came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PushReport {
    /// Objects and chunks of the artifact.
    pub chunks: u64,
    /// Those of them that the other side lacked.
    pub sent_chunks: u64,
    /// Bytes that were sent, with heads of requests.
    pub sent_bytes: u64,
    /// Bytes that came back.
    pub received_bytes: u64,
    /// Requests that were answered.
    pub round_trips: u64,
    /// Whether the name is new there.
    pub created: bool,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
