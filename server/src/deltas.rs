//! Deltas that are told in terms of what the client has: made on first demand, once however many ask, by one thread of
//! the lowest priority; kept as files up to a number of bytes, the least recently used go first.
//!
//! Bounds on what strangers can make it do: pairs of published artifacts alone, one at a time, a queue of so many, a time
//! for each, executables up to a size. Who comes when the queue is full is answered without.
//!
//! Roles: `files` are the files; `make` makes one; `prepare` says which will be wanted; `ways` leads through versions
//! between.

mod files;
mod make;
mod prepare;
mod ways;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_net::wire::Step;
use cairn_store::delta::Effort;
use cairn_store::{ArtifactId, Store};
use tokio::sync::Notify;

pub(crate) use self::files::BODY_AT;
use self::files::Files;
use crate::enumerations::Part;

/// Pairs that wait to be made, at most.
const QUEUE_MAX: usize = 16;
/// How long it is not tried again where a delta could not be made, or does not pay.
const NOT_BEFORE: Duration = Duration::from_secs(600);
/// How often the thread looks for what it might prepare.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pairs of which it is remembered that they come to nothing.
const REFUSED_MAX: usize = 4096;

/// How deltas are served.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaServing {
    /// How hard it is tried to make them small.
    pub effort: Effort,
    /// From so many versions before it a delta to each latest version, and to each that a channel names, is made before
    /// anybody asks.
    pub prepare: usize,
    /// Bytes of deltas that are kept, at most; with 0 none are made.
    pub kept_bytes_max: u64,
    /// Longest executable that is predicted from another, in bytes; memory for 12 times as much.
    pub file_max: u64,
    /// How long making one may take; the rest of it is then told plainly.
    pub time_max: Duration,
}

impl DeltaServing {
    /// Bytes of memory that predicting an executable takes for each of its own, at most.
    pub const MEMORY_FACTOR: u64 = 12;
}

impl Default for DeltaServing {
    fn default() -> Self {
        Self {
            effort: Effort::Normal,
            prepare: 0,
            kept_bytes_max: 1 << 30,
            file_max: 85 << 20,
            time_max: Duration::from_secs(180),
        }
    }
}

/// From which artifact to which, and what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) have: ArtifactId,
    pub(crate) want: ArtifactId,
    /// What of them.
    pub(crate) part: Part,
}

/// What there is of a delta.
pub(crate) enum Standing {
    /// It is here: its file, from [`files::BODY_AT`] on so many bytes.
    Ready(Arc<File>, u64),
    /// It is being made, or will be.
    Coming,
    /// There is none, and there will be none soon.
    Nothing,
}

/// The deltas of a server. The thread ends when this is dropped.
pub(crate) struct Deltas {
    shared: Arc<Shared>,
    /// Guards the thread that makes them. Taken before all other locks.
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    store: Store,
    serving: DeltaServing,
    files: Files,
    /// Guards what is to be made. A leaf lock, but for that of `files`.
    queue: Mutex<Queue>,
    work: Condvar,
    /// Told whenever one is made, or is not.
    changed: Notify,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Pair>,
    making: Option<Pair>,
    refused: HashMap<Pair, Instant>,
}

impl Deltas {
    pub(crate) fn new(store: Store, serving: DeltaServing) -> Self {
        let files = Files::new(store.path(), serving.kept_bytes_max);
        let shared = Shared {
            store,
            serving,
            files,
            queue: Mutex::default(),
            work: Condvar::new(),
            changed: Notify::new(),
            is_over: AtomicBool::new(false),
        };
        let deltas = Self { shared: Arc::new(shared), thread: Mutex::default() };
        if deltas.shared.serving.prepare > 0 && deltas.is_on() {
            deltas.start();
        }
        deltas
    }

    fn is_on(&self) -> bool {
        self.shared.serving.kept_bytes_max > 0
    }

    /// What there is of a delta between two artifacts that are published; it is to be made where there is none. Reads a
    /// file the first time.
    fn ask(&self, pair: Pair) -> Standing {
        if !self.is_on() || pair.have == pair.want {
            return Standing::Nothing;
        }
        if let Some((file, len)) = self.shared.files.open(pair) {
            return Standing::Ready(file, len);
        }
        let mut queue = self.shared.lock();
        if queue.making == Some(pair) || queue.waiting.contains(&pair) {
            return Standing::Coming;
        }
        // It may have come in between.
        if let Some((file, len)) = self.shared.files.open(pair) {
            return Standing::Ready(file, len);
        }
        if queue.is_refused(pair) || queue.waiting.len() >= QUEUE_MAX {
            return Standing::Nothing;
        }
        // What takes a moment goes first.
        match pair.part {
            Part::Objects => queue.waiting.push_front(pair),
            Part::Chunks => queue.waiting.push_back(pair),
        }
        drop(queue);
        self.start();
        self.shared.work.notify_all();
        Standing::Coming
    }

    /// The same, waiting so long for one that is to come.
    pub(crate) async fn get(self: &Arc<Self>, pair: Pair, wait: Duration) -> Standing {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Before it is asked, so that no change is missed.
            changed.as_mut().enable();
            let deltas = Arc::clone(self);
            let asked = tokio::task::spawn_blocking(move || deltas.ask(pair)).await;
            match asked.unwrap_or(Standing::Nothing) {
                Standing::Coming if tokio::time::timeout_at(until, changed).await.is_ok() => {}
                standing => return standing,
            }
        }
    }

    /// The cheapest way by deltas that are kept, where the one that is asked for is not. Lists files the first time.
    pub(crate) fn way(&self, pair: Pair, may_pass: &dyn Fn(&ArtifactId) -> bool) -> Option<Vec<Step>> {
        if !self.is_on() || pair.part != Part::Chunks || self.shared.files.has(pair) {
            return None;
        }
        ways::cheapest(&self.shared.files.kept(), pair.have, pair.want, may_pass)
    }

    fn start(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_some() || self.shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        match std::thread::Builder::new().name("cairn-deltas".to_owned()).spawn(move || shared.run()) {
            Ok(started) => *thread = Some(started),
            Err(error) => tracing::warn!(%error, "no deltas are made: their thread does not start"),
        }
    }
}

impl Drop for Deltas {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        drop(self.shared.lock());
        self.shared.work.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes deltas failed");
        }
    }
}

impl Queue {
    fn is_refused(&self, pair: Pair) -> bool {
        self.refused.get(&pair).is_some_and(|until| Instant::now() < *until)
    }

    fn refuse(&mut self, pair: Pair) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(pair, Instant::now() + NOT_BEFORE);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Each change is one step: a panic elsewhere leaves it sound.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Makes what is waited for, then what will be wanted, until it is over.
    fn run(&self) {
        lower_priority();
        let mut prepared = prepare::Prepared::default();
        while !self.is_over() {
            if let Some(pair) = self.next(&mut prepared) {
                self.make(pair);
            }
        }
    }

    fn next(&self, prepared: &mut prepare::Prepared) -> Option<Pair> {
        let mut queue = self.lock();
        if queue.waiting.is_empty() {
            drop(queue);
            let wanted = self.to_prepare(prepared);
            queue = self.lock();
            if queue.waiting.is_empty() {
                if let Some(pair) = wanted {
                    queue.making = Some(pair);
                    return Some(pair);
                }
                let is_idle = |queue: &mut Queue| queue.waiting.is_empty() && !self.is_over();
                let waited = if self.serving.prepare > 0 {
                    self.work
                        .wait_timeout_while(queue, LOOK_EVERY, is_idle)
                        .map(|(queue, _)| queue)
                        .map_err(|_| ())
                } else {
                    self.work.wait_while(queue, is_idle).map_err(|_| ())
                };
                queue = waited.unwrap_or_else(|()| self.lock());
            }
        }
        if self.is_over() {
            return None;
        }
        queue.making = queue.waiting.pop_front();
        queue.making
    }

    fn make(&self, pair: Pair) {
        let make = || make::make(&self.store, &self.serving, &self.files, pair, &self.is_over);
        // What fails here would leave all who come later waiting for it.
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(make));
        let is_made = match made {
            Ok(Ok(is_made)) => is_made,
            Err(_) => {
                tracing::error!(have = %pair.have, want = %pair.want, "making a delta failed");
                false
            }
            Ok(Err(error)) => {
                if !self.is_over() {
                    tracing::warn!(have = %pair.have, want = %pair.want, %error, "a delta is not made");
                }
                false
            }
        };
        let mut queue = self.lock();
        queue.making = None;
        if !is_made && !self.is_over() {
            queue.refuse(pair);
        }
        drop(queue);
        self.changed.notify_waiters();
    }
}

/// Gives this thread the lowest priority.
fn lower_priority() {
    if let Err(errno) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%errno, "deltas are made with the priority of everything else");
    }
}
