//! What is wanted and by whom: each chunk once, however many wait for it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cairn_store::{ChunkId, ChunkRef, Why};

use super::Placed;

/// What came of a wait.
pub(super) enum Outcome {
    /// All of it came. Of damaged chunks, the frames that are to replace them.
    Came(Vec<Placed>),
    /// It cannot be had: why, for people.
    Failed(String),
    /// The own store failed.
    Broken(cairn_store::Error),
    /// The deadline passed with so many chunks missing.
    Late(usize),
}

/// A chunk that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) id: ChunkId,
    pub(super) why: Why,
}

/// Everything that is wanted.
#[derive(Default)]
pub(super) struct Wants {
    /// Guards the list; taken before a waiter's own lock.
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    wants: BTreeMap<ChunkId, Want>,
    /// Those that nobody was asked for yet.
    queue: VecDeque<ChunkId>,
}

struct Want {
    why: Why,
    waiters: Vec<Arc<Waiter>>,
    /// Whether it is in the queue, rather than with a request.
    queued: bool,
}

/// A thread that waits.
pub(super) struct Waiter {
    deadline: Instant,
    /// Guards what it waits for; a leaf lock.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    left: HashSet<ChunkId>,
    frames: Vec<Placed>,
    failure: Option<Failure>,
}

enum Failure {
    Failed(String),
    Broken(cairn_store::Error),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wants {
    /// Adds what a thread wants; it waits on what this gives.
    pub(super) fn add(&self, wanted: &[ChunkRef], why: Why, deadline: Instant) -> Arc<Waiter> {
        let left: HashSet<ChunkId> = wanted.iter().map(|chunk| chunk.id).collect();
        let state = State { left, ..State::default() };
        let waiter = Arc::new(Waiter { deadline, state: Mutex::new(state), changed: Condvar::new() });
        let list = &mut *lock(&self.list);
        let mut seen = HashSet::new();
        for chunk in wanted.iter().filter(|chunk| seen.insert(chunk.id)) {
            let queue = &mut list.queue;
            let want = list.wants.entry(chunk.id).or_insert_with(|| {
                queue.push_back(chunk.id);
                Want { why, waiters: Vec::new(), queued: true }
            });
            if why == Why::Damaged {
                want.why = why;
            }
            want.waiters.push(Arc::clone(&waiter));
        }
        waiter
    }

    /// Whether nothing is to be asked for.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.list).queue.is_empty()
    }

    /// Takes what is to be asked for in one request, in the order in which it was wanted. What nobody waits for any more
    /// is forgotten.
    pub(super) fn take(&self, max: usize, now: Instant) -> Vec<Wanted> {
        let list = &mut *lock(&self.list);
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(id) = list.queue.pop_front()
        {
            let Some(want) = list.wants.get_mut(&id) else { continue };
            want.waiters.retain(|waiter| waiter.deadline > now);
            if want.waiters.is_empty() {
                list.wants.remove(&id);
                continue;
            }
            want.queued = false;
            taken.push(Wanted { id, why: want.why });
        }
        taken
    }

    /// A chunk came, and was kept if it was absent.
    pub(super) fn came(&self, id: &ChunkId, frame: Option<&Placed>) {
        for waiter in self.remove(id) {
            let mut state = lock(&waiter.state);
            state.left.remove(id);
            state.frames.extend(frame.cloned());
            if state.left.is_empty() {
                waiter.changed.notify_all();
            }
        }
    }

    /// Nobody has it.
    pub(super) fn failed(&self, id: &ChunkId, detail: &str) {
        for waiter in self.remove(id) {
            lock(&waiter.state).failure.get_or_insert_with(|| Failure::Failed(detail.to_owned()));
            waiter.changed.notify_all();
        }
    }

    /// It cannot be kept. The first who waits learns why, the others that it is so.
    pub(super) fn broken(&self, id: &ChunkId, error: cairn_store::Error) {
        let text = error.to_string();
        let mut error = Some(error);
        for waiter in self.remove(id) {
            let failure = error.take().map_or_else(|| Failure::Failed(text.clone()), Failure::Broken);
            lock(&waiter.state).failure.get_or_insert(failure);
            waiter.changed.notify_all();
        }
    }

    /// It did not come this time, and is to be asked for again if somebody still waits.
    pub(super) fn again(&self, ids: impl IntoIterator<Item = ChunkId>) {
        let list = &mut *lock(&self.list);
        for id in ids {
            if let Some(want) = list.wants.get_mut(&id)
                && !want.queued
            {
                want.queued = true;
                list.queue.push_back(id);
            }
        }
    }

    /// Whether somebody still waits for any of these.
    pub(super) fn is_wanted(&self, ids: &[ChunkId], now: Instant) -> bool {
        let list = lock(&self.list);
        let waits = |want: &Want| want.waiters.iter().any(|waiter| waiter.deadline > now);
        ids.iter().any(|id| list.wants.get(id).is_some_and(waits))
    }

    fn remove(&self, id: &ChunkId) -> Vec<Arc<Waiter>> {
        lock(&self.list).wants.remove(id).map(|want| want.waiters).unwrap_or_default()
    }
}

impl Waiter {
    /// Waits until all came, something failed, or the deadline passed.
    pub(super) fn wait(&self, deadline: Instant) -> Outcome {
        let mut state = lock(&self.state);
        loop {
            match state.failure.take() {
                Some(Failure::Failed(detail)) => return Outcome::Failed(detail),
                Some(Failure::Broken(error)) => return Outcome::Broken(error),
                None => {}
            }
            if state.left.is_empty() {
                return Outcome::Came(std::mem::take(&mut state.frames));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Outcome::Late(state.left.len());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn chunk(number: u8) -> ChunkRef {
        ChunkRef { id: ChunkId([number; 32]), len: 1 }
    }

    fn ids(taken: &[Wanted]) -> Vec<u8> {
        taken.iter().map(|wanted| wanted.id.0[0]).collect()
    }

    #[test]
    fn each_chunk_is_asked_for_once_and_all_who_wait_go_on() {
        let (wants, now) = (Wants::default(), Instant::now());
        let deadline = now + Duration::from_secs(60);
        let first = wants.add(&[chunk(1), chunk(2), chunk(1)], Why::Absent, deadline);
        let second = wants.add(&[chunk(2), chunk(3)], Why::Absent, deadline);
        assert_eq!(ids(&wants.take(2, now)), [1, 2]);
        assert_eq!(ids(&wants.take(9, now)), [3]);
        assert!(wants.is_idle());
        let third = wants.add(&[chunk(2)], Why::Absent, deadline);
        assert!(wants.is_idle(), "it is on its way");
        for number in [1, 2] {
            wants.came(&chunk(number).id, None);
        }
        assert!(matches!(first.wait(deadline), Outcome::Came(_)));
        assert!(matches!(third.wait(deadline), Outcome::Came(_)));
        assert!(matches!(second.wait(now), Outcome::Late(1)));
        wants.failed(&chunk(3).id, "nobody has it");
        assert!(matches!(second.wait(deadline), Outcome::Failed(_)));
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let (wants, now) = (Wants::default(), Instant::now());
        wants.add(&[chunk(1)], Why::Absent, now);
        wants.add(&[chunk(2)], Why::Absent, now + Duration::from_secs(60));
        assert_eq!(ids(&wants.take(9, now)), [2]);
        wants.again([chunk(1).id, chunk(2).id, chunk(2).id]);
        assert_eq!(ids(&wants.take(9, now)), [2]);
        assert!(wants.is_wanted(&[chunk(2).id], now));
        assert!(!wants.is_wanted(&[chunk(1).id], now));
    }
}
