//! What a running command is given: where its output goes, whether it is to stop, and its standard input.
//!
//! A job runs on a thread of its own and may block; everything here is called from there. Between it and the client are
//! short queues, so that a client that reads slowly slows the command down and holds no memory.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Interval, MissedTickBehavior};

use crate::events::{Event, Task};

/// Events on their way to a client.
const EVENTS_MAX: usize = 16;
/// Pieces of standard input on their way to a command.
const PIECES_MAX: usize = 4;

/// The wish that a job ends.
#[derive(Debug, Default)]
pub(crate) struct Cancel {
    asked: AtomicBool,
    /// Woken once; what feeds standard input waits for it.
    woken: Notify,
}

impl Cancel {
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.woken.notify_one();
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A job's end of its connection to the client. Clones share it.
#[derive(Clone)]
pub struct JobIo {
    events: mpsc::Sender<Bytes>,
    cancel: Arc<Cancel>,
    /// Taken by the first who asks for it.
    input: Arc<Mutex<Option<Input>>>,
}

impl JobIo {
    /// Hands bytes to the client's standard output; waits while it takes none.
    ///
    /// # Errors
    /// `BrokenPipe` when the client is gone.
    pub fn out(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(&Event::out(bytes))
    }

    /// Hands whole lines to the client's standard error. Nobody is left to tell if it is gone.
    pub fn err(&self, lines: &str) {
        let _ = self.send(&Event::Err(lines.into()));
    }

    /// Tells how far the work is, or with `None` that it is over. Left out while the client is behind.
    pub fn progress(&self, task: Option<Task>) {
        // Full or closed: there will be newer news, or nobody to read them.
        let _ = self.events.try_send(Event::Progress(task).line().into());
    }

    /// Whether the client wants the command to stop, or is gone.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_asked()
    }

    /// Standard input, to whoever asks first.
    #[must_use]
    pub fn take_input(&self) -> Option<Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn exit(&self, code: u8) {
        let _ = self.send(&Event::Exit(code));
    }

    fn send(&self, event: &Event<'_>) -> io::Result<()> {
        self.events.blocking_send(event.line().into()).map_err(|_| {
            self.cancel.ask();
            io::ErrorKind::BrokenPipe.into()
        })
    }
}

/// A command's standard input. It ends where the client said so; if the client goes away before that, or the job is
/// cancelled, reading fails, so that a part is never taken for the whole.
#[derive(Debug)]
pub struct Input {
    pieces: mpsc::Receiver<Piece>,
    /// What was received and not yet read.
    rest: Bytes,
    is_over: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
    Failed(String),
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.is_over {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.rest = bytes,
                Some(Piece::End) => self.is_over = true,
                Some(Piece::Failed(why)) => return Err(io::Error::other(why)),
                None => return Err(io::Error::other("standard input was cut off")),
            }
        }
        let len = buffer.len().min(self.rest.len());
        buffer[..len].copy_from_slice(&self.rest.split_to(len));
        Ok(len)
    }
}

/// What was read of a request's body behind its first line, and the rest of it, if it has not ended.
pub(crate) struct Rest {
    pub(crate) begun: Bytes,
    pub(crate) body: Option<Body>,
}

/// Makes both ends of a job's connection: the command's, and the body of the answer. A task feeds standard input.
pub(crate) fn connect(rest: Rest, alive_every: Option<Duration>, cancel: Arc<Cancel>) -> (JobIo, Body) {
    let (events, received) = mpsc::channel(EVENTS_MAX);
    let (pieces, fed) = mpsc::channel(PIECES_MAX);
    let mut input = Input { pieces: fed, rest: rest.begun, is_over: false };
    match rest.body {
        Some(body) => drop(tokio::spawn(feed(body, pieces, Arc::clone(&cancel)))),
        None => input.is_over = true,
    }
    let alive = alive_every.map(|every| {
        let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    let input = Arc::new(Mutex::new(Some(input)));
    let io = JobIo { events, cancel: Arc::clone(&cancel), input };
    (io, Body::new(Answer { received, cancel, alive }))
}

/// Hands a body on, piece by piece, until it ends or the job does.
async fn feed(mut body: Body, pieces: mpsc::Sender<Piece>, cancel: Arc<Cancel>) {
    let feeding = async {
        loop {
            let piece = match body.frame().await {
                None => Piece::End,
                Some(Err(error)) => Piece::Failed(error.to_string()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => Piece::Bytes(bytes),
                    // Trailers mean nothing here.
                    Err(_) => continue,
                },
            };
            let is_last = !matches!(piece, Piece::Bytes(_));
            if pieces.send(piece).await.is_err() || is_last {
                return;
            }
        }
    };
    tokio::select! {
        () = feeding => {}
        () = cancel.woken.notified() => {}
    }
}

/// The body of an answer: a job's events. When it goes, the client is gone, and the job is cancelled.
struct Answer {
    received: mpsc::Receiver<Bytes>,
    cancel: Arc<Cancel>,
    alive: Option<Interval>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(line) = self.received.poll_recv(context) {
            if let Some(alive) = &mut self.alive {
                alive.reset();
            }
            return Poll::Ready(line.map(|line| Ok(Frame::data(line))));
        }
        match self.alive.as_mut().map(|alive| alive.poll_tick(context)) {
            Some(Poll::Ready(_)) => Poll::Ready(Some(Ok(Frame::data(Event::Alive {}.line().into())))),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.cancel.ask();
    }
}
