//! The node: the state and who may touch it now.
//!
//! Three kinds of threads meet here: the follower applies what the stream has, the producer appends to it, and requests
//! come by the socket. One lock guards all. A snapshot needs a moment in which the database's file is consistent and
//! nobody changes it: [`Node::freeze`] closes the file, and everybody else waits until [`Node::thaw`]. Who forgets to thaw
//! loses the snapshot and not the node: after its time the state opens by itself, and the thaw that comes too late fails.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_store::event::Event;

use crate::batch::{self, Write};
use crate::db::{At, Change, Db};
use crate::error::Error;

/// A write that somebody asked for by the socket, and where he is told the round that made it.
pub(crate) struct Wish {
    pub(crate) write: Write,
    pub(crate) done: std::sync::mpsc::Sender<u64>,
}

/// The state and what is known of its network.
pub(crate) struct Node {
    dir: PathBuf,
    /// Guards everything of the node; held while the database works and while a batch is appended.
    state: Mutex<State>,
    /// Something of `state` is another than it was.
    changed: Condvar,
}

struct State {
    /// None while it is frozen.
    db: Option<Db>,
    /// Where the state is, readable while it is frozen too.
    at: At,
    /// When it thaws by itself.
    frozen_until: Option<Instant>,
    /// Whether it had to, and whoever froze it was not told yet.
    has_expired: bool,
    /// The next round of the stream as far as is known; none until it was heard of.
    stream_next: Option<u64>,
    wishes: Vec<Wish>,
    is_stopping: bool,
}

/// What became of a batch that was to be appended.
pub(crate) enum Outcome {
    /// It is in the stream.
    Appended,
    /// Somebody else had the round; the stream's next one is this.
    Taken { next: u64 },
}

impl Node {
    /// Opens the state in `dir`, or makes an empty one.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Error> {
        let db = Db::open(&dir)?;
        let at = db.at().clone();
        let state = State {
            db: Some(db),
            at,
            frozen_until: None,
            has_expired: false,
            stream_next: None,
            wishes: Vec::new(),
            is_stopping: false,
        };
        Ok(Self { dir, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Where the state is.
    pub(crate) fn at(&self) -> At {
        self.lock().at.clone()
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.thawed()?.db()?.get(key)?)
    }

    /// Applies events that follow each other. Those that the state has are skipped; one that does not follow, or after which the
    /// state is not what its producer had, is an error, and none of them is kept then.
    pub(crate) fn apply(&self, events: &[Event]) -> Result<(), Error> {
        let mut state = self.thawed()?;
        let mut change = state.db()?.begin()?;
        for event in events {
            apply(&mut change, event)?;
        }
        if change.round() > state.at.round {
            state.commit(change)?;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// The stream has every round before this one.
    pub(crate) fn heard_of(&self, next: u64) {
        let mut state = self.lock();
        state.stream_next = Some(state.stream_next.map_or(next, |known| known.max(next)));
        self.changed.notify_all();
    }

    /// Makes `count` rounds behind the last one, has `append` put them into the stream, and keeps them if that has them. What was
    /// wished for by the socket comes first.
    ///
    /// # Errors
    /// That of `append`: whether the stream has the rounds is not known then. If it has, the follower brings them.
    pub(crate) fn produce(
        &self,
        count: u64,
        writes_of: impl Fn(u64) -> Vec<Write>,
        append: impl FnOnce(&[Event]) -> Result<Outcome, Error>,
    ) -> Result<u64, Error> {
        let mut state = self.thawed()?;
        let mut change = state.db()?.begin()?;
        let wished = state.wishes.len().min(batch::WRITES_MAX / 2);
        let mut wishes = state.wishes[..wished].iter().map(|wish| wish.write.clone()).collect::<Vec<_>>();
        let first = state.at.round + 1;
        let mut events = Vec::new();
        for round in first..first + count {
            let mut writes = std::mem::take(&mut wishes);
            writes.extend(writes_of(round));
            let state_hash = Some(change.apply(&writes)?);
            events.push(Event { round, state_hash, payload: batch::encode(&writes) });
        }
        match append(&events)? {
            Outcome::Appended => {
                state.commit(change)?;
                for wish in state.wishes.drain(..wished) {
                    // Whoever asked may be gone.
                    let _ = wish.done.send(first);
                }
                let next = state.at.round + 1;
                drop(state);
                self.heard_of(next);
                Ok(count)
            }
            Outcome::Taken { next } => {
                // Before anybody else has the state: there is one change at a time.
                drop(change);
                drop(state);
                self.heard_of(next);
                Ok(0)
            }
        }
    }

    /// Asks the producer to write something, soon.
    pub(crate) fn wish(&self, wish: Wish) {
        self.lock().wishes.push(wish);
        self.changed.notify_all();
    }

    /// Waits until the state has all rounds that the stream is known to have.
    pub(crate) fn wait_until_caught_up(&self) -> Result<(), Error> {
        self.wait(None, |state| state.stream_next.is_some_and(|next| state.at.round + 1 >= next))
    }

    /// Waits for this time, or until somebody wishes for something.
    pub(crate) fn wait_for_a_wish(&self, time: Duration) -> Result<(), Error> {
        self.wait(Some(Instant::now() + time), |state| !state.wishes.is_empty())
    }

    /// Waits for this time, or until the node is to stop.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Error> {
        self.wait(Some(Instant::now() + time), |_| false)
    }

    fn wait(&self, until: Option<Instant>, is_so: impl Fn(&State) -> bool) -> Result<(), Error> {
        let mut state = self.lock();
        loop {
            if state.is_stopping {
                return Err(Error::Stopping);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if is_so(&state) || left == Some(Duration::ZERO) {
                return Ok(());
            }
            state = self.changed_within(state, left);
        }
    }

    /// Closes the database for at most this time; gives where it is. Whatever else wants it waits.
    pub(crate) fn freeze(&self, time_max: Duration) -> Result<At, Error> {
        let mut state = self.lock();
        state.check_running()?;
        state.thaw_if_due(&self.dir)?;
        if state.frozen_until.is_some() {
            return Err(Error::Refused("somebody else has frozen it already".to_owned()));
        }
        if let Some(db) = state.db.take() {
            db.close()?;
        }
        state.frozen_until = Some(Instant::now() + time_max);
        state.has_expired = false;
        Ok(state.at.clone())
    }

    /// Opens it again. An error, once, if it had to open by itself meanwhile: what was copied is no snapshot then. There is nothing wrong
    /// with thawing what is not frozen: whoever was killed while he froze it may have somebody else thaw it.
    pub(crate) fn thaw(&self) -> Result<At, Error> {
        let mut state = self.lock();
        state.thaw_if_due(&self.dir)?;
        if std::mem::take(&mut state.has_expired) {
            let why = "its time was over and it thawed by itself, so what was copied is not one state";
            return Err(Error::Refused(why.to_owned()));
        }
        if state.frozen_until.take().is_some() {
            state.open(&self.dir)?;
        }
        self.changed.notify_all();
        Ok(state.at.clone())
    }

    /// Whoever waits is told [`Error::Stopping`] from now on.
    pub(crate) fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
    }

    /// Whether the node is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// Closes the state, once nobody has it.
    pub(crate) fn close(&self) -> Result<(), Error> {
        if let Some(db) = self.lock().db.take() {
            db.close()?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked had not committed never happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, once it is not frozen.
    fn thawed(&self) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock();
        loop {
            state.check_running()?;
            state.thaw_if_due(&self.dir)?;
            let Some(until) = state.frozen_until else { return Ok(state) };
            state = self.changed_within(state, Some(until.saturating_duration_since(Instant::now())));
        }
    }

    fn changed_within<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        time: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match time {
            Some(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl State {
    fn db(&self) -> Result<&Db, Error> {
        self.db.as_ref().ok_or(Error::Stopping)
    }

    fn commit(&mut self, change: Change) -> Result<(), Error> {
        let db = self.db.as_mut().ok_or(Error::Stopping)?;
        db.commit(change)?;
        self.at = db.at().clone();
        Ok(())
    }

    fn check_running(&self) -> Result<(), Error> {
        if self.is_stopping { Err(Error::Stopping) } else { Ok(()) }
    }

    fn open(&mut self, dir: &std::path::Path) -> Result<(), Error> {
        self.db = Some(Db::open(dir)?);
        Ok(())
    }

    fn thaw_if_due(&mut self, dir: &std::path::Path) -> Result<(), Error> {
        if self.frozen_until.is_some_and(|until| until <= Instant::now()) {
            self.frozen_until = None;
            self.has_expired = true;
            self.open(dir)?;
        }
        Ok(())
    }
}

/// Applies one event if the state has it not.
pub(crate) fn apply(change: &mut Change, event: &Event) -> Result<(), Error> {
    if event.round <= change.round() {
        return Ok(());
    }
    if event.round != change.round() + 1 {
        return Err(Error::Gap { at: change.round(), round: event.round });
    }
    let here = change.apply(&batch::decode(&event.payload)?)?;
    match &event.state_hash {
        Some(there) if *there != here => {
            Err(Error::Diverged { round: event.round, here, there: there.clone() })
        }
        _ => Ok(()),
    }
}
