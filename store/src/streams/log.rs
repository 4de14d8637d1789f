//! One log: who appends shares syncs with the others, who reads waits for nobody.
//!
//! An append puts its records in the queue. Whoever finds that nobody writes takes the queue, writes and syncs it without the
//! lock, says what is durable, and wakes the rest; what came meanwhile is the next batch.

mod write;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::record;
use super::recover;
use super::segment::{Part, Segment, Tail};
use super::{Appended, Span, StreamBounds};
use crate::event::{EVENT_LEN_MAX, Event, EventHash, EventHead};
use crate::io::Io;
use crate::refs::Name;
use crate::store::lock;
use crate::writer::Writer;
use crate::{Error, Result};

/// Bytes that wait to be written, unless one append alone has more.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Bytes of a segment when it is left for a new one, unless little is kept.
const SEGMENT_BYTES: u64 = 8 << 20;
/// The same where little is kept.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Heads of events that are here already which are looked at in one go.
const KNOWN_MAX: usize = 4096;

type Watcher = Arc<dyn Fn(Span) + Send + Sync>;

/// The events of one stream, from a first kept round to the newest: in order, without a gap.
pub struct EventLog {
    name: Name,
    io: Arc<dyn Io>,
    dir: PathBuf,
    /// Guards all but the files. Held for moments, never while something is read or written; the locks of segments and
    /// watchers are taken under it.
    state: Mutex<State>,
    /// Signalled when somebody stops writing, and when the mode changes.
    moved: Condvar,
    /// Guards who is told of appends. A leaf lock.
    watchers: Arc<Mutex<Watchers>>,
    /// What keeps the store's lock as long as this lives.
    _writer: Option<Arc<Writer>>,
}

#[derive(Default)]
struct Watchers {
    last: u64,
    watchers: Vec<(u64, Watcher)>,
}

/// As long as it lives, its watcher is told.
#[must_use]
pub struct Watch {
    id: u64,
    watchers: Weak<Mutex<Watchers>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watchers) = self.watchers.upgrade() {
            lock(&watchers).watchers.retain(|(id, _)| *id != self.id);
        }
    }
}

/// Who may append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Running,
    /// Nobody for the moment.
    Suspended,
    /// Nobody any more: the store is another's.
    Closed,
}

struct State {
    /// Oldest first, each with the bytes of it that are durable.
    segments: VecDeque<(Arc<Segment>, u64)>,
    /// The first round that can be read, and the one after the last that is durable.
    first: u64,
    next: u64,
    bytes_max: u64,
    segment_bytes: u64,
    /// The newest segment, unless somebody writes. None too if nothing was ever appended.
    tail: Option<Tail>,
    /// Whether somebody writes.
    is_written: bool,
    /// What he writes.
    writing: Queue,
    queue: Queue,
    mode: Mode,
    /// A file whose write failed.
    poisoned: Option<PathBuf>,
}

/// Records that become durable together.
#[derive(Default)]
struct Queue {
    batch: Arc<Batch>,
    records: Vec<Queued>,
    bytes: Vec<u8>,
}

struct Queued {
    round: u64,
    hash: EventHash,
    at: Range<usize>,
}

/// What became of a batch; set under the lock of the state, before whoever waits for it is woken.
#[derive(Default)]
struct Batch {
    outcome: OnceLock<Outcome>,
}

struct Outcome {
    /// The round after the last that became durable.
    next: u64,
    failure: Option<Failure>,
}

/// Why a batch is not durable, for everybody whose events are in it.
enum Failure {
    Full { path: PathBuf, kind: io::ErrorKind },
    Failed { action: &'static str, path: PathBuf, kind: io::ErrorKind, text: String },
    Other { path: PathBuf },
}

impl Failure {
    fn of(error: &Error, path: PathBuf) -> Self {
        match error {
            Error::Full { path, source } => Self::Full { path: path.clone(), kind: source.kind() },
            Error::Io { action, path, source } => {
                Self::Failed { action, path: path.clone(), kind: source.kind(), text: source.to_string() }
            }
            _ => Self::Other { path },
        }
    }

    fn to_error(&self) -> Error {
        match self {
            Self::Full { path, kind } => Error::Full { path: path.clone(), source: (*kind).into() },
            Self::Failed { action, path, kind, text } => {
                Error::Io { action, path: path.clone(), source: io::Error::new(*kind, text.clone()) }
            }
            Self::Other { path } => Error::Poisoned { path: path.clone() },
        }
    }
}

impl State {
    fn span(&self) -> Span {
        let bytes = self.segments.iter().map(|(_, bytes)| bytes).sum();
        Span { first: self.first, next: self.next, bytes }
    }

    /// The round after all that are durable or wait to be.
    fn accepted_next(&self) -> u64 {
        let last = self.queue.records.last().or(self.writing.records.last());
        last.map_or(self.next, |last| last.round + 1)
    }

    /// Whether the next round is settled: not if nothing was ever appended.
    fn has_begun(&self) -> bool {
        !self.segments.is_empty() || !self.queue.records.is_empty() || !self.writing.records.is_empty()
    }

    /// The hash of an event that waits to be durable.
    fn waiting(&self, round: u64) -> Option<(EventHash, &Arc<Batch>)> {
        [&self.writing, &self.queue].into_iter().find_map(|queue| {
            let first = queue.records.first()?.round;
            let at = usize::try_from(round.checked_sub(first)?).ok()?;
            queue.records.get(at).map(|queued| (queued.hash, &queue.batch))
        })
    }
}

impl EventLog {
    pub(super) fn open(io: Arc<dyn Io>, dir: PathBuf, name: Name, bounds: StreamBounds) -> Result<Self> {
        let segment_bytes = (bounds.bytes_max / 8).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
        Self::open_with(io, dir, name, bounds, segment_bytes)
    }

    pub(super) fn open_with(
        io: Arc<dyn Io>,
        dir: PathBuf,
        name: Name,
        bounds: StreamBounds,
        segment_bytes: u64,
    ) -> Result<Self> {
        let opened = recover::open(&*io, &dir)?;
        let first = opened.segments.front().map_or(0, |(segment, _)| segment.first);
        let state = State {
            segments: opened.segments,
            first,
            next: opened.next,
            bytes_max: bounds.bytes_max,
            segment_bytes,
            tail: opened.tail,
            is_written: false,
            writing: Queue::default(),
            queue: Queue::default(),
            mode: Mode::Running,
            poisoned: None,
        };
        let (state, moved) = (Mutex::new(state), Condvar::new());
        let log = Self { name, io, dir, state, moved, watchers: Arc::default(), _writer: None };
        log.trim();
        Ok(log)
    }

    /// The same, and the store stays this writer's.
    pub(super) fn keeping(self, writer: Option<Arc<Writer>>) -> Self {
        Self { _writer: writer, ..self }
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is kept and durable.
    #[must_use]
    pub fn span(&self) -> Span {
        lock(&self.state).span()
    }

    /// Whether anything was ever appended, or a first round set. Where nothing was, any round may come first.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !lock(&self.state).segments.is_empty()
    }

    /// Keeps so many bytes from now on.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        let mut state = lock(&self.state);
        state.bytes_max = bytes_max;
        state.segment_bytes = (bytes_max / 8).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
        drop(state);
        self.trim();
    }

    /// Has `watcher` called with what is kept after each append and [`EventLog::reset`], for as long as the result lives,
    /// from whatever thread wrote. It is not to wait for anything.
    pub fn watch(&self, watcher: Box<dyn Fn(Span) + Send + Sync>) -> Watch {
        let mut watchers = lock(&self.watchers);
        watchers.last += 1;
        let id = watchers.last;
        watchers.watchers.push((id, Arc::from(watcher)));
        Watch { id, watchers: Arc::downgrade(&self.watchers) }
    }

    /// Appends events of consecutive rounds. All of them are durable on return. Those that are there already, with the same
    /// hash, are left as they are; a log that never had any takes any first round. Callers at the same time share syncs.
    ///
    /// # Errors
    /// [`Error::RoundGap`] with the next round if the first is later than that, [`Error::RoundsGone`] if it is older than what
    /// is kept, [`Error::Conflict`] if a round has another event here, [`Error::Invalid`] for rounds that are not consecutive
    /// and payloads that are too long: nothing was appended. [`Error::Full`] where there is no room: the first of them may be
    /// there, and the next append may succeed. [`Error::Unavailable`] when another process has the store by now. Any other
    /// failure ends this log until it is opened again, and which of them are there is known then; [`Error::Poisoned`] after
    /// that.
    pub fn append(&self, events: &[Event]) -> Result<Appended> {
        self.check(events)?;
        let Some(first) = events.first() else {
            return Ok(Appended { appended: 0, next: self.span().next });
        };
        let hashes: Vec<EventHash> = events.iter().map(|event| EventHash::of(&event.payload)).collect();
        let bytes: usize = events.iter().map(record::len).sum();
        // How many of them are known to be here.
        let mut known = 0;
        let mut state = self.wait_until(|state| state.has_room(bytes))?;
        loop {
            let next = state.accepted_next();
            if state.has_begun() && first.round > next {
                return Err(self.gap(first.round, next));
            }
            if state.has_begun() && first.round < state.first {
                return Err(self.gone(first.round, state.span()));
            }
            let durable = rounds_before(events, state.next);
            if !state.has_begun() || known >= durable {
                break;
            }
            drop(state);
            self.check_known(&events[known..durable], &hashes[known..durable])?;
            known = durable;
            state = self.wait_until(|state| state.has_room(bytes))?;
        }
        let is_new = |at: usize| !state.has_begun() || events[at].round >= state.accepted_next();
        let new_from = (known..events.len()).find(|at| is_new(*at)).unwrap_or(events.len());
        let mut batch = None;
        for at in known..new_from {
            let waiting = state.waiting(events[at].round);
            let Some((hash, waited_for)) = waiting else { continue };
            if hash != hashes[at] {
                return Err(self.other(events[at].round, hashes[at], hash));
            }
            batch = Some(Arc::clone(waited_for));
        }
        for (event, hash) in events.iter().zip(&hashes).skip(new_from) {
            state.queue.push(event, *hash);
            batch = Some(Arc::clone(&state.queue.batch));
        }
        let appended = (events.len() - new_from) as u64;
        let Some(batch) = batch else { return Ok(Appended { appended, next: state.next }) };
        let upto = first.round + events.len() as u64;
        self.settle(state, &batch, upto).map(|next| Appended { appended, next })
    }

    /// Events from a round on: at least one if there are any, and as many as have together at most `bytes_max` bytes, if not
    /// fewer. None if the next round is `from`, or a later one is.
    ///
    /// # Errors
    /// [`Error::RoundsGone`] if it is older than what is kept; [`Error::Damaged`], [`Error::Io`].
    pub fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Event>> {
        self.read_part(from, |segment, part| segment.events(&*self.io, part, bytes_max))
    }

    /// What [`EventLog::read`] gives without payloads, at most so many.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub fn heads(&self, from: u64, count_max: usize) -> Result<Vec<EventHead>> {
        self.read_part(from, |segment, part| segment.heads(&*self.io, part, count_max))
    }

    /// The head of one event. None if it is still to come.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub fn head_of(&self, round: u64) -> Result<Option<EventHead>> {
        Ok(self.heads(round, 1)?.pop())
    }

    /// Forgets every event; the next round is `first`. Durable on return: after a crash all is as before or as afterwards.
    ///
    /// # Errors
    /// [`Error::Full`]: all is as before. Otherwise as [`EventLog::append`].
    pub fn reset(&self, first: u64) -> Result<()> {
        let mut state = self.wait_until(|state| !state.is_written && state.queue.records.is_empty())?;
        let epoch = state.segments.back().map_or(0, |(segment, _)| segment.header.epoch).saturating_add(1);
        state.is_written = true;
        drop(state);
        let created = recover::new_header(epoch, first, None).and_then(|header| self.create(header));
        let mut state = lock(&self.state);
        state.is_written = false;
        let mut old = VecDeque::new();
        match &created {
            Ok(tail) => {
                let new = VecDeque::from([(Arc::clone(&tail.segment), tail.end)]);
                old = std::mem::replace(&mut state.segments, new);
                (state.first, state.next) = (first, first);
            }
            Err(Error::Full { .. }) => {}
            Err(_) => state.poisoned = Some(self.dir.clone()),
        }
        let span = state.span();
        let created = created.map(|tail| state.tail = Some(tail));
        drop(state);
        self.moved.notify_all();
        created?;
        self.remove(old.into_iter().map(|(segment, _)| segment));
        self.tell(span);
        Ok(())
    }

    /// Lets others append or not. Suspending waits until what has begun has ended.
    pub(super) fn set_mode(&self, mode: Mode) {
        let mut state = lock(&self.state);
        state.mode = mode;
        self.moved.notify_all();
        while mode == Mode::Suspended && (state.is_written || !state.queue.records.is_empty()) {
            state = self.wait(state);
        }
    }

    fn check(&self, events: &[Event]) -> Result<()> {
        let invalid = |given: String, reason: String| Error::Invalid { what: "event", given, reason };
        for (event, before) in events.iter().zip(std::iter::once(None).chain(events.iter().map(Some))) {
            let given = || format!("of round {} of {}", event.round, self.name);
            if event.payload.len() > EVENT_LEN_MAX {
                let len = event.payload.len();
                return Err(invalid(
                    given(),
                    format!("it has {len} bytes; at most {EVENT_LEN_MAX} are allowed"),
                ));
            }
            if event.round == u64::MAX {
                return Err(invalid(given(), "no round could come after it".to_owned()));
            }
            if let Some(before) = before.filter(|before| before.round + 1 != event.round) {
                return Err(invalid(given(), format!("it comes behind that of round {}", before.round)));
            }
        }
        Ok(())
    }

    /// Makes sure that durable events are the given ones.
    fn check_known(&self, events: &[Event], hashes: &[EventHash]) -> Result<()> {
        let mut at = 0;
        while let Some(event) = events.get(at) {
            let heads = self.heads(event.round, (events.len() - at).min(KNOWN_MAX))?;
            if heads.is_empty() {
                return Err(self.gone(event.round, self.span()));
            }
            for head in heads {
                if head.hash != hashes[at] {
                    return Err(self.other(head.round, hashes[at], head.hash));
                }
                at += 1;
            }
        }
        Ok(())
    }

    fn gap(&self, given: u64, next: u64) -> Error {
        Error::RoundGap { what: format!("stream {}", self.name), given, next }
    }

    fn gone(&self, given: u64, span: Span) -> Error {
        let what = format!("stream {}", self.name);
        Error::RoundsGone { what, given, first: span.first, next: span.next }
    }

    fn other(&self, round: u64, given: EventHash, kept: EventHash) -> Error {
        let detail = format!(
            "it is {}, and {} was given: two producers disagree about what happened, or one is not what it seems",
            kept.short(),
            given.short()
        );
        Error::Conflict { what: format!("round {round} of stream {} has another event", self.name), detail }
    }

    fn read_part<T>(&self, from: u64, read: impl Fn(&Segment, Part) -> Result<Vec<T>>) -> Result<Vec<T>> {
        loop {
            let state = lock(&self.state);
            let span = state.span();
            if from >= span.next {
                return Ok(Vec::new());
            }
            let at = state.segments.partition_point(|(segment, _)| segment.first <= from);
            let Some(at) = at.checked_sub(1) else { return Err(self.gone(from, span)) };
            let (segment, end) = state.segments[at].clone();
            let behind = state.segments.get(at + 1).map(|(behind, _)| behind.first);
            drop(state);
            let part = Part { from, end, next: behind.unwrap_or(span.next) };
            match read(&segment, part) {
                Ok(items) => return Ok(items),
                // It was removed since, and all before it; or it has rotted, and goes with all before it.
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && behind.is_some() =>
                {
                    self.give_up(&segment);
                }
                Err(error @ Error::Damaged { .. }) if behind.is_some() => {
                    tracing::error!(stream = %self.name, %error, "events that are damaged are gone, and all before them");
                    self.give_up(&segment);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets a segment and all before it; never the newest.
    fn give_up(&self, segment: &Segment) {
        let mut gone = Vec::new();
        let mut state = lock(&self.state);
        while state.segments.len() > 1
            && state.segments.front().is_some_and(|(oldest, _)| oldest.first <= segment.first)
        {
            gone.extend(state.segments.pop_front().map(|(segment, _)| segment));
        }
        state.first = state.segments.front().map_or(state.first, |(segment, _)| segment.first);
        drop(state);
        self.remove(gone);
    }

    /// Forgets the oldest segments while there are more bytes than are to be kept.
    fn trim(&self) {
        let mut gone = Vec::new();
        let mut state = lock(&self.state);
        let mut bytes = state.span().bytes;
        while bytes > state.bytes_max && state.segments.len() > 1 {
            let Some((segment, len)) = state.segments.pop_front() else { break };
            bytes -= len;
            gone.push(segment);
        }
        state.first = state.segments.front().map_or(state.first, |(segment, _)| segment.first);
        drop(state);
        self.remove(gone);
    }

    fn remove(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        for segment in segments {
            match self.io.remove(&segment.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // The next opening tries again.
                    tracing::warn!(path = %segment.path.display(), %error, "cannot remove a segment of an event log");
                }
                _ => {}
            }
        }
    }

    fn tell(&self, span: Span) {
        let watchers: Vec<Watcher> =
            lock(&self.watchers).watchers.iter().map(|(_, watcher)| Arc::clone(watcher)).collect();
        watchers.iter().for_each(|watcher| watcher(span));
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.moved.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        self.queue.bytes.is_empty() || self.queue.bytes.len() + bytes <= QUEUE_BYTES_MAX
    }
}

impl Queue {
    fn push(&mut self, event: &Event, hash: EventHash) {
        let start = self.bytes.len();
        record::push(&mut self.bytes, event, &hash);
        self.records.push(Queued { round: event.round, hash, at: start..self.bytes.len() });
    }
}

/// How many of consecutive events are of rounds before `round`.
fn rounds_before(events: &[Event], round: u64) -> usize {
    events.partition_point(|event| event.round < round)
}
