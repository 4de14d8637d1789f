//! The packs under way. Frames are appended under one lock, and sealing happens outside of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Kept, VerifiedFrame, choose, encode};
use crate::block::Frame;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::PackNumber;
use crate::pack::{Filling, Pack, PackKind};
use crate::store::{Store, lock};

/// Full packs that wait to be sealed, at most; whoever fills another seals one of them first.
const WAITING_MAX: usize = 2;
/// How long after the last frame a pack is sealed.
const IDLE: Duration = Duration::from_secs(3);
/// How long after its first frame a pack is sealed.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long a frame waits for another process that may take the store over.
const SUSPENDED_MAX: Duration = Duration::from_secs(30);

/// What is under way.
pub(super) struct Packs {
    /// Asks nobody for what is not here.
    store: Store,
    /// Held while an index run is written. `state` is not held with it.
    running: Arc<Mutex<()>>,
    /// Guards the packs under way. The store's index and its overlay are asked and told under it.
    state: Mutex<State>,
    /// A pack waits to be sealed or was, or the intake is suspended, resumed or closed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    data: Option<Open>,
    metadata: Option<Open>,
    /// Packs that take no more, in the order in which they are to be sealed.
    waiting: VecDeque<Open>,
    /// The tickets of all packs that are not sealed yet.
    unsealed: BTreeSet<u64>,
    next_ticket: u64,
    /// Whether a pack's name may not be durable.
    unsynced: bool,
    /// The ticket from which on failures were not told to anybody.
    flushed: u64,
    /// The last pack that was given up, and why.
    failed: Option<(u64, Failure)>,
    /// When the last frame was appended.
    last: Option<Instant>,
    suspended: bool,
    closed: bool,
}

/// A pack that is filled or waits to be sealed.
struct Open {
    filling: Filling,
    number: PackNumber,
    ticket: u64,
    begun: Instant,
}

/// An error of a system call, to be told again.
#[derive(Debug, Clone)]
struct Failure {
    action: &'static str,
    path: std::path::PathBuf,
    kind: std::io::ErrorKind,
    code: Option<i32>,
    text: String,
}

impl Packs {
    pub(super) fn new(store: Store, running: Arc<Mutex<()>>) -> Self {
        Self { store, running, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Keeps the chunks of a frame that are wanted.
    pub(super) fn keep(
        &self,
        kind: PackKind,
        frame: &VerifiedFrame,
        is_wanted: &dyn Fn(&ChunkId) -> Result<bool>,
    ) -> Result<Kept> {
        let mut again: Option<(Vec<usize>, Frame)> = None;
        loop {
            // Outside of the lock, where another thread may yet keep some of them.
            let slots = choose(frame, is_wanted)?;
            if slots.is_empty() {
                return Ok(Kept::default());
            }
            if slots.len() < frame.chunks().len() && again.as_ref().is_none_or(|(made, _)| *made != slots) {
                again = Some((slots.clone(), encode(frame, &slots)));
            }
            let mut state = self.ready()?;
            if choose(frame, is_wanted)? != slots {
                continue;
            }
            let chosen = match &again {
                Some((made, encoded)) if *made == slots => encoded,
                _ => frame.frame(),
            };
            self.append(&mut state, kind, chosen)?;
            let helps = state.waiting.len() > WAITING_MAX;
            drop(state);
            if helps {
                self.seal_next();
            }
            return Ok(Kept {
                chunks: chosen.header.chunks.len() as u64,
                plain_bytes: chosen.header.plain_len.into(),
                stored_bytes: chosen.bytes.len() as u64,
            });
        }
    }

    /// The state, once frames may be appended.
    fn ready(&self) -> Result<MutexGuard<'_, State>> {
        let begun = Instant::now();
        let mut state = lock(&self.state);
        loop {
            let unavailable = |detail: &str| Error::Unavailable {
                what: format!("the writer of {}", self.store.path().display()),
                detail: detail.to_owned(),
            };
            if state.closed {
                return Err(unavailable("it was closed"));
            }
            if !state.suspended {
                return Ok(state);
            }
            let left = SUSPENDED_MAX.checked_sub(begun.elapsed());
            let left = left.ok_or_else(|| unavailable("another process is taking the store over"))?;
            state = self.wait_for(state, left);
        }
    }

    fn append(&self, state: &mut State, kind: PackKind, frame: &Frame) -> Result<()> {
        let kind = kind.plain();
        let open = match kind {
            PackKind::Data | PackKind::Delta => &mut state.data,
            PackKind::Metadata => &mut state.metadata,
        };
        if open.is_none() {
            let ticket = state.next_ticket;
            *open = Some(self.begin(kind, ticket)?);
            state.next_ticket += 1;
            state.unsealed.insert(ticket);
        }
        let Some(there) = open else { unreachable!("it was begun above") };
        let appended = there.filling.append(frame);
        match appended {
            Ok(row) => self.store.overlay().add(there.number, row, &frame.header.chunks),
            Err(error) => {
                if let Some(open) = open.take() {
                    self.give_up(state, open, &error);
                }
                return Err(error);
            }
        }
        state.last = Some(Instant::now());
        if there.filling.is_full()
            && let Some(full) = open.take()
        {
            state.waiting.push_back(full);
        }
        // The sealer sets its alarm, or begins to seal.
        self.changed.notify_all();
        Ok(())
    }

    fn begin(&self, kind: PackKind, ticket: u64) -> Result<Open> {
        let filling = Filling::create(Arc::clone(self.store.io()), &self.store.packs_dir(), kind)?;
        let alias = PackId::of(filling.path().as_os_str().as_encoded_bytes());
        let pack = Pack::growing(&**self.store.io(), filling.path(), alias, kind)?;
        let number = self.store.overlay().begin(Arc::new(pack));
        Ok(Open { filling, number, ticket, begun: Instant::now() })
    }

    /// A pack that failed: what it holds is not here any more. Its file stays for the next writer to recover, but where
    /// room is wanted.
    fn give_up(&self, state: &mut State, open: Open, error: &Error) {
        tracing::warn!(%error, path = %open.filling.path().display(), "a pack is given up");
        self.store.overlay().forget(open.number);
        state.unsealed.remove(&open.ticket);
        if let Some(failure) = Failure::of(error) {
            state.failed = Some((open.ticket, failure));
        }
        if error.is_disk_full()
            && let Err(error) = self.store.io().remove(open.filling.path())
        {
            tracing::warn!(%error, path = %open.filling.path().display(), "cannot remove an unfinished pack");
        }
    }

    /// Seals the pack that waits longest; false if none does.
    pub(super) fn seal_next(&self) -> bool {
        let Some(mut open) = lock(&self.state).waiting.pop_front() else { return false };
        let sealed = open.filling.seal(&|id| self.store.holds().claim(id));
        let mut state = lock(&self.state);
        match sealed {
            Ok(id) => {
                if open.filling.replaced() {
                    // What is open and known of the one before, which was damaged perhaps, is not of this one.
                    self.store.forget_pack(id);
                }
                self.store.overlay().sealed(open.number, id);
                state.unsealed.remove(&open.ticket);
                state.unsynced = true;
            }
            Err(error) => self.give_up(&mut state, open, &error),
        }
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Makes the names of sealed packs durable, and has the index take them over when they are many.
    pub(super) fn settle(&self) -> Result<()> {
        if std::mem::take(&mut lock(&self.state).unsynced) {
            let dir = self.store.packs_dir();
            let synced = self.store.io().sync_dir(&dir);
            synced.inspect_err(|_| lock(&self.state).unsynced = true).map_err(Error::io("sync", dir))?;
        }
        if self.store.overlay().is_large() {
            let index = self.store.absorb_sealed()?;
            let _alone = lock(&self.running);
            if let Err(error) = index.persist(&**self.store.io(), self.store.path(), false) {
                tracing::warn!(%error, "cannot write the index; it is derived from the packs each time");
            }
        }
        Ok(())
    }

    /// Makes all that was kept before durable.
    pub(super) fn flush(&self) -> Result<()> {
        let mut state = lock(&self.state);
        let (from, until) = (state.flushed, state.next_ticket);
        state.close_open();
        drop(state);
        while self.seal_next() {}
        let mut state = lock(&self.state);
        // Others may be sealing some of them.
        while state.unsealed.first().is_some_and(|ticket| *ticket < until) {
            if state.waiting.is_empty() {
                state = self.wait(state);
            } else {
                drop(state);
                self.seal_next();
                state = lock(&self.state);
            }
        }
        state.flushed = state.flushed.max(until);
        let failed = state.failed.as_ref().filter(|(ticket, _)| *ticket >= from).map(|(_, it)| it.clone());
        drop(state);
        self.settle()?;
        failed.map_or(Ok(()), |failure| Err(failure.error()))
    }

    pub(super) fn suspend(&self) {
        lock(&self.state).suspended = true;
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "what was fetched last is lost");
        }
    }

    pub(super) fn resume(&self) {
        lock(&self.state).suspended = false;
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "what was fetched last is lost");
        }
    }

    /// Waits until there is something to seal, and says so; false when the intake was closed.
    pub(super) fn wait_for_work(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return false;
            }
            let now = Instant::now();
            match state.due() {
                _ if !state.waiting.is_empty() => return true,
                None => state = self.wait(state),
                Some(due) if due > now => state = self.wait_for(state, due - now),
                Some(_) => {
                    state.close_open();
                    return true;
                }
            }
        }
    }
}

impl State {
    /// Puts what is open in the row to be sealed: data first.
    fn close_open(&mut self) {
        let open = [self.data.take(), self.metadata.take()];
        self.waiting.extend(open.into_iter().flatten());
    }

    /// When what is open has to be sealed.
    fn due(&self) -> Option<Instant> {
        let begun = [&self.data, &self.metadata].into_iter().flatten().map(|open| open.begun).min()?;
        Some((self.last? + IDLE).min(begun + AGE_MAX))
    }
}

impl Failure {
    fn of(error: &Error) -> Option<Self> {
        let Error::Io { action, path, source } = error else { return None };
        let (kind, code, text) = (source.kind(), source.raw_os_error(), source.to_string());
        Some(Self { action, path: path.clone(), kind, code, text })
    }

    fn error(self) -> Error {
        let source = match self.code {
            Some(code) => std::io::Error::from_raw_os_error(code),
            None => std::io::Error::new(self.kind, self.text),
        };
        Error::Io { action: self.action, path: self.path, source }
    }
}
