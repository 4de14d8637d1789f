//! A body as it comes, broken off where it comes too slowly.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::exchange::Answer;
use super::fault::{self, Fault};

/// Bytes a second below which a body counts as stalled.
const RATE_MIN: u64 = 1 << 10;

/// The bytes of an answer.
#[derive(Debug)]
pub(crate) struct Body {
    answer: Answer,
    idle: Duration,
    /// How long was waited in the stretch of time that is looked at, and what came in it.
    waited: Duration,
    came: u64,
}

impl Body {
    pub(super) fn new(answer: Answer, idle: Duration) -> Self {
        Self { answer, idle, waited: Duration::ZERO, came: 0 }
    }

    /// The next bytes; nothing after the last. Time that goes by between two calls does not count.
    ///
    /// # Errors
    /// Where the connection breaks, also before all came that was promised, or too little comes.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let began = Instant::now();
        let left = self.idle.saturating_sub(self.waited);
        let piece = match tokio::time::timeout(left, self.answer.response.chunk()).await {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(fault::transport(&error)),
            Err(_) => {
                let seconds = self.idle.as_secs_f64();
                return Err(Fault::Passing(format!("it sent {} bytes in {seconds:.1} s", self.came)));
            }
        };
        self.came += piece.len() as u64;
        self.waited += began.elapsed();
        let least = RATE_MIN.saturating_mul(self.idle.as_millis().try_into().unwrap_or(u64::MAX)) / 1000;
        if self.came >= least {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
        Ok(Some(piece))
    }
}
