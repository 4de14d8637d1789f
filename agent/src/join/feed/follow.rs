//! One peer, followed by a thread of its own: what it says is claimed, settled with what the others say, and handed on.

use std::time::{Duration, Instant};

use cairn_net::{Error as NetError, FollowItem};
use cairn_store::EventHead;

use super::{
    AGREE_MAX, DISPUTE_MAX, FAULTS_MAX, FIRST_REST, LAG_MAX, PAUSE, PENDING_BYTES_MAX, Pending, REST_MAX,
    STALL_MAX, Shared, State, Stop, TOGETHER, TOGETHER_BYTES, because_of, disagree, in_order, outvoted,
};
use crate::error::JoinError;
use crate::join::merge::Verdict;

impl Shared {
    /// What the thread of one peer does.
    pub(super) fn follow(&self, peer: usize) {
        let mut rest = FIRST_REST;
        loop {
            let (is_primary, next) = {
                let state = self.lock();
                if state.is_over || !state.peers[peer].is_live() {
                    return;
                }
                (state.primary == Some(peer), state.merge.next())
            };
            // Whole events from what the log has on; heads from what is not settled on.
            let from = if is_primary { self.log.span().next } else { next };
            let before = self.log.span().next;
            match self.read(peer, is_primary, from.max(self.from)) {
                Stop::Changed => continue,
                Stop::Out(why) => self.drop_peer(peer, why),
                Stop::Failed(why) => {
                    let has_moved = self.log.span().next > before;
                    if has_moved {
                        rest = FIRST_REST;
                        self.lock().peers[peer].faults = 0;
                    }
                    self.note_fault(peer, why);
                    if has_moved {
                        // What is left out may come at once when it is asked for.
                        continue;
                    }
                    let until = Instant::now() + rest;
                    rest = (rest * 2).min(REST_MAX);
                    let mut state = self.lock();
                    while !state.is_over && Instant::now() < until {
                        state = self.wait(state, PAUSE.min(rest));
                    }
                }
            }
        }
    }

    /// Reads one answer until it ends or is not wanted any more.
    fn read(&self, peer: usize, is_primary: bool, from: u64) -> Stop {
        let is_over = || self.lock().is_over;
        let mut following = match self.network.follow(peer, from, !is_primary) {
            Ok(following) => following,
            Err(error) => return Stop::Failed(error.to_string()),
        };
        let (mut pending, mut expected) = (Pending::default(), from);
        loop {
            if self.lock().changed_for(peer, is_primary) {
                return Stop::Changed;
            }
            let is_full = pending.bytes >= PENDING_BYTES_MAX;
            let mut wait = if pending.events.is_empty() { PAUSE } else { PAUSE / 10 };
            let mut taken = 0;
            // What has come by now is appended together.
            while !is_full && taken < TOGETHER && pending.bytes < TOGETHER_BYTES {
                let item = match following.next(wait, &is_over) {
                    Ok(Some(item)) => item,
                    Ok(None) => break,
                    Err(NetError::Cancelled) => return Stop::Changed,
                    Err(error) => {
                        // What came before counts.
                        let settled = self.settle(peer, &mut pending);
                        return settled.err().unwrap_or_else(|| because_of(&error));
                    }
                };
                (wait, taken) = (Duration::ZERO, taken + 1);
                match item {
                    FollowItem::Span(span) => self.hear(peer, span.next),
                    FollowItem::Event(event) => {
                        if let Err(why) = in_order(event.round, &mut expected) {
                            return self.settle(peer, &mut pending).err().unwrap_or(why);
                        }
                        self.hear(peer, event.round + 1);
                        pending.push(event);
                    }
                    FollowItem::Head(head) => {
                        if let Err(why) = in_order(head.round, &mut expected) {
                            return why;
                        }
                        self.hear(peer, head.round + 1);
                        if let Err(stop) = self.claim_head(peer, &head) {
                            return stop;
                        }
                    }
                    FollowItem::End => return Stop::Failed("it ended the stream".to_owned()),
                }
            }
            if is_full {
                self.pause_a_moment();
            }
            if let Err(stop) = self.settle(peer, &mut pending).and_then(|()| self.tick(peer)) {
                return stop;
            }
        }
    }

    fn pause_a_moment(&self) {
        drop(self.wait(self.lock(), PAUSE / 4));
    }

    fn hear(&self, peer: usize, next: u64) {
        let mut state = self.lock();
        let of_peer = &mut state.peers[peer];
        of_peer.next = of_peer.next.max(next);
        if !of_peer.is_heard {
            of_peer.is_heard = true;
            self.changed.notify_all();
        }
    }

    /// Waits until a head is not too far ahead, and notes it.
    fn claim_head(&self, peer: usize, head: &EventHead) -> Result<(), Stop> {
        let mut state = self.lock();
        loop {
            match state.claim(peer, head) {
                Ok(true) => {
                    self.changed.notify_all();
                    return Ok(());
                }
                Ok(false) => state = self.wait(state, PAUSE),
                Err(stop) => return Err(stop),
            }
            if state.changed_for(peer, false) {
                return Err(Stop::Changed);
            }
        }
    }

    /// Claims what came whole, and appends what is settled of it.
    fn settle(&self, peer: usize, pending: &mut Pending) -> Result<(), Stop> {
        if pending.events.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        let mut ready = Vec::new();
        let next = self.log.span().next;
        while let Some((event, head)) = pending.events.front() {
            let state = &mut *state;
            state.claim(peer, head)?;
            if head.round < next + ready.len() as u64 {
                // It came before.
                pending.pop();
                continue;
            }
            if state.merge.next() == head.round {
                let dissenting = state.merge.settle().unwrap_or_default();
                dissenting.into_iter().for_each(|other| state.outvote(other, head.round));
                if !state.peers[peer].is_live() {
                    return Err(Stop::Changed);
                }
            }
            match state.merge.settled(event.round) {
                Some(claim) if *claim == (head.hash, head.state_hash.clone()) => {
                    ready.extend(pending.pop());
                }
                Some(_) => {
                    return Err(Stop::Out(format!("what it says of round {} is outvoted", head.round)));
                }
                None => break,
            }
        }
        if ready.is_empty() {
            self.check_waiting(&mut state, pending);
            return Ok(());
        }
        pending.waits = None;
        if let Err(error) = self.log.append(&ready) {
            state.failed.get_or_insert(error.into());
            self.changed.notify_all();
            return Err(Stop::Changed);
        }
        state.moved = Instant::now();
        state.peers[peer].faults = 0;
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// An event that is not settled waits for others to say the same of it; not for ever.
    fn check_waiting(&self, state: &mut State, pending: &mut Pending) {
        let Some((_, head)) = pending.events.front() else { return };
        let round = head.round;
        let (_, since) = *pending.waits.get_or_insert((round, Instant::now()));
        let error = match state.merge.stalemate() {
            Some((first, second)) if since.elapsed() > DISPUTE_MAX => {
                disagree(&*self.network, first, second, round)
            }
            _ if since.elapsed() > AGREE_MAX => {
                let detail = format!("{} say the same of it, and more have to", state.merge.votes());
                JoinError::NoEvents { name: self.name.clone(), from: round, detail }
            }
            _ => return,
        };
        state.failed.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Looks now and then at what only time tells.
    fn tick(&self, peer: usize) -> Result<(), Stop> {
        let mut state = self.lock();
        if let Some((head, since)) = state.peers[peer].dispute.clone() {
            match state.merge.claim(peer, &head) {
                Verdict::Noted | Verdict::Later => state.peers[peer].dispute = None,
                Verdict::Outvoted => return Err(outvoted(head.round)),
                Verdict::Disputed { other } if since.elapsed() > DISPUTE_MAX => {
                    let error = disagree(&*self.network, peer, other, head.round);
                    state.failed.get_or_insert(error);
                    self.changed.notify_all();
                }
                Verdict::Disputed { .. } => {}
                Verdict::Overturned => {
                    let what = format!("what was taken of round {} is outvoted", head.round);
                    let (name, from) = (self.name.clone(), head.round);
                    state.failed.get_or_insert(JoinError::NoEvents { name, from, detail: what });
                    self.changed.notify_all();
                }
            }
        }
        // Another peer is ahead, and this one gives nothing.
        if state.primary == Some(peer) && state.moved.elapsed() > LAG_MAX {
            let own = state.peers[peer].next;
            let ahead = state.peers.iter().position(|other| other.is_live() && other.next > own);
            if let Some(ahead) = ahead {
                state.primary = Some(ahead);
                state.moved = Instant::now();
                self.changed.notify_all();
            }
        }
        self.check_promise(&mut state, peer)
    }

    /// What a peer says that it has and does not give is not waited for.
    fn check_promise(&self, state: &mut State, peer: usize) -> Result<(), Stop> {
        let (next, said) = (self.log.span().next, state.peers[peer].next);
        let is_stalled = said > next && state.moved.elapsed() > STALL_MAX;
        if state.primary != Some(peer) || !is_stalled || state.merge.votes() > 0 {
            return Ok(());
        }
        state.peers[peer].next = next;
        Err(Stop::Failed(format!("it says that it has rounds up to {}, and does not give {next}", said - 1)))
    }

    fn note_fault(&self, peer: usize, why: String) {
        tracing::debug!(peer = %self.network.url(peer), why, "a stream of events broke off");
        let mut state = self.lock();
        let of_peer = &mut state.peers[peer];
        of_peer.faults += 1;
        of_peer.last_fault = Some(why.clone());
        let is_given_up = of_peer.faults >= FAULTS_MAX && !state.is_patient;
        if state.primary == Some(peer) {
            state.elect();
        }
        drop(state);
        if is_given_up {
            self.drop_peer(peer, why);
        }
        self.changed.notify_all();
    }

    /// A peer is not followed any more.
    fn drop_peer(&self, peer: usize, why: String) {
        tracing::warn!(peer = %self.network.url(peer), why, "its events are not asked for any more");
        let mut state = self.lock();
        state.peers[peer].out.get_or_insert(why);
        state.merge.forget(peer);
        state.elect();
        if state.primary.is_none() {
            let error = self.no_events(&state);
            state.failed.get_or_insert(error);
        }
        self.changed.notify_all();
    }
}
