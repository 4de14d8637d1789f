//! The stream that all nodes agree by, at a daemon of cairn.
//!
//! A stream has one event a round, in order and without gaps, and takes a round once: who appends a round that somebody else has appended already
//! is refused. That is all the agreement this network has, and all it needs: whoever gets a round in has the next
//! one, and everybody else follows, applies it and tries the round behind it.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cairn_net::{Fault, FollowAsk, FollowItem, Following, Net, NetOptions, PeerUrl, Secret, Source};
use cairn_store::Name;
use cairn_store::event::Event;

use crate::error::Error;
use crate::node::Outcome;

/// What stands between a daemon's address and the stream's name.
const PATH: &str = "/v1/streams/";

/// Where a stream is: `http://127.0.0.1:7001/v1/streams/kv`.
#[derive(Debug, Clone)]
pub(crate) struct StreamUrl {
    peer: PeerUrl,
    name: Name,
}

impl FromStr for StreamUrl {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self, Error> {
        let refuse = || Error::NoStream { given: given.chars().take(200).collect() };
        let (peer, name) = given.split_once(PATH).ok_or_else(refuse)?;
        Ok(Self { peer: peer.parse()?, name: name.parse().map_err(|_| refuse())? })
    }
}

impl std::fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{PATH}{}", self.peer, self.name)
    }
}

/// A stream, and what lets us in.
pub(crate) struct Stream {
    net: Arc<Net>,
    source: Source,
    name: Name,
}

/// What comes of following.
pub(crate) enum Heard {
    /// Events that follow each other.
    Events(Vec<Event>),
    /// The stream has every round before this one.
    Next(u64),
    /// Nothing, for now.
    Nothing,
    /// The daemon is going away.
    End,
}

/// Most events that are applied at once, and most bytes of them, but for one that alone is longer.
const EVENTS_MAX: usize = 512;
const EVENT_BYTES_MAX: usize = 4 << 20;

impl Stream {
    /// Makes ready; nobody is asked yet.
    pub(crate) fn new(url: &StreamUrl, token: Option<&Path>) -> Result<Self, Error> {
        let token = token.map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| Error::Io { what: path.into(), source })?;
            Ok::<_, Error>(text.parse::<Secret>()?)
        });
        let source = Source { token: token.transpose()?, ..Source::open(url.peer.clone()) };
        Ok(Self { net: Net::start(NetOptions::default())?, source, name: url.name.clone() })
    }

    /// Follows it from a round on.
    pub(crate) fn follow(&self, from_round: u64) -> Result<Listening, Error> {
        let ask = FollowAsk { from_round, heads: false, follow: true };
        let following = self.net.follow(&self.source, &self.name, ask)?;
        Ok(Listening { following, from_round, held: None })
    }

    /// Appends events, of which the first is to be the next one.
    pub(crate) fn append(&self, events: &[Event]) -> Result<Outcome, Error> {
        let first = events.first().map_or(0, |event| event.round);
        match self.net.append(&self.source, &self.name, events, &|| false) {
            Ok(_) => Ok(Outcome::Appended),
            Err(cairn_net::Error::Peer(error)) if error.fault == Fault::Conflict => {
                let next = error.span.map_or(first + 1, |span| span.next);
                if next < first {
                    return Err(Error::Behind { next, at: first - 1 });
                }
                // Where it is not said, at least the round that was tried is somebody else's.
                Ok(Outcome::Taken { next: next.max(first + 1) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is no such stream.
    pub(crate) fn is_absent(error: &Error) -> bool {
        fault(error) == Some(Fault::Absent)
    }

    /// Whether the daemon may answer another time.
    pub(crate) fn is_passing(error: &Error) -> bool {
        fault(error).is_some_and(|fault| fault.may_pass() || fault == Fault::Absent)
    }
}

fn fault(error: &Error) -> Option<Fault> {
    match error {
        Error::Net(cairn_net::Error::Peer(error)) => Some(error.fault),
        _ => None,
    }
}

/// A stream that is followed.
pub(crate) struct Listening {
    following: Following,
    /// The round that was asked for.
    from_round: u64,
    /// What came behind events that are given out first.
    held: Option<Heard>,
}

impl Listening {
    /// Waits for the next thing; gives all events that are there already at once.
    pub(crate) fn hear(&mut self, time: Duration) -> Result<Heard, Error> {
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < EVENTS_MAX && bytes < EVENT_BYTES_MAX {
            let time = if events.is_empty() { time } else { Duration::ZERO };
            let item = self.following.next(time, &|| false).map_err(|error| self.explain(error))?;
            let other = match item {
                Some(FollowItem::Event(event)) => {
                    bytes += event.payload.len();
                    events.push(event);
                    continue;
                }
                Some(FollowItem::Span(span)) => {
                    if span.next < self.from_round && !span.is_empty() {
                        return Err(Error::Behind { next: span.next, at: self.from_round - 1 });
                    }
                    Heard::Next(span.next)
                }
                Some(FollowItem::Head(_)) | None => Heard::Nothing,
                Some(FollowItem::End) => Heard::End,
            };
            if events.is_empty() {
                return Ok(other);
            }
            self.held = Some(other);
            break;
        }
        Ok(Heard::Events(events))
    }

    fn explain(&self, error: cairn_net::Error) -> Error {
        match error {
            cairn_net::Error::Peer(error) if error.fault == Fault::Gone => {
                let first = error.span.map_or(0, |span| span.first);
                Error::TooOld { at: self.from_round - 1, first }
            }
            error => error.into(),
        }
    }
}
