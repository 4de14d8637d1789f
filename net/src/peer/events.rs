//! Streams of events and lists of snapshots: what a peer is asked about them, and events as they come.

use std::time::Instant;

use bytes::Bytes;
use cairn_store::Name;
use reqwest::header::CONTENT_TYPE;

use super::stream::Pace;
use super::{LIST_LEN_MAX, MESSAGE_LEN_MAX, Peer};
use crate::error::{Fault, PeerError};
use crate::wire::{
    AppendAnswer, EVENTS_TYPE, EventDecoder, EventItem, SnapshotList, StreamAnswer, StreamList,
};

/// The items of a stream of events.
///
/// That nothing happens is no fault: a peer says so every few seconds. What has begun to come has to come on, though.
pub(crate) struct EventStream {
    peer: Peer,
    response: reqwest::Response,
    decoder: EventDecoder,
    /// What came and is not decoded yet.
    pending: Bytes,
    pace: Pace,
}

impl Peer {
    /// The streams that there are.
    pub(crate) async fn streams(&self) -> Result<StreamList, PeerError> {
        let response = self.send(self.client.get(self.source.url.join("/v1/streams")), 0).await?;
        self.json(response, MESSAGE_LEN_MAX).await
    }

    /// What is kept of a stream.
    pub(crate) async fn stream_span(&self, name: &Name) -> Result<StreamAnswer, PeerError> {
        let url = self.source.url.join(&format!("/v1/streams/{name}?span=1"));
        let response = self.send(self.client.get(url), 0).await?;
        let answer: StreamAnswer = self.json(response, MESSAGE_LEN_MAX).await?;
        if answer.name != *name || answer.first_round > answer.next_round {
            return Err(
                self.error(Fault::Misbehaved, "it answers about something else than what was asked for")
            );
        }
        Ok(answer)
    }

    /// The snapshots of a name.
    pub(crate) async fn snapshots(&self, name: &Name) -> Result<SnapshotList, PeerError> {
        let url = self.source.url.join(&format!("/v1/snapshots/{name}"));
        let response = self.send(self.client.get(url), 0).await?;
        let list: SnapshotList = self.json(response, LIST_LEN_MAX).await?;
        if list.name != *name {
            return Err(self.error(Fault::Misbehaved, "it answers about another name"));
        }
        Ok(list)
    }

    /// Events from a round on, or their heads; for ever if they are followed.
    pub(crate) async fn events(
        &self,
        name: &Name,
        from_round: u64,
        heads: bool,
        follow: bool,
    ) -> Result<EventStream, PeerError> {
        let heads = if heads { "&heads=1" } else { "" };
        let follow = if follow { "" } else { "&follow=0" };
        let url = self.source.url.join(&format!("/v1/streams/{name}?from_round={from_round}{heads}{follow}"));
        let response = self.send(self.client.get(url), 0).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if kind.split(';').next().map(str::trim) != Some(EVENTS_TYPE) {
            return Err(self.error(Fault::Misbehaved, "it answers something else than a stream of events"));
        }
        let pace = Pace::new(self.timeouts.patience);
        Ok(EventStream {
            peer: self.clone(),
            response,
            decoder: EventDecoder::new(),
            pending: Bytes::new(),
            pace,
        })
    }

    /// Appends events, which are encoded as items with an end.
    pub(crate) async fn append(&self, name: &Name, items: Vec<u8>) -> Result<AppendAnswer, PeerError> {
        let len = items.len() as u64;
        let request = self.client.post(self.source.url.join(&format!("/v1/streams/{name}/events")));
        let request = request.header(CONTENT_TYPE, EVENTS_TYPE).body(items);
        let response = self.send(request, len).await?;
        self.json(response, MESSAGE_LEN_MAX).await
    }
}

impl EventStream {
    /// The next item; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<EventItem>, PeerError> {
        loop {
            match self.decoder.next(&mut self.pending) {
                Ok(Some(item)) => {
                    self.pace = Pace::new(self.peer.timeouts.patience);
                    return Ok(Some(item));
                }
                Ok(None) if self.decoder.has_ended() => return Ok(None),
                Ok(None) => {}
                Err(error) => return Err(self.peer.error(Fault::Misbehaved, error.to_string())),
            }
            self.receive().await?;
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    async fn receive(&mut self) -> Result<(), PeerError> {
        let idle = self.peer.timeouts.idle;
        let (began, has_begun) = (Instant::now(), self.decoder.is_within_item());
        let received = tokio::time::timeout(idle, self.response.chunk()).await;
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
        if has_begun && let Some(rate) = self.pace.is_too_slow(began.elapsed(), piece.len()) {
            let detail = format!("it sends no more than {rate} bytes a second of an event");
            return Err(self.peer.error(Fault::Stalled, detail));
        }
        self.pending = piece;
        Ok(())
    }
}
