//! The other end: asks a router in this process, or a daemon behind a Unix socket. Both see the same requests.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use http_body_util::{BodyExt, Limited};
use hyper::body::Frame;
use hyper::header::HOST;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::error::{ClientError, Failed, MOVED, STOPPING};
use crate::events::{Event, JOB_HEADER, Request};
use crate::limits::Limits;
use crate::routes::health::Health;
use crate::run::Caller;
use crate::socket;

/// Bytes of standard input that are read at a time, and such pieces that are on their way.
const PIECE_BYTES: usize = 128 << 10;
const PIECES_MAX: usize = 2;
/// How long a server that was taken over may take to give way to its successor, and how often that is tried.
const MOVE_MAX: Duration = Duration::from_secs(30);
const MOVE_PAUSE: Duration = Duration::from_millis(5);
/// A line of an answer is no longer, nor any answer that is not events.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Asks a server.
pub struct Client(Server);

enum Server {
    Here(Router),
    Daemon {
        path: PathBuf,
        /// The connection that showed that it is there, for the first request.
        stream: Option<UnixStream>,
    },
}

impl Client {
    /// Asks a router of this process.
    #[must_use]
    pub fn here(router: Router) -> Self {
        Self(Server::Here(router))
    }

    /// Asks the daemon that listens at `path`; none may.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Option<Self>, ClientError> {
        let failed = |source| ClientError::Connect { path: path.to_owned(), source };
        let stream = socket::connect(path).map_err(failed)?;
        Ok(stream.map(|stream| Self(Server::Daemon { path: path.to_owned(), stream: Some(stream) })))
    }

    /// Whether it asks a daemon.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.0, Server::Daemon { .. })
    }

    /// Starts a command; what `input` gives is its standard input, read by a thread of its own once the command has
    /// started. If another daemon takes over in this moment, it is started by that one.
    ///
    /// # Errors
    /// [`ClientError`]; when it is not started, [`ClientError::Refused`], and [`ClientError::Stopping`] where somebody
    /// else may be asked. Then nothing was read of `input`.
    pub async fn run<C: Serialize>(
        &mut self,
        request: &Request<C>,
        input: Option<Box<dyn Read + Send>>,
    ) -> Result<Answer, ClientError> {
        let mut line = serde_json::to_vec(request)
            .map_err(|error| ClientError::NotUnderstood { detail: error.to_string() })?;
        let max = Limits::default().request_bytes_max;
        if line.len() > max {
            return Err(ClientError::TooLong { len: line.len(), max });
        }
        line.push(b'\n');
        let (line, deadline) = (Bytes::from(line), Instant::now() + MOVE_MAX);
        let (response, pieces) = loop {
            let (pieces, received) = mpsc::channel(PIECES_MAX);
            let body = match &input {
                Some(_) => Body::new(Upload { pieces: received, line: Some(line.clone()) }),
                None => Body::from(line.clone()),
            };
            match self.ask(Method::POST, "/v1/control/run", body).await {
                // Nothing was done.
                Err(ClientError::Refused(failure)) if failure.kind == MOVED && Instant::now() < deadline => {
                    tokio::time::sleep(MOVE_PAUSE).await;
                }
                answered => break (answered?, pieces),
            }
        };
        if let Some(input) = input {
            upload(input, pieces)?;
        }
        let job = response.headers().get(JOB_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { body: response.into_body(), read: Vec::new(), at: 0, job })
    }

    /// Asks a job to stop. One that has ended needs no more asking.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel(&mut self, job: u64) -> Result<(), ClientError> {
        match self.ask(Method::DELETE, &format!("/v1/control/jobs/{job}"), Body::empty()).await {
            Err(ClientError::Refused(failure)) if failure.kind == "not_found" => Ok(()),
            answered => answered.map(drop),
        }
    }

    /// How the server is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn health(&mut self) -> Result<Health, ClientError> {
        let response = self.ask(Method::GET, "/v1/health", Body::empty()).await?;
        let bytes = collect(response.into_body()).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ClientError::NotUnderstood { detail: error.to_string() })
    }

    /// Sends a request; an answer that is no success is an error.
    async fn ask(&mut self, method: Method, path: &str, body: Body) -> Result<Response<Body>, ClientError> {
        let request = hyper::Request::builder().method(method).uri(path).header(HOST, "cairn").body(body);
        let mut request =
            request.map_err(|error| ClientError::NotUnderstood { detail: error.to_string() })?;
        let response = match &mut self.0 {
            Server::Here(router) => {
                request.extensions_mut().insert(Caller::this_process());
                match router.clone().oneshot(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Server::Daemon { path, stream } => {
                let broken = |error: hyper::Error| ClientError::Http(error.into());
                let stream = reuse(path, stream)?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
                // It ends with the answer's body, or when that is dropped.
                tokio::spawn(connection);
                sender.send_request(request).await.map_err(broken)?.map(Body::new)
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response.status(), &collect(response.into_body()).await?))
    }
}

/// The connection that is there, else a new one.
fn reuse(path: &Path, stream: &mut Option<UnixStream>) -> Result<tokio::net::UnixStream, ClientError> {
    let failed = |source| ClientError::Connect { path: path.to_owned(), source };
    let stream = match stream.take() {
        Some(stream) => stream,
        None => socket::connect(path)
            .and_then(|stream| stream.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()))
            .map_err(failed)?,
    };
    stream.set_nonblocking(true).map_err(failed)?;
    tokio::net::UnixStream::from_std(stream).map_err(failed)
}

async fn collect(body: Body) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, LINE_BYTES_MAX).collect().await.map_err(ClientError::Http)?;
    Ok(collected.to_bytes())
}

fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Failed>(body) {
        Ok(failed) if failed.error.kind == STOPPING => ClientError::Stopping,
        Ok(failed) => ClientError::Refused(failed.error),
        Err(_) => ClientError::NotUnderstood { detail: format!("status {status}") },
    }
}

/// The events of a job. Dropping it tells a job that still runs to stop.
pub struct Answer {
    body: Body,
    /// What came and was not given out yet begins at `at`.
    read: Vec<u8>,
    at: usize,
    job: Option<u64>,
}

impl Answer {
    /// The job's number, to cancel it by.
    #[must_use]
    pub fn job(&self) -> Option<u64> {
        self.job
    }

    /// The next event, `None` after the last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Event<'static>>, ClientError> {
        loop {
            if let Some(end) = self.read[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = &self.read[self.at..self.at + end];
                let event = serde_json::from_slice(line);
                self.at += end + 1;
                return event
                    .map(Some)
                    .map_err(|error| ClientError::NotUnderstood { detail: error.to_string() });
            }
            self.read.drain(..self.at);
            self.at = 0;
            if self.read.len() > LINE_BYTES_MAX {
                return Err(ClientError::NotUnderstood { detail: "a line without an end".to_owned() });
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Http(error.into())),
                Some(Ok(frame)) => self.read.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
        }
    }
}

/// A request's body: its first line, then what a thread reads.
struct Upload {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    line: Option<Bytes>,
}

/// Reads what a command is given, on a thread of its own.
fn upload(
    mut input: Box<dyn Read + Send>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), ClientError> {
    let read = move || {
        loop {
            let mut buffer = vec![0; PIECE_BYTES];
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(len) => {
                    buffer.truncate(len);
                    Ok(Bytes::from(buffer))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_last = piece.is_err();
            if pieces.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("input".to_owned()).spawn(read);
    thread.map(drop).map_err(|error| ClientError::Http(error.into()))
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(line) = self.line.take() {
            return Poll::Ready(Some(Ok(Frame::data(line))));
        }
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
