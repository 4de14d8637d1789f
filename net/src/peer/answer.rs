//! Answers that are read whole, and what an answer that is no success says. Each has a bound in bytes and in time.

use std::time::Duration;

use cairn_store::{ChunkId, Span};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;

use super::{MESSAGE_TIME_MAX, Peer};
use crate::error::{Fault, PeerError, chain};
use crate::wire::{ErrorBody, Failure, VIA_HEADER};

/// Longest body of an error that is looked at, in bytes.
const ERROR_LEN_MAX: usize = 64 << 10;
/// How long it may take.
const ERROR_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest wait that a peer can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Longest text of a peer that is shown, in bytes.
const MESSAGE_SHOWN_MAX: usize = 300;

impl Peer {
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        response: Response,
        max: usize,
    ) -> Result<T, PeerError> {
        let bytes = self.bytes(response, max).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.error(Fault::Misbehaved, format!("it answers what is not understood: {error}"))
        })
    }

    /// A whole body of at most `max` bytes.
    pub(super) async fn bytes(&self, response: Response, max: usize) -> Result<Vec<u8>, PeerError> {
        match tokio::time::timeout(MESSAGE_TIME_MAX.min(self.timeouts.patience), self.collect(response, max))
            .await
        {
            Ok(result) => result,
            Err(_) => Err(self.error(Fault::Stalled, "its answer does not end")),
        }
    }

    async fn collect(&self, mut response: Response, max: usize) -> Result<Vec<u8>, PeerError> {
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.transport(&error))? {
            self.traffic.add_received(piece.len());
            if bytes.len() + piece.len() > max {
                return Err(self.error(Fault::Misbehaved, format!("its answer is longer than {max} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// What an answer that is no success comes to.
    pub(super) async fn refusal(&self, response: Response) -> PeerError {
        let status = response.status();
        let retry_after = retry_after(&response);
        let via = response.headers().get(VIA_HEADER).and_then(|via| via.to_str().ok()).map(Box::from);
        let read = tokio::time::timeout(ERROR_TIME_MAX, self.collect(response, ERROR_LEN_MAX)).await;
        let body = read.ok().and_then(Result::ok).unwrap_or_default();
        let said = serde_json::from_slice::<ErrorBody>(&body).ok();
        let span = said.as_ref().and_then(|said| {
            let (first, next) = (said.first_round?, said.next_round?);
            (first <= next).then_some(Span { first, next, bytes: 0 })
        });
        let failure = said.map(|body| body.error).unwrap_or_default();
        let fault = judge(status);
        let detail = describe(status, &failure);
        let missing: Vec<ChunkId> =
            failure.missing.iter().take(Failure::MISSING_MAX).map(|id| id.0).collect();
        PeerError { retry_after, missing, span, via, ..self.error(fault, detail) }
    }

    /// What a failed exchange comes to.
    pub(super) fn transport(&self, error: &reqwest::Error) -> PeerError {
        let fault =
            if error.is_redirect() || error.is_builder() { Fault::Misbehaved } else { Fault::Unreachable };
        // The address is named apart, and the query of a request helps nobody.
        let mut text = String::new();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = chain(error);
            cause = None;
        }
        if text.is_empty() {
            text = error.to_string();
        }
        self.error(fault, text)
    }
}

fn judge(status: StatusCode) -> Fault {
    match status.as_u16() {
        401 | 403 => Fault::Refused,
        404 => Fault::Absent,
        410 => Fault::Gone,
        202 | 408 | 429 | 503 => Fault::Busy,
        409 => Fault::Conflict,
        422 => Fault::Incomplete,
        500..=599 => Fault::Failed,
        _ => Fault::Misbehaved,
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    // The form with a date is for people who wait for days.
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn describe(status: StatusCode, failure: &Failure) -> String {
    if failure.message.is_empty() {
        return format!("it answers {status}");
    }
    let clean: String = failure.message.chars().filter(|c| !c.is_control()).collect();
    let message = &clean[..clean.floor_char_boundary(MESSAGE_SHOWN_MAX)];
    match status.as_u16() {
        401 | 403 => format!("it does not let us in: {message}"),
        _ => format!("it answers {}: {message}", status.as_u16()),
    }
}
