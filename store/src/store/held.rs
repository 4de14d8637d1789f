//! Chunks that an artifact here holds: where one of them is not, something was lost. Asked for by an id that somebody
//! typed, the same chunk would merely be absent.

use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::fetch::Why;
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::index::Place;
use crate::store::{Chunk, Store};

impl Store {
    /// The verified bytes of a chunk that something in the store names.
    ///
    /// # Errors
    /// [`Error::Damaged`] when its bytes are not what its id says or are not here, with the pack that had it where that
    /// is known; [`Error::Unavailable`] when nobody brings it; [`Error::Io`].
    pub fn held_chunk(&self, id: &ChunkId) -> Result<Chunk> {
        self.held(ChunkRef { id: *id, len: 0 })
    }

    /// The same for a chunk of this length; 0 is one that is not known.
    pub(crate) fn held(&self, wanted: ChunkRef) -> Result<Chunk> {
        match self.read(wanted) {
            Err(Error::Absent { .. }) => Err(self.lost(&wanted.id, None)),
            result => result,
        }
    }

    /// Where a chunk lies that something in the store names.
    pub(crate) fn held_place(&self, wanted: ChunkRef) -> Result<Place> {
        if let Some(place) = self.locate(&wanted.id)? {
            return Ok(place);
        }
        self.try_fetch(&[wanted], Why::Absent)?;
        self.locate(&wanted.id)?.ok_or_else(|| self.lost(&wanted.id, None))
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
