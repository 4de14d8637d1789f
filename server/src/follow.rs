//! A stream of events as the body of an answer: what is kept, then what comes.
//!
//! A task reads a batch when the one before was taken, so a client that takes nothing holds two of them and no thread; long
//! events share a bound of all clients. When there is nothing to send it waits for the log, and says what is kept every few
//! seconds, so that a client can tell silence from death. It ends with an end item when the server stops.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use cairn_net::wire::{EventItem, FAILURE_LEN_MAX};
use cairn_store::{Error, EventLog};
use futures_util::stream;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use crate::metrics::Metrics;
use crate::peer_api::PeerApi;
use crate::peer_error::{Chain, PeerRefusal};

/// Bytes of events that are read at a time, unless one alone has more.
const BATCH_BYTES: usize = 64 << 10;
/// Heads that are read at a time.
const BATCH_HEADS: usize = 512;
/// Batches with more bytes than this share a bound.
const LONG_BYTES: usize = 4 * BATCH_BYTES;
/// What that bound is counted in, in bytes.
const UNIT: usize = 1024;
/// How often a client is told that there is nothing new.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// What is followed.
pub(crate) struct Follow {
    pub(crate) log: Arc<EventLog>,
    /// The next round that is due. None if nothing was ever appended and whatever comes first is due.
    pub(crate) from: Option<u64>,
    /// Whether payloads are left out.
    pub(crate) heads: bool,
    /// Where it ends; None if it goes on.
    pub(crate) upto: Option<u64>,
}

/// What was read.
struct Batch {
    bytes: Vec<u8>,
    events: u64,
}

impl Follow {
    pub(crate) fn into_body(self, api: &Arc<PeerApi>) -> Body {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.run(Arc::clone(api), sender));
        let parts = stream::unfold(receiver, |mut receiver| async move {
            let part: Bytes = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(part), receiver))
        });
        Body::from_stream(parts)
    }

    async fn run(mut self, api: Arc<PeerApi>, sender: mpsc::Sender<Bytes>) {
        let wake = Arc::new(Notify::new());
        let waker = Arc::clone(&wake);
        let _watch = self.log.watch(Box::new(move |_| waker.notify_one()));
        let mut sent = 0;
        // Who is gone does not listen, here and below.
        if sender.send(self.span()).await.is_err() {
            return;
        }
        loop {
            let Ok(place) = sender.reserve().await else { return };
            let ended =
                api.is_ending() || self.upto.is_some_and(|upto| self.from.is_none_or(|from| from >= upto));
            if ended {
                return place.send(EventItem::End { items: sent }.to_bytes().into());
            }
            let (batch, memory) = match self.batch(&api).await {
                Ok(read) => read,
                Err(refusal) => return place.send(self.failure(&refusal)),
            };
            if batch.events > 0 {
                sent += batch.events;
                self.from = self.from.map(|from| from + batch.events);
                Metrics::add(&api.metrics().events_sent, batch.events);
                place.send(Bytes::from_owner(Part { bytes: batch.bytes, _memory: memory }));
                continue;
            }
            tokio::select! {
                () = wake.notified() => {}
                () = api.streams_end() => {}
                () = sender.closed() => return,
                () = tokio::time::sleep(SIGN_OF_LIFE) => place.send(self.span()),
            }
        }
    }

    /// What comes next, and the memory that it takes where it is long; nothing if it is still to come.
    async fn batch(
        &mut self,
        api: &Arc<PeerApi>,
    ) -> Result<(Batch, Option<OwnedSemaphorePermit>), PeerRefusal> {
        if self.from.is_none() && self.log.has_begun() {
            self.from = Some(self.log.span().first);
        }
        let Some(from) =
            self.from.filter(|from| *from < self.log.span().next || *from < self.log.span().first)
        else {
            return Ok((Batch { bytes: Vec::new(), events: 0 }, None));
        };
        let batch = self.read(api, from).await?;
        if batch.bytes.len() <= LONG_BYTES {
            return Ok((batch, None));
        }
        // It is not kept while it waits for room.
        let units = batch.bytes.len().div_ceil(UNIT).min(api.limits().answers_bytes_max / UNIT);
        drop(batch);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let memory = Arc::clone(&api.long_events).acquire_many_owned(units).await;
        // It is never closed.
        let memory = memory.map_err(|error| PeerRefusal::Failed(error.into()))?;
        Ok((self.read(api, from).await?, Some(memory)))
    }

    async fn read(&self, api: &Arc<PeerApi>, from: u64) -> Result<Batch, PeerRefusal> {
        let (log, heads, upto) = (Arc::clone(&self.log), self.heads, self.upto.unwrap_or(u64::MAX));
        let read = move || -> Result<Batch, Error> {
            let mut batch = Batch { bytes: Vec::new(), events: 0 };
            let items: Vec<EventItem> = if heads {
                let heads = log.heads(from, BATCH_HEADS)?;
                heads.into_iter().filter(|head| head.round < upto).map(EventItem::Head).collect()
            } else {
                let events = log.read(from, BATCH_BYTES)?;
                events.into_iter().filter(|event| event.round < upto).map(EventItem::Event).collect()
            };
            for item in items {
                item.encode(&mut batch.bytes);
                batch.events += 1;
            }
            Ok(batch)
        };
        Ok(api.work.run(read).await??)
    }

    fn span(&self) -> Bytes {
        let span = self.log.span();
        EventItem::Span { first: span.first, next: span.next }.to_bytes().into()
    }

    /// That it cannot go on, behind what is kept by now.
    fn failure(&self, refusal: &PeerRefusal) -> Bytes {
        if !matches!(refusal, PeerRefusal::Gone { .. }) {
            tracing::error!(stream = %self.log.name(), error = %Chain(refusal), "a stream to a peer ends early");
        }
        let mut text = refusal.to_string();
        text.truncate(text.floor_char_boundary(FAILURE_LEN_MAX));
        let mut bytes = self.span().to_vec();
        EventItem::Failure(text).encode(&mut bytes);
        bytes.into()
    }
}

/// Bytes on their way, with the memory that they count for.
struct Part {
    bytes: Vec<u8>,
    _memory: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
