//! Events on their way here: each peer is followed by a thread of its own, one of them for whole events, the others for
//! what tells whether they say the same. What is settled is appended to the node's own log, which is the buffer: on disk,
//! bounded, and there again after a crash.
//!
//! The peer that gives whole events changes when it fails, lags behind others or is outvoted. A stream that breaks off,
//! leaves a round out or comes in another order is asked for again from the first round that is not here.

mod follow;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_net::{Error as NetError, Fault, PeerError};
use cairn_store::streams::EventLog;
use cairn_store::{Event, EventHead};

use super::merge::{Merge, Verdict};
use super::network::Network;
use crate::error::{JoinError, Result};

/// Peers that are followed, at most.
const FOLLOWED_MAX: usize = 8;
/// How often a thread looks whether its part has changed.
const PAUSE: Duration = Duration::from_millis(200);
/// The rest after a failure; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 250 });
const REST_MAX: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5_000 });
/// Failures in a row without a new event, at most.
const FAULTS_MAX: u32 = 8;
/// How long the peer that gives whole events may be behind others.
const LAG_MAX: Duration = Duration::from_secs(3);
/// How long it may give nothing of what it says that it has.
const STALL_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How long others are waited for who could decide between two who contradict each other.
const DISPUTE_MAX: Duration = Duration::from_secs(5);
/// How long enough peers are waited for to say the same.
const AGREE_MAX: Duration = Duration::from_secs(60);
/// Events that are appended together, at most.
const TOGETHER: usize = 512;
/// Their bytes, unless it is one.
const TOGETHER_BYTES: usize = 1 << 20;
/// Bytes of events that wait for others to say the same, unless it is one.
const PENDING_BYTES_MAX: usize = 8 << 20;

/// The events of a network, followed at several peers.
pub(super) struct Feed {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    network: Arc<dyn Network>,
    log: Arc<EventLog>,
    name: String,
    /// The first round that is wanted.
    from: u64,
    /// Guards everything that changes. What is settled is appended to the log under it, so that one does it at a time.
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    merge: Merge,
    peers: Vec<PeerState>,
    /// Who gives whole events.
    primary: Option<usize>,
    /// When an event was appended last.
    moved: Instant,
    failed: Option<JoinError>,
    /// Whether peers that fail are asked again for ever: the node has joined, and they come back.
    is_patient: bool,
    is_over: bool,
}

#[derive(Default)]
struct PeerState {
    is_followed: bool,
    /// Whether it has said anything.
    is_heard: bool,
    /// The round after the last that it has.
    next: u64,
    faults: u32,
    /// Why it is not followed any more.
    out: Option<String>,
    last_fault: Option<String>,
    /// A round of which it says something else than was settled, since when.
    dispute: Option<(EventHead, Instant)>,
}

impl PeerState {
    fn is_live(&self) -> bool {
        self.is_followed && self.out.is_none()
    }
}

/// Why a stream is not read on.
enum Stop {
    /// The part of this thread is another now, or all is over.
    Changed,
    Failed(String),
    /// It lies.
    Out(String),
}

impl Feed {
    /// Follows the peers of `order`, the best first, from the first round on that the log does not have; `from` is the first
    /// that is wanted. The log goes on from what it has, if that reaches `from`.
    pub(super) fn start(
        network: Arc<dyn Network>,
        log: Arc<EventLog>,
        name: String,
        order: &[usize],
        agree: usize,
        from: u64,
    ) -> Result<Self> {
        let span = log.span();
        if !(span.first..=span.next).contains(&from) || span.first == span.next {
            log.reset(from)?;
        }
        let next = log.span().next;
        let mut peers: Vec<PeerState> = (0..network.peers()).map(|_| PeerState::default()).collect();
        let followed = &order[..order.len().min(FOLLOWED_MAX.max(agree))];
        followed.iter().for_each(|peer| peers[*peer].is_followed = true);
        let state = State {
            merge: Merge::new(next, agree),
            peers,
            primary: followed.first().copied(),
            moved: Instant::now(),
            failed: None,
            is_patient: false,
            is_over: false,
        };
        let shared =
            Arc::new(Shared { network, log, name, from, state: Mutex::new(state), changed: Condvar::new() });
        let mut feed = Self { shared, threads: Vec::new() };
        for peer in followed.iter().copied() {
            let shared = Arc::clone(&feed.shared);
            let thread = std::thread::Builder::new().name(format!("events-{peer}"));
            let begun = thread.spawn(move || shared.follow(peer)).map_err(|source| JoinError::Io {
                action: "begin a thread for",
                path: "events".into(),
                source,
            });
            feed.threads.push(begun?);
        }
        Ok(feed)
    }

    /// Waits until one of the peers has said something. Gives who that is.
    pub(super) fn wait_heard(&self, time: Duration, cancelled: &dyn Fn() -> bool) -> Result<usize> {
        let until = Instant::now() + time;
        let mut state = self.shared.lock();
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if let Some(peer) = state.peers.iter().position(|peer| peer.is_heard) {
                return Ok(peer);
            }
            if cancelled() {
                return Err(JoinError::Cancelled);
            }
            if Instant::now() > until || !state.peers.iter().any(PeerState::is_live) {
                return Err(self.shared.no_events(&state));
            }
            state = self.shared.wait(state, PAUSE);
        }
    }

    /// Why no events come any more, if that is so.
    pub(super) fn check(&self) -> Result<()> {
        self.shared.lock().failed.take().map_or(Ok(()), Err)
    }

    /// The round after the newest that any peer has.
    pub(super) fn known_next(&self) -> u64 {
        let state = self.shared.lock();
        let live = state.peers.iter().filter(|peer| peer.is_live()).map(|peer| peer.next);
        live.max().unwrap_or_default().max(self.shared.log.span().next)
    }

    /// Who turned out to be wrong, and how.
    pub(super) fn outs(&self) -> BTreeMap<usize, String> {
        let state = self.shared.lock();
        let outs = state.peers.iter().enumerate();
        outs.filter_map(|(peer, state)| Some((peer, state.out.clone()?))).collect()
    }

    /// From now on peers that fail are asked again for ever.
    pub(super) fn be_patient(&self) {
        self.shared.lock().is_patient = true;
    }

    /// Who gives whole events.
    pub(super) fn primary(&self) -> Option<usize> {
        self.shared.lock().primary
    }

    /// Waits a moment, or until something is new.
    pub(super) fn pause(&self, time: Duration) {
        drop(self.shared.wait(self.shared.lock(), time));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn no_events(&self, state: &State) -> JoinError {
        let reason = |(peer, state): (usize, &PeerState)| {
            let why = state.out.as_ref().or(state.last_fault.as_ref())?;
            Some(format!("{}: {why}", self.network.url(peer)))
        };
        let detail: Vec<_> = state.peers.iter().enumerate().filter_map(reason).collect();
        let detail = if detail.is_empty() { "nobody answers".to_owned() } else { detail.join("; ") };
        JoinError::NoEvents { name: self.name.clone(), from: self.log.span().next, detail }
    }
}

impl State {
    fn changed_for(&self, peer: usize, is_primary: bool) -> bool {
        self.is_over || !self.peers[peer].is_live() || (self.primary == Some(peer)) != is_primary
    }

    /// Notes what a peer says; false if that is for later.
    fn claim(&mut self, peer: usize, head: &EventHead) -> Result<bool, Stop> {
        match self.merge.claim(peer, head) {
            Verdict::Noted => Ok(true),
            Verdict::Later => Ok(false),
            Verdict::Outvoted => Err(outvoted(head.round)),
            Verdict::Disputed { .. } | Verdict::Overturned => {
                self.peers[peer].dispute.get_or_insert((head.clone(), Instant::now()));
                Ok(true)
            }
        }
    }

    /// Whoever says something else than was settled is not followed any more.
    fn outvote(&mut self, peer: usize, round: u64) {
        self.peers[peer].out.get_or_insert(format!("what it says of round {round} is outvoted"));
        self.merge.forget(peer);
        if self.primary == Some(peer) {
            self.elect();
        }
    }

    /// Chooses who gives whole events: who failed least, of these who has most.
    fn elect(&mut self) {
        let live = self.peers.iter().enumerate().filter(|(_, peer)| peer.is_live());
        let best = live.min_by_key(|(number, peer)| (peer.faults, std::cmp::Reverse(peer.next), *number));
        self.primary = best.map(|(number, _)| number);
        self.moved = Instant::now();
    }
}

/// What is no longer kept does not come back; all else may.
fn because_of(error: &NetError) -> Stop {
    match error {
        NetError::Peer(PeerError { fault: Fault::Gone, detail, .. }) => Stop::Out(detail.clone()),
        error => Stop::Failed(error.to_string()),
    }
}

fn outvoted(round: u64) -> Stop {
    Stop::Out(format!("what it says of round {round} is outvoted"))
}

fn disagree(network: &dyn Network, first: usize, second: usize, round: u64) -> JoinError {
    JoinError::Disagree {
        first: network.url(first).clone(),
        second: network.url(second).clone(),
        what: format!("the event of round {round}"),
    }
}

/// One round after the other. What comes again is passed over where the log is asked.
fn in_order(round: u64, expected: &mut u64) -> Result<(), Stop> {
    if round > *expected {
        return Err(Stop::Failed(format!("it sent round {round} where {expected} was due")));
    }
    if round == *expected {
        *expected += 1;
    }
    Ok(())
}

/// Whole events that are not settled yet.
#[derive(Default)]
struct Pending {
    events: VecDeque<(Event, EventHead)>,
    bytes: usize,
    /// Which round has waited for others, and since when.
    waits: Option<(u64, Instant)>,
}

impl Pending {
    fn push(&mut self, event: Event) {
        self.bytes += event.payload.len();
        let head = event.head();
        self.events.push_back((event, head));
    }

    fn pop(&mut self) -> Option<Event> {
        let (event, _) = self.events.pop_front()?;
        self.bytes -= event.payload.len();
        Some(event)
    }
}

#[cfg(test)]
mod tests;
