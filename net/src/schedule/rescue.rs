//! Who is too slow, and what is asked of others because of that: batches that are taken away from the hopeless, and the
//! end-game, in which those who have nothing to do are asked for what others hold.

use std::time::Duration;

use super::batch::Batch;
use super::{BATCH_TIME, BatchId, FIRST_REST, Order, PLAIN_FACTOR, PeerNo, Schedule, Slot};

/// After so long without a byte, a peer is not expected to send more.
const SILENCE: Duration = Duration::from_secs(1);
/// A batch is not judged before it is so old.
const JUDGED_AFTER: Duration = Duration::from_secs(3);
/// So many times slower than the fastest other is too slow.
const SLOW_FACTOR: f64 = 16.0;
/// Up to so many times, the rest of a peer that is too slow becomes longer: to about 4 minutes.
const SLOW_MAX: u32 = 5;
/// Requests that hold a chunk while the last that was asked is silent, at most.
const SILENT_ASKED_MAX: u8 = 3;

impl Schedule {
    /// Chunks that another peer was asked for and is slow to bring: those from the end of its batch.
    pub(super) fn take_again(&mut self, peer: PeerNo, now: Duration) -> Option<Vec<Slot>> {
        // A peer that lies idle takes part even when nothing is known of its rate yet.
        let mine = self.rate(peer, now).filter(|rate| *rate > 0.0);
        let mut best: Option<(f64, Vec<Slot>)> = None;
        for batch in self.batches.values().filter(|batch| batch.peer != peer) {
            let is_silent = now.saturating_sub(batch.last_byte) >= SILENCE;
            let asked_max = if is_silent { SILENT_ASKED_MAX } else { 1 };
            let may_take = |slot: &Slot| self.may_take_again(peer, *slot, asked_max);
            let left: Vec<Slot> = batch.unanswered().into_iter().filter(may_take).collect();
            if left.is_empty() {
                continue;
            }
            let bytes: u64 = left.iter().map(|slot| u64::from(self.chunks[*slot as usize].len)).sum();
            let lanes = self.batches_of(batch.peer).max(1);
            let theirs =
                self.rate(batch.peer, now).map(|rate| rate / lanes as f64).filter(|rate| *rate > 0.0);
            let (remaining, share) = match (theirs, mine) {
                _ if is_silent => (f64::MAX, 1.0),
                (Some(theirs), Some(mine)) => {
                    (bytes as f64 / PLAIN_FACTOR as f64 / theirs, mine / (mine + theirs))
                }
                // Too early to say.
                _ => continue,
            };
            let ours = mine.map_or(0.0, |mine| bytes as f64 * share / PLAIN_FACTOR as f64 / mine);
            let is_worth_it = remaining > 2.0 * ours + 0.1;
            if is_worth_it && best.as_ref().is_none_or(|(longest, _)| remaining > *longest) {
                let wanted = bytes as f64 * share;
                best = Some((remaining, self.tail_of(left, wanted)));
            }
        }
        best.map(|(_, slots)| slots).filter(|slots| !slots.is_empty())
    }

    /// Whether a peer may be asked for a chunk that at most so many requests hold already, none of them its own.
    fn may_take_again(&self, peer: PeerNo, slot: Slot, asked_max: u8) -> bool {
        let chunk = &self.chunks[slot as usize];
        let fits = !chunk.delivered && chunk.asked <= asked_max && chunk.lacking & 1 << peer.0 == 0;
        fits && !self.batches.values().any(|batch| batch.peer == peer && batch.holds(slot))
    }

    /// The last of some chunks, about so many bytes.
    fn tail_of(&self, slots: Vec<Slot>, bytes: f64) -> Vec<Slot> {
        let mut sum = 0.0;
        let len = |slot: &Slot| f64::from(self.chunks[*slot as usize].len);
        let taken = slots.iter().rev().take_while(|slot| {
            let before = sum;
            sum += len(slot);
            before < bytes
        });
        let count = taken.count();
        slots[slots.len() - count..].to_vec()
    }

    pub(super) fn take_from_the_slow(&mut self, now: Duration) {
        let slow: Vec<_> = self.batches.values().filter_map(|batch| self.judge(batch, now)).collect();
        for (id, peer, detail) in slow {
            self.close(id);
            self.orders.push(Order::Cancel { batch: id });
            let state = &mut self.peers[peer.0];
            state.slow = (state.slow + 1).min(SLOW_MAX);
            state.rests_until = now + FIRST_REST * 4u32.pow(state.slow);
            state.last_failure = Some(detail);
        }
    }

    /// Whether a request is hopelessly slow, and how that is told.
    fn judge(&self, batch: &Batch, now: Duration) -> Option<(BatchId, PeerNo, String)> {
        if now.saturating_sub(batch.began) < JUDGED_AFTER {
            return None;
        }
        let others = (0..self.peers.len()).map(PeerNo).filter(|peer| *peer != batch.peer);
        let others = others.filter(|peer| self.peers[peer.0].out.is_none() && self.batches_of(*peer) > 0);
        let best = others.filter_map(|peer| self.rate(peer, now)).fold(0.0, f64::max);
        let rate = self.rate(batch.peer, now).unwrap_or(0.0);
        if rate * SLOW_FACTOR >= best {
            return None;
        }
        let left: u64 =
            batch.unanswered().iter().map(|slot| u64::from(self.chunks[*slot as usize].len)).sum();
        let remaining = left as f64 / PLAIN_FACTOR as f64 / rate.max(1.0);
        // The last bytes of a batch are let come.
        if remaining < BATCH_TIME.as_secs_f64() {
            return None;
        }
        let detail =
            format!("slow: {} KB/s where another sends {} KB/s", (rate / 1e3).round(), (best / 1e3).round());
        Some((batch.id, batch.peer, detail))
    }
}
