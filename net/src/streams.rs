//! Streams of events and snapshots of other nodes, for threads that do not know async.
//!
//! A [`Following`] believes no peer about order: what it gives is of consecutive rounds from the one that was asked for on, or
//! it is an error with the peer's name. Whether an event is the one that others have is for whoever reads to see.

mod following;

use cairn_store::{Event, Name, Span};

pub use following::{FollowAsk, FollowItem, Following};

use crate::address::Source;
use crate::error::{Fault, Result};
use crate::net::Net;
use crate::wire::{AppendAnswer, EventItem, RemoteSnapshot, StreamAnswer};

/// Bytes of events in one request, unless a single one has more.
const APPEND_BYTES_MAX: usize = 8 << 20;

impl Net {
    /// The streams that a peer has.
    ///
    /// # Errors
    /// [`Error::Peer`](crate::Error::Peer), [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn streams(&self, from: &Source, cancelled: &dyn Fn() -> bool) -> Result<Vec<StreamAnswer>> {
        let peer = self.peer(from)?;
        Ok(self.wait(async move { peer.streams().await }, cancelled)??.streams)
    }

    /// What a peer keeps of a stream.
    ///
    /// # Errors
    /// [`Error::Peer`](crate::Error::Peer), with [`Fault::Absent`] if it has no such stream;
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn stream_span(&self, from: &Source, name: &Name, cancelled: &dyn Fn() -> bool) -> Result<Span> {
        let (peer, name) = (self.peer(from)?, name.clone());
        let answer = self.wait(async move { peer.stream_span(&name).await }, cancelled)??;
        Ok(Span { first: answer.first_round, next: answer.next_round, bytes: answer.bytes })
    }

    /// The snapshots of a name that a peer has wholly, newest first. They are claims.
    ///
    /// # Errors
    /// [`Error::Peer`](crate::Error::Peer), with [`Fault::Absent`] if it has none;
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn snapshots(
        &self,
        from: &Source,
        name: &Name,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Vec<RemoteSnapshot>> {
        let (peer, asked) = (self.peer(from)?, name.clone());
        let there = peer.clone();
        let mut list = self.wait(async move { there.snapshots(&asked).await }, cancelled)??.snapshots;
        if list.iter().any(|snapshot| snapshot.name.as_ref().is_some_and(|other| other != name)) {
            return Err(peer.error(Fault::Misbehaved, "it lists snapshots of another name").into());
        }
        list.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.round));
        Ok(list)
    }

    /// Appends events of consecutive rounds to a stream there; they are durable on return. Events that are there already count
    /// for nothing, so whoever does not know what became of them asks again.
    ///
    /// # Errors
    /// [`Error::Peer`](crate::Error::Peer), with [`Fault::Conflict`] for a gap and for a round that has another event there
    /// (its `span` says what is kept), and [`Fault::Gone`] if the first is older than what is kept: of many events the first
    /// may be there. [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn append(
        &self,
        to: &Source,
        name: &Name,
        events: &[Event],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<AppendAnswer> {
        let peer = self.peer(to)?;
        let mut done = AppendAnswer { appended: 0, next_round: 0 };
        let mut rest = events;
        loop {
            let mut bytes = Vec::new();
            let mut count = 0;
            for event in rest {
                if count > 0 && bytes.len() + event.payload.len() > APPEND_BYTES_MAX {
                    break;
                }
                EventItem::Event(event.clone()).encode(&mut bytes);
                count += 1;
            }
            EventItem::End { items: count as u64 }.encode(&mut bytes);
            let (there, name) = (peer.clone(), name.clone());
            let answer = self.wait(async move { there.append(&name, bytes).await }, cancelled)??;
            done = AppendAnswer { appended: done.appended + answer.appended, ..answer };
            rest = &rest[count..];
            if rest.is_empty() {
                return Ok(done);
            }
        }
    }
}
