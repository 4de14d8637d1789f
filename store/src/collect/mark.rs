//! The walk that marks: from roots through objects to chunks. A level of objects at a time, each in the order in which
//! they lie in packs, so that a frame is decoded once for all of its objects of a level.
//!
//! Strict roots are what names lead to: where an object below one cannot be read, what it leads to is not known, and
//! nothing may be collected. Lenient roots are what may be here in part: what is held by somebody, and artifacts whose
//! transfer goes on. Below these what is absent is passed over; and since more of it may come, they say nothing of whether
//! all below an object is marked, and are walked again before packs go.

use std::collections::HashSet;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Moved;
use super::marks::{Marks, on_threads};
use crate::block::Decompressor;
use crate::content::Content;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId};
use crate::index::{Index, Place};
use crate::lease::Held;
use crate::progress::Progress;
use crate::references::below;
use crate::store::{Store, is_damage, lock};

/// Objects of a level that one thread takes at a time, about.
const PORTION: usize = 64;
/// Levels, at most: a path has 4,096 bytes, and a directory or a list 16 levels of nodes.
const LEVELS_MAX: usize = 1 << 17;

/// Marks what roots lead to.
pub(super) struct Marker<'a> {
    /// Asks nobody else.
    store: Store,
    index: Arc<Index>,
    moved: Moved,
    marks: &'a Marks,
    threads: NonZero<usize>,
    progress: &'a dyn Progress,
}

/// An object that is to be read.
struct Object {
    id: ChunkId,
    place: Option<Place>,
    /// The number of the root that led to it.
    root: usize,
}

/// How a walk treats what is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Strict,
    Lenient,
}

/// A walk under way.
struct Walk<'a> {
    marker: &'a Marker<'a>,
    mode: Mode,
    /// Guards the objects that were met, where the marks do not tell: all of them in a lenient walk, else those in packs
    /// that are younger than the marks. A leaf lock.
    met: Mutex<HashSet<ChunkId>>,
    lacks: AtomicBool,
}

impl<'a> Marker<'a> {
    /// Marks in the places that this index gives, but for what was moved.
    pub(super) fn new(
        store: &Store,
        (index, moved): (Arc<Index>, Moved),
        marks: &'a Marks,
        threads: NonZero<usize>,
        progress: &'a dyn Progress,
    ) -> Self {
        Self { store: store.local(), index, moved, marks, threads, progress }
    }

    /// Marks all that artifacts need.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the artifact where something of one cannot be read that leads to more.
    pub(super) fn artifacts(&self, artifacts: &[ArtifactId]) -> Result<()> {
        let roots: Vec<ChunkId> = artifacts.iter().map(|id| (*id).into()).collect();
        self.walk(&roots, Mode::Strict).map(drop).map_err(|(root, error)| {
            match (artifacts.get(root), error) {
                (Some(artifact), error @ (Error::Damaged { .. } | Error::Absent { .. })) => {
                    self.refusal(artifact, error)
                }
                (_, error) => error,
            }
        })
    }

    /// Marks what of these is here; whether something was not that may lead to more.
    pub(super) fn held(&self, held: &[Held]) -> Result<bool> {
        let mut roots = Vec::new();
        for held in held {
            match held {
                Held::Artifact(id) => roots.push((*id).into()),
                Held::Tree(id) => roots.push((*id).into()),
                Held::Content { content: Content::Long { root, .. }, .. } => roots.push((*root).into()),
                Held::Content { content: Content::Chunks(list), .. } => {
                    let chunks = list.iter().filter(|chunk| !chunk.is_hole());
                    chunks.for_each(|chunk| _ = self.need(&chunk.id));
                }
                Held::Chunk(id) => _ = self.need(id),
                Held::Content { content: Content::Inline(_), .. } | Held::Everything => {}
            }
        }
        self.walk(&roots, Mode::Lenient).map_err(|(_, error)| error)
    }

    /// Marks a chunk where it lies; gives its place in the index. Where the process knows that place to be damaged, all
    /// that the chunk lies in are marked.
    fn need(&self, id: &ChunkId) -> Option<Place> {
        let place = self.moved.get(id).copied().or_else(|| self.index.lookup(id))?;
        self.marks.need(&place);
        if !self.store.knows_no_damage() && self.store.is_known_damaged(&place) {
            let copies = self.index.copies(&**self.store.io(), &self.store.packs_dir());
            copies.get(id).into_iter().flatten().for_each(|copy| self.marks.need(copy));
        }
        Some(place)
    }

    /// Whether something that it may lead to was not here. The error comes with the number of its root.
    fn walk(&self, roots: &[ChunkId], mode: Mode) -> Result<bool, (usize, Error)> {
        let walk = Walk { marker: self, mode, met: Mutex::default(), lacks: AtomicBool::new(false) };
        let mut level = Vec::new();
        roots.iter().enumerate().for_each(|(number, root)| level.extend(walk.meet(*root, number)));
        for _ in 0..LEVELS_MAX {
            if level.is_empty() {
                return Ok(walk.lacks.into_inner());
            }
            level = walk.take_level(level)?;
        }
        Err((usize::MAX, Error::damaged("tree", "it is deeper than any path is long")))
    }

    fn refusal(&self, artifact: &ArtifactId, error: Error) -> Error {
        let (chunk, pack, offset) = match &error {
            Error::Damaged { chunk, pack, offset, .. } => (*chunk, *pack, *offset),
            _ => (None, None, None),
        };
        let known_as = self.store.view().ok().and_then(|view| view.refs_to(artifact).next().cloned());
        let name = known_as.map_or_else(|| format!("artifact {artifact}"), |key| key.to_string());
        let detail = format!(
            "{error}; what it leads to is not known, so nothing is collected: mend it with `cairn repair`, or remove \
             that version"
        );
        Error::Damaged { what: name, chunk, pack, offset, detail }
    }
}

impl Walk<'_> {
    /// Marks an object; gives it if it is to be read.
    fn meet(&self, id: ChunkId, root: usize) -> Option<Object> {
        let place = self.marker.need(&id);
        let known = match (self.mode, place) {
            (Mode::Strict, Some(place)) => self.marker.marks.complete(&place),
            (Mode::Lenient, Some(place)) if self.marker.marks.is_complete(&place) => return None,
            _ => None,
        };
        let is_new = known.unwrap_or_else(|| lock(&self.met).insert(id));
        is_new.then_some(Object { id, place, root })
    }

    /// Reads all objects of a level; gives those below.
    fn take_level(&self, mut level: Vec<Object>) -> Result<Vec<Object>, (usize, Error)> {
        level.sort_unstable_by_key(|object| object.place);
        let portions = portions(&level);
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            let (mut found, mut decompressor, mut buffer) = (Vec::new(), Decompressor::default(), Vec::new());
            while let Some(portion) = portions.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.marker.progress.cancelled() {
                    return Err(Error::Cancelled);
                }
                for objects in portion.chunk_by(of_one_frame) {
                    buffer = self.read(objects, &mut decompressor, buffer, &mut found).map_err(
                        |(root, error)| {
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.get_or_insert(root);
                            error
                        },
                    )?;
                }
            }
            Ok(found)
        };
        let threads = self.marker.threads.min(NonZero::new(portions.len()).unwrap_or(NonZero::<usize>::MIN));
        let found = on_threads(threads, &work).map_err(|error| {
            let root = *failed.lock().unwrap_or_else(PoisonError::into_inner);
            (root.unwrap_or(usize::MAX), error)
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Reads objects that lie in one frame, or one that does not.
    fn read(
        &self,
        objects: &[Object],
        decompressor: &mut Decompressor,
        buffer: Vec<u8>,
        found: &mut Vec<Object>,
    ) -> Result<Vec<u8>, (usize, Error)> {
        let Some(Place { pack, frame, .. }) = objects.first().and_then(|object| object.place) else {
            objects.iter().try_for_each(|object| self.read_wherever(object, found))?;
            return Ok(buffer);
        };
        let store = &self.marker.store;
        let block = store.pack(pack).and_then(|pack| store.block_in(&pack, frame, decompressor, buffer));
        let Ok(block) = block else {
            objects.iter().try_for_each(|object| self.read_wherever(object, found))?;
            return Ok(Vec::new());
        };
        for object in objects {
            let slot = object.place.map_or(0, |place| usize::from(place.slot));
            let is_it = block.header().chunks.get(slot).is_some_and(|(id, _)| *id == object.id);
            match block.chunk(slot) {
                Ok(bytes) if is_it => self.take(object, bytes, found)?,
                _ => self.read_wherever(object, found)?,
            }
        }
        Ok(block.into_buffer())
    }

    /// Reads an object that is not where the index says, or not in the index, from wherever it can be read.
    fn read_wherever(&self, object: &Object, found: &mut Vec<Object>) -> Result<(), (usize, Error)> {
        match self.marker.store.chunk(&object.id) {
            Ok(bytes) => {
                // Where its place has turned out to be damaged, it is the copies that count.
                self.marker.need(&object.id);
                self.take(object, &bytes, found)
            }
            Err(error) if self.mode == Mode::Lenient && (is_absent(&error) || is_damage(&error)) => {
                self.lacks.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(Error::Absent { .. }) => Err((object.root, self.marker.store.lost(&object.id, None))),
            Err(error) => Err((object.root, error)),
        }
    }

    fn take(&self, object: &Object, bytes: &[u8], found: &mut Vec<Object>) -> Result<(), (usize, Error)> {
        let mut chunk = |id: ChunkId| _ = self.marker.need(&id);
        let mut below_it = |id: ChunkId| found.extend(self.meet(id, object.root));
        match below(&object.id, bytes, &mut below_it, &mut chunk) {
            // What is held need not be what it says.
            Err(Error::Damaged { .. }) if self.mode == Mode::Lenient => Ok(()),
            done => done.map_err(|error| (object.root, error)),
        }
    }
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Absent { .. })
}

fn of_one_frame(a: &Object, b: &Object) -> bool {
    match (a.place, b.place) {
        (Some(a), Some(b)) => (a.pack, a.frame) == (b.pack, b.frame),
        _ => false,
    }
}

/// Parts of a level, none of which ends within a frame.
fn portions(level: &[Object]) -> Vec<&[Object]> {
    let (mut portions, mut rest) = (Vec::new(), level);
    while !rest.is_empty() {
        let mut end = PORTION.min(rest.len());
        while end < rest.len() && of_one_frame(&rest[end - 1], &rest[end]) {
            end += 1;
        }
        let (portion, after) = rest.split_at(end);
        portions.push(portion);
        rest = after;
    }
    portions
}
