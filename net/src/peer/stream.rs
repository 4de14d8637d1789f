//! A stream of items as it comes. Time is counted only while we wait for the peer, so a slow disk here makes nobody look
//! stalled.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

use super::Peer;
use crate::error::{Fault, PeerError};
use crate::http::RATE_MIN;
use crate::wire::{Item, ItemDecoder, STREAM_TYPE};

/// The items of an answer.
pub(crate) struct ItemStream {
    peer: Peer,
    response: Response,
    decoder: ItemDecoder,
    /// What came and is not decoded yet.
    pending: Bytes,
    /// Who is told of bytes as they come.
    told: Option<Box<dyn Fn(u64) + Send + Sync>>,
    pace: Pace,
}

impl Peer {
    pub(super) fn stream(&self, response: Response) -> Result<ItemStream, PeerError> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if kind.split(';').next().map(str::trim) != Some(STREAM_TYPE) {
            return Err(self.error(Fault::Misbehaved, "it answers something else than a stream of frames"));
        }
        let pace = Pace::new(self.timeouts.patience);
        let decoder = ItemDecoder::new();
        Ok(ItemStream { peer: self.clone(), response, decoder, pending: Bytes::new(), told: None, pace })
    }
}

impl ItemStream {
    /// The next item; nothing after the last. A failure that the peer tells of is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, PeerError> {
        loop {
            match self.decoder.next(&mut self.pending) {
                Ok(Some(Item::Failure(text))) => {
                    let clean: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
                    return Err(self.peer.error(Fault::Failed, format!("it gives up: {clean}")));
                }
                Ok(Some(item)) => return Ok(Some(item)),
                Ok(None) => {}
                Err(error) => return Err(self.peer.error(Fault::Misbehaved, error.to_string())),
            }
            if self.decoder.has_ended() {
                return Ok(None);
            }
            self.receive().await?;
        }
    }

    /// Tells of bytes as they come.
    pub(crate) fn tell(&mut self, told: Box<dyn Fn(u64) + Send + Sync>) {
        self.told = Some(told);
    }

    async fn receive(&mut self) -> Result<(), PeerError> {
        let idle = self.peer.timeouts.idle;
        let began = Instant::now();
        let received = tokio::time::timeout(idle, self.response.chunk()).await;
        let waited = began.elapsed();
        let piece = match received {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => {
                let error = self.decoder.finish().err().map(|error| error.to_string()).unwrap_or_default();
                return Err(self.peer.error(Fault::Unreachable, error));
            }
            Ok(Err(error)) => return Err(self.peer.transport(&error)),
            Err(_) => {
                let detail = format!("nothing came for {:.1} s", idle.as_secs_f64());
                return Err(self.peer.error(Fault::Stalled, detail));
            }
        };
        self.peer.traffic.add_received(piece.len());
        if let Some(tell) = &self.told {
            tell(piece.len() as u64);
        }
        if let Some(rate) = self.pace.is_too_slow(waited, piece.len()) {
            return Err(self
                .peer
                .error(Fault::Stalled, format!("it sends no more than {rate} bytes a second")));
        }
        self.pending = piece;
        Ok(())
    }
}

/// Tells a trickle from a stream: bytes over the last stretch of waiting.
#[derive(Debug)]
pub(super) struct Pace {
    patience: Duration,
    waits: VecDeque<(Duration, usize)>,
    waited: Duration,
    bytes: usize,
}

impl Pace {
    /// Waits that are remembered, at most: those in a row are put together.
    const WAITS_MAX: usize = 64;

    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, waits: VecDeque::new(), waited: Duration::ZERO, bytes: 0 }
    }

    /// The rate in bytes a second, if over the last stretch of waiting it is below the least that is taken.
    pub(super) fn is_too_slow(&mut self, waited: Duration, bytes: usize) -> Option<u64> {
        self.waited += waited;
        self.bytes += bytes;
        let grain = self.patience / u32::try_from(Self::WAITS_MAX).unwrap_or(1);
        match self.waits.back_mut() {
            Some(last) if last.0 < grain => *last = (last.0 + waited, last.1 + bytes),
            _ => self.waits.push_back((waited, bytes)),
        }
        let needed = self.patience.as_secs_f64() * RATE_MIN as f64;
        let is_slow = self.waited >= self.patience && (self.bytes as f64) < needed;
        let rate = (self.bytes as f64 / self.waited.as_secs_f64().max(1e-9)).round();
        while let Some(first) = self.waits.front()
            && self.waited - first.0 >= self.patience
        {
            self.waited -= first.0;
            self.bytes -= first.1;
            self.waits.pop_front();
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate below the least")]
        is_slow.then_some(rate as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_told_from_a_stream() {
        let patience = Duration::from_secs(10);
        let second = Duration::from_secs(1);
        let mut trickle = Pace::new(patience);
        let given_up = (1..100).find(|_| trickle.is_too_slow(second, 1).is_some());
        assert_eq!(given_up, Some(10));
        let mut steady = Pace::new(patience);
        let enough = usize::try_from(RATE_MIN).unwrap();
        assert!((0..1000).all(|_| steady.is_too_slow(second, enough).is_none()));
        // What came before does not excuse what comes no more.
        assert!((0..200).any(|_| steady.is_too_slow(second, 1).is_some()));
        let mut busy = Pace::new(patience);
        assert!((0..10_000).all(|_| busy.is_too_slow(Duration::from_micros(10), 1).is_none()));
        assert!(busy.waits.len() <= Pace::WAITS_MAX + 2);
    }
}
