//! Brings what lacks as a delta: one peer tells it in terms of a version that is held here. The calling thread reads the
//! units in their order; workers, one for each core, decode and hash them, and keep what comes of them.
//!
//! A delta is a short cut. Where nobody tells one in time, where what it builds on is damaged here, or where it does not
//! hold, the pull goes on without; what came of it stays. What was damaged is mended once the rest is here.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_store::delta::{DeltaReader, Gap, UnitError, UnitJob, UnitTools};
use cairn_store::pack::PackKind;
use cairn_store::{ArtifactId, ChunkId, Intake, Kept, Store};
use serde::Serialize;

use super::Pull;
use crate::address::PeerUrl;
use crate::error::{Error, Fault, PeerError, Result};
use crate::feed::{Ask, Feed};
use crate::net::{Net, PAUSE};
use crate::peer::{Peer, TellAsk};
use crate::report::{Cancelling, Plan};
use crate::survey::Survey;
use crate::wire::{HexId, Item, Step, via_from_text};

/// What comes to less than this on the wire is not worth a delta, in bytes.
const WORTH_MIN: u64 = 16 << 10;
/// Nor is the rest of a pull that was cut off, if it is one in so many parts.
const REST_PARTS: u64 = 12;
/// Peers that are asked, at most.
const ASKED_MAX: usize = 3;
/// How long one request waits for a delta to be made.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How long is waited between such requests, if the peer does not say.
const REST: Duration = Duration::from_millis(500);
/// Units between the reader and the workers, for each worker.
const AHEAD: usize = 2;
/// Workers, at most; there are no more than cores.
const WORKERS_MAX: usize = 8;

/// Whether deltas are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaUse {
    /// Whether they are.
    pub is_wanted: bool,
    /// How long is waited for one to be made.
    pub wait: Duration,
}

impl Default for DeltaUse {
    fn default() -> Self {
        Self { is_wanted: true, wait: Duration::from_secs(30) }
    }
}

/// What came as a delta.
#[derive(Debug, Clone, Serialize)]
pub struct DeltaReport {
    /// Who told it.
    pub from: PeerUrl,
    /// In terms of which artifact.
    pub have: HexId<ArtifactId>,
    /// The artifacts between, where it came as several deltas one after the other.
    pub via: Vec<HexId<ArtifactId>>,
    /// Its units' bytes, by codec.
    pub codecs: BTreeMap<&'static str, u64>,
    /// Bytes of all units.
    pub bytes: u64,
    /// Plain bytes of the chunks that it came to.
    pub plain_bytes: u64,
}

/// What a peer would tell.
#[derive(Debug, Clone, Serialize)]
pub struct DeltaOffer {
    /// Who.
    pub from: PeerUrl,
    /// In terms of which artifact.
    pub have: HexId<ArtifactId>,
    /// The artifacts between, where it is several deltas one after the other.
    pub via: Vec<HexId<ArtifactId>>,
    /// Bytes of the answers.
    pub bytes: u64,
}

impl Net {
    /// What the delta of a plan would come to, if a peer tells one in time.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Start`].
    pub fn delta_offer(&self, plan: &Plan, cancelled: &dyn Fn() -> bool) -> Result<Option<DeltaOffer>> {
        let Some(have) = plan.have.filter(|_| plan.deltas.is_wanted && plan.stored_bytes >= WORTH_MIN) else {
            return Ok(None);
        };
        let (want, until) = (plan.artifact, Instant::now() + plan.deltas.wait);
        for peer in self.peers(&plan.sources[..plan.sources.len().min(ASKED_MAX)])? {
            loop {
                let wait = until.saturating_duration_since(Instant::now()).min(WAIT_MAX);
                let asked = peer.clone();
                let ask = TellAsk { have, want, wait, takes_ways: true };
                match self.wait(async move { asked.told_len(&ask).await }, cancelled)? {
                    Ok(Some(bytes)) => {
                        let (from, via) = (peer.url().clone(), Vec::new());
                        return Ok(Some(DeltaOffer { from, have: HexId(have), via, bytes }));
                    }
                    Err(error) if let Some(steps) = way_of(&error, &have, &want) => {
                        let bytes = steps.iter().fold(0u64, |sum, step| sum.saturating_add(step.bytes));
                        let (from, via) = (peer.url().clone(), between(&steps));
                        return Ok(Some(DeltaOffer { from, have: HexId(have), via, bytes }));
                    }
                    Err(error) if error.fault == Fault::Busy && Instant::now() + REST < until => {
                        std::thread::sleep(REST);
                    }
                    _ => break,
                }
            }
        }
        Ok(None)
    }
}

/// What workers found.
#[derive(Default)]
struct Outcome {
    kept: Kept,
    failure: Option<UnitError>,
}

/// Which delta one peer is asked for, and what of it is wanted.
pub(super) struct Asked<'a> {
    pub(super) have: ArtifactId,
    pub(super) want: ArtifactId,
    pub(super) gap: &'a Arc<Gap>,
    /// The chunks that lack, if not all do.
    pub(super) lacking: Option<&'a HashSet<ChunkId>>,
    /// Bytes of its units, at most, if that was said.
    pub(super) bytes_max: Option<u64>,
}

/// The way that an answer shows, if it shows one that may be gone.
fn way_of(error: &PeerError, have: &ArtifactId, want: &ArtifactId) -> Option<Vec<Step>> {
    let steps = via_from_text(error.via.as_deref()?, have, want);
    steps.inspect_err(|why| tracing::warn!(peer = %error.peer, %why, "a way is not gone")).ok()
}

/// The artifacts between of a way.
pub(super) fn between(steps: &[Step]) -> Vec<HexId<ArtifactId>> {
    steps.iter().rev().skip(1).rev().map(|step| step.artifact).collect()
}

/// How asking one peer ended.
pub(super) enum Told {
    /// All of it came.
    Whole(DeltaReport),
    /// It has none.
    Nothing,
    /// It shows a way through versions between.
    Way(Vec<Step>),
    /// It does not hold, or breaks off.
    Failed(PeerError),
    /// What it builds on cannot be read here.
    Damaged(cairn_store::Error),
}

impl Pull<'_> {
    /// Brings all that lacks in terms of `have`, if a peer tells it; whether one did.
    pub(super) fn by_delta(&mut self, have: &ArtifactId, plan: &Plan, found: &Survey) -> Result<bool> {
        if !plan.deltas.is_wanted || plan.stored_bytes < WORTH_MIN {
            return Ok(false);
        }
        let store = self.writer.store().local();
        let gap = match Gap::between(&store, have, &plan.artifact, &Cancelling(self.watch)) {
            Ok(Some(gap)) => gap,
            Ok(None) => return Ok(false),
            Err(error) if cannot_be_read(&error) => {
                self.note_unsound(have, &error);
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        if found.bytes < gap.plain_bytes() / REST_PARTS {
            return Ok(false);
        }
        let gap = Arc::new(gap);
        // Of a large artifact only some are listed.
        let is_listed = found.chunks == found.lacking.len() as u64;
        let lacking = is_listed.then(|| found.lacking.iter().map(|chunk| chunk.id).collect());
        let until = Instant::now() + plan.deltas.wait;
        let asked: Vec<usize> =
            (0..self.peers.len()).filter(|number| !self.is_out(*number)).take(ASKED_MAX).collect();
        for number in asked {
            let peer = self.peers[number].clone();
            let asked = Asked {
                have: *have,
                want: plan.artifact,
                gap: &gap,
                lacking: lacking.as_ref(),
                bytes_max: None,
            };
            let (mut told, mut kept) = self.told_by(&peer, &asked, true, until)?;
            if let Told::Way(steps) = &told {
                if let Some(report) = self.by_way(number, have, plan, steps, until)? {
                    self.report.delta = Some(report);
                    return Ok(true);
                }
                if self.is_out(number) {
                    continue;
                }
                (told, kept) = self.told_by(&peer, &asked, false, until)?;
            }
            self.count(number, &kept);
            match told {
                Told::Whole(report) => {
                    self.report.delta = Some(report);
                    return Ok(true);
                }
                Told::Nothing | Told::Way(_) => {}
                Told::Failed(error) => self.failed(number, error),
                Told::Damaged(error) => {
                    self.note_unsound(have, &error);
                    tracing::warn!(%error, "what a delta builds on cannot be read; all of it is brought instead");
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    /// Notes that what a peer told does not hold, or breaks off.
    pub(super) fn failed(&mut self, number: usize, error: PeerError) {
        let url = self.peers[number].url();
        tracing::warn!(peer = %url, detail = %error.detail, "a delta comes to nothing");
        if !error.fault.may_pass() && error.fault != Fault::Absent && error.fault != Fault::Refused {
            self.watch.dropped(url, &error.detail);
            self.liars.push((number, error));
        }
    }

    pub(super) fn count(&mut self, peer: usize, kept: &Kept) {
        self.report.chunks += kept.chunks;
        self.report.plain_bytes += kept.plain_bytes;
        self.report.stored_bytes += kept.stored_bytes;
        *self.told.entry(peer).or_default() += kept.chunks;
    }

    /// Asks one peer, as often as it says that it is not ready.
    pub(super) fn told_by(
        &self,
        peer: &Peer,
        asked: &Asked<'_>,
        takes_ways: bool,
        until: Instant,
    ) -> Result<(Told, Kept)> {
        let Asked { have, want, .. } = *asked;
        loop {
            let wait = until.saturating_duration_since(Instant::now()).min(WAIT_MAX);
            let mut feed = self.net.feed(peer, Ask::Told(TellAsk { have, want, wait, takes_ways }))?;
            let (told, kept) = self.read_told(peer, asked, &mut feed)?;
            let Told::Failed(error) = &told else { return Ok((told, kept)) };
            if takes_ways && let Some(steps) = way_of(error, &have, &want) {
                return Ok((Told::Way(steps), kept));
            }
            let rest = error.retry_after.unwrap_or(REST);
            if error.fault == Fault::Absent || error.fault == Fault::Busy && Instant::now() + rest >= until {
                return Ok((Told::Nothing, kept));
            }
            if error.fault != Fault::Busy || kept.chunks > 0 {
                return Ok((told, kept));
            }
            self.rest(rest)?;
        }
    }

    fn rest(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.watch.cancelled() {
                return Err(Error::Cancelled);
            }
            std::thread::sleep(PAUSE.min(until.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    fn read_told(&self, peer: &Peer, asked: &Asked<'_>, feed: &mut Feed) -> Result<(Told, Kept)> {
        let (store, intake) = (self.writer.store().local(), self.writer.intake());
        let outcome = Mutex::new(Outcome::default());
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX);
        let (jobs, taken) = sync_channel(workers * AHEAD);
        let taken = Mutex::new(taken);
        let told = std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| work(&store, &intake, &taken, &outcome));
            }
            let mut report = DeltaReport {
                from: peer.url().clone(),
                have: HexId(asked.have),
                via: Vec::new(),
                codecs: BTreeMap::new(),
                bytes: 0,
                plain_bytes: 0,
            };
            let read = self.read_units(peer, asked, feed, jobs, &outcome, &mut report);
            read.map(|told| told.unwrap_or(Told::Whole(report)))
        });
        let Outcome { kept, failure } = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.watch.kept(kept.plain_bytes, kept.chunks);
        let told = match (told, failure) {
            (Err(Error::Cancelled), _) => return Err(Error::Cancelled),
            (_, Some(UnitError::Lied(error))) => Told::Failed(peer.error(Fault::Lied, error.to_string())),
            (_, Some(UnitError::Store(error))) if cannot_be_read(&error) => Told::Damaged(error),
            (_, Some(UnitError::Store(error))) => return Err(error.into()),
            (Err(Error::Peer(error)), None) => Told::Failed(error),
            (told, None) => told?,
        };
        Ok((told, kept))
    }

    /// Hands units to the workers; something else than nothing where that ends before the last.
    fn read_units(
        &self,
        peer: &Peer,
        asked: &Asked<'_>,
        feed: &mut Feed,
        jobs: SyncSender<UnitJob>,
        outcome: &Mutex<Outcome>,
        report: &mut DeltaReport,
    ) -> Result<Option<Told>> {
        let lied = |detail: String| Error::Peer(peer.error(Fault::Lied, detail));
        let Asked { gap, lacking, bytes_max, .. } = *asked;
        let mut reader = DeltaReader::new(Arc::clone(gap));
        while let Some(item) = feed.next(self.net, &|| self.watch.cancelled())? {
            let unit = match item {
                Item::Unit(unit) => unit,
                Item::Head(_) => continue,
                // It is told plainly, which has better ways.
                Item::Data(_) | Item::Metadata(_) | Item::Absent(_) => return Ok(Some(Told::Nothing)),
                Item::Failure(_) | Item::End(_) => continue,
            };
            let len = unit.len() as u64;
            self.watch.received(peer.url(), len);
            report.bytes += len;
            if bytes_max.is_some_and(|max| report.bytes > max) {
                return Err(lied("a delta is longer than it was said to be".to_owned()));
            }
            let job = reader.take(unit).map_err(|error| lied(error.to_string()))?;
            *report.codecs.entry(job.as_ref().map_or("maps", UnitJob::codec)).or_default() += len;
            let Some(job) = job else { continue };
            let is_wanted =
                |number: usize| lacking.is_none_or(|lacking| lacking.contains(&gap.chunk(number).id));
            report.plain_bytes += job.plain_len() as u64;
            if !job.chunks().any(is_wanted) {
                continue;
            }
            // Nobody takes it where all workers ended, and then one says why.
            if lock(outcome).failure.is_some() || jobs.send(job).is_err() {
                return Ok(None);
            }
        }
        reader.finish().map_err(|error| lied(error.to_string()))?;
        Ok(None)
    }
}

/// Whether what a delta builds on is damaged, or has gone.
pub(crate) fn cannot_be_read(error: &cairn_store::Error) -> bool {
    matches!(error, cairn_store::Error::Damaged { .. } | cairn_store::Error::Absent { .. })
}

/// Decodes units until there are no more, or one fails.
fn work(store: &Store, intake: &Intake, jobs: &Mutex<Receiver<UnitJob>>, outcome: &Mutex<Outcome>) {
    let mut tools = UnitTools::default();
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if lock(outcome).failure.is_some() {
            continue;
        }
        let result = job.run(store, &mut tools).and_then(|frames| {
            for frame in &frames {
                let kept = intake.keep(PackKind::Data, frame)?;
                let all = &mut lock(outcome).kept;
                all.chunks += kept.chunks;
                all.plain_bytes += kept.plain_bytes;
                all.stored_bytes += kept.stored_bytes;
            }
            Ok(())
        });
        if let Err(error) = result {
            lock(outcome).failure.get_or_insert(error);
        }
    }
}

fn lock(outcome: &Mutex<Outcome>) -> MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}
