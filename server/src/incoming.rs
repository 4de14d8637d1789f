//! Bodies of requests: within their bytes, their time, and the memory that all of them may take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::header::CONTENT_LENGTH;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;
use crate::peer_api::PeerApi;
use crate::peer_error::PeerRefusal;
use crate::peer_limits::clients::Client;

/// What memory is counted in.
const UNIT: usize = 1024;

/// Memory for bodies.
#[derive(Debug)]
pub(crate) struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).max(1))))
    }

    /// Room for so many bytes, if there is.
    pub(crate) fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, PeerRefusal> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let full = |_| PeerRefusal::Full { limit: "request bodies" };
        Arc::clone(&self.0).try_acquire_many_owned(units).map_err(full)
    }
}

/// A body that comes in pieces, none of them awaited for too long.
pub(crate) struct Incoming<'a> {
    api: &'a PeerApi,
    body: Body,
    left: u64,
    max: u64,
    /// Time that was waited for the client, and bytes that came in it.
    waited: Duration,
    came: u64,
    /// Whose share of the bandwidth it takes.
    pace: Option<Arc<Client>>,
}

impl<'a> Incoming<'a> {
    /// At most `max` bytes.
    pub(crate) fn new(
        api: &'a PeerApi,
        headers: &HeaderMap,
        body: Body,
        max: u64,
    ) -> Result<Self, PeerRefusal> {
        if said_len(headers).is_some_and(|len| len > max) {
            return Err(PeerRefusal::TooLong { max });
        }
        Ok(Self { api, body, left: max, max, waited: Duration::ZERO, came: 0, pace: None })
    }

    /// Its bytes wait for their share of a client's bandwidth.
    pub(crate) fn paced(self, client: Arc<Client>) -> Self {
        Self { pace: Some(client).filter(|_| self.api.clients().are_paced()), ..self }
    }

    /// The next piece, None after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PeerRefusal> {
        loop {
            let limits = self.api.limits();
            let (began, patience) = (Instant::now(), limits.stall_time_max.saturating_sub(self.waited));
            let frame = tokio::time::timeout(patience, self.body.frame()).await;
            self.waited += began.elapsed();
            let bytes = match frame {
                Err(_) => return Err(PeerRefusal::TooSlow),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(PeerRefusal::CutOff(error.to_string())),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            let len = bytes.len() as u64;
            Metrics::add(&self.api.metrics().received_bytes, len);
            self.left = self.left.checked_sub(len).ok_or(PeerRefusal::TooLong { max: self.max })?;
            self.came += len;
            if self.came >= limits.stall_bytes_min {
                (self.waited, self.came) = (Duration::ZERO, 0);
            }
            if let Some(client) = &self.pace {
                let wait = self.api.clients().reserve(client, bytes.len(), Instant::now());
                tokio::time::sleep(wait).await;
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }
}

/// A whole body of at most `max` bytes, and the memory that it takes.
pub(crate) async fn collect(
    api: &PeerApi,
    headers: &HeaderMap,
    body: Body,
    max: usize,
) -> Result<(Vec<u8>, OwnedSemaphorePermit), PeerRefusal> {
    let said = said_len(headers).or_else(|| body.size_hint().exact());
    let mut incoming = Incoming::new(api, headers, body, max as u64)?;
    let len = said.and_then(|len| usize::try_from(len).ok()).unwrap_or(max);
    let memory = api.bodies.take(len)?;
    // Nothing is set aside for what was only announced.
    let mut bytes = Vec::new();
    while let Some(piece) = incoming.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, memory))
}

fn said_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
