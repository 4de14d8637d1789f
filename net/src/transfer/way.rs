//! Goes a way that a peer shows: deltas one after the other, through versions between, where the one that was asked for is
//! not there yet.
//!
//! A version between is brought here as any other is, metadata first, verified, and held until this is over; no name is
//! given to it, and so a collection takes it afterwards. It has to be of the name and platform that is pulled, and not far
//! larger. Whatever goes wrong, the pull goes on without.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use cairn_store::delta::Gap;
use cairn_store::{ArtifactId, ChunkId, ChunkRef, Held, HoldGuard};

use super::Pull;
use super::told::{Asked, DeltaReport, Told, between};
use crate::error::{Error, Result};
use crate::report::{Cancelling, Plan};
use crate::wire::Step;

/// How much larger than the wanted version one between may be: so many times, and so many bytes.
const LARGER_TIMES: u64 = 4;
const LARGER_BYTES: u64 = 64 << 20;

/// What is left when a way comes to nothing.
enum Lost {
    /// The pull itself ends.
    Ended(Error),
    /// Why it is not gone any further.
    Left(String),
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled | Error::Store(cairn_store::Error::Cancelled) => Self::Ended(Error::Cancelled),
            error => Self::Left(error.to_string()),
        }
    }
}

impl From<cairn_store::Error> for Lost {
    fn from(error: cairn_store::Error) -> Self {
        Error::from(error).into()
    }
}

impl Pull<'_> {
    /// Goes a way with the peer that shows it; nothing where it comes to nothing. What came of it stays for the pull.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(super) fn by_way(
        &mut self,
        number: usize,
        have: &ArtifactId,
        plan: &Plan,
        steps: &[Step],
        until: Instant,
    ) -> Result<Option<DeltaReport>> {
        // Until the pull is over: what is kept of them meanwhile may be what the rest of it is made of.
        let hold = |step: &Step| {
            self.writer.hold(Held::Artifact(step.artifact.0), format!("a pull of {}", plan.key))
        };
        let holds: Vec<HoldGuard> = steps.iter().map(hold).collect();
        self.holds.extend(holds);
        let mut whole: Option<DeltaReport> = None;
        let mut from = *have;
        for step in steps {
            match self.step(number, &from, plan, step, until) {
                Ok(report) => match &mut whole {
                    None => whole = Some(report),
                    Some(whole) => whole.add(&report),
                },
                Err(Lost::Ended(error)) => return Err(error),
                Err(Lost::Left(why)) => {
                    tracing::warn!(peer = %self.peers[number].url(), %why, "a way through versions between is left");
                    return Ok(None);
                }
            }
            from = step.artifact.0;
        }
        Ok(whole.map(|whole| DeltaReport { via: between(steps), ..whole }))
    }

    fn step(
        &mut self,
        number: usize,
        from: &ArtifactId,
        plan: &Plan,
        step: &Step,
        until: Instant,
    ) -> std::result::Result<DeltaReport, Lost> {
        let to = step.artifact.0;
        let peer = self.peers[number].clone();
        if to != plan.artifact {
            let source = [peer.source().clone()];
            let brought =
                self.net.plan_of(self.writer, &source, &to, plan.key.clone(), &Cancelling(self.watch));
            let brought = match brought {
                Err(Error::Peer(error)) => {
                    let why = error.detail.clone();
                    self.failed(number, error);
                    return Err(Lost::Left(why));
                }
                brought => brought?,
            };
            self.between.add(brought.totals);
            let bytes_max = plan.total_bytes.saturating_mul(LARGER_TIMES).saturating_add(LARGER_BYTES);
            if brought.total_bytes > bytes_max {
                return Err(Lost::Left(format!("a version between has {} bytes", brought.total_bytes)));
            }
        }
        let store = self.writer.store().local();
        let gap = Gap::between(&store, from, &to, &Cancelling(self.watch));
        let gap = Arc::new(gap?.ok_or_else(|| Lost::Left("a version between is too large".to_owned()))?);
        let all: Vec<ChunkRef> = (0..gap.chunks()).map(|number| gap.chunk(number)).collect();
        let lacking: HashSet<ChunkId> = store.lacks(&all)?.iter().map(|chunk| chunk.id).collect();
        let asked =
            Asked { have: *from, want: to, gap: &gap, lacking: Some(&lacking), bytes_max: Some(step.bytes) };
        let (told, kept) = self.told_by(&peer, &asked, false, until)?;
        self.count(number, &kept);
        match told {
            Told::Whole(report) => Ok(report),
            Told::Nothing | Told::Way(_) => Err(Lost::Left("a step of it is not there".to_owned())),
            Told::Failed(error) => {
                let why = error.detail.clone();
                self.failed(number, error);
                Err(Lost::Left(why))
            }
            Told::Damaged(error) => {
                if plan.have == Some(*from) {
                    self.note_unsound(from, &error);
                }
                Err(Lost::Left(error.to_string()))
            }
        }
    }
}

impl DeltaReport {
    /// Takes in another delta of the same way.
    fn add(&mut self, other: &Self) {
        for (codec, bytes) in &other.codecs {
            *self.codecs.entry(codec).or_default() += bytes;
        }
        self.bytes += other.bytes;
        self.plain_bytes += other.plain_bytes;
    }
}
