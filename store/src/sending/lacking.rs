//! What one artifact has that another has not: objects to begin with, then the chunks of files.
//!
//! Each distinct object is read once, however often a tree names it, and of the wanted artifact only those that the
//! other has not: what lies below an object that both have, both have. The chunks that are left are then looked for in
//! all of the other artifact, since a file may have moved there.
//!
//! Of the artifact that is held, only what is readable here counts: where an object of it is not here, what lies below is
//! taken for lacking.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::artifact::Artifact;
use crate::content::{ChunkRef, Content, chunks};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId};
use crate::object::ObjectSource;
use crate::progress::Progress;
use crate::store::Store;
use crate::tree::{Node, walk};

/// What is lacking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Objects, or chunks of files, each once.
    pub chunks: Vec<ChunkRef>,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Their part of the frames that they lie in here.
    pub stored_bytes: u64,
}

/// Hashed with a key: a hostile tree may name ids of its choice.
type Ids = HashSet<ChunkId>;

/// A chunk on the way through an artifact.
pub(crate) struct Seen<'a> {
    /// Path of the file.
    pub(crate) path: &'a [u8],
    /// Bytes of the file, and what it holds.
    pub(crate) size: u64,
    pub(crate) content: &'a Content,
    /// Where in the file it lies.
    pub(crate) offset: u64,
    /// The chunk; holes too.
    pub(crate) chunk: ChunkRef,
}

impl Store {
    /// The metadata objects that `want` has and `have` has not: the artifact first, each before what it leads to.
    ///
    /// # Errors
    /// [`Error::Absent`] when one of the artifacts, or metadata of `want`, is not here; [`Error::Damaged`],
    /// [`Error::Cancelled`], [`Error::Io`].
    pub fn lacking_objects(
        &self,
        have: Option<&ArtifactId>,
        want: &ArtifactId,
        progress: &dyn Progress,
    ) -> Result<Lacking> {
        self.check_known(have, want)?;
        self.lacking(objects(&self.local(), have, want, progress)?)
    }

    /// The chunks of files that `want` has and `have` has not, in the order of the files; holes are left out.
    ///
    /// # Errors
    /// As [`Store::lacking_objects`].
    pub fn lacking_chunks(
        &self,
        have: Option<&ArtifactId>,
        want: &ArtifactId,
        progress: &dyn Progress,
    ) -> Result<Lacking> {
        self.check_known(have, want)?;
        self.lacking(data(&self.local(), have, want, progress)?)
    }

    fn check_known(&self, have: Option<&ArtifactId>, want: &ArtifactId) -> Result<()> {
        let local = self.local();
        have.into_iter().chain([want]).try_for_each(|id| local.artifact(id).map(drop))
    }

    fn lacking(&self, chunks: Vec<ChunkRef>) -> Result<Lacking> {
        let plain_bytes = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        Ok(Lacking { plain_bytes, stored_bytes: self.stored_size(&chunks)?, chunks })
    }
}

/// The objects that `want` has and `have` has not.
pub(crate) fn objects(
    source: &dyn ObjectSource,
    have: Option<&ArtifactId>,
    want: &ArtifactId,
    progress: &dyn Progress,
) -> Result<Vec<ChunkRef>> {
    let survey = Survey::new(source, held(source, have, progress)?, progress);
    survey.visit(want, &mut |_| {})?;
    Ok(survey.into_state().found)
}

/// Gives `take` the chunks of files below objects that `want` has and `have` has not.
pub(crate) fn visit_new(
    source: &dyn ObjectSource,
    have: Option<&ArtifactId>,
    want: &ArtifactId,
    progress: &dyn Progress,
    take: &mut dyn FnMut(Seen<'_>),
) -> Result<()> {
    Survey::new(source, held(source, have, progress)?, progress).visit(want, take)
}

/// Gives `take` the chunks of all files of an artifact, of what it has twice once.
pub(crate) fn visit_all(
    source: &dyn ObjectSource,
    id: &ArtifactId,
    progress: &dyn Progress,
    take: &mut dyn FnMut(Seen<'_>),
) -> Result<()> {
    Survey::new(source, Ids::default(), progress).visit(id, take)
}

/// The chunks of files that `want` has and `have` has not.
pub(super) fn data(
    source: &dyn ObjectSource,
    have: Option<&ArtifactId>,
    want: &ArtifactId,
    progress: &dyn Progress,
) -> Result<Vec<ChunkRef>> {
    let (mut ids, mut list) = (Ids::default(), Vec::new());
    visit_new(source, have, want, progress, &mut |seen| {
        if !seen.chunk.is_hole() && ids.insert(seen.chunk.id) {
            list.push(seen.chunk);
        }
    })?;
    if let Some(have) = have.filter(|_| !ids.is_empty()) {
        let survey = Survey::new(source, Ids::default(), progress);
        survey.visit_held(have, &mut |seen| {
            ids.remove(&seen.chunk.id);
        })?;
        list.retain(|chunk| ids.contains(&chunk.id));
    }
    Ok(list)
}

/// The objects of the artifact that is held.
fn held(source: &dyn ObjectSource, have: Option<&ArtifactId>, progress: &dyn Progress) -> Result<Ids> {
    let survey = Survey::new(source, Ids::default(), progress);
    if let Some(have) = have {
        survey.visit_held(have, &mut |_| {})?;
    }
    Ok(survey.into_state().passed)
}

/// Goes through what lies below an artifact, and is the source of the objects that it reads on its way.
struct Survey<'a> {
    source: &'a dyn ObjectSource,
    /// Locked for single look-ups; the walk has one thread, the lock is for `ObjectSource: Sync`.
    state: Mutex<State>,
    progress: &'a dyn Progress,
}

struct State {
    /// Objects that are not to be entered, or were.
    passed: Ids,
    /// Those that were read, in that order.
    found: Vec<ChunkRef>,
}

impl<'a> Survey<'a> {
    /// A survey that passes over the objects in `passed`.
    fn new(source: &'a dyn ObjectSource, passed: Ids, progress: &'a dyn Progress) -> Self {
        Self { source, state: Mutex::new(State { passed, found: Vec::new() }), progress }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_state(self) -> State {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like [`Survey::visit`], as far as the objects are here. What lies below an object that was read is held by whoever
    /// holds the artifact, whether it was reached or not.
    fn visit_held(&self, id: &ArtifactId, take: &mut dyn FnMut(Seen<'_>)) -> Result<()> {
        match self.visit(id, take) {
            Err(Error::Absent { .. } | Error::Damaged { .. }) => Ok(()),
            visited => visited,
        }
    }

    /// Reads every object of an artifact that was not passed yet, and gives `take` the chunks below these.
    fn visit(&self, id: &ArtifactId, take: &mut dyn FnMut(Seen<'_>)) -> Result<()> {
        let is_passed = |id: &ChunkId| self.state().passed.contains(id);
        if is_passed(&(*id).into()) {
            return Ok(());
        }
        let artifact = Artifact::get(id, self)?;
        if is_passed(&artifact.root.into()) {
            return Ok(());
        }
        for entry in walk(&artifact.root, self).with_limit(artifact.entries).passing_over(&is_passed) {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            let (path, entry) = entry?;
            let Node::File { size, content } = entry.node else { continue };
            if let Content::Long { root, .. } = &content
                && is_passed(&(*root).into())
            {
                continue;
            }
            for chunk in chunks(&content, size, self).passing_over(&is_passed) {
                let (offset, chunk) = chunk?;
                take(Seen { path: &path, size, content: &content, offset, chunk });
            }
        }
        Ok(())
    }
}

impl ObjectSource for Survey<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        let bytes = self.source.get(id)?;
        let mut state = self.state();
        if state.passed.insert(*id) {
            let len = u32::try_from(bytes.len()).expect("an object is at most a block");
            state.found.push(ChunkRef { id: *id, len });
        }
        Ok(bytes)
    }
}
