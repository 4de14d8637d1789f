//! Collections that the daemon makes by itself, by a rule, and only where one is given: every so often, and when the disk
//! gets full. They stay behind everything else: on one thread, at a limited rate, and whoever writes or takes over goes first.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use cairn_store::collect::CollectOptions;
use cairn_store::{Error, Progress, Retention, RetentionPlan, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::text;

/// How often it collects where nothing is said.
const EVERY: Duration = Duration::from_secs(3600);
/// How often it looks how full the disk is.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Bytes a second that a collection reads and writes where nothing is said.
const RATE: u64 = 32 << 20;
/// How long what nobody needs stays at least, for copies of the store that are being made.
const GRACE: Duration = Duration::from_secs(600);
/// How long it does not try again for a full disk when that helped nothing.
const IN_VAIN: Duration = Duration::from_secs(600);
/// Versions that go one after the other while the disk is too full, at most, until it is looked again.
const SPARED_MAX: usize = 64;

/// The rule by which a daemon collects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
#[command(next_help_heading = "Collection by the daemon itself; it collects if one of these is given")]
pub(crate) struct CollectorArgs {
    /// Collect so often what nothing needs [default, if something here is given: 1h]
    #[arg(long, env = "CAIRN_GC_EVERY", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) gc_every: Option<Duration>,
    /// Before that, forget the generations of each profile but so many of the newest, the current and the pinned
    #[arg(long, env = "CAIRN_GC_KEEP_GENERATIONS", value_name = "N", hide_env_values = true)]
    pub(crate) gc_keep_generations: Option<usize>,
    /// And remove versions older than this that no channel and no generation names, but the latest of each package
    #[arg(long, env = "CAIRN_GC_KEEP_VERSIONS", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) gc_keep_versions: Option<Duration>,
    /// Collect whenever less than this is free on the disk; if that is not enough, remove the oldest such versions first
    #[arg(long, env = "CAIRN_GC_FREE", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) gc_free: Option<u64>,
    /// Read and write no more than this in a second [default: 32MiB]
    #[arg(long, env = "CAIRN_GC_RATE", value_name = "SIZE", value_parser = text::parse_rate, hide_env_values = true)]
    pub(crate) gc_rate: Option<u64>,
    /// Delete nothing that was needed less than this ago [default: 10m]
    #[arg(long, env = "CAIRN_GC_GRACE", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) gc_grace: Option<Duration>,
}

impl CollectorArgs {
    /// These, and what they do not say as `before` says it.
    pub(crate) fn or(self, before: &Self) -> Self {
        Self {
            gc_every: self.gc_every.or(before.gc_every),
            gc_keep_generations: self.gc_keep_generations.or(before.gc_keep_generations),
            gc_keep_versions: self.gc_keep_versions.or(before.gc_keep_versions),
            gc_free: self.gc_free.or(before.gc_free),
            gc_rate: self.gc_rate.or(before.gc_rate),
            gc_grace: self.gc_grace.or(before.gc_grace),
        }
    }

    fn is_on(&self) -> bool {
        let Self { gc_every, gc_keep_generations, gc_keep_versions, gc_free, .. } = self;
        gc_every.is_some() || gc_keep_generations.is_some() || gc_keep_versions.is_some() || gc_free.is_some()
    }

    fn retention(&self) -> Retention {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Retention { generations: self.gc_keep_generations, versions_ms: self.gc_keep_versions.map(millis) }
    }

    fn options(&self) -> CollectOptions {
        CollectOptions {
            bandwidth: Some(self.gc_rate.unwrap_or(RATE)),
            grace: self.gc_grace.unwrap_or(GRACE),
            threads: std::num::NonZero::new(1),
            ..CollectOptions::default()
        }
    }
}

/// The last collection, for `status`.
#[derive(Debug, Clone)]
pub(crate) struct LastCollection {
    /// When it ended.
    pub(crate) at: Instant,
    /// How long it took.
    pub(crate) took: Duration,
    /// Generations and versions that went by the rule.
    pub(crate) retired: usize,
    /// Bytes that were freed, or why none were.
    pub(crate) result: Result<u64, String>,
}

/// Collects by itself.
pub(crate) struct Collector {
    writer: Writer,
    rule: CollectorArgs,
    /// Guards what it is told and what it tells. A leaf lock.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    is_working: bool,
    last: Option<LastCollection>,
}

/// A collection goes on until the daemon ends.
struct UntilOver<'a>(&'a Collector);

impl Progress for UntilOver<'_> {
    fn cancelled(&self) -> bool {
        self.0.lock().is_over
    }
}

impl Collector {
    /// Begins, if there is a rule.
    pub(crate) fn start(writer: Writer, rule: CollectorArgs) -> anyhow::Result<Option<Arc<Self>>> {
        if !rule.is_on() {
            return Ok(None);
        }
        let collector = Arc::new(Self { writer, rule, state: Mutex::default(), changed: Condvar::new() });
        let working = Arc::clone(&collector);
        let thread = std::thread::Builder::new().name("collection".to_owned());
        thread
            .spawn(move || {
                crate::priority::lower();
                working.work();
            })
            .context("cannot collect by itself")?;
        Ok(Some(collector))
    }

    /// The last collection, if there was one.
    pub(crate) fn last(&self) -> Option<LastCollection> {
        self.lock().last.clone()
    }

    /// Collects nothing any more; what runs stops at its next step.
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
        let every = self.rule.gc_every.unwrap_or(EVERY);
        let (mut due, mut not_before) = (Instant::now() + every, Instant::now());
        loop {
            let state = self.lock();
            let left = due.saturating_duration_since(Instant::now());
            let pause = if self.rule.gc_free.is_some() { left.min(LOOK_EVERY) } else { left };
            let wait = self.changed.wait_timeout_while(state, pause, |state| !state.is_over);
            let mut state = wait.unwrap_or_else(PoisonError::into_inner).0;
            if state.is_over {
                return;
            }
            let now = Instant::now();
            if now < due && (now < not_before || !self.is_too_full()) {
                continue;
            }
            state.is_working = true;
            drop(state);
            let last = self.collect();
            let mut state = self.lock();
            state.is_working = false;
            state.last = Some(last);
            drop(state);
            self.changed.notify_all();
            due = Instant::now() + every;
            not_before = Instant::now() + if self.is_too_full() { IN_VAIN } else { Duration::ZERO };
        }
    }

    fn is_too_full(&self) -> bool {
        let Some(floor) = self.rule.gc_free else { return false };
        match rustix::fs::statvfs(self.writer.path()) {
            Ok(found) => found.f_bavail.saturating_mul(found.f_frsize) < floor,
            Err(errno) => {
                tracing::warn!(%errno, "cannot tell how full the disk is");
                false
            }
        }
    }

    fn collect(&self) -> LastCollection {
        let (begun, mut retired) = (Instant::now(), 0);
        let result = self.collect_by_rule(&mut retired);
        let took = begun.elapsed();
        match &result {
            Ok(freed) => tracing::info!(freed, retired, ?took, "collected"),
            Err(Error::Cancelled) => tracing::info!("a collection was stopped"),
            Err(error) => tracing::warn!(%error, "cannot collect"),
        }
        let result = result.map_err(|error| error.to_string());
        LastCollection { at: Instant::now(), took, retired, result }
    }

    fn collect_by_rule(&self, retired: &mut usize) -> Result<u64, Error> {
        let retention = self.rule.retention();
        let plan = self.writer.plan_retention(&retention, cairn_store::time::now_ms())?;
        *retired += self.retire(&plan)?;
        let mut options = self.rule.options();
        // Who has no room cannot wait.
        if self.is_too_full() {
            options.grace = Duration::ZERO;
        }
        let mut freed = self.collect_once(&options)?;
        for _ in 0..SPARED_MAX {
            if !self.is_too_full() {
                break;
            }
            let oldest =
                self.writer.spare_versions(&retention, cairn_store::time::now_ms()).into_iter().next();
            let Some(oldest) = oldest else {
                tracing::warn!(
                    "the disk is fuller than it should be, and every version that there is is needed"
                );
                break;
            };
            tracing::info!(version = %oldest, "the oldest version goes, since the disk is too full");
            *retired += self.retire(&RetentionPlan { prunes: Vec::new(), versions: vec![oldest] })?;
            options.grace = Duration::ZERO;
            freed += self.collect_once(&options)?;
        }
        Ok(freed)
    }

    /// Gives the bytes that are free now and were not.
    fn collect_once(&self, options: &CollectOptions) -> Result<u64, Error> {
        let until_over = UntilOver(self);
        let plan = self.writer.plan_collection(options, &until_over)?;
        let done = self.writer.collect(&plan, options, &until_over)?;
        Ok(done.freed_bytes.saturating_sub(done.written_bytes))
    }

    fn retire(&self, plan: &RetentionPlan) -> Result<usize, Error> {
        let retired = self.writer.retire(plan)?;
        let generations = retired.generations.iter().map(|(_, numbers)| numbers.len()).sum::<usize>();
        for (profile, numbers) in &retired.generations {
            tracing::info!(%profile, ?numbers, "generations went by the rule");
        }
        for version in &retired.versions {
            tracing::info!(%version, "a version went by the rule");
        }
        Ok(generations + retired.versions.len())
    }
}
