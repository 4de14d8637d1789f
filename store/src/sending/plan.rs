//! Which frames the chunks of a window lie in.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::id::{ChunkId, PackId};
use crate::index::Place;

/// A part of the work on a window.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These are not here.
    Absent(Vec<ChunkId>),
    /// Chunks of one frame, each with its slot, in the order in which they are wanted.
    Frame {
        /// The pack.
        pack: PackId,
        /// The frame in it.
        frame: u16,
        /// The wanted chunks in it.
        chunks: Vec<(u16, ChunkId)>,
    },
}

/// The steps for a window of ids: what is absent, then each frame where its first chunk is due. Each id counts once.
pub(super) fn steps(ids: &[ChunkId], places: &[Option<Place>]) -> VecDeque<Step> {
    let mut frames: Vec<Step> = Vec::new();
    let mut known: HashMap<(PackId, u16), usize> = HashMap::new();
    let mut seen = HashSet::with_capacity(ids.len());
    let mut absent = Vec::new();
    for (id, place) in ids.iter().zip(places) {
        if !seen.insert(id) {
            continue;
        }
        let Some(Place { pack, frame, slot }) = *place else {
            absent.push(*id);
            continue;
        };
        let at = *known.entry((pack, frame)).or_insert_with(|| {
            frames.push(Step::Frame { pack, frame, chunks: Vec::new() });
            frames.len() - 1
        });
        if let Step::Frame { chunks, .. } = &mut frames[at] {
            chunks.push((slot, *id));
        }
    }
    let absent = (!absent.is_empty()).then_some(Step::Absent(absent));
    absent.into_iter().chain(frames).collect()
}
