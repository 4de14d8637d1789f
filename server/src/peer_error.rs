//! Why a peer's request is not carried out, and the one place that makes a status of it. The client sees what helps it;
//! paths and what the system said go to the log.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use cairn_net::wire::{ErrorBody, Failure, HexId, Step, VIA_HEADER, via_to_text};
use cairn_store::{ChunkId, Error, Kind, Span};
use hyper::StatusCode;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_RANGE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::error::json;
use crate::tokens::Scope;

/// When to ask again where nothing better is known.
const SOON: Duration = Duration::from_secs(1);
/// When to ask again while a server stops: another one may have begun by then.
const LATER: Duration = Duration::from_secs(5);

/// A request that is not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerRefusal {
    #[error("there is nothing at {0}")]
    NoRoute(String),
    #[error("{path} does not take {method}")]
    WrongMethod { method: String, path: String },
    #[error("{what} is not here")]
    Absent { what: String, ids: Vec<ChunkId> },
    #[error("the request is not understood: {0}")]
    NotUnderstood(String),
    #[error("this server only reads its store: nothing can be published here")]
    ReadOnly,
    #[error("a token is needed here")]
    NoToken,
    #[error("the token is not good: it is unknown, was revoked, or has expired")]
    WrongToken,
    #[error("this needs a token of scope {0}")]
    Scope(Scope),
    #[error("the token does not cover {0}")]
    Name(String),
    #[error("{limit} are at their limit")]
    ClientFull { limit: &'static str, wait: Option<Duration> },
    #[error("{limit} are at their limit")]
    Full { limit: &'static str },
    #[error("the answer was not ready within {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("it is being made")]
    Coming {
        /// A way round that is there already, or none.
        via: Vec<Step>,
    },
    #[error("this server is stopping")]
    Draining,
    #[error("the body is longer than {max} bytes")]
    TooLong { max: u64 },
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the body ended before it was whole: {0}")]
    CutOff(String),
    #[error("the range is not within {len} bytes")]
    Range { len: u64 },
    #[error("{0}")]
    Conflict(String),
    /// A stream has another event, or none before this one.
    #[error("{detail}")]
    Rounds { detail: String, span: Span },
    #[error("rounds before {} are gone here", span.first)]
    Gone { span: Span },
    #[error("{what} cannot be published: {count} objects and chunks that it needs are not here")]
    Incomplete { what: String, count: u64, ids: Vec<ChunkId> },
    #[error("it is not what the request wants it to be")]
    Changed,
    #[error("the disk of this server is full")]
    DiskFull(#[source] Error),
    #[error("it is damaged here")]
    Damaged(#[source] Error),
    #[error("the server failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is told of a refusal.
struct Judgement {
    status: StatusCode,
    kind: &'static str,
    hint: Option<&'static str>,
    wait: Option<Duration>,
}

impl PeerRefusal {
    fn judge(&self) -> Judgement {
        let (status, kind, hint) = self.status();
        let wait = match self {
            Self::ClientFull { wait, .. } => Some(wait.unwrap_or(SOON)),
            Self::Full { .. } | Self::Late(_) | Self::Coming { .. } => Some(SOON),
            Self::Draining => Some(LATER),
            _ => None,
        };
        Judgement { status, kind, hint, wait }
    }

    fn status(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        const PAGE: Option<&str> = Some("docs/protocol.md has what there is");
        const TOKEN: Option<&str> = Some(
            "send `Authorization: Bearer …`; whoever runs the server makes one with `cairn token create`",
        );
        match self {
            Self::NoRoute(_) => (StatusCode::NOT_FOUND, "not_found", PAGE),
            Self::WrongMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, "usage", PAGE),
            Self::Absent { .. } => (StatusCode::NOT_FOUND, "not_found", None),
            Self::NotUnderstood(_) => (StatusCode::BAD_REQUEST, "usage", PAGE),
            Self::ReadOnly => {
                (StatusCode::METHOD_NOT_ALLOWED, "refused", Some("publish to a server that writes"))
            }
            Self::NoToken | Self::WrongToken => (StatusCode::UNAUTHORIZED, "refused", TOKEN),
            Self::Scope(_) | Self::Name(_) => (StatusCode::FORBIDDEN, "refused", TOKEN),
            Self::ClientFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "busy", Some("ask less often")),
            Self::Full { .. } | Self::Late(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", Some("ask again later, or another peer"))
            }
            Self::Coming { .. } => (StatusCode::ACCEPTED, "busy", Some("ask again later")),
            Self::Draining => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", Some("ask again later, or another peer"))
            }
            Self::TooLong { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "usage", Some("send it in several requests"))
            }
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "usage", None),
            Self::CutOff(_) => (StatusCode::BAD_REQUEST, "usage", None),
            Self::Changed => (StatusCode::PRECONDITION_FAILED, "usage", None),
            Self::DiskFull(_) => (StatusCode::INSUFFICIENT_STORAGE, "failed", None),
            Self::Range { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "usage", None),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", None),
            Self::Rounds { .. } => {
                (StatusCode::CONFLICT, "conflict", Some("`next_round` says which round it takes next"))
            }
            Self::Gone { .. } => {
                (StatusCode::GONE, "gone", Some("take a snapshot of a later round, and go on from there"))
            }
            Self::Incomplete { .. } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "incomplete",
                Some("upload what is missing, then put the ref"),
            ),
            Self::Damaged(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed",
                Some("ask another peer; `cairn verify` tells there"),
            ),
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed", None),
        }
    }

    /// Which limit it is that was met, if it is one.
    pub(crate) fn limit(&self) -> Option<&'static str> {
        match self {
            Self::ClientFull { limit, .. } | Self::Full { limit } => Some(limit),
            Self::Late(_) => Some("answer time"),
            Self::TooLong { .. } => Some("body bytes"),
            Self::TooSlow => Some("body time"),
            _ => None,
        }
    }

    /// What is kept of a stream, where that is what the answer is about.
    fn span(&self) -> Option<Span> {
        match self {
            Self::Rounds { span, .. } | Self::Gone { span } => Some(*span),
            _ => None,
        }
    }

    fn missing(&self) -> Vec<HexId<ChunkId>> {
        let ids = match self {
            Self::Absent { ids, .. } | Self::Incomplete { ids, .. } => ids.as_slice(),
            _ => &[],
        };
        ids.iter().take(Failure::MISSING_MAX).map(|id| HexId(*id)).collect()
    }
}

impl IntoResponse for PeerRefusal {
    fn into_response(self) -> Response {
        if let Self::Damaged(source) = &self {
            tracing::error!(error = %source, "what a peer asked for is damaged");
        }
        if let Self::DiskFull(source) = &self {
            tracing::error!(error = %source, "nothing more can be uploaded");
        }
        if let Self::Failed(source) = &self {
            tracing::error!(error = %Chain(&**source), "a request of a peer failed");
        }
        let Judgement { status, kind, hint, wait } = self.judge();
        let failure = Failure {
            kind: kind.to_owned(),
            message: self.to_string(),
            hint: hint.map(ToOwned::to_owned),
            missing: self.missing(),
        };
        let (first_round, next_round) = self.span().map(|span| (span.first, span.next)).unzip();
        let mut response = json(status, &ErrorBody { error: failure, first_round, next_round });
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = wait {
            // Whole seconds, and never too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        let limit = self.limit();
        match self {
            Self::NoToken | Self::WrongToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cairn\""));
            }
            Self::Coming { via } if !via.is_empty() => {
                if let Ok(value) = HeaderValue::from_str(&via_to_text(&via)) {
                    headers.insert(VIA_HEADER, value);
                }
            }
            Self::ReadOnly => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::Range { len } => {
                if let Ok(value) = HeaderValue::from_str(&format!("bytes */{len}")) {
                    headers.insert(CONTENT_RANGE, value);
                }
            }
            _ => {}
        }
        if let Some(limit) = limit {
            response.extensions_mut().insert(LimitHit(limit));
        }
        response
    }
}

/// Which limit an answer is due to, for the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitHit(pub(crate) &'static str);

impl From<Error> for PeerRefusal {
    fn from(error: Error) -> Self {
        if let Error::RoundsGone { first, next, .. } = error {
            return Self::Gone { span: Span { first, next, bytes: 0 } };
        }
        match error.kind() {
            _ if error.is_disk_full() => Self::DiskFull(error),
            Kind::Absent => {
                let what = match error {
                    Error::Absent { what } => what,
                    error => return Self::Absent { what: error.to_string(), ids: Vec::new() },
                };
                Self::Absent { what, ids: Vec::new() }
            }
            Kind::Misuse => Self::NotUnderstood(error.to_string()),
            Kind::Damaged => Self::Damaged(error),
            Kind::Conflict => Self::Conflict(error.to_string()),
            _ => Self::Failed(error.into()),
        }
    }
}

/// An error with what led to it, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
