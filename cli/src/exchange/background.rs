//! The daemon's work with peers beside its commands: it brings what lacks of versions that are used before they are whole,
//! and answers reads of what is not here.
//!
//! What is to be brought stands in the journal: a daemon that begins goes on where the one before it stopped. It waits
//! until readers have been quiet for a moment, since what they ask for comes first, and tries again later and later where
//! nobody answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_net::{FetchPolicy, Net, NetOptions, PeerUrl, Peers, Source, Watch};
use cairn_store::{ArtifactId, Fetch, Writer};

/// How long nobody may have waited for a peer before what nobody waits for is brought.
const QUIET: Duration = Duration::from_secs(2);
/// How often it is looked whether somebody does.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long after a failure it is tried again, at first and at most.
const AGAIN_MIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// How far the completion of an artifact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompletionState {
    /// What is read of it comes, and no more.
    Idle,
    /// Its turn will come.
    Waiting,
    /// It is being brought.
    Running,
    /// It could not be brought; it is tried again.
    Failed,
}

/// An artifact that is not whole yet.
#[derive(Debug, Clone)]
pub(crate) struct Completion {
    pub(crate) state: CompletionState,
    /// Bytes that came over the wire this time.
    pub(crate) received: u64,
    /// Why it was not brought the last time.
    pub(crate) failure: Option<String>,
}

/// What a daemon has to do with peers.
pub(crate) struct Background {
    net: Arc<Net>,
    writer: Writer,
    fetch: Arc<dyn Fetch>,
    /// Whether what lacks is brought though nobody reads it.
    completes: bool,
    /// Guards what is to be done. A leaf lock.
    state: Mutex<State>,
    changed: Condvar,
    /// Requests that reads have made of peers.
    reads: AtomicU64,
}

#[derive(Default)]
struct State {
    has_thread: bool,
    /// Somebody has named an artifact that is not whole, or a peer.
    woken: bool,
    /// Nothing is done while it is not 0.
    held: usize,
    is_working: bool,
    is_over: bool,
    failures: u32,
    artifacts: BTreeMap<ArtifactId, Completion>,
}

/// Nothing is brought in the background while this lives.
pub(crate) struct BackgroundHold<'a>(&'a Background);

impl Drop for BackgroundHold<'_> {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
        self.0.changed.notify_all();
    }
}

/// Counts what reads ask for, so that the background stays behind them.
struct Counting {
    fetch: Arc<dyn Fetch>,
    background: std::sync::Weak<Background>,
}

impl Fetch for Counting {
    fn fetch(&self, wanted: &[cairn_store::ChunkRef], why: cairn_store::Why) -> cairn_store::Result<()> {
        if let Some(background) = self.background.upgrade() {
            background.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.fetch.fetch(wanted, why)
    }
}

impl Background {
    /// For the store of this writer. Reads wait for peers as long as `fetch_max`.
    pub(crate) fn new(writer: Writer, fetch_max: Duration, completes: bool) -> anyhow::Result<Arc<Self>> {
        let net = Net::start(NetOptions::default())?;
        let known = Peers::open(writer.path());
        let sources = Arc::new(move || sources(&known));
        let fetch = net.fetcher(&writer, sources, FetchPolicy { deadline: fetch_max });
        Ok(Arc::new(Self {
            net,
            writer,
            fetch,
            completes,
            state: Mutex::default(),
            changed: Condvar::new(),
            reads: AtomicU64::new(0),
        }))
    }

    /// The exchange with peers.
    pub(crate) fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// Has reads of what is not here ask the peers that there are.
    pub(crate) fn attach(self: &Arc<Self>) {
        let has_peers = !sources(&Peers::open(self.writer.path())).is_empty();
        let counting = || {
            let (fetch, background) = (Arc::clone(&self.fetch), Arc::downgrade(self));
            Arc::new(Counting { fetch, background }) as Arc<dyn Fetch>
        };
        self.writer.set_fetch(has_peers.then(counting));
    }

    /// Looks again who may be asked, and what lacks.
    pub(crate) fn wake(self: &Arc<Self>) {
        self.attach();
        let is_whole = self.writer.names().partial.is_empty();
        let mut state = self.lock();
        state.woken = true;
        state.failures = 0;
        if self.completes && !is_whole && !state.has_thread && !state.is_over {
            let background = Arc::clone(self);
            let thread = std::thread::Builder::new().name("completion".to_owned());
            match thread.spawn(move || background.work()) {
                Ok(_) => state.has_thread = true,
                Err(error) => tracing::error!(%error, "what lacks is not brought in the background"),
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// How far those are that are not whole yet.
    pub(crate) fn completions(&self) -> BTreeMap<ArtifactId, Completion> {
        let partial = self.writer.names();
        let known = self.lock().artifacts.clone();
        let state = if self.completes { CompletionState::Waiting } else { CompletionState::Idle };
        let waiting = || Completion { state, received: 0, failure: None };
        let found = partial.partial.iter().map(|id| (*id, known.get(id).cloned().unwrap_or_else(waiting)));
        found.collect()
    }

    /// Brings nothing until what this returns is dropped. It waits for what runs, which stops at once.
    pub(crate) fn hold(&self) -> BackgroundHold<'_> {
        let mut state = self.lock();
        state.held += 1;
        self.changed.notify_all();
        while state.is_working {
            state = self.wait(state, LOOK_EVERY);
        }
        drop(state);
        BackgroundHold(self)
    }

    /// Brings nothing any more, and answers no read.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.writer.set_fetch(None);
        let hold = self.hold();
        drop(hold);
    }

    fn work(&self) {
        let mut again = AGAIN_MIN;
        loop {
            let mut state = self.lock();
            let due = Instant::now() + again;
            while !state.is_over && (state.held > 0 || !state.woken && !is_due(&state, due)) {
                let left = due.saturating_duration_since(Instant::now()).max(LOOK_EVERY);
                state = self.wait(state, left);
            }
            if state.is_over {
                return;
            }
            state.woken = false;
            state.is_working = true;
            drop(state);
            let all = self.bring_all();
            let mut state = self.lock();
            state.is_working = false;
            again = if all || state.failures == 0 { AGAIN_MIN } else { (again * 2).min(AGAIN_MAX) };
            state.failures = if all { 0 } else { state.failures.saturating_add(1) };
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Brings what lacks, one artifact after the other; says whether nothing lacks any more.
    fn bring_all(&self) -> bool {
        let mut tried = BTreeSet::new();
        loop {
            let names = self.writer.names();
            self.lock().artifacts.retain(|id, _| names.partial.contains(id));
            let next = names.partial.iter().find(|id| !tried.contains(*id)).copied();
            let Some(artifact) = next else { return names.partial.is_empty() };
            drop(names);
            tried.insert(artifact);
            if !self.wait_for_quiet() {
                return false;
            }
            self.note(artifact, CompletionState::Running, None);
            match self.bring(&artifact) {
                Ok(()) => tracing::info!(%artifact, "all of it is here now"),
                Err(_) if self.is_stopped() => {
                    self.note(artifact, CompletionState::Waiting, None);
                    return false;
                }
                Err(error) => {
                    let failure = format!("{error:#}");
                    tracing::warn!(%artifact, failure, "not all of it could be brought; it is tried again");
                    self.note(artifact, CompletionState::Failed, Some(failure));
                }
            }
        }
    }

    fn bring(&self, artifact: &ArtifactId) -> anyhow::Result<()> {
        let sources = sources(&Peers::open(self.writer.path()));
        let watch = Watching { background: self, artifact: *artifact };
        let report = self.net.complete(&self.writer, artifact, &sources, &watch)?;
        for peer in &report.peers {
            if let Some(why) = &peer.dropped {
                tracing::warn!(peer = %peer.url, why, "a peer was dropped");
            }
        }
        self.writer.set_whole(artifact).context("it was brought and is not whole")
    }

    /// Waits until no read has asked a peer for a moment; false if it is to stop.
    fn wait_for_quiet(&self) -> bool {
        let (mut seen, mut since) = (self.reads.load(Ordering::Relaxed), Instant::now());
        while since.elapsed() < QUIET {
            if self.is_stopped() {
                return false;
            }
            drop(self.wait(self.lock(), LOOK_EVERY));
            let now = self.reads.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        !self.is_stopped()
    }

    fn note(&self, artifact: ArtifactId, state: CompletionState, failure: Option<String>) {
        let completion = Completion { state, received: 0, failure };
        self.lock().artifacts.insert(artifact, completion);
    }

    fn is_stopped(&self) -> bool {
        let state = self.lock();
        state.is_over || state.held > 0
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Its parts are changed one by one and each is sound: a panic elsewhere leaves it so.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_due(state: &State, due: Instant) -> bool {
    state.failures > 0 && Instant::now() >= due
}

/// Those that a store knows; none where they cannot be told.
fn sources(known: &Peers) -> Vec<Source> {
    known.sources().unwrap_or_else(|error| {
        tracing::error!(%error, "no peer is asked");
        Vec::new()
    })
}

/// Counts what comes, and stops when that is asked for.
struct Watching<'a> {
    background: &'a Background,
    artifact: ArtifactId,
}

impl Watch for Watching<'_> {
    fn received(&self, _: &PeerUrl, bytes: u64) {
        if let Some(known) = self.background.lock().artifacts.get_mut(&self.artifact) {
            known.received += bytes;
        }
    }

    fn cancelled(&self) -> bool {
        self.background.is_stopped()
    }
}

/// The fetcher of a process that is no daemon, for one command.
pub(crate) fn fetcher(net: &Arc<Net>, writer: &Writer, sources: Vec<Source>) -> Arc<dyn Fetch> {
    net.fetcher(writer, Arc::new(move || sources.clone()), FetchPolicy::default())
}
