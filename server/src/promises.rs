//! What somebody who publishes was told is here, and what he has sent, stays for a while though nothing names it yet: a
//! collection in between would have him begin again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cairn_store::{ChunkId, Held, Writer};

/// How long it stays at least after it was last spoken of.
const KEPT: Duration = Duration::from_secs(120);
/// What is promised within this time is promised together.
const TOGETHER: Duration = Duration::from_secs(1);

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
