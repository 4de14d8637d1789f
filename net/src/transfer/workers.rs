//! The threads that hash frames and keep what is wanted of them, side by side.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use cairn_store::pack::PackKind;
use cairn_store::{ChunkId, ChunkRef, Decoder, Intake, Kept, VerifiedFrame};
use tokio::sync::mpsc::Receiver;

use super::Event;
use crate::schedule::{BatchId, Slot};

/// Workers, at most; there are no more than cores.
const WORKERS_MAX: usize = 8;

/// A frame to be verified.
pub(super) struct Job {
    pub(super) batch: BatchId,
    pub(super) frame: Vec<u8>,
}

/// The chunks that are wanted, found by their place and by their id.
pub(super) struct Window {
    chunks: Vec<ChunkRef>,
    /// Places, by the ids there.
    by_id: Vec<Slot>,
}

impl Window {
    pub(super) fn new(chunks: Vec<ChunkRef>) -> Self {
        let mut by_id: Vec<Slot> = (0..).zip(&chunks).map(|(slot, _)| slot).collect();
        by_id.sort_unstable_by_key(|slot| chunks[*slot as usize].id);
        Self { chunks, by_id }
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn chunk(&self, slot: Slot) -> ChunkRef {
        self.chunks[slot as usize]
    }

    pub(super) fn slot(&self, id: &ChunkId) -> Option<Slot> {
        let at = self.by_id.binary_search_by_key(id, |slot| self.chunks[*slot as usize].id).ok()?;
        Some(self.by_id[at])
    }
}

/// Starts as many workers as there are cores. They end when nobody sends frames any more.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    window: &Arc<Window>,
    intake: &Arc<Intake>,
    jobs: Receiver<Job>,
    events: &Sender<Event>,
) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..cores.min(WORKERS_MAX) {
        let (window, intake) = (Arc::clone(window), Arc::clone(intake));
        let (jobs, events) = (Arc::clone(&jobs), events.clone());
        scope.spawn(move || {
            let mut decoder = Decoder::default();
            loop {
                let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                let Some(Job { batch, frame }) = next else { return };
                // Nobody listens once the window is over.
                let _ = events.send(work(&window, &intake, batch, frame, &mut decoder));
            }
        });
    }
}

fn work(window: &Window, intake: &Intake, batch: BatchId, frame: Vec<u8>, decoder: &mut Decoder) -> Event {
    let frame = match VerifiedFrame::verify(frame, decoder) {
        Ok(frame) => frame,
        Err(error) => return Event::Lied { batch, detail: error.to_string() },
    };
    let mut slots = Vec::new();
    for (id, len) in frame.chunks() {
        let Some(slot) = window.slot(id) else { continue };
        let said = window.chunk(slot).len;
        if said != *len {
            return Event::Malformed(format!("the artifact gives chunk {id} {said} bytes, and it has {len}"));
        }
        slots.push(slot);
    }
    if slots.is_empty() {
        return Event::Kept { batch, slots, kept: Kept::default() };
    }
    match intake.keep(PackKind::Data, &frame) {
        Ok(kept) => Event::Kept { batch, slots, kept },
        Err(error) => Event::Broken(error),
    }
}
