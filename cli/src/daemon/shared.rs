//! What the jobs of a daemon share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cairn_fusefs::{Spread, Timings};
use cairn_server::{Caller, Jobs};
use cairn_store::{Error, Name, Store, Streams, Writer};

use super::collector::{Collector, LastCollection};
use super::inherit::Takeover;
use super::mounts::Mounts;
use super::optimiser::{LastOptimising, Optimiser};
use super::scrub::Scrubber;
use super::serve::{Opened, Served};
use super::settings::Settings;
use super::snapshots::{Snapshots, SnapshotsOf};
use super::turn::{Holder, Refused, Taken, Turn};
use crate::app;
use crate::exchange::Background;

/// What the jobs of a daemon share.
pub(crate) struct Daemon {
    pub(super) writer: Writer,
    streams: Arc<Streams>,
    /// Whether another process asks for the store: commands that never end by themselves are to end.
    is_leaving: AtomicBool,
    mounts: Arc<Mounts>,
    turn: Arc<Turn>,
    started: Instant,
    takeover: Option<Takeover>,
    /// From when a request was accepted until what it changed in a profile was durable and to be seen.
    changes: Timings,
    /// Where peers are answered, if anywhere.
    served: OnceLock<Served>,
    background: Arc<Background>,
    /// What collects by itself, if anything does.
    collector: OnceLock<Arc<Collector>>,
    /// What tells older versions in terms of newer ones, if anything does.
    optimiser: OnceLock<Arc<Optimiser>>,
    /// What reads everything again, if anything does.
    pub(super) scrubber: OnceLock<Arc<Scrubber>>,
    scrub_rate: OnceLock<u64>,
    /// What takes snapshots by itself.
    pub(super) snapshots: OnceLock<Arc<Snapshots>>,
}

impl Daemon {
    pub(super) fn new(
        writer: Writer,
        streams: Arc<Streams>,
        mounts: Arc<Mounts>,
        takeover: Option<Takeover>,
        background: Arc<Background>,
    ) -> Arc<Self> {
        let shown = Arc::clone(&mounts);
        writer.observe(Box::new(move |view| shown.publish(view)));
        writer.add_holder(Arc::clone(&mounts) as Arc<dyn cairn_store::Holder>);
        let (turn, started, changes) = (Arc::default(), Instant::now(), Timings::default());
        let (served, collector, optimiser) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (scrubber, scrub_rate) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self {
            writer,
            streams,
            is_leaving: AtomicBool::new(false),
            mounts,
            turn,
            started,
            takeover,
            changes,
            served,
            background,
            collector,
            optimiser,
            scrubber,
            scrub_rate,
            snapshots: OnceLock::new(),
        })
    }

    /// Whom it took the store over from.
    pub(crate) fn takeover(&self) -> Option<Takeover> {
        self.takeover
    }

    /// What is done with peers beside commands.
    pub(crate) fn background(&self) -> &Arc<Background> {
        &self.background
    }

    /// Where peers are answered, if anywhere.
    pub(crate) fn served(&self) -> Option<&Served> {
        self.served.get()
    }

    /// Answers peers from now on.
    pub(super) fn serve(&self, opened: Opened) -> anyhow::Result<()> {
        let begun = opened.begin(&self.writer, &self.streams)?;
        let served = self.served.get_or_init(|| begun);
        let (url, everybody_reads) = (served.url(), served.anonymous_reads());
        tracing::info!(url, everybody_reads, "serves peers");
        Ok(())
    }

    /// From now on it takes snapshots and collects by itself, reads everything again, and tells older versions in terms of newer ones while no
    /// command runs, as far as the settings say so. A daemon without any of it is one all the same: it may have mounts that
    /// nobody else serves.
    pub(super) fn keep_up(&self, settings: &Settings, jobs: &Arc<Jobs>) {
        let own = || self.writer.signed(app::who(super::own_uid()));
        // There is one daemon, and it begins once.
        match Collector::start(own(), settings.collector.clone()) {
            Ok(collector) => drop(collector.map(|collector| self.collector.set(collector))),
            Err(error) => tracing::error!(error = format!("{error:#}"), "nothing is collected"),
        }
        let jobs = Arc::clone(jobs);
        match Optimiser::start(own(), settings.optimiser.clone(), move || jobs.count() > 0) {
            Ok(optimiser) => drop(optimiser.map(|optimiser| self.optimiser.set(optimiser))),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "nothing is told in terms of other versions")
            }
        }
        let rate = settings.scrub.rate();
        match Scrubber::start(own(), settings.scrub.clone()) {
            Ok(Some(scrubber)) => drop((self.scrubber.set(scrubber), self.scrub_rate.set(rate))),
            Ok(None) => {}
            Err(error) => tracing::error!(error = format!("{error:#}"), "nothing is read again"),
        }
        match Snapshots::start(own(), Arc::clone(&self.turn), settings.snapshots.clone()) {
            Ok(snapshots) => drop(self.snapshots.set(snapshots)),
            Err(error) => tracing::error!(error = format!("{error:#}"), "no snapshots are taken"),
        }
    }

    /// Collects, reads again and tells anew nothing any more; what runs stops at its next step.
    pub(super) fn end_upkeep(&self) {
        self.snapshots.get().inspect(|snapshots| snapshots.end());
        self.collector.get().inspect(|collector| collector.end());
        self.optimiser.get().inspect(|optimiser| optimiser.end());
        self.scrubber.get().inspect(|scrubber| scrubber.end());
    }

    /// Bytes a second that are read again, if any are.
    pub(crate) fn scrub_rate(&self) -> Option<u64> {
        self.scrub_rate.get().copied()
    }

    /// Whether it collects by itself, and what came of it the last time.
    pub(crate) fn last_collection(&self) -> Option<Option<LastCollection>> {
        self.collector.get().map(|collector| collector.last())
    }

    /// Whether it tells older versions in terms of newer ones, and what came of it the last time.
    pub(crate) fn last_optimising(&self) -> Option<Option<LastOptimising>> {
        self.optimiser.get().map(|optimiser| optimiser.last())
    }

    /// What came of the snapshots that it takes by itself.
    pub(crate) fn snapshots(&self) -> Vec<(Name, SnapshotsOf)> {
        self.snapshots.get().map(|snapshots| snapshots.list()).unwrap_or_default()
    }

    /// Mounts a profile.
    pub(crate) fn mount(
        &self,
        options: cairn_fusefs::MountOptions,
    ) -> anyhow::Result<cairn_fusefs::MountStatus> {
        self.mounts.add(&self.writer, options)
    }

    /// For how long it has run.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A profile was changed, so long after the request for it.
    pub(crate) fn note_change(&self, took: Duration) {
        self.changes.add(took);
    }

    /// How long changes of profiles took.
    pub(crate) fn changes(&self) -> Spread {
        self.changes.spread()
    }

    /// The store's writer; what it changes is `who`'s.
    pub(crate) fn writer(&self, who: String) -> Writer {
        self.writer.signed(who)
    }

    /// The store, with what is open of it.
    pub(crate) fn store(&self) -> &Store {
        self.writer.store()
    }

    /// Whether another process asks for the store, and waits for commands to end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Another process asks for the store, or does no more.
    pub(super) fn set_leaving(&self, is_leaving: bool) {
        self.is_leaving.store(is_leaving, Ordering::Release);
    }

    /// The streams of the store.
    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// The mounts.
    pub(crate) fn mounts(&self) -> &Arc<Mounts> {
        &self.mounts
    }

    /// The right to ingest, within `wait`.
    pub(crate) fn turn(
        &self,
        caller: Caller,
        wait: Duration,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Taken<'_>, Error> {
        let since = cairn_store::time::rfc3339(cairn_store::time::now_ms());
        let taken = self.turn.take(Holder { pid: caller.pid, since }, wait, is_cancelled);
        taken.map_err(|refused| match refused {
            Refused::Cancelled => Error::Cancelled,
            Refused::Busy(Holder { pid, since }) => {
                Error::Busy { path: self.writer.path().to_owned(), pid, since }
            }
        })
    }
}
