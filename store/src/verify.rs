//! Reads everything and says exactly what is damaged: every frame read, decompressed and hashed; every artifact that is
//! named walked, and each thing that it needs found.

mod artifacts;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::artifact::Artifact;
use crate::block::FrameError;
use crate::content::chunks;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::object::ObjectSource;
use crate::pack::{Pack, SEALED};
use crate::pool::{Pending, Pool, Rank, Tools};
use crate::presence::Missing;
use crate::progress::Progress;
use crate::refs::RefKey;
use crate::store::{Store, lock};
use crate::tree::Node;

/// Stored bytes that one job reads, about.
const JOB_BYTES: u64 = 2 << 20;
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

/// How it is verified.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
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
        let mut run = Run { store: self, progress, report: &mut report, bad: HashSet::new() };
        run.read_packs(&Pool::new(options.threads), wanted)?;
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

/// What a job found.
#[derive(Default)]
struct Checked {
    frames: u64,
    chunks: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    damage: Vec<Damage>,
}

struct Run<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    report: &'a mut VerifyReport,
    /// Chunks of which a copy is damaged.
    bad: HashSet<ChunkId>,
}

type Frames = HashMap<PackId, HashSet<u16>>;

impl Run<'_> {
    /// Reads all packs, or the frames that are wanted of them.
    fn read_packs(&mut self, pool: &Pool, wanted: Option<Frames>) -> Result<()> {
        let listed = crate::index::list_packs(&**self.store.io(), &self.store.packs_dir())?;
        let mut ids: Vec<_> =
            listed.into_iter().filter(|id| wanted.as_ref().is_none_or(|w| w.contains_key(id))).collect();
        ids.sort_unstable();
        if wanted.is_none() {
            self.progress.expect(self.stored_bytes()?, 0);
        }
        let mut pending = VecDeque::new();
        for id in ids {
            let path = self.store.packs_dir().join(format!("{id}.{SEALED}"));
            let pack = Arc::new(Pack::open(&**self.store.io(), &path, id)?);
            self.report.packs += 1;
            self.report.damage.extend(pack.damage().iter().map(|(offset, detail)| Damage {
                file: path.clone(),
                pack: Some(id),
                offset: Some(*offset),
                chunks: Vec::new(),
                detail: detail.clone(),
            }));
            let chosen = wanted.as_ref().and_then(|wanted| wanted.get(&id));
            let frames: Vec<_> = (0u16..)
                .zip(&pack.footer().frames)
                .filter(|(number, _)| chosen.is_none_or(|chosen| chosen.contains(number)))
                .map(|(number, row)| (number, u64::from(row.len)))
                .collect();
            for group in split(&frames) {
                let pack = Arc::clone(&pack);
                pending.push_back(pool.submit(Rank::Beginning, move |tools| check(&pack, &group, tools)));
                while pending.len() > pool.threads() * 4 {
                    self.take(pending.pop_front())?;
                }
            }
        }
        while !pending.is_empty() {
            self.take(pending.pop_front())?;
        }
        self.spare_healthy_copies()
    }

    fn stored_bytes(&self) -> Result<u64> {
        let dir = self.store.packs_dir();
        let listed = self.store.io().list(&dir).map_err(Error::io("list", dir))?;
        Ok(listed.iter().filter(|entry| entry.name.ends_with(SEALED)).map(|entry| entry.len).sum())
    }

    fn take(&mut self, pending: Option<Pending<Checked>>) -> Result<()> {
        let Some(pending) = pending else { return Ok(()) };
        let checked = pending.wait();
        self.progress.advance(checked.stored_bytes, 0);
        self.report.frames += checked.frames;
        self.report.chunks += checked.chunks;
        self.report.plain_bytes += checked.plain_bytes;
        self.report.stored_bytes += checked.stored_bytes;
        self.bad.extend(checked.damage.iter().flat_map(|damage| &damage.chunks));
        self.report.damage.extend(checked.damage);
        if self.progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// A chunk that can be read all the same, from another pack, hurts no artifact.
    fn spare_healthy_copies(&mut self) -> Result<()> {
        let mut bad = std::mem::take(&mut self.bad);
        bad.retain(|id| self.store.chunk(id).is_err());
        self.bad = bad;
        Ok(())
    }
}

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

/// Groups of frames in a row, of about [`JOB_BYTES`] each.
fn split(frames: &[(u16, u64)]) -> Vec<Vec<u16>> {
    let mut groups = vec![Vec::new()];
    let mut bytes = 0;
    for (number, len) in frames {
        if bytes >= JOB_BYTES {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += len;
        groups.last_mut().expect("there is one at the start").push(*number);
    }
    groups
}

fn check(pack: &Pack, frames: &[u16], tools: &mut Tools) -> Checked {
    let mut checked = Checked::default();
    for &number in frames {
        checked.frames += 1;
        let row = pack.footer().frames[usize::from(number)];
        checked.stored_bytes += u64::from(row.len);
        let buffer = tools.buffers.take();
        match pack.block(number, &mut tools.decompressor, buffer) {
            Ok(block) => {
                let chunks = &block.header().chunks;
                let mut at = 0;
                while at < chunks.len() {
                    let whole = block.verify_run(at..chunks.len());
                    checked.chunks += whole as u64;
                    checked.plain_bytes +=
                        chunks[at..at + whole].iter().map(|(_, len)| u64::from(*len)).sum::<u64>();
                    at += whole;
                    if let Some((id, _)) = chunks.get(at) {
                        let detail = FrameError::Chunk(*id).to_string();
                        checked.damage.push(damage(pack, number, vec![*id], &detail));
                        at += 1;
                    }
                }
                tools.buffers.give(block.into_buffer());
            }
            Err(error) => {
                let lost =
                    pack.footer().chunks.iter().filter(|row| row.frame == number).map(|row| row.id).collect();
                let detail = match error {
                    Error::Damaged { detail, .. } => detail,
                    error => error.to_string(),
                };
                checked.damage.push(damage(pack, number, lost, &detail));
            }
        }
    }
    checked
}

fn damage(pack: &Pack, frame: u16, chunks: Vec<ChunkId>, detail: &str) -> Damage {
    Damage {
        file: pack.path().to_owned(),
        pack: Some(pack.id()),
        offset: pack.footer().frames.get(usize::from(frame)).map(|row| row.offset),
        chunks,
        detail: detail.to_owned(),
    }
}
