//! Mends the version that a delta was to build on: what of it cannot be read here is asked for once more, of the peers of
//! this pull.
//!
//! What was wanted is here by then, and stays so whatever becomes of this. Nothing is kept that was not hashed and asked
//! for. A damaged pack stays where it is, for `cairn repair`: what came is read in its place.

use std::collections::{BTreeSet, HashSet};

use cairn_store::pack::PackKind;
use cairn_store::{ArtifactId, ChunkId, Decoder, VerifiedFrame, VerifyOptions};
use serde::Serialize;

use super::Pull;
use crate::error::{Error, Fault, Result};
use crate::feed::Ask;
use crate::peer::Peer;
use crate::report::Cancelling;
use crate::wire::{HexId, IDS_MAX, Item};

/// Looks at the version, at most: what lies below a directory that is damaged is seen once that is here.
const ROUNDS_MAX: usize = 16;
/// A version of more bytes is not looked through: of that only the chunk is brought at which it was noticed.
const LOOKED_THROUGH_MAX: u64 = 16 << 30;

/// A version that cannot be read in full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsound {
    pub(crate) artifact: ArtifactId,
    /// Where it was noticed.
    pub(crate) chunk: Option<ChunkId>,
}

impl Unsound {
    /// What an error says of an artifact that was read; nothing where that is no damage. What is absent is named by nothing
    /// any more, and nobody misses it.
    pub(crate) fn of(artifact: &ArtifactId, error: &cairn_store::Error) -> Option<Self> {
        match error {
            cairn_store::Error::Damaged { chunk, .. } => Some(Self { artifact: *artifact, chunk: *chunk }),
            _ => None,
        }
    }
}

/// What was damaged of a version that a delta was to build on, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct HealReport {
    /// The version.
    pub artifact: HexId<ArtifactId>,
    /// Chunks and objects of it that could not be read.
    pub damaged: u64,
    /// Those of them that came and can be read now.
    pub healed: u64,
}

impl Pull<'_> {
    /// Notes that the version which a delta builds on cannot be read. Of several, the first is mended.
    pub(super) fn note_unsound(&mut self, artifact: &ArtifactId, error: &cairn_store::Error) {
        if self.unsound.is_none() {
            self.unsound = Unsound::of(artifact, error);
        }
    }

    /// Brings what is damaged of a version, as far as the peers have it.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(super) fn mend(&mut self, unsound: Unsound) -> Result<()> {
        let mut damaged = BTreeSet::new();
        let mended = self.mend_noting(unsound, &mut damaged);
        let store = self.writer.store().local();
        let healed = damaged.iter().filter(|id| store.chunk(id).is_ok()).count() as u64;
        if !damaged.is_empty() {
            let (artifact, damaged) = (HexId(unsound.artifact), damaged.len() as u64);
            tracing::warn!(artifact = %unsound.artifact, damaged, healed, "a version that is here is damaged");
            self.report.healed = Some(HealReport { artifact, damaged, healed });
        }
        match mended {
            Err(Error::Cancelled | Error::Store(cairn_store::Error::Cancelled)) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!(artifact = %unsound.artifact, %error, "what is damaged is not all brought");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn mend_noting(&mut self, unsound: Unsound, damaged: &mut BTreeSet<ChunkId>) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let mut lost = self.lost(unsound)?;
            lost.retain(|id| damaged.insert(*id));
            lost.truncate(IDS_MAX);
            // Below what is no directory and no list there is nothing to be seen.
            if lost.is_empty() || !self.bring_again(&lost)? {
                break;
            }
        }
        Ok(())
    }

    /// What of a version is here and cannot be read, as far as can be seen.
    fn lost(&self, unsound: Unsound) -> Result<Vec<ChunkId>> {
        let store = self.writer.store().local();
        let is_unreadable = |id: &ChunkId| store.chunk(id).is_err();
        let (only, noticed) = (unsound.artifact, unsound.chunk);
        match store.artifact(&only) {
            Ok(artifact) if artifact.bytes <= LOOKED_THROUGH_MAX => {}
            Ok(_) => return Ok(noticed.into_iter().filter(is_unreadable).collect()),
            Err(_) => return Ok(vec![only.into()]),
        }
        let options = VerifyOptions { artifact: Some(only), ..VerifyOptions::default() };
        let report = store.verify(&options, &Cancelling(self.watch))?;
        let missing: BTreeSet<ChunkId> =
            report.affected.into_iter().flat_map(|affected| affected.missing).collect();
        Ok(missing.into_iter().filter(is_unreadable).collect())
    }

    /// Asks one peer after the other for chunks and objects that are damaged here. Whether objects came.
    fn bring_again(&mut self, lost: &[ChunkId]) -> Result<bool> {
        let mut left: HashSet<ChunkId> = lost.iter().copied().collect();
        let mut came_objects = false;
        for number in 0..self.peers.len() {
            if left.is_empty() {
                break;
            }
            if self.is_out(number) {
                continue;
            }
            let peer = self.peers[number].clone();
            match self.ask_again(&peer, &mut left, &mut came_objects) {
                Ok(()) => {}
                Err(Error::Peer(error)) => {
                    tracing::warn!(peer = %peer.url(), detail = %error.detail, "a peer does not bring what is damaged");
                    if matches!(error.fault, Fault::Lied | Fault::Misbehaved) {
                        self.watch.dropped(peer.url(), &error.detail);
                        self.liars.push((number, error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(came_objects)
    }

    /// Takes what one peer has of it.
    fn ask_again(&self, peer: &Peer, left: &mut HashSet<ChunkId>, came_objects: &mut bool) -> Result<()> {
        let intake = self.writer.intake();
        let mut decoder = Decoder::default();
        let lied = |detail: &str| Error::Peer(peer.error(Fault::Lied, detail.to_owned()));
        let mut feed = self.net.feed(peer, Ask::Chunks(left.iter().copied().collect()))?;
        while let Some(item) = feed.next(self.net, &|| self.watch.cancelled())? {
            let (kind, bytes) = match item {
                Item::Data(bytes) => (PackKind::Data, bytes),
                Item::Metadata(bytes) => (PackKind::Metadata, bytes),
                Item::Unit(_) => {
                    let detail = "it sends a delta that was not asked for".to_owned();
                    return Err(Error::Peer(peer.error(Fault::Misbehaved, detail)));
                }
                Item::Head(_) | Item::Absent(_) | Item::Failure(_) | Item::End(_) => continue,
            };
            self.watch.received(peer.url(), bytes.len() as u64);
            let frame =
                VerifiedFrame::verify(bytes, &mut decoder).map_err(|error| lied(&error.to_string()))?;
            let before = left.len();
            for (id, _) in frame.chunks() {
                left.remove(id);
            }
            if left.len() == before {
                return Err(lied("it sends what was not asked for"));
            }
            *came_objects |= kind == PackKind::Metadata;
            intake.heal(kind, &frame)?;
        }
        Ok(())
    }
}
