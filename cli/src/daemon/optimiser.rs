//! Older versions are told in terms of newer ones by the daemon itself, when no command runs: one version after the other,
//! on one thread, at the lowest priority and a limited rate. Between two of them whoever has come goes first, collections
//! among them, whose turn it takes for each.
//!
//! What was tried is not tried again while this daemon runs, and nothing is looked at while no name has changed.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_store::delta::CodecTotals;
use cairn_store::{ArtifactId, Error, OptimiseOptions, OptimisePlan, Optimised, Progress, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::commands::optimise::file_max;
use crate::commands::serve::EffortArg;
use crate::text;

/// How often it looks where nothing is said.
const EVERY: Duration = Duration::from_secs(3600);
/// Bytes a second that it reads and writes where nothing is said.
const RATE: u64 = 16 << 20;
/// After how long it begins no further version until the next time, where nothing is said.
const MAX_TIME: Duration = Duration::from_secs(600);
/// How long no command may have run before it begins another version, and how often it looks.
const QUIET: Duration = Duration::from_millis(500);

/// How older versions are told in terms of newer ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
#[command(next_help_heading = "Telling older versions in terms of newer ones, so that they take less")]
pub(crate) struct OptimiserArgs {
    /// Look so often for older versions that can be told in terms of newer ones; 0 never does [default: 1h]
    #[arg(long, env = "CAIRN_OPTIMISE_EVERY", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) optimise_every: Option<Duration>,
    /// Read and write no more than this in a second for it [default: 16MiB]
    #[arg(long, env = "CAIRN_OPTIMISE_RATE", value_name = "SIZE", value_parser = text::parse_rate, hide_env_values = true)]
    pub(crate) optimise_rate: Option<u64>,
    /// After this time begin no further version until it looks again [default: 10m]
    #[arg(long, env = "CAIRN_OPTIMISE_MAX_TIME", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) optimise_max_time: Option<Duration>,
    /// How hard it is tried to make them small [default: normal]
    #[arg(long, env = "CAIRN_OPTIMISE_EFFORT", value_name = "EFFORT", hide_env_values = true)]
    pub(crate) optimise_effort: Option<EffortArg>,
    /// Memory that telling one file may take; executables for which it does not do are told without prediction [default: 1G]
    #[arg(long, env = "CAIRN_OPTIMISE_MEMORY", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) optimise_memory: Option<u64>,
}

impl OptimiserArgs {
    /// These, and what they do not say as `before` says it.
    pub(crate) fn or(self, before: &Self) -> Self {
        Self {
            optimise_every: self.optimise_every.or(before.optimise_every),
            optimise_rate: self.optimise_rate.or(before.optimise_rate),
            optimise_max_time: self.optimise_max_time.or(before.optimise_max_time),
            optimise_effort: self.optimise_effort.or(before.optimise_effort),
            optimise_memory: self.optimise_memory.or(before.optimise_memory),
        }
    }

    fn every(&self) -> Duration {
        self.optimise_every.unwrap_or(EVERY)
    }

    fn options(&self) -> OptimiseOptions {
        OptimiseOptions {
            effort: self.optimise_effort.map(Into::into).unwrap_or_default(),
            bandwidth: Some(self.optimise_rate.unwrap_or(RATE)),
            // What is begun of a version is of use when it is told to its end.
            max_time: None,
            file_max: file_max(self.optimise_memory),
        }
    }
}

/// What came of it the last time that it found something to do, for `status`.
#[derive(Debug, Clone)]
pub(crate) struct LastOptimising {
    /// When it ended.
    pub(crate) at: Instant,
    /// How long it took.
    pub(crate) took: Duration,
    /// What it came to, or why it came to nothing.
    pub(crate) result: Result<Optimised, String>,
}

/// Tells older versions in terms of newer ones by itself.
pub(crate) struct Optimiser {
    writer: Writer,
    args: OptimiserArgs,
    /// Whether a command runs.
    is_busy: Box<dyn Fn() -> bool + Send + Sync>,
    /// Guards what it is told and what it tells. A leaf lock.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    is_working: bool,
    last: Option<LastOptimising>,
}

/// What needs no second look.
#[derive(Default)]
struct Known {
    /// The last change of names up to which everything was tried.
    seq: Option<u64>,
    /// Artifacts that were told in terms of others, as far as it was of use.
    tried: HashSet<(ArtifactId, ArtifactId)>,
}

/// It goes on until the daemon ends.
struct UntilOver<'a>(&'a Optimiser);

impl Progress for UntilOver<'_> {
    fn cancelled(&self) -> bool {
        self.0.lock().is_over
    }
}

impl Optimiser {
    /// Begins, if it is to. It does nothing while `is_busy`.
    pub(crate) fn start(
        writer: Writer,
        args: OptimiserArgs,
        is_busy: impl Fn() -> bool + Send + Sync + 'static,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        if args.every().is_zero() {
            return Ok(None);
        }
        let (is_busy, state) = (Box::new(is_busy), Mutex::default());
        let optimiser = Arc::new(Self { writer, args, is_busy, state, changed: Condvar::new() });
        let working = Arc::clone(&optimiser);
        let thread = std::thread::Builder::new().name("optimising".to_owned());
        thread
            .spawn(move || {
                crate::priority::lower();
                working.work();
            })
            .context("cannot tell older versions in terms of newer ones by itself")?;
        Ok(Some(optimiser))
    }

    /// What came of it the last time, if anything did.
    pub(crate) fn last(&self) -> Option<LastOptimising> {
        self.lock().last.clone()
    }

    /// Begins nothing any more; what runs stops at its next step.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        self.changed.notify_all();
        while state.is_working {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut known = Known::default();
        while self.rest(self.args.every()) {
            if known.seq == Some(self.writer.names().seq) {
                continue;
            }
            let mut state = self.lock();
            if state.is_over {
                return;
            }
            state.is_working = true;
            drop(state);
            let last = self.turn(&mut known);
            let mut state = self.lock();
            state.is_working = false;
            if last.is_some() {
                state.last = last;
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits; false if it is over.
    fn rest(&self, time: Duration) -> bool {
        let wait = self.changed.wait_timeout_while(self.lock(), time, |state| !state.is_over);
        !wait.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    /// Waits until no command has run for a moment; false if it is over.
    fn wait_for_quiet(&self) -> bool {
        loop {
            let was_busy = (self.is_busy)();
            if !self.rest(QUIET) {
                return false;
            }
            if !was_busy && !(self.is_busy)() {
                return true;
            }
        }
    }

    /// Nothing where there was nothing to do.
    fn turn(&self, known: &mut Known) -> Option<LastOptimising> {
        let begun = Instant::now();
        let mut all = Optimised { complete: true, ..Optimised::default() };
        let mut tried = 0;
        let done = self.optimise(known, begun, &mut all, &mut tried);
        let took = begun.elapsed();
        match &done {
            Ok(()) if tried == 0 => return None,
            Ok(()) => tracing::info!(
                tried,
                versions = all.versions,
                before = all.bytes_before,
                after = all.bytes_after(),
                freed = all.freed_bytes,
                written = all.written_bytes,
                complete = all.complete,
                ?took,
                "older versions were told in terms of newer ones"
            ),
            Err(Error::Cancelled | Error::Unavailable { .. }) => {
                tracing::info!("telling older versions in terms of newer ones was stopped");
            }
            Err(error) => tracing::warn!(%error, "cannot tell older versions in terms of newer ones"),
        }
        let result = done.map(|()| all).map_err(|error| error.to_string());
        Some(LastOptimising { at: Instant::now(), took, result })
    }

    fn optimise(
        &self,
        known: &mut Known,
        begun: Instant,
        all: &mut Optimised,
        tried: &mut u64,
    ) -> Result<(), Error> {
        let (until_over, options) = (UntilOver(self), self.args.options());
        let max_time = self.args.optimise_max_time.unwrap_or(MAX_TIME);
        if !self.wait_for_quiet() {
            return Err(Error::Cancelled);
        }
        let seq = self.writer.names().seq;
        let mut planned = self.writer.plan_optimise(&until_over)?;
        let versions = std::mem::take(&mut planned.versions);
        if planned.unfolded_chunks > 0 {
            add(all, self.writer.optimise(&planned, &options, &until_over)?);
            *tried += 1;
        }
        for version in versions {
            let pair = (version.artifact, version.base_artifact);
            if known.tried.contains(&pair) {
                continue;
            }
            if !self.wait_for_quiet() {
                return Err(Error::Cancelled);
            }
            if *tried > 0 && begun.elapsed() >= max_time {
                all.complete = false;
                return Ok(());
            }
            let plan = OptimisePlan { versions: vec![version], ..planned.clone() };
            let done = self.writer.optimise(&plan, &options, &until_over)?;
            *tried += 1;
            if done.complete {
                known.tried.insert(pair);
            }
            add(all, done);
            if !all.complete {
                return Ok(());
            }
        }
        known.seq = Some(seq);
        Ok(())
    }
}

/// What two runs come to.
fn add(all: &mut Optimised, done: Optimised) {
    add_codec(&mut all.prefix, done.prefix);
    add_codec(&mut all.relocation, done.relocation);
    all.unfolded_chunks += done.unfolded_chunks;
    all.unfolded_bytes += done.unfolded_bytes;
    all.versions += done.versions;
    all.bytes_before += done.bytes_before;
    all.freed_bytes += done.freed_bytes;
    all.written_bytes += done.written_bytes;
    all.made.extend(done.made);
    all.gone.extend(done.gone);
    all.kept_back.extend(done.kept_back);
    all.disk_full |= done.disk_full;
    all.complete &= done.complete;
}

fn add_codec(all: &mut CodecTotals, done: CodecTotals) {
    all.blocks += done.blocks;
    all.chunks += done.chunks;
    all.plain_bytes += done.plain_bytes;
    all.bytes += done.bytes;
}
