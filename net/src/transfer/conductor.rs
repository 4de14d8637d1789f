//! One window of a pull: does what the schedule says, and tells it and the watcher what comes of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use cairn_store::ArtifactId;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::workers::{Job, Window};
use super::{Event, Pull};
use crate::error::{Error, Fault, PeerError, Result};
use crate::feed::Ask;
use crate::peer::{Part, Peer};
use crate::schedule::{BatchId, Order, PeerNo, Schedule, Slot, Standing, Verdict};
use crate::wire::Item;

/// How often the conductor looks whether it is to stop.
const PAUSE: Duration = Duration::from_millis(100);

/// One window of a pull.
pub(super) struct Conductor<'a, 'b> {
    pub(super) pull: &'a mut Pull<'b>,
    pub(super) schedule: Schedule,
    pub(super) window: Arc<Window>,
    /// What asks for the whole window in one request that caches know.
    pub(super) delta: Option<(Option<ArtifactId>, ArtifactId)>,
    pub(super) requests: BTreeMap<BatchId, AbortHandle>,
    pub(super) frames: mpsc::Sender<Job>,
    pub(super) events: Sender<Event>,
    /// Frames of each request that workers are done with, and how the request ended, if it did.
    pub(super) done: BTreeMap<BatchId, Progress>,
}

#[derive(Default)]
pub(super) struct Progress {
    frames: u64,
    finished: Option<(u64, Result<(), PeerError>)>,
}

impl Conductor<'_, '_> {
    /// Conducts until everything came or cannot come.
    pub(super) fn run(&mut self, told: &Receiver<Event>) -> Result<Standing> {
        loop {
            let now = self.now();
            self.obey(now)?;
            let standing = self.schedule.standing();
            if standing != Standing::Running {
                return Ok(standing);
            }
            if self.pull.watch.cancelled() {
                return Err(Error::Cancelled);
            }
            let wait = self.schedule.next_wake(now).saturating_sub(now).min(PAUSE);
            match told.recv_timeout(wait) {
                Ok(event) => self.take(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Start("the threads that verify ended".into()));
                }
            }
            while let Ok(event) = told.try_recv() {
                self.take(event)?;
            }
        }
    }

    fn now(&self) -> Duration {
        self.pull.began.elapsed()
    }

    fn obey(&mut self, now: Duration) -> Result<()> {
        for order in self.schedule.poll(now) {
            match order {
                Order::Cancel { batch } => self.cancel(batch),
                Order::Ask { batch, peer, slots } => self.ask(batch, peer, &slots)?,
            }
        }
        Ok(())
    }

    fn cancel(&mut self, batch: BatchId) {
        self.done.remove(&batch);
        if let Some(request) = self.requests.remove(&batch) {
            request.abort();
        }
    }

    fn ask(&mut self, batch: BatchId, peer: PeerNo, slots: &[Slot]) -> Result<()> {
        let is_whole = slots.len() == self.window.len();
        let whole = self.delta.take().filter(|_| is_whole);
        let whole = whole.map(|(have, want)| Ask::Delta { have, want, part: Part::Chunks });
        let chunks = Ask::Chunks(slots.iter().map(|slot| self.window.chunk(*slot).id).collect());
        let peer = self.pull.peers[peer.0].clone();
        let (frames, events) = (self.frames.clone(), self.events.clone());
        let task = self.pull.net.runtime()?.spawn(async move {
            let mut count = 0;
            let mut outcome =
                read(&peer, whole.as_ref().unwrap_or(&chunks), batch, &frames, &events, &mut count).await;
            // A version that one of the two names may have gone there. The chunks may be there all the same.
            if whole.is_some() && outcome.as_ref().is_err_and(|error| error.fault == Fault::Absent) {
                outcome = read(&peer, &chunks, batch, &frames, &events, &mut count).await;
            }
            // Nobody listens once the window is over, here and below.
            let _ = events.send(Event::Finished { batch, frames: count, outcome });
        });
        self.requests.insert(batch, task.abort_handle());
        self.done.insert(batch, Progress::default());
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<()> {
        let now = self.now();
        match event {
            Event::Received { batch, bytes } => {
                if let Some(peer) = self.schedule.peer_of(batch) {
                    self.pull.watch.received(self.pull.peers[peer.0].url(), bytes);
                }
                self.schedule.received(batch, bytes, now);
            }
            Event::Kept { batch, slots, kept } => {
                let report = &mut self.pull.report;
                report.chunks += kept.chunks;
                report.plain_bytes += kept.plain_bytes;
                report.stored_bytes += kept.stored_bytes;
                self.pull.watch.kept(kept.plain_bytes, kept.chunks);
                if self.schedule.kept(batch, &slots) == Verdict::Unasked {
                    self.lied(batch, "it sends what was not asked for");
                }
                self.one_more(batch, now);
            }
            Event::Absent { batch, ids } => {
                let slots: Option<Vec<Slot>> = ids.iter().map(|id| self.window.slot(id)).collect();
                let verdict = slots.map_or(Verdict::Unasked, |slots| self.schedule.absent(batch, &slots));
                if verdict == Verdict::Unasked {
                    self.lied(batch, "it says of chunks that they are absent that were not asked for");
                }
            }
            Event::Lied { batch, detail } => {
                self.lied(batch, &detail);
                self.one_more(batch, now);
            }
            Event::Finished { batch, frames, outcome } => {
                if let Some(progress) = self.done.get_mut(&batch) {
                    progress.finished = Some((frames, outcome));
                    self.settle(batch, now);
                }
            }
            Event::Malformed(detail) => {
                let peer = &self.pull.peers[0];
                return Err(Error::Peer(peer.error(Fault::Lied, detail)));
            }
            Event::Broken(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn one_more(&mut self, batch: BatchId, now: Duration) {
        if let Some(progress) = self.done.get_mut(&batch) {
            progress.frames += 1;
            self.settle(batch, now);
        }
    }

    /// Ends a request once all of its frames are through.
    fn settle(&mut self, batch: BatchId, now: Duration) {
        let is_through = |progress: &mut Progress| {
            progress.finished.take_if(|(frames, _)| *frames == progress.frames).map(|(_, outcome)| outcome)
        };
        let Some(outcome) = self.done.get_mut(&batch).and_then(is_through) else { return };
        self.done.remove(&batch);
        self.requests.remove(&batch);
        let peer = self.schedule.peer_of(batch);
        match outcome {
            Ok(()) => {
                if self.schedule.ended(batch) == Verdict::Unasked
                    && let Some(peer) = peer
                {
                    let detail = "its answer ends before all of it came".to_owned();
                    self.drop_peer(peer, Fault::Misbehaved, detail);
                }
            }
            Err(error) => {
                let PeerError { fault, detail, retry_after, .. } = error;
                tracing::debug!(peer = ?peer.map(|peer| self.pull.peers[peer.0].url()), %detail, "a request failed");
                self.schedule.failed(batch, fault, detail, retry_after, now);
                self.tell_if_out(peer);
            }
        }
    }

    fn lied(&mut self, batch: BatchId, detail: &str) {
        if let Some(peer) = self.schedule.peer_of(batch) {
            self.drop_peer(peer, Fault::Lied, detail.to_owned());
        }
    }

    fn drop_peer(&mut self, peer: PeerNo, fault: Fault, detail: String) {
        tracing::warn!(peer = %self.pull.peers[peer.0].url(), %detail, "a peer is dropped");
        self.schedule.drop_peer(peer, fault, detail);
        self.tell_if_out(Some(peer));
    }

    fn tell_if_out(&self, peer: Option<PeerNo>) {
        if let Some(peer) = peer
            && let Some(out) = self.schedule.summary(peer).out
        {
            self.pull.watch.dropped(self.pull.peers[peer.0].url(), &out.detail);
        }
    }

    pub(super) fn stop(&mut self) {
        for request in std::mem::take(&mut self.requests).into_values() {
            request.abort();
        }
    }
}

/// Reads one answer to its end.
async fn read(
    peer: &Peer,
    ask: &Ask,
    batch: BatchId,
    frames: &mpsc::Sender<Job>,
    events: &Sender<Event>,
    count: &mut u64,
) -> Result<(), PeerError> {
    let mut stream = ask.open(peer).await?;
    let told = events.clone();
    stream.tell(Box::new(move |bytes| drop(told.send(Event::Received { batch, bytes }))));
    while let Some(item) = stream.next().await? {
        match item {
            Item::Data(frame) | Item::Metadata(frame) => {
                if frames.send(Job { batch, frame }).await.is_ok() {
                    *count += 1;
                }
            }
            Item::Absent(ids) => drop(events.send(Event::Absent { batch, ids })),
            Item::Unit(_) => {
                return Err(peer.error(Fault::Misbehaved, "it sends a delta that was not asked for"));
            }
            Item::Head(_) | Item::Failure(_) | Item::End(_) => {}
        }
    }
    Ok(())
}
