//! Chunks that an artifact here holds: where one of them is not, something was lost. Asked for by an id that somebody
//! typed, the same chunk would merely be absent.

use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::index::Place;
use crate::store::{Chunk, Store};

impl Store {
    /// The verified bytes of a chunk that something in the store names.
    ///
    /// # Errors
    /// [`Error::Damaged`] when its bytes are not what its id says or are not here, with the pack that had it where that
    /// is known; [`Error::Io`].
    pub fn held_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        match self.chunk(id) {
            Err(Error::Absent { .. }) => Err(self.lost(id, None)),
            result => result,
        }
    }

    /// Where a chunk lies that something in the store names.
    pub(crate) fn held_place(&self, id: &ChunkId) -> Result<Place> {
        self.locate(id)?.ok_or_else(|| self.lost(id, None))
    }

    /// What is wrong with a chunk that should be here and is not. `pack` is where it was.
    pub(crate) fn lost(&self, id: &ChunkId, pack: Option<PackId>) -> Error {
        let trace = || self.index().ok()?.trace(&**self.io(), id);
        let pack = pack.or_else(trace);
        let detail = match pack {
            Some(pack) => format!("pack {pack}, which had it, is gone"),
            None => "no pack has it".to_owned(),
        };
        Error::Damaged { what: format!("chunk {id}"), chunk: Some(*id), pack, offset: None, detail }
    }

    /// What is wrong with an artifact that is not here: something was lost if a name leads to it.
    pub(super) fn absent_artifact(&self, id: &ArtifactId) -> Error {
        match self.view() {
            Ok(view) if view.names(id) => self.lost(&(*id).into(), None),
            Ok(_) => Error::Absent { what: format!("artifact {id}") },
            Err(error) => error,
        }
    }
}
