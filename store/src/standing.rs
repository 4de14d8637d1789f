//! What frames stand on, for those who say who needs what: as long as a frame that stands on others is there, their chunks
//! are in use by whoever has its own.

use std::collections::HashSet;

use crate::block::FrameHeader;
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::pack::PackKind;
use crate::store::{Store, is_damage};

/// Frames of one pack that stand on others. What cannot be read of them is left out.
pub(crate) struct Standing {
    pub(crate) frames: Vec<FrameHeader>,
}

impl Store {
    /// All packs of deltas, by what their frames say.
    pub(crate) fn standing(&self) -> Result<Vec<Standing>> {
        let mut all = Vec::new();
        for id in crate::index::list_packs(&**self.io(), &self.packs_dir())? {
            if let Some(frames) = self.frames_of_deltas(id)? {
                all.push(Standing { frames });
            }
        }
        Ok(all)
    }

    /// Nothing where it is another pack, damaged or gone.
    fn frames_of_deltas(&self, id: PackId) -> Result<Option<Vec<FrameHeader>>> {
        let pack = match self.pack(id) {
            Ok(pack) => pack,
            Err(error) if is_damage(&error) || self.is_gone(id) => return Ok(None),
            Err(error) => return Err(error),
        };
        if pack.footer().kind != PackKind::Delta {
            return Ok(None);
        }
        Ok(Some(pack.sound_headers()?.into_iter().map(|(_, header)| header).collect()))
    }

    /// What keeps `chunks` by standing on them: all chunks of packs of deltas in which a frame does, or stands on what is in
    /// such a pack. A collection takes nothing that such a pack stands on while it is there.
    pub(crate) fn standing_on(&self, chunks: &HashSet<ChunkId>) -> Result<HashSet<ChunkId>> {
        let (mut left, mut standing) = (self.standing()?, HashSet::new());
        loop {
            let before = left.len();
            left.retain(|pack| {
                let mut bases = pack.frames.iter().flat_map(|frame| &frame.bases);
                let stands = bases.any(|id| chunks.contains(id) || standing.contains(id));
                if stands {
                    let own = pack.frames.iter().flat_map(|frame| &frame.chunks);
                    standing.extend(own.map(|(id, _)| *id).filter(|id| !chunks.contains(id)));
                }
                !stands
            });
            if left.len() == before {
                return Ok(standing);
            }
        }
    }
}
