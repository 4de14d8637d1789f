//! What can go wrong between a client and the server. What goes wrong in a command is the command's to tell.

use std::path::PathBuf;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};

/// A failure as clients see it. The body of every answer that is not a success is `{"error": …}` with one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure it is, in the words of the command line: `usage`, `busy`; or `stopping`, for a server that
    /// carries nothing out any more.
    pub kind: String,
    /// What went wrong, for people.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The kind of failure that says: nothing was done, and another process listens at the same place by now.
pub(crate) const MOVED: &str = "moved";
/// The kind of a failure of a server that is stopping: another one, or none, carries the request out.
pub(crate) const STOPPING: &str = "stopping";

/// The body around a [`Failure`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) error: Failure,
}

/// A request that is not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request is not one that cairn {version} understands: {detail}")]
    NotUnderstood { version: &'static str, detail: String },
    #[error("the first line of the request is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("the first line of the request did not come within {seconds} s")]
    TooSlow { seconds: u64 },
    #[error("the request ended before its first line did: {detail}")]
    CutOff { detail: String },
    #[error("{running} commands are running, and none ended within {waited_ms} ms")]
    Full { running: usize, waited_ms: u64 },
    #[error("the daemon is stopping")]
    Stopping,
    #[error("another daemon has taken over")]
    Moved,
    #[error("no job has the number {0}")]
    NoJob(String),
    #[error("job {0} is another user's")]
    NotYours(u64),
    #[error("there is nothing at {0}")]
    NoRoute(String),
    #[error("{path} does not take {method}")]
    WrongMethod { method: String, path: String },
    #[error("the job cannot be started: {0}")]
    NoThread(std::io::Error),
}

impl Refusal {
    fn judge(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        const FORM: &str =
            "the first line is {\"command\":{\"NAME\":{…}}}, with the names that `cairn NAME --help` shows";
        match self {
            Self::NotUnderstood { .. } => (StatusCode::BAD_REQUEST, "usage", Some(FORM)),
            Self::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "usage", Some(FORM)),
            Self::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "usage", None),
            Self::CutOff { .. } => (StatusCode::BAD_REQUEST, "usage", None),
            Self::Full { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", Some("wait longer with --wait 60s"))
            }
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, STOPPING, Some("run it again in a moment")),
            Self::Moved => (StatusCode::SERVICE_UNAVAILABLE, MOVED, Some("send it again")),
            Self::NoJob(_) => (StatusCode::NOT_FOUND, "not_found", None),
            Self::NotYours(_) => (StatusCode::FORBIDDEN, "failed", None),
            Self::NoRoute(_) => (StatusCode::NOT_FOUND, "not_found", Some("docs/cli.md has what there is")),
            Self::WrongMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, "usage", None),
            Self::NoThread(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed", None),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, hint) = self.judge();
        let error =
            Failure { kind: kind.to_owned(), message: self.to_string(), hint: hint.map(ToOwned::to_owned) };
        json(status, &Failed { error })
    }
}

/// An answer of one JSON object.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // What is answered has text keys, and so a JSON form.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// What a client meets.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The other side cannot be reached.
    #[error("cannot reach {}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The exchange of bytes failed.
    #[error("the connection to the daemon broke")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request was refused.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The server is about to end, and did not begin with the request.
    #[error("the daemon is stopping")]
    Stopping,
    /// What came back is no event.
    #[error("the answer is not understood: {detail}")]
    NotUnderstood {
        /// What of it.
        detail: String,
    },
    /// The answer ended without saying how the command did.
    #[error("the daemon went away before the command ended")]
    CutOff,
    /// The request is longer than any server takes.
    #[error("the command line is too long to be sent: {len} bytes, at most {max}")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// What fits.
        max: usize,
    },
}

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody does already.
    #[error("another daemon listens at {}", .0.display())]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{} is there and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb phrase: `listen at`.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
