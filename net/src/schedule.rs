//! Who is asked for which chunks, and when that changes. Pure: what happens and when goes in, what to do comes out, so
//! that whole transfers with peers that die, stall and lie are simulated in its tests.
//!
//! Chunks are asked for in batches, in their order. What a peer is given follows the rate at which it was seen to
//! deliver; a peer that is alone is asked for everything at once. Outside the end-game each chunk is asked of one peer.
//! The end-game begins for a peer when nothing is left that nobody was asked for: then it is asked for the rest of what
//! the slowest others hold, if that is expected to be faster.
//!
//! Whoever sends what is not what its id says, or what was not asked for, is out for good. Whoever fails rests, longer
//! each time, and is out after a few times in a row without delivering anything. Whoever is far slower than the others
//! and than its batch was sized for has the batch taken away.
//!
//! Every chunk ends delivered, or the schedule ends stuck with the chunks that nobody can give. Time is since the
//! beginning of the transfer.

mod batch;
mod rate;
mod rescue;

use std::collections::BTreeMap;
use std::time::Duration;

use batch::Batch;
use rate::Rate;

use crate::error::Fault;

/// Peers of one transfer, at most: as many as a chunk's marks have bits.
pub(crate) const PEERS_MAX: usize = 16;
/// Requests to one peer at a time where there are several peers: while one is answered, the next is on its way.
const LANES: usize = 2;
/// Plain bytes in a batch of a peer whose rate is not known yet.
const BATCH_FIRST: u64 = 1 << 20;
const BATCH_MIN: u64 = 256 << 10;
const BATCH_MAX: u64 = 16 << 20;
/// How long a batch should take.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Plain bytes for each byte on the wire, about: what compression comes to.
const PLAIN_FACTOR: u64 = 2;
/// Failures in a row without anything delivered, at most.
const FAILURES_MAX: u32 = 4;
/// The rest after the first failure; each further one is 4 times as long.
const FIRST_REST: Duration = Duration::from_millis(250);
/// Answers of `busy` in a row, at most.
const BUSY_MAX: u32 = 30;
/// The rest of a busy peer that names no time.
const BUSY_REST: Duration = Duration::from_secs(1);
/// How long a peer that is getting the artifact itself is taken at its word that it does not have a chunk.
const PARTIAL_REST: Duration = Duration::from_secs(1);
/// How often the schedule looks for what has become slow.
const TICK: Duration = Duration::from_millis(100);

/// A peer of the transfer, by its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerNo(pub(crate) usize);

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BatchId(pub(crate) u64);

/// A chunk of the transfer, by its place in the list.
pub(crate) type Slot = u32;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ask a peer for these chunks, ascending.
    Ask { batch: BatchId, peer: PeerNo, slots: Vec<Slot> },
    /// Nothing more is wanted of this request.
    Cancel { batch: BatchId },
}

/// Whether what came is what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// Nothing of it was, or it came before.
    Unasked,
}

/// How the transfer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Running,
    /// Every chunk was delivered.
    Done,
    /// These will not come: no peer that is left has them.
    Stuck(Vec<Slot>),
}

#[derive(Debug, Clone, Copy, Default)]
struct Chunk {
    len: u32,
    /// Requests that hold it.
    asked: u8,
    delivered: bool,
    /// A bit for each peer that does not have it.
    lacking: u16,
}

#[derive(Debug)]
struct PeerState {
    rate: Rate,
    rests_until: Duration,
    /// Why it is not asked any more.
    out: Option<Out>,
    /// Where it is getting the artifact itself: until when what it did not have is not asked of it again.
    partial_until: Option<Duration>,
    failures: u32,
    busy: u32,
    slow: u32,
    /// Chunks that it delivered first.
    chunks: u64,
    last_failure: Option<String>,
}

/// Why a peer is not asked any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) fault: Fault,
    pub(crate) detail: String,
}

/// What a peer came to.
#[derive(Debug, Clone)]
pub(crate) struct PeerSummary {
    pub(crate) chunks: u64,
    pub(crate) out: Option<Out>,
    /// The last thing that went wrong, even if it was overcome.
    pub(crate) last_failure: Option<String>,
}

/// The state of one transfer.
#[derive(Debug)]
pub(crate) struct Schedule {
    chunks: Vec<Chunk>,
    left: usize,
    /// Before this, nothing is free.
    first_free: usize,
    /// Plain bytes that nobody was asked for and that did not come.
    free_bytes: u64,
    peers: Vec<PeerState>,
    batches: BTreeMap<BatchId, Batch>,
    next_batch: u64,
    orders: Vec<Order>,
}

impl Schedule {
    /// A transfer of chunks of these lengths from so many peers, and as many more as `partial` that may have some of them:
    /// at most [`PEERS_MAX`] together.
    pub(crate) fn new(lens: impl IntoIterator<Item = u32>, whole: usize, partial: usize) -> Self {
        let peers = whole + partial;
        assert!(peers <= PEERS_MAX, "a transfer from {peers} peers");
        let chunks: Vec<_> = lens.into_iter().map(|len| Chunk { len, ..Chunk::default() }).collect();
        let peers = (0..peers).map(|number| PeerState {
            rate: Rate::default(),
            rests_until: Duration::ZERO,
            out: None,
            partial_until: (number >= whole).then_some(PARTIAL_REST),
            failures: 0,
            busy: 0,
            slow: 0,
            chunks: 0,
            last_failure: None,
        });
        Self {
            left: chunks.len(),
            first_free: 0,
            free_bytes: chunks.iter().map(|chunk| u64::from(chunk.len)).sum(),
            chunks,
            peers: peers.collect(),
            batches: BTreeMap::new(),
            next_batch: 0,
            orders: Vec::new(),
        }
    }

    /// What is to be done now.
    pub(crate) fn poll(&mut self, now: Duration) -> Vec<Order> {
        self.take_from_the_slow(now);
        self.ask_partial_again(now);
        // One batch for each in turn, so that the first in the list does not take everything.
        for _ in 0..LANES {
            for peer in self.by_rate(now) {
                let lanes = if self.usable() == 1 { 1 } else { LANES };
                if !self.is_ready(peer, now) || self.batches_of(peer) >= lanes {
                    continue;
                }
                let slots = self.take_free(peer, now).or_else(|| self.take_again(peer, now));
                if let Some(slots) = slots {
                    self.ask(peer, slots, now);
                }
            }
        }
        std::mem::take(&mut self.orders)
    }

    /// Forgets what peers did not have that are getting it themselves.
    fn ask_partial_again(&mut self, now: Duration) {
        for (number, peer) in self.peers.iter_mut().enumerate() {
            let Some(until) = &mut peer.partial_until else { continue };
            if *until > now || peer.out.is_some() {
                continue;
            }
            *until = now + PARTIAL_REST;
            self.chunks.iter_mut().for_each(|chunk| chunk.lacking &= !(1 << number));
        }
    }

    /// When to call [`Self::poll`] again if nothing happens before.
    pub(crate) fn next_wake(&self, now: Duration) -> Duration {
        let resting = self.peers.iter().filter(|peer| peer.out.is_none() && peer.rests_until > now);
        let rest = resting.map(|peer| peer.rests_until).min();
        let tick = (!self.batches.is_empty()).then_some(now + TICK);
        rest.into_iter().chain(tick).min().unwrap_or(now + TICK)
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.left == 0 {
            return Standing::Done;
        }
        if !self.batches.is_empty() {
            return Standing::Running;
        }
        let usable = |peer: &usize| self.peers[*peer].out.is_none();
        let mask: u16 = (0..self.peers.len()).filter(usable).map(|peer| 1 << peer).sum();
        let left = || self.chunks.iter().filter(|chunk| !chunk.delivered);
        if left().any(|chunk| mask & !chunk.lacking != 0) {
            return Standing::Running;
        }
        let slots = (0..).zip(&self.chunks).filter(|(_, chunk)| !chunk.delivered).map(|(slot, _)| slot);
        Standing::Stuck(slots.collect())
    }

    /// Bytes of a request's answer came.
    pub(crate) fn received(&mut self, batch: BatchId, bytes: u64, now: Duration) {
        if let Some(batch) = self.batches.get_mut(&batch) {
            batch.last_byte = now;
            self.peers[batch.peer.0].rate.add(bytes, now);
        }
    }

    /// Chunks came, verified, in one frame: all of the frame that this transfer wants.
    pub(crate) fn kept(&mut self, id: BatchId, slots: &[Slot]) -> Verdict {
        let verdict = match self.batches.get_mut(&id) {
            Some(batch) => batch.answer(slots),
            // The request was given up before the frame was verified.
            None => Verdict::Fine,
        };
        if verdict == Verdict::Fine {
            let peer = self.batches.get(&id).map(|batch| batch.peer);
            for slot in slots {
                self.deliver(*slot, peer);
            }
            self.cancel_what_is_done(Some(id));
        }
        verdict
    }

    /// A peer says that it does not have these.
    pub(crate) fn absent(&mut self, id: BatchId, slots: &[Slot]) -> Verdict {
        let Some(batch) = self.batches.get_mut(&id) else { return Verdict::Fine };
        let peer = batch.peer;
        let marked: Vec<Slot> = slots.iter().copied().filter(|slot| batch.mark(*slot)).collect();
        for slot in &marked {
            self.chunks[*slot as usize].lacking |= 1 << peer.0;
            self.release(*slot);
        }
        if marked.len() == slots.len() { Verdict::Fine } else { Verdict::Unasked }
    }

    /// A request's answer ended well. Unasked if it did not tell of everything that it was asked for.
    pub(crate) fn ended(&mut self, id: BatchId) -> Verdict {
        let Some(batch) = self.batches.remove(&id) else { return Verdict::Fine };
        let unanswered = batch.unanswered();
        for slot in &unanswered {
            self.release(*slot);
        }
        self.peers[batch.peer.0].busy = 0;
        if unanswered.is_empty() { Verdict::Fine } else { Verdict::Unasked }
    }

    /// A request failed.
    pub(crate) fn failed(
        &mut self,
        id: BatchId,
        fault: Fault,
        detail: String,
        retry_after: Option<Duration>,
        now: Duration,
    ) {
        let Some(batch) = self.close(id) else { return };
        let peer = batch.peer;
        if !fault.may_pass() {
            self.drop_peer(peer, fault, detail);
            return;
        }
        let state = &mut self.peers[peer.0];
        // The other request of the same moment failed for the same reason.
        if state.rests_until > now {
            return;
        }
        let rest = if fault == Fault::Busy {
            state.busy += 1;
            if state.busy > BUSY_MAX {
                self.drop_peer(peer, fault, detail);
                return;
            }
            retry_after.unwrap_or(BUSY_REST)
        } else {
            state.failures += 1;
            if state.failures >= FAILURES_MAX {
                self.drop_peer(peer, fault, detail);
                return;
            }
            FIRST_REST * 4u32.pow(state.failures - 1)
        };
        state.rests_until = now + rest;
        state.last_failure = Some(detail);
    }

    /// A peer is not asked any more, and what it was asked for is free again.
    pub(crate) fn drop_peer(&mut self, peer: PeerNo, fault: Fault, detail: String) {
        let batches: Vec<_> =
            self.batches.values().filter(|batch| batch.peer == peer).map(|batch| batch.id).collect();
        for id in batches {
            self.close(id);
            self.orders.push(Order::Cancel { batch: id });
        }
        let state = &mut self.peers[peer.0];
        state.out.get_or_insert(Out { fault, detail });
    }

    /// Which peer a request went to; nothing once it is over.
    pub(crate) fn peer_of(&self, batch: BatchId) -> Option<PeerNo> {
        self.batches.get(&batch).map(|batch| batch.peer)
    }

    pub(crate) fn summary(&self, peer: PeerNo) -> PeerSummary {
        let PeerState { chunks, out, last_failure, .. } = &self.peers[peer.0];
        PeerSummary { chunks: *chunks, out: out.clone(), last_failure: last_failure.clone() }
    }

    fn usable(&self) -> usize {
        self.peers.iter().filter(|peer| peer.out.is_none()).count()
    }

    fn is_ready(&self, peer: PeerNo, now: Duration) -> bool {
        let state = &self.peers[peer.0];
        // A slow peer is better than none.
        state.out.is_none() && (state.rests_until <= now || (state.slow > 0 && self.usable() == 1))
    }

    fn batches_of(&self, peer: PeerNo) -> usize {
        self.batches.values().filter(|batch| batch.peer == peer).count()
    }

    /// The fastest first; those whose rate is not known come in the order of the list.
    fn by_rate(&self, now: Duration) -> Vec<PeerNo> {
        let mut peers: Vec<_> = (0..self.peers.len()).map(PeerNo).collect();
        peers.sort_by(|a, b| self.rate(*b, now).unwrap_or(0.0).total_cmp(&self.rate(*a, now).unwrap_or(0.0)));
        peers
    }

    /// Bytes a second on the wire, if anything is known of it.
    fn rate(&self, peer: PeerNo, now: Duration) -> Option<f64> {
        self.peers[peer.0].rate.at(now, self.batches_of(peer) > 0)
    }

    /// The next chunks that nobody was asked for and that this peer may have.
    fn take_free(&mut self, peer: PeerNo, now: Duration) -> Option<Vec<Slot>> {
        let bytes_max = if self.usable() == 1 { u64::MAX } else { self.batch_bytes(peer, now) };
        let is_free = |chunk: &Chunk| !chunk.delivered && chunk.asked == 0;
        while self.chunks.get(self.first_free).is_some_and(|chunk| !is_free(chunk)) {
            self.first_free += 1;
        }
        let (mut slots, mut bytes) = (Vec::new(), 0);
        for (slot, chunk) in (0..).zip(&self.chunks).skip(self.first_free) {
            if is_free(chunk) && chunk.lacking & 1 << peer.0 == 0 {
                if bytes > 0 && bytes + u64::from(chunk.len) > bytes_max {
                    break;
                }
                bytes += u64::from(chunk.len);
                slots.push(slot);
            }
        }
        (!slots.is_empty()).then_some(slots)
    }

    /// Plain bytes of a peer's next batch.
    fn batch_bytes(&self, peer: PeerNo, now: Duration) -> u64 {
        let wanted = self.rate(peer, now).map_or(BATCH_FIRST, |rate| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is not negative, and is clamped below"
            )]
            let bytes = (rate * BATCH_TIME.as_secs_f64()) as u64;
            bytes.saturating_mul(PLAIN_FACTOR).clamp(BATCH_MIN, BATCH_MAX)
        });
        // Towards the end batches shrink, so that all end at about the same time.
        let share = self.free_bytes / (2 * LANES * self.usable().max(1)) as u64;
        wanted.min(share.max(BATCH_MIN))
    }

    fn ask(&mut self, peer: PeerNo, slots: Vec<Slot>, now: Duration) {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        for slot in &slots {
            let chunk = &mut self.chunks[*slot as usize];
            if chunk.asked == 0 {
                self.free_bytes -= u64::from(chunk.len);
            }
            chunk.asked += 1;
        }
        if self.batches_of(peer) == 0 {
            self.peers[peer.0].rate.begin(now);
        }
        self.batches.insert(id, Batch::new(id, peer, &slots, now));
        self.orders.push(Order::Ask { batch: id, peer, slots });
    }

    fn deliver(&mut self, slot: Slot, peer: Option<PeerNo>) {
        let chunk = &mut self.chunks[slot as usize];
        if chunk.delivered {
            return;
        }
        chunk.delivered = true;
        self.left -= 1;
        if chunk.asked == 0 {
            self.free_bytes -= u64::from(chunk.len);
        }
        if let Some(peer) = peer {
            let state = &mut self.peers[peer.0];
            state.chunks += 1;
            state.failures = 0;
        }
    }

    /// One request less holds this chunk.
    fn release(&mut self, slot: Slot) {
        let chunk = &mut self.chunks[slot as usize];
        chunk.asked = chunk.asked.saturating_sub(1);
        if chunk.asked == 0 && !chunk.delivered {
            self.free_bytes += u64::from(chunk.len);
            self.first_free = self.first_free.min(slot as usize);
        }
    }

    /// Ends a request; what it did not bring is free again.
    fn close(&mut self, id: BatchId) -> Option<Batch> {
        let batch = self.batches.remove(&id)?;
        for slot in batch.unanswered() {
            self.release(slot);
        }
        Some(batch)
    }

    /// Gives up the requests of whose chunks all came from others.
    fn cancel_what_is_done(&mut self, but: Option<BatchId>) {
        let chunks = &self.chunks;
        let is_done = |batch: &mut Batch| batch.is_done(|slot| chunks[slot as usize].delivered);
        let done: Vec<_> = self
            .batches
            .values_mut()
            .filter(|batch| Some(batch.id) != but)
            .filter_map(|batch| is_done(batch).then_some(batch.id))
            .collect();
        for id in done {
            self.close(id);
            self.orders.push(Order::Cancel { batch: id });
        }
    }
}

#[cfg(test)]
mod tests;
