//! One peer and what it can be asked: each call is one request, and its error says which peer failed at what.

mod answer;
mod binaries;
mod events;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_store::{ArtifactId, ChunkId, Name, Platform, RefKey};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode};

pub(crate) use events::EventStream;
pub(crate) use stream::ItemStream;

use crate::address::{PeerUrl, Source};
use crate::error::{Fault, PeerError};
use crate::http::Timeouts;
use crate::wire::{self, KeptAnswer, RefAnswer, RefList};

/// The header in which a client says how long it waits (RFC 7240).
const PREFER: &str = "prefer";
/// What a client says of metadata: it is better late than long, but not by much.
const OBJECTS_WAIT: &str = "wait=1";
/// Longest list of refs that is read, in bytes.
const LIST_LEN_MAX: usize = 32 << 20;
/// Longest other message, in bytes.
const MESSAGE_LEN_MAX: usize = 1 << 20;
/// How long a short answer takes as a whole, at most, over that of its head.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);

/// What went over the wire with one peer.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes of answers, with their heads.
    received: AtomicU64,
    /// Bytes of requests, with their heads.
    sent: AtomicU64,
    /// Requests that were answered.
    round_trips: AtomicU64,
}

impl Traffic {
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Which part of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Objects,
    Chunks,
}

/// A peer that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    source: Arc<Source>,
    client: Client,
    timeouts: Timeouts,
    traffic: Arc<Traffic>,
}

/// Which delta is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TellAsk {
    pub(crate) have: ArtifactId,
    pub(crate) want: ArtifactId,
    /// How long it may take to be made.
    pub(crate) wait: Duration,
    /// Whether a way through versions between will do.
    pub(crate) takes_ways: bool,
}

impl Peer {
    pub(crate) fn new(source: Source, client: Client, timeouts: Timeouts) -> Self {
        Self { source: Arc::new(source), client, timeouts, traffic: Arc::default() }
    }

    pub(crate) fn url(&self) -> &PeerUrl {
        &self.source.url
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn error(&self, fault: Fault, detail: impl Into<String>) -> PeerError {
        PeerError::new(self.url(), fault, detail)
    }

    /// What is published, of one name or of all.
    pub(crate) async fn refs(&self, name: Option<&Name>) -> Result<RefList, PeerError> {
        let path = name.map_or_else(|| "/v1/refs".to_owned(), |name| format!("/v1/refs/{name}"));
        let response = self.send(self.client.get(self.source.url.join(&path)), 0).await?;
        self.json(response, LIST_LEN_MAX).await
    }

    /// The statement of a ref, and of the channel if one was asked for.
    pub(crate) async fn reference(
        &self,
        name: &Name,
        tag: &str,
        platform: Option<&Platform>,
    ) -> Result<RefAnswer, PeerError> {
        let query = platform.map(|platform| format!("?platform={platform}")).unwrap_or_default();
        let url = self.source.url.join(&format!("/v1/refs/{name}/{tag}{query}"));
        let response = self.send(self.client.get(url), 0).await?;
        self.json(response, MESSAGE_LEN_MAX).await
    }

    /// What `want` has and `have` has not. Objects may be told in terms of those of `have`.
    pub(crate) async fn delta(
        &self,
        have: Option<&ArtifactId>,
        want: &ArtifactId,
        part: Part,
    ) -> Result<ItemStream, PeerError> {
        let query = match (part, have) {
            (Part::Objects, Some(_)) => format!("part=objects&codecs={}", wire::CODECS),
            (Part::Objects, None) => "part=objects".to_owned(),
            (Part::Chunks, _) => "part=chunks".to_owned(),
        };
        let have = have.map_or_else(|| "none".to_owned(), ToString::to_string);
        let url = self.source.url.join(&format!("/v1/delta/{have}/{want}?{query}"));
        let response = self.send(self.client.get(url).header(PREFER, OBJECTS_WAIT), 0).await?;
        self.stream(response)
    }

    /// Chunks that lack, told in terms of those that are held. Where they are not told yet, the peer may answer only after
    /// some time, and then that it is [`Fault::Busy`].
    pub(crate) async fn told(&self, ask: &TellAsk) -> Result<ItemStream, PeerError> {
        let response = self.ask_for_told(Method::GET, ask).await?;
        self.stream(response)
    }

    /// How many bytes [`Peer::told`] would bring.
    pub(crate) async fn told_len(&self, ask: &TellAsk) -> Result<Option<u64>, PeerError> {
        let response = self.ask_for_told(Method::HEAD, ask).await?;
        let len = response.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        Ok(len)
    }

    async fn ask_for_told(&self, method: Method, ask: &TellAsk) -> Result<Response, PeerError> {
        let TellAsk { have, want, wait, takes_ways } = ask;
        let via = if *takes_ways { "&via=1" } else { "" };
        let url = format!("/v1/delta/{have}/{want}?part=chunks&codecs={}{via}", wire::CODECS);
        let prefer = format!("respond-async, wait={}", wait.as_secs());
        let request = self.client.request(method, self.source.url.join(&url)).header(PREFER, prefer);
        let time = self.timeouts.answer + *wait;
        let answer = tokio::time::timeout(time, self.send_slowly(request, 0)).await;
        let response = answer.map_err(|_| {
            self.error(Fault::Stalled, format!("no answer within {:.1} s", time.as_secs_f64()))
        })??;
        if response.status() == StatusCode::ACCEPTED {
            return Err(self.refusal(response).await);
        }
        Ok(response)
    }

    /// Chunks or objects by their ids, at most [`wire::IDS_MAX`].
    pub(crate) async fn chunks(&self, ids: &[ChunkId]) -> Result<ItemStream, PeerError> {
        let response = self.post("/v1/chunks", ids).await?;
        self.stream(response)
    }

    /// Which of some chunks or objects are there; at most [`wire::IDS_MAX`].
    pub(crate) async fn have(&self, ids: &[ChunkId]) -> Result<Vec<bool>, PeerError> {
        let response = self.post("/v1/have", ids).await?;
        let bytes = self.bytes(response, wire::IDS_MAX / 8 + 1).await?;
        wire::bitmap_from_bytes(&bytes, ids.len())
            .map_err(|error| self.error(Fault::Misbehaved, error.to_string()))
    }

    /// Sends frames, without a bound on the time; `sent` counts their bytes.
    pub(crate) async fn upload(&self, body: Body, sent: &AtomicU64) -> Result<KeptAnswer, PeerError> {
        let request = self.client.post(self.source.url.join("/v1/upload"));
        let request = request.header(CONTENT_TYPE, wire::STREAM_TYPE).body(body);
        let response = self.send_slowly(request, 0).await;
        self.traffic.sent.fetch_add(sent.load(Ordering::Relaxed), Ordering::Relaxed);
        self.json(response?, MESSAGE_LEN_MAX).await
    }

    /// How long nothing may move.
    pub(crate) fn patience(&self) -> Duration {
        self.timeouts.patience
    }

    /// Publishes a name; whether it is new there.
    pub(crate) async fn put_ref(&self, key: &RefKey, answer: &RefAnswer) -> Result<bool, PeerError> {
        let RefKey { name, version, platform } = key;
        let url = self.source.url.join(&format!("/v1/refs/{name}/{version}?platform={platform}"));
        let body = serde_json::to_vec(answer).expect("envelopes are always JSON");
        let len = body.len();
        let request = self.client.put(url).header(CONTENT_TYPE, "application/json").body(body);
        let response = self.send(request, len as u64).await?;
        let created = response.status().as_u16() == 201;
        self.bytes(response, MESSAGE_LEN_MAX).await?;
        Ok(created)
    }

    async fn post(&self, path: &str, ids: &[ChunkId]) -> Result<Response, PeerError> {
        let body = wire::ids_to_bytes(ids);
        let len = body.len() as u64;
        let request = self.client.post(self.source.url.join(path)).header(CONTENT_TYPE, wire::IDS_TYPE);
        self.send(request.body(body), len).await
    }

    async fn send(&self, request: RequestBuilder, body_len: u64) -> Result<Response, PeerError> {
        // A long list takes its time to be sent.
        let time = self.timeouts.answer + Duration::from_micros(body_len);
        match tokio::time::timeout(time, self.send_slowly(request, body_len)).await {
            Ok(result) => result,
            Err(_) => {
                let detail = format!("no answer within {:.1} s", time.as_secs_f64());
                Err(self.error(Fault::Stalled, detail))
            }
        }
    }

    /// Without a bound on the time: the body's producer has one.
    async fn send_slowly(&self, request: RequestBuilder, body_len: u64) -> Result<Response, PeerError> {
        let mut request = request;
        if let Some(token) = &self.source.token {
            let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| self.error(Fault::Refused, "the token cannot stand in a header"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.build().map_err(|error| self.transport(&error))?;
        let head = request.url().as_str().len() + 12 + headers_len(request.headers());
        self.traffic.sent.fetch_add(head as u64 + body_len, Ordering::Relaxed);
        let response = self.client.execute(request).await.map_err(|error| self.transport(&error))?;
        self.traffic.round_trips.fetch_add(1, Ordering::Relaxed);
        self.traffic.add_received(17 + headers_len(response.headers()));
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }
}

/// What headers take in a message of HTTP/1.1, about.
fn headers_len(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() + 2
}
