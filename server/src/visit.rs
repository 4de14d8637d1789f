//! One request from its head to the last byte of its answer: what is counted and logged of it, and the body that holds
//! the answer to the limits.
//!
//! The body gives on what it gets, without copying. Bytes of a transfer wait for their share of the bandwidth here, in
//! slices; while they do, and while the answer is being prepared, the connection is not the client's to answer for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use hyper::StatusCode;
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

use crate::listen::connection::Step;
use crate::metrics::Metrics;
use crate::peer_api::{PeerApi, Running};
use crate::peer_limits::clients::{Client, Follows, Place, Transfers};
use crate::tokens::TokenId;

/// By which an answer is found in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub(crate) Arc<str>);

impl RequestId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The right to send or take long bodies, and whose it is.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) _of_all: Place<Arc<AtomicUsize>>,
    pub(crate) of_client: OfClient,
}

/// What is counted of a client.
#[derive(Debug)]
pub(crate) enum OfClient {
    Transfer(#[expect(dead_code, reason = "it is held for its end")] Place<Transfers>),
    /// It has no end of its own.
    Stream(#[expect(dead_code, reason = "it is held for its end")] Place<Follows>),
}

/// A request that is being answered.
pub(crate) struct Visit {
    pub(crate) api: Arc<PeerApi>,
    pub(crate) id: RequestId,
    pub(crate) method: &'static str,
    /// As it was asked for; what follows the `?` is not kept.
    pub(crate) path: String,
    pub(crate) route: Arc<str>,
    pub(crate) address: String,
    pub(crate) started: Instant,
    pub(crate) step: Option<Step>,
    pub(crate) _running: Running,
    /// Of the answer, once there is one.
    pub(crate) status: Option<StatusCode>,
    pub(crate) token: Option<TokenId>,
    pub(crate) transfer: Option<Arc<Transfer>>,
    pub(crate) sent: u64,
    /// Whether all of the answer was handed on.
    pub(crate) is_whole: bool,
}

impl Visit {
    fn turn(&mut self, is_ours: bool) {
        if let Some(step) = &mut self.step {
            step.turn(is_ours);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let metrics = self.api.metrics();
        // Without a status nobody waited for the answer: 499, as other servers have it.
        let status = self.status.map_or(499, |status| status.as_u16());
        let took = self.started.elapsed();
        metrics.answered(&self.route, self.method, status, took);
        Metrics::add(&metrics.sent_bytes, self.sent);
        let is_transfer = self
            .transfer
            .as_ref()
            .is_some_and(|transfer| matches!(transfer.of_client, OfClient::Transfer(_)));
        if is_transfer && !self.is_whole {
            Metrics::add(&metrics.transfers_cut, 1);
        }
        let token = self.token.as_ref().map(tracing::field::display);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            request = self.id.as_str(),
            method = self.method,
            path = self.path,
            status,
            bytes = self.sent,
            took_ms,
            client = self.address,
            token,
            whole = self.is_whole,
            "answered"
        );
    }
}

/// The body of an answer.
pub(crate) struct Outgoing {
    body: Body,
    visit: Visit,
    /// Whom the bytes are counted for, where they are.
    pace: Option<Arc<Client>>,
    /// What has its share of the bandwidth, and waits until that has come.
    due: Option<Bytes>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// What has no share yet.
    rest: Bytes,
    slice_max: usize,
}

impl Outgoing {
    pub(crate) fn new(body: Body, visit: Visit, client: Option<Arc<Client>>) -> Self {
        let clients = visit.api.clients();
        let pace = client.filter(|_| visit.transfer.is_some() && clients.are_paced());
        let slice_max = clients.slice_max();
        let mut outgoing = Self { body, visit, pace, due: None, sleep: None, rest: Bytes::new(), slice_max };
        outgoing.visit.is_whole = outgoing.body.is_end_stream();
        outgoing
    }

    /// The next bytes, without regard to the bandwidth.
    fn poll_plain(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Pending => self.visit.turn(true),
            Poll::Ready(None) => self.visit.is_whole = true,
            Poll::Ready(Some(_)) => {}
        }
        polled
    }

    fn hand_on(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.visit.turn(false);
        self.visit.sent += bytes.len() as u64;
        self.visit.is_whole |= self.is_end_stream();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(sleep) = &mut this.sleep {
                ready!(sleep.as_mut().poll(context));
                this.sleep = None;
            }
            if let Some(bytes) = this.due.take() {
                return this.hand_on(bytes);
            }
            if this.rest.is_empty() {
                match ready!(this.poll_plain(context)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(bytes) => this.rest = bytes,
                        Err(frame) => return Poll::Ready(Some(Ok(frame))),
                    },
                    end => return Poll::Ready(end),
                }
            }
            let Some(client) = &this.pace else {
                let bytes = std::mem::take(&mut this.rest);
                return this.hand_on(bytes);
            };
            let slice = this.rest.split_to(this.rest.len().min(this.slice_max));
            let wait = this.visit.api.clients().reserve(client, slice.len(), Instant::now());
            if wait.is_zero() {
                return this.hand_on(slice);
            }
            this.visit.turn(true);
            this.due = Some(slice);
            this.sleep = Some(Box::pin(tokio::time::sleep(wait)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.due.is_none() && self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = (self.rest.len() + self.due.as_ref().map_or(0, Bytes::len)) as u64;
        let (inner, mut hint) = (self.body.size_hint(), SizeHint::new());
        hint.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}
