//! Says exactly what is damaged: every frame read, decompressed and hashed, or some of them, or none; every artifact that
//! is named walked, and each thing that it needs found.

mod artifacts;
mod frames;
mod packs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use frames::{Checked, check as check_frames};

use crate::artifact::Artifact;
use crate::content::chunks;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::object::ObjectSource;
use crate::pool::Pool;
use crate::presence::Missing;
use crate::progress::Progress;
use crate::refs::RefKey;
use crate::store::{Store, lock};
use crate::tree::Node;

/// Paths that are named for one artifact, at most; the count goes on.
const PATHS_MAX: usize = 1000;

/// Something stored that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file it is in.
    pub file: PathBuf,
    /// The pack, where it is one.
    pub pack: Option<PackId>,
    /// Where in the file the damaged frame or part begins.
    pub offset: Option<u64>,
    /// The chunks that cannot be read.
    pub chunks: Vec<ChunkId>,
    /// What does not hold.
    pub detail: String,
}

/// An artifact that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The artifact.
    pub artifact: ArtifactId,
    /// Its names.
    pub refs: Vec<RefKey>,
    /// Paths that cannot be read in full, ascending bytewise; the first 1,000. A directory whose own listing is lost
    /// stands for everything below it.
    pub paths: Vec<Vec<u8>>,
    /// Number of such paths.
    pub path_count: u64,
    /// Chunks and objects that are damaged or absent, each once.
    pub missing: Vec<ChunkId>,
}

/// An artifact that is known not to be whole yet, and of which nothing is damaged for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotYetWhole {
    /// The artifact.
    pub artifact: ArtifactId,
    /// Its names.
    pub refs: Vec<RefKey>,
    /// What of its files is not here.
    pub missing: Missing,
}

/// What was verified, and what does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Packs read.
    pub packs: u64,
    /// Frames read.
    pub frames: u64,
    /// Chunks hashed.
    pub chunks: u64,
    /// Their bytes.
    pub plain_bytes: u64,
    /// Bytes of the frames.
    pub stored_bytes: u64,
    /// Artifacts walked.
    pub artifacts: u64,
    /// Damage, by file and offset.
    pub damage: Vec<Damage>,
    /// Artifacts that it touches.
    pub affected: Vec<Affected>,
    /// Files that are derived and not what they should be: nothing is lost by it, and they are made again.
    pub derived: Vec<Damage>,
    /// Artifacts that are partial: what is absent of their files is not here yet, and not damage.
    pub partial: Vec<NotYetWhole>,
}

impl VerifyReport {
    /// Whether everything that is here holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.affected.is_empty()
    }
}

/// How much is read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Depth {
    /// Every frame.
    #[default]
    Full,
    /// No byte of a file: the packs' tables, the index, and all metadata of what is named.
    Structure,
    /// The same, and some frames.
    Sample {
        /// How many of a hundred.
        percent: f64,
        /// Equal seeds choose equal frames.
        seed: u64,
    },
}

/// How it is verified.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// How much is read.
    pub depth: Depth,
    /// Only this artifact and the frames that hold its chunks.
    pub artifact: Option<ArtifactId>,
    /// Worker threads; one for each core where none are given.
    pub threads: Option<NonZero<usize>>,
}

impl Store {
    /// Verifies the whole store, or one artifact. Nothing is fetched.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`] when the store cannot be read at all, [`Error::Absent`] when the one
    /// artifact is not here. Damage is reported, not an error.
    pub fn verify(&self, options: &VerifyOptions, progress: &dyn Progress) -> Result<VerifyReport> {
        self.local().verify_here(options, progress)
    }

    fn verify_here(&self, options: &VerifyOptions, progress: &dyn Progress) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let view = self.view()?;
        let mut names: BTreeMap<ArtifactId, Vec<RefKey>> =
            view.artifacts().into_iter().map(|artifact| (artifact, Vec::new())).collect();
        for (key, record) in &view.refs {
            names.entry(record.artifact).or_default().push(key.clone());
        }
        if let Some(only) = options.artifact {
            let refs = names.remove(&only).unwrap_or_default();
            if refs.is_empty() && self.locate(&only.into())?.is_none() {
                return Err(Error::Absent { what: format!("artifact {only}") });
            }
            names = BTreeMap::from([(only, refs)]);
        }
        let wanted = match options.artifact {
            Some(artifact) => Some(frames_of(self, &artifact)?),
            None => None,
        };
        let mut run = packs::Run::new(self, progress, &mut report)?;
        run.check(&Pool::new(options.threads), wanted, options.depth)?;
        let bad = run.bad;
        for (artifact, refs) in names {
            report.artifacts += 1;
            let is_partial = view.partial.contains(&artifact);
            let found = artifacts::check(self, &artifact, is_partial, &bad, progress)?;
            if is_partial && !found.not_here().is_nothing() {
                report.partial.push(NotYetWhole { artifact, refs: refs.clone(), missing: found.not_here() });
            }
            report.affected.extend(found.affects(artifact, refs));
            report.damage.extend(found.contradictions);
        }
        report.damage.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
        Ok(report)
    }
}

type Frames = HashMap<PackId, HashSet<u16>>;

/// The frames that hold an artifact's objects and chunks. What cannot be found is left to the walk to report.
fn frames_of(store: &Store, id: &ArtifactId) -> Result<Frames> {
    let recorder = Recorder { store, frames: Mutex::default() };
    if let Ok(artifact) = Artifact::get(id, &recorder) {
        for (_, entry) in artifact.walk(&recorder).map_while(Result::ok) {
            if let Node::File { size, content } = entry.node {
                for (_, chunk) in chunks(&content, size, &recorder).map_while(Result::ok) {
                    if !chunk.is_hole() {
                        recorder.record(&chunk.id)?;
                    }
                }
            }
        }
    }
    Ok(recorder.frames.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Notes the frames of all objects that are read through it.
struct Recorder<'a> {
    store: &'a Store,
    frames: Mutex<Frames>,
}

impl Recorder<'_> {
    fn record(&self, id: &ChunkId) -> Result<()> {
        if let Some(place) = self.store.locate(id)? {
            lock(&self.frames).entry(place.pack).or_default().insert(place.frame);
        }
        Ok(())
    }
}

impl ObjectSource for Recorder<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.record(id)?;
        self.store.get(id)
    }
}
