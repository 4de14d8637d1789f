//! One stream that is followed: a task reads ahead as many bytes as there is room for, looks at the order, and ends when
//! nobody listens any more.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use cairn_store::{Event, EventHead, Name, Span};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::address::Source;
use crate::error::{Error, Fault, PeerError, Result};
use crate::net::{Net, PAUSE};
use crate::peer::{EventStream, Peer};
use crate::wire::EventItem;

/// Bytes that are read ahead, unless one event alone has more.
const AHEAD_BYTES: usize = 1 << 20;
/// What an item takes beside its payload.
const ITEM_BYTES: usize = 160;

/// What of a stream is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowAsk {
    /// The first round that is wanted; it may be still to come.
    pub from_round: u64,
    /// Whether payloads are left out.
    pub heads: bool,
    /// Whether to go on when all that is kept has come.
    pub follow: bool,
}

/// What comes of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowItem {
    /// What the peer keeps, as it says: first of all, and every few seconds when nothing happens. How many bytes it takes there
    /// is not said.
    Span(Span),
    /// The event of the next round.
    Event(Event),
    /// The same without its payload.
    Head(EventHead),
    /// All has come that was asked for, or the peer stops: who follows asks again, here or elsewhere.
    End,
}

type Taken = (Result<FollowItem, PeerError>, Option<OwnedSemaphorePermit>);

/// A stream that is followed. Dropping it ends the request.
pub struct Following {
    items: Receiver<Taken>,
    task: AbortHandle,
    /// How it ended, if it has.
    end: Option<Result<(), PeerError>>,
}

impl Net {
    /// Follows a stream of a peer.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::Invalid`]; all else is said by [`Following::next`].
    pub fn follow(&self, source: &Source, name: &Name, ask: FollowAsk) -> Result<Following> {
        let (sender, items) = channel();
        let (peer, name) = (self.peer(source)?, name.clone());
        let task = self.runtime()?.spawn(run(peer, name, ask, sender));
        Ok(Following { items, task: task.abort_handle(), end: None })
    }
}

impl Following {
    /// The next item, if one comes in time. After the end and after an error it says the same again.
    ///
    /// # Errors
    /// [`Error::Peer`]: with [`Fault::Gone`] and what is kept there, if a round that is wanted is not kept any more;
    /// [`Fault::Absent`] if there is no such stream. [`Error::Cancelled`].
    pub fn next(&mut self, timeout: Duration, cancelled: &dyn Fn() -> bool) -> Result<Option<FollowItem>> {
        match &self.end {
            Some(Ok(())) => return Ok(Some(FollowItem::End)),
            Some(Err(error)) => return Err(error.clone().into()),
            None => {}
        }
        let began = Instant::now();
        loop {
            let left = timeout.saturating_sub(began.elapsed());
            match self.items.recv_timeout(left.min(PAUSE)) {
                Ok((Ok(FollowItem::End), _)) => {
                    self.end = Some(Ok(()));
                    return Ok(Some(FollowItem::End));
                }
                // The room that it took is free from here on.
                Ok((Ok(item), _)) => return Ok(Some(item)),
                Ok((Err(error), _)) => {
                    self.end = Some(Err(error.clone()));
                    return Err(error.into());
                }
                Err(RecvTimeoutError::Timeout) if cancelled() => return Err(Error::Cancelled),
                Err(RecvTimeoutError::Timeout) if began.elapsed() >= timeout => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Start("the task of a stream ended without its result".into()));
                }
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(peer: Peer, name: Name, ask: FollowAsk, sender: Sender<Taken>) {
    let room = Arc::new(Semaphore::new(AHEAD_BYTES));
    let mut order = Order { next: ask.from_round, heads: ask.heads, span: None };
    let opened = peer.events(&name, ask.from_round, ask.heads, ask.follow).await;
    let mut stream = match opened {
        Ok(stream) => stream,
        // Nobody listens any more, here and below.
        Err(error) => return drop(sender.send((Err(error), None))),
    };
    loop {
        let item = match order.next(&mut stream).await {
            Ok(item) => item,
            Err(error) => return drop(sender.send((Err(error), None))),
        };
        let bytes = match &item {
            FollowItem::Event(event) => ITEM_BYTES + event.payload.len(),
            _ => ITEM_BYTES,
        };
        let is_last = item == FollowItem::End;
        let places = u32::try_from(bytes.min(AHEAD_BYTES)).unwrap_or(u32::MAX);
        // It is never closed.
        let Ok(taken) = Arc::clone(&room).acquire_many_owned(places).await else { return };
        if sender.send((Ok(item), Some(taken))).is_err() || is_last {
            return;
        }
    }
}

/// What has to come next.
struct Order {
    next: u64,
    heads: bool,
    /// What the peer keeps, once it has said so.
    span: Option<Span>,
}

impl Order {
    async fn next(&mut self, stream: &mut EventStream) -> Result<FollowItem, PeerError> {
        let item = stream.next().await?;
        let misbehaved = |detail: String| Err(stream.peer().error(Fault::Misbehaved, detail));
        let round = match item {
            None => return misbehaved("its stream ends without an end".to_owned()),
            Some(EventItem::Span { first, next }) => {
                let span = Span { first, next, bytes: 0 };
                self.span = Some(span);
                return Ok(FollowItem::Span(span));
            }
            Some(EventItem::Failure(text)) => return Err(self.failure(stream.peer(), &text)),
            Some(_) if self.span.is_none() => {
                return misbehaved("its stream does not begin with what it keeps".to_owned());
            }
            Some(EventItem::End { .. }) => return Ok(FollowItem::End),
            Some(EventItem::Event(ref event)) => event.round,
            Some(EventItem::Head(ref head)) => head.round,
        };
        if round != self.next {
            return misbehaved(format!("it sends round {round} where round {} is due", self.next));
        }
        self.next = round.saturating_add(1);
        match item {
            Some(EventItem::Event(event)) if !self.heads => Ok(FollowItem::Event(event)),
            Some(EventItem::Head(head)) if self.heads => Ok(FollowItem::Head(head)),
            _ => misbehaved("it sends events where heads are due, or the other way round".to_owned()),
        }
    }

    fn failure(&self, peer: &Peer, text: &str) -> PeerError {
        let clean: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
        match self.span.filter(|span| span.first > self.next) {
            Some(span) => {
                let error = peer.error(Fault::Gone, format!("round {} is gone there: {clean}", self.next));
                PeerError { span: Some(span), ..error }
            }
            None => peer.error(Fault::Failed, format!("it gives up: {clean}")),
        }
    }
}
