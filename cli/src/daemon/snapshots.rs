//! Snapshots that the daemon takes by itself, as its configuration file says: a thread for each name, so that two of one
//! name never run at a time. One that fails is told to the log and to `status`, and the next comes when it is due.
//!
//! They take turns with commands that store something, and wait for theirs before anybody is frozen. What is still running
//! when the daemon ends or is taken over is stopped and thawed; the next daemon begins by the file as it is then.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_agent::snapshot::{self, RoundCommand, Snapshot, SnapshotError};
use cairn_store::{Error, Name, Progress, Writer};

use super::config::{Schedule, When};
use super::turn::{Holder, Refused, Turn};

/// How long whoever takes over waits for one that was stopped. Its commands are killed; thawing takes as long as it takes.
const LAST_STEP_MAX: Duration = Duration::from_secs(30);

/// What came of a name's snapshots so far, for `status`.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotsOf {
    /// When they are made.
    pub(crate) when: When,
    /// Whether one is being made.
    pub(crate) is_running: bool,
    /// The last that was made, or found to be there.
    pub(crate) last: Option<LastSnapshot>,
    /// Why the last attempt came to nothing, and since when in a row that is so, if it is so.
    pub(crate) failure: Option<LastFailure>,
}

/// The last snapshot that was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastSnapshot {
    /// When that ended.
    pub(crate) at: Instant,
    /// Its round.
    pub(crate) round: u64,
    /// How long it took.
    pub(crate) took: Duration,
    /// How long whoever writes the state was frozen.
    pub(crate) frozen: Option<Duration>,
    /// Bytes that the store did not have.
    pub(crate) new_bytes: u64,
}

/// The last attempt that failed.
#[derive(Debug, Clone)]
pub(crate) struct LastFailure {
    /// When that was.
    pub(crate) at: Instant,
    /// How many have failed in a row.
    pub(crate) times: u64,
    /// Why.
    pub(crate) why: String,
}

/// Takes snapshots by itself.
pub(crate) struct Snapshots {
    writer: Writer,
    turn: Arc<Turn>,
    /// Guards what it is told and what it tells. A leaf lock.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    /// Nothing begins while this is not 0, and what runs stops.
    held: usize,
    working: usize,
    of: BTreeMap<Name, SnapshotsOf>,
}

/// No snapshot is taken while this lives.
pub(crate) struct SnapshotsHold<'a>(&'a Snapshots);

impl Drop for SnapshotsHold<'_> {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
        self.0.changed.notify_all();
    }
}

/// It goes on until somebody has to have the store.
struct UntilStopped<'a>(&'a Snapshots);

impl Progress for UntilStopped<'_> {
    fn cancelled(&self) -> bool {
        self.0.lock().is_stopped()
    }
}

impl State {
    fn is_stopped(&self) -> bool {
        self.is_over || self.held > 0
    }
}

impl Snapshots {
    /// Thaws what a process left frozen that was killed, and begins.
    pub(crate) fn start(
        writer: Writer,
        turn: Arc<Turn>,
        schedules: Vec<Schedule>,
    ) -> anyhow::Result<Arc<Self>> {
        let of = schedules.iter().map(|schedule| {
            let so_far = SnapshotsOf { when: schedule.when, is_running: false, last: None, failure: None };
            (schedule.name.clone(), so_far)
        });
        let state = Mutex::new(State { of: of.collect(), ..State::default() });
        let snapshots = Arc::new(Self { writer, turn, state, changed: Condvar::new() });
        let working = Arc::clone(&snapshots);
        let thread = std::thread::Builder::new().name("snapshots".to_owned());
        thread.spawn(move || working.begin(schedules)).context("cannot take snapshots by itself")?;
        Ok(snapshots)
    }

    /// What came of each name's so far.
    pub(crate) fn list(&self) -> Vec<(Name, SnapshotsOf)> {
        self.lock().of.iter().map(|(name, of)| (name.clone(), of.clone())).collect()
    }

    /// Begins none any more, and waits for what runs to be stopped and thawed.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        self.changed.notify_all();
        while state.working > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Begins none until what this returns is dropped, and stops what runs. Nothing if that does not end in time: then
    /// somebody may still be frozen.
    pub(crate) fn hold(&self) -> Option<SnapshotsHold<'_>> {
        let mut state = self.lock();
        state.held += 1;
        self.changed.notify_all();
        let hold = SnapshotsHold(self);
        let waited = self.changed.wait_timeout_while(state, LAST_STEP_MAX, |state| state.working > 0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let is_quiet = state.working == 0;
        // The hold takes the lock when it goes.
        drop(state);
        is_quiet.then_some(hold)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, schedules: Vec<Schedule>) {
        if !self.begin_work() {
            return;
        }
        if let Err(error) = snapshot::thaw_left(&self.writer) {
            tracing::error!(error = chain(&error), "it is not known whether anything is frozen");
        }
        self.end_work();
        for schedule in schedules {
            let working = Arc::clone(self);
            let name = schedule.name.clone();
            let thread = std::thread::Builder::new().name("snapshots".to_owned());
            if let Err(error) = thread.spawn(move || working.work(&schedule)) {
                tracing::error!(%name, %error, "no snapshots are taken by itself");
            }
        }
    }

    fn work(&self, schedule: &Schedule) {
        let (pause, mut due) = match schedule.when {
            When::Every(every) => (every, Instant::now() + every),
            When::Rounds { look_every, .. } => (look_every, Instant::now()),
        };
        while self.rest_until(due) {
            // What was missed while one took long is not made up for.
            while due <= Instant::now() {
                due += pause;
            }
            if !self.begin_work() {
                continue;
            }
            let result = self.make(schedule);
            self.note(&schedule.name, result);
            self.end_work();
        }
    }

    /// Waits; false if it is over.
    fn rest_until(&self, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if state.is_over || state.held == 0 && left.is_zero() {
                return !state.is_over;
            }
            state = if state.held > 0 {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// False if it is to be stopped at once.
    fn begin_work(&self) -> bool {
        let mut state = self.lock();
        if state.is_stopped() {
            return false;
        }
        state.working += 1;
        true
    }

    fn end_work(&self) {
        self.lock().working -= 1;
        self.changed.notify_all();
    }

    /// None where nothing was due.
    fn make(&self, schedule: &Schedule) -> Result<Option<Snapshot>, SnapshotError> {
        let until_stopped = UntilStopped(self);
        if let When::Rounds { rounds, .. } = schedule.when
            && !self.is_due(schedule, rounds.get())?
        {
            return Ok(None);
        }
        // Before anybody is frozen: what others store may take long.
        let since = cairn_store::time::rfc3339(cairn_store::time::now_ms());
        let holder = Holder { pid: std::process::id(), since };
        let turn = self.turn.take(holder, Duration::MAX, &|| until_stopped.cancelled());
        let _turn = turn.map_err(|refused| match refused {
            Refused::Cancelled => Error::Cancelled,
            Refused::Busy(Holder { pid, since }) => {
                Error::Busy { path: self.writer.path().to_owned(), pid, since }
            }
        })?;
        self.set_running(&schedule.name, true);
        let made = snapshot::create(&self.writer, &schedule.options(), &until_stopped);
        self.set_running(&schedule.name, false);
        match made {
            // The round that there is is the newest that there can be.
            Err(SnapshotError::There { .. }) => Ok(None),
            made => made.map(Some),
        }
    }

    fn is_due(&self, schedule: &Schedule, rounds: u64) -> Result<bool, SnapshotError> {
        let asked = RoundCommand {
            name: &schedule.name,
            dir: schedule.dir(),
            snapshot_dir: schedule.dir(),
            command: schedule.round_cmd(),
            time_max: schedule.hook_time(),
        };
        let (round, _) = snapshot::ask_round(asked, &|| UntilStopped(self).cancelled())?;
        let last = self.writer.latest_snapshot(&self.writer.names(), &schedule.name)?;
        Ok(last.is_none_or(|last| round.saturating_sub(last.round) >= rounds))
    }

    fn set_running(&self, name: &Name, is_running: bool) {
        if let Some(of) = self.lock().of.get_mut(name) {
            of.is_running = is_running;
        }
    }

    fn note(&self, name: &Name, result: Result<Option<Snapshot>, SnapshotError>) {
        let mut state = self.lock();
        let is_stopped = state.is_stopped();
        let Some(of) = state.of.get_mut(name) else { return };
        let at = Instant::now();
        match result {
            // Nothing new, which is well.
            Ok(None) => of.failure = None,
            Ok(Some(made)) => {
                let Snapshot { round, took, frozen, .. } = made;
                let new_bytes = made.ingested.new_bytes;
                let (read, removed) =
                    (made.ingested.files - made.ingested.unchanged_files, &made.kept.removed);
                tracing::info!(%name, round, files_read = read, new_bytes, ?took, ?frozen, ?removed, "took a snapshot");
                of.last = Some(LastSnapshot { at, round, took, frozen, new_bytes });
                of.failure = None;
            }
            // Whoever stopped it knows.
            Err(_) if is_stopped => tracing::info!(%name, "a snapshot was stopped"),
            Err(SnapshotError::Running { .. }) => {
                tracing::info!(%name, "somebody else takes a snapshot already");
            }
            Err(error) => {
                let times = of.failure.as_ref().map_or(0, |failure| failure.times) + 1;
                let why = chain(&error);
                tracing::warn!(%name, times, error = why, "no snapshot could be taken");
                of.failure = Some(LastFailure { at, times, why });
            }
        }
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
