//! One request: what it was asked for, and what of that was answered.

use std::time::Duration;

use super::{BatchId, PeerNo, Slot, Verdict};

/// Frames of an answer that may repeat what came before: so many, and one in so many of all.
const REPEATED_MIN: usize = 16;
const REPEATED_PART: usize = 8;

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: BatchId,
    pub(super) peer: PeerNo,
    pub(super) began: Duration,
    /// When its last byte came, or it began.
    pub(super) last_byte: Duration,
    /// Ascending, each with whether it was answered.
    slots: Vec<(Slot, bool)>,
    unanswered: usize,
    frames: usize,
    /// Frames that brought nothing that had not come before.
    repeated: usize,
    /// Before this, all is answered or delivered: see [`Batch::is_done`].
    done_before: usize,
}

impl Batch {
    pub(super) fn new(id: BatchId, peer: PeerNo, slots: &[Slot], now: Duration) -> Self {
        let slots: Vec<_> = slots.iter().map(|slot| (*slot, false)).collect();
        Self {
            id,
            peer,
            began: now,
            last_byte: now,
            unanswered: slots.len(),
            slots,
            frames: 0,
            repeated: 0,
            done_before: 0,
        }
    }

    /// Notes what came in one frame. Fine if any of it is asked for here and did not come before; a few frames may
    /// repeat what others brought along.
    pub(super) fn answer(&mut self, slots: &[Slot]) -> Verdict {
        self.frames += 1;
        let new = slots.iter().filter(|slot| self.mark(**slot)).count();
        if new > 0 {
            return Verdict::Fine;
        }
        self.repeated += 1;
        let is_asked =
            slots.iter().any(|slot| self.slots.binary_search_by_key(slot, |(slot, _)| *slot).is_ok());
        let is_little = self.repeated <= REPEATED_MIN + self.frames / REPEATED_PART;
        if is_asked && is_little { Verdict::Fine } else { Verdict::Unasked }
    }

    /// Whether it is asked for this, and did not answer yet.
    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.slots.binary_search(&(slot, false)).is_ok()
    }

    pub(super) fn unanswered(&self) -> Vec<Slot> {
        if self.unanswered == 0 {
            return Vec::new();
        }
        self.slots.iter().filter(|(_, answered)| !answered).map(|(slot, _)| *slot).collect()
    }

    /// Whether nothing of it is wanted any more.
    pub(super) fn is_done(&mut self, is_delivered: impl Fn(Slot) -> bool) -> bool {
        while let Some((slot, answered)) = self.slots.get(self.done_before)
            && (*answered || is_delivered(*slot))
        {
            self.done_before += 1;
        }
        self.done_before == self.slots.len()
    }

    /// Notes that a chunk is answered for; whether it was asked for and was not yet.
    pub(super) fn mark(&mut self, slot: Slot) -> bool {
        let Ok(at) = self.slots.binary_search_by_key(&slot, |(slot, _)| *slot) else { return false };
        let was_answered = std::mem::replace(&mut self.slots[at].1, true);
        self.unanswered -= usize::from(!was_answered);
        !was_answered
    }
}
