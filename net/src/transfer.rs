//! Brings the data of an artifact whose metadata is here.
//!
//! The calling thread is the conductor: it asks the schedule what to do, starts and ends requests, and tells the watcher.
//! Tasks read answers and hand frames on; workers, one for each core, hash what came and keep it. Nothing is kept that was
//! not hashed and asked for. What is on its way is bounded: some frames between tasks and workers, one window of ids.
//!
//! An artifact with more chunks than fit into one request comes in windows, each planned from what is here by then: that
//! is also how an interrupted pull goes on.

mod conductor;
mod mend;
mod told;
mod way;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use cairn_store::{ArtifactId, ChunkId, ChunkRef, HoldGuard, Writer};
use tokio::sync::mpsc;

use crate::error::{Error, Fault, PeerError, Result};
use crate::net::Net;
use crate::peer::Peer;
use crate::peers::Peers;
use crate::report::{PeerReport, Plan, Report, Totals, Watch, millis};
use crate::resolve::totals;
use crate::schedule::{BatchId, PEERS_MAX, PeerNo, PeerSummary, Schedule, Slot, Standing};
use crate::survey::survey;
use crate::wire::IDS_MAX;
use conductor::Conductor;
pub use mend::HealReport;
pub(crate) use mend::Unsound;
pub(crate) use told::cannot_be_read;
pub use told::{DeltaOffer, DeltaReport, DeltaUse};
use workers::Window;

/// Frames between tasks and workers, at most.
const FRAMES_AHEAD: usize = 8;

/// What tasks and workers tell the conductor.
enum Event {
    Received {
        batch: BatchId,
        bytes: u64,
    },
    /// A frame was verified, and what is wanted of it kept.
    Kept {
        batch: BatchId,
        slots: Vec<Slot>,
        kept: cairn_store::Kept,
    },
    Absent {
        batch: BatchId,
        ids: Vec<ChunkId>,
    },
    /// A frame is not what it says.
    Lied {
        batch: BatchId,
        detail: String,
    },
    /// What leads to the data is not true.
    Malformed(String),
    /// The answer ended after so many frames.
    Finished {
        batch: BatchId,
        frames: u64,
        outcome: Result<(), PeerError>,
    },
    /// The own store failed.
    Broken(cairn_store::Error),
}

impl Net {
    /// Brings the data of a plan and makes it durable. Names are for the caller to publish, once this has returned.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot all be had, [`Error::Cancelled`], [`Error::Store`]. What came is kept: the
    /// next pull goes on from there.
    pub fn pull(&self, writer: &Writer, plan: Plan, watch: &dyn Watch) -> Result<Report> {
        let whole = plan.sources.len().min(PEERS_MAX);
        let mut peers = self.peers(&plan.sources[..whole])?;
        peers.extend(self.peers(&plan.partial[..plan.partial.len().min(PEERS_MAX - whole)])?);
        let mut pull = Pull {
            net: self,
            writer,
            peers,
            whole,
            watch,
            report: Report::default(),
            summaries: Vec::new(),
            began: Instant::now(),
            told: BTreeMap::new(),
            liars: Vec::new(),
            delta: plan.have.map(|have| (have, plan.artifact)),
            unsound: plan.unsound,
            holds: Vec::new(),
            between: Totals::default(),
        };
        let mut result = pull.run(&plan);
        if let (Ok(()), Some(unsound)) = (&result, pull.unsound) {
            result = pull.mend(unsound);
        }
        // What came is worth keeping, however it ended.
        let flushed = writer.intake().flush();
        pull.finish(&plan);
        result?;
        flushed?;
        Ok(pull.report)
    }
}

/// One pull.
struct Pull<'a> {
    net: &'a Net,
    writer: &'a Writer,
    /// Those who have it first, then those who may have some of it.
    peers: Vec<Peer>,
    /// How many have it.
    whole: usize,
    watch: &'a dyn Watch,
    report: Report,
    /// Of the windows so far.
    summaries: Vec<Vec<PeerSummary>>,
    began: Instant,
    /// Chunks that each peer told in terms of others.
    told: BTreeMap<usize, u64>,
    /// Whose deltas did not hold.
    liars: Vec<(usize, PeerError)>,
    /// What could be asked for as a whole.
    delta: Option<(ArtifactId, ArtifactId)>,
    /// What a delta was to build on, if that is damaged here.
    unsound: Option<Unsound>,
    /// Versions between that it came by: they stay until it is over.
    holds: Vec<HoldGuard>,
    /// What went over the wire for what leads to their files.
    between: Totals,
}

impl Pull<'_> {
    fn run(&mut self, plan: &Plan) -> Result<()> {
        let mut told = plan.have;
        loop {
            let found =
                survey(&self.writer.store().local(), &plan.artifact, IDS_MAX, &|| self.watch.cancelled())?;
            if !found.absent.is_empty() {
                let detail = "its metadata went away while it was pulled".to_owned();
                return Err(Error::Unavailable { what: plan.key.to_string(), detail });
            }
            if found.lacking.is_empty() {
                return Ok(());
            }
            if let Some(have) = told.take()
                && self.by_delta(&have, plan, &found)?
            {
                continue;
            }
            let whole = found.chunks == found.lacking.len() as u64;
            let delta = self.delta.take().filter(|_| whole);
            let delta = match delta {
                Some((have, want)) => self.fits(&have, &want, found.bytes)?.then_some((Some(have), want)),
                None if whole && plan.have.is_none() && self.report.chunks == 0 => {
                    (found.bytes == self.distinct_bytes(&plan.artifact)?).then_some((None, plan.artifact))
                }
                None => None,
            };
            self.window(found.lacking, delta, plan)?;
        }
    }

    /// Whether what lacks is just what one artifact has and the other has not, as good as.
    fn fits(&self, have: &ArtifactId, want: &ArtifactId, lacking: u64) -> Result<bool> {
        let delta = self.writer.store().local().lacking_chunks(Some(have), want, &())?;
        Ok(delta.plain_bytes <= lacking + lacking / 256)
    }

    fn distinct_bytes(&self, want: &ArtifactId) -> Result<u64> {
        Ok(self.writer.store().local().lacking_chunks(None, want, &())?.plain_bytes)
    }

    fn window(
        &mut self,
        mut lacking: Vec<ChunkRef>,
        delta: Option<(Option<ArtifactId>, ArtifactId)>,
        plan: &Plan,
    ) -> Result<()> {
        let gone: Vec<usize> = (0..self.peers.len()).filter(|number| self.is_out(*number)).collect();
        let partial = self.peers.len() - self.whole;
        if partial > 0 {
            // Who begins elsewhere than others has something to give them.
            let at = random_below(lacking.len());
            lacking.rotate_left(at);
        }
        let schedule = Schedule::new(lacking.iter().map(|chunk| chunk.len), self.whole, partial);
        let window = Arc::new(Window::new(lacking));
        let (events, told) = channel();
        let (frames, jobs) = mpsc::channel(FRAMES_AHEAD);
        let mut conductor = Conductor {
            pull: self,
            schedule,
            window: Arc::clone(&window),
            delta,
            requests: BTreeMap::new(),
            frames,
            events: events.clone(),
            done: BTreeMap::new(),
        };
        for number in gone {
            conductor.schedule.drop_peer(PeerNo(number), Fault::Lied, "dropped before".to_owned());
        }
        let intake = conductor.pull.writer.intake();
        let result = std::thread::scope(|scope| {
            workers::start(scope, &window, &intake, jobs, &events);
            drop(events);
            let result = conductor.run(&told);
            // Tasks end, and with their last sender the workers.
            conductor.stop();
            let summaries = (0..conductor.pull.peers.len()).map(|n| conductor.schedule.summary(PeerNo(n)));
            let summaries: Vec<_> = summaries.collect();
            drop(conductor);
            (result, summaries)
        });
        let (result, summaries) = result;
        self.summaries.push(summaries);
        match result? {
            Standing::Stuck(slots) => Err(self.stuck(plan, &window, &slots)),
            Standing::Done | Standing::Running => Ok(()),
        }
    }

    /// Whether a peer was dropped in an earlier window.
    fn is_out(&self, peer: usize) -> bool {
        let is_out =
            |summaries: &Vec<PeerSummary>| summaries.get(peer).is_some_and(|summary| summary.out.is_some());
        self.summaries.iter().any(is_out) || self.liars.iter().any(|(liar, _)| *liar == peer)
    }

    fn stuck(&self, plan: &Plan, window: &Window, slots: &[Slot]) -> Error {
        let reason = |number: usize| {
            let summary = self.summaries.last()?.get(number)?;
            let detail = summary.out.as_ref().map(|out| out.detail.clone()).or(summary.last_failure.clone());
            let detail = detail.unwrap_or_else(|| "it does not have it".to_owned());
            Some((
                summary.out.as_ref().map(|out| out.fault),
                self.peers.get(number)?.error(Fault::Absent, detail),
            ))
        };
        let reasons: Vec<_> = (0..self.peers.len()).filter_map(reason).collect();
        if let [(Some(fault), only)] = &reasons[..]
            && !fault.may_pass()
        {
            return Error::Peer(PeerError { fault: *fault, ..only.clone() });
        }
        let peers = reasons.iter().map(|(_, reason)| reason.to_string()).collect::<Vec<_>>().join("; ");
        let first = slots.first().map(|slot| window.chunk(*slot).id.short()).unwrap_or_default();
        let what = plan.key.to_string();
        let detail =
            format!("nobody who is left has {} of its chunks, the first {first}: {peers}", slots.len());
        Error::Unavailable { what, detail }
    }

    /// Fills in the report, and notes in the store's file of peers how each did.
    fn finish(&mut self, plan: &Plan) {
        let elapsed = self.began.elapsed();
        let mut all = plan.totals;
        all.add(totals(&self.peers));
        all.add(self.between);
        self.report.elapsed_ms = millis(elapsed);
        (self.report.round_trips, self.report.wire_bytes, self.report.sent_bytes) =
            (all.round_trips, all.received, all.sent);
        self.report.peers = plan.dropped.clone();
        let known = Peers::open(self.writer.store().path());
        for report in &plan.dropped {
            note(&known, report);
        }
        for number in 0..self.peers.len() {
            let report = self.report_of(number, elapsed);
            if !self.summaries.is_empty() || !self.told.is_empty() {
                note(&known, &report);
            }
            self.report.peers.push(report);
        }
    }

    fn report_of(&self, number: usize, elapsed: Duration) -> PeerReport {
        let peer = &self.peers[number];
        let summaries = || self.summaries.iter().filter_map(|summaries| summaries.get(number));
        let out =
            summaries().find_map(|summary| summary.out.clone().filter(|out| out.detail != "dropped before"));
        let bytes = peer.traffic().received();
        let liar = self.liars.iter().find(|(liar, _)| *liar == number).map(|(_, error)| error);
        let told = self.told.get(&number).copied().unwrap_or_default();
        PeerReport {
            url: peer.url().clone(),
            bytes,
            chunks: told + summaries().map(|summary| summary.chunks).sum::<u64>(),
            rate: bytes.saturating_mul(1000) / millis(elapsed).max(1),
            lied: liar.is_some()
                || out.as_ref().is_some_and(|out| matches!(out.fault, Fault::Lied | Fault::Misbehaved)),
            dropped: liar.map(|error| error.detail.clone()).or(out.map(|out| out.detail)),
        }
    }
}

/// A number below `end`, by chance; 0 where there is no chance to be had.
fn random_below(end: usize) -> usize {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => usize::try_from(u64::from_le_bytes(bytes) % end.max(1) as u64).unwrap_or(0),
        _ => 0,
    }
}

/// Notes how a peer did, if the store knows it. That it cannot be noted hinders no pull.
fn note(known: &Peers, report: &PeerReport) {
    let noted = match &report.dropped {
        Some(why) if report.lied => known.note_lie(&report.url, why),
        Some(why) => known.note_failure(&report.url, why),
        None if report.chunks > 0 => known.note_success(&report.url, report.rate),
        None => Ok(()),
    };
    if let Err(error) = noted {
        tracing::warn!(peer = %report.url, %error, "cannot note how a peer did");
    }
}
