//! What somebody who publishes was told is here, and what he has sent, stays for a while though nothing names it yet: a
//! collection in between would have him begin again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cairn_store::{ArtifactId, ChunkId, Held, HoldGuard, Writer};

/// How long it stays at least after it was last spoken of.
const KEPT: Duration = Duration::from_secs(120);
/// What is promised within this time is promised together.
const TOGETHER: Duration = Duration::from_secs(1);

/// How long an artifact stays of which somebody was told.
const TOLD_KEPT: Duration = Duration::from_secs(600);
/// Such artifacts at a time, at most; of more the one goes that was told of longest ago.
const TOLD_MAX: usize = 64;

/// The promises of a server.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// Guards when the last was made. A leaf lock.
    last: Mutex<Option<Instant>>,
}

impl Promises {
    /// What is found here, or stored, from now on until a moment later stays for [`KEPT`]. Called in a runtime, before
    /// each answer of which somebody makes sure that nothing of what he publishes is missing.
    pub(crate) fn renew(&self, writer: &Writer) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.duration_since(last) < TOGETHER) {
            return;
        }
        *last = Some(now);
        drop(last);
        // A guard keeps what is found while it lives, whatever it is of. A hole is nothing.
        let nothing = Held::Chunk(ChunkId([0; 32]));
        let guard = writer.hold(nothing, "what peers are publishing".to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(KEPT + TOGETHER).await;
            drop(guard);
        });
    }
}

/// Artifacts of which somebody was told, each held for a while: who was told of a snapshot can still take it when a newer one
/// has come and the older ones have gone.
#[derive(Debug, Default)]
pub(crate) struct ToldOf {
    /// Guards what is held, and since when. A leaf lock.
    held: Arc<Mutex<HashMap<ArtifactId, (Instant, HoldGuard)>>>,
}

impl ToldOf {
    /// An artifact stays for [`TOLD_KEPT`] from now on. Called in a runtime.
    pub(crate) fn renew(&self, writer: &Writer, artifact: ArtifactId) {
        let now = Instant::now();
        let guard = writer.hold(Held::Artifact(artifact), "what peers were told of".to_owned());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(artifact, (now, guard));
        if held.len() > TOLD_MAX {
            let oldest = held.iter().min_by_key(|(_, (since, _))| *since).map(|(artifact, _)| *artifact);
            oldest.map(|oldest| held.remove(&oldest));
        }
        drop(held);
        let held = Arc::clone(&self.held);
        tokio::spawn(async move {
            tokio::time::sleep(TOLD_KEPT).await;
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, (since, _)| since.elapsed() < TOLD_KEPT);
        });
    }
}
