//! For whoever writes needed chunks anew, elsewhere: which chunks artifacts need, and how the places go that these were in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::mark::Marker;
use super::marks::Marks;
use super::sweep::Sweep;
use super::{CollectOptions, Collected, Found, PackPlan, Turn, Verdict, plan};
use crate::error::Result;
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::index::{Index, Place};
use crate::pack::{FrameRow, PackKind};
use crate::progress::Progress;
use crate::writer::Writer;

/// What artifacts need of all that is here.
pub(crate) struct Needed {
    marks: Marks,
    index: Arc<Index>,
}

/// A chunk, and where it lies.
pub(crate) struct Lying {
    pub(crate) place: Place,
    /// Whether the artifacts need it.
    pub(crate) is_needed: bool,
    /// Whether it lies in a pack of deltas.
    pub(crate) is_told: bool,
    /// The frame that it lies in.
    pub(crate) frame: FrameRow,
}

impl Needed {
    /// Where a chunk lies, if that was known when they were marked.
    pub(crate) fn find(&self, id: &ChunkId) -> Option<Lying> {
        let place = self.index.lookup(id)?;
        let pack = self.marks.pack(&place.pack)?;
        let frame = *pack.frames.get(usize::from(place.frame))?;
        let is_told = pack.kind == PackKind::Delta;
        Some(Lying { place, is_needed: pack.is_needed(place.frame, place.slot), is_told, frame })
    }

    /// Whether the artifacts need what is at a place.
    pub(crate) fn is_needed(&self, place: &Place) -> bool {
        self.marks.pack(&place.pack).is_some_and(|pack| pack.is_needed(place.frame, place.slot))
    }

    /// What is wrong with a pack's header or footer.
    pub(crate) fn is_damaged(&self, pack: &PackId) -> bool {
        self.marks.pack(pack).is_none_or(|pack| pack.damage.is_some())
    }

    /// The packs of deltas.
    pub(crate) fn delta_packs(&self) -> impl Iterator<Item = PackId> {
        self.marks.packs().iter().filter(|pack| pack.kind == PackKind::Delta).map(|pack| pack.id)
    }
}

impl Writer {
    /// Finds out what artifacts need.
    ///
    /// # Errors
    /// As [`Writer::plan_collection`].
    pub(crate) fn needed(&self, artifacts: &[ArtifactId], progress: &dyn Progress) -> Result<Needed> {
        let threads = CollectOptions::default().threads();
        let index = self.local().sound_index()?;
        let marks = Marks::of(self, index.packs(), threads)?;
        let places = (Arc::clone(&index), Arc::default());
        Marker::new(self, places, &marks, threads, progress).artifacts(artifacts)?;
        Ok(Needed { marks, index })
    }

    /// Lets go of packs that chunks were in that are durable in other places now: what else is needed of them is
    /// written again, as in a collection, and each chunk is read where it is now before it goes where it was.
    ///
    /// # Errors
    /// As [`Writer::collect`].
    pub(crate) fn let_moved_go(
        &self,
        turn: &Turn<'_>,
        moved: HashMap<ChunkId, Place>,
        from: &BTreeSet<PackId>,
        options: &CollectOptions,
        progress: &dyn Progress,
    ) -> Result<Collected> {
        let index = self.local().sound_index()?;
        let marks = Marks::of(self, index.packs(), options.threads())?;
        let (epoch, moved) = (0, Arc::new(moved));
        let found = Found { marks, index, epoch, moved, seen: Mutex::default() };
        let look = self.look(&found, &found.index, options, progress)?;
        let damaged: BTreeMap<PackId, String> = self.damaged_packs();
        let find = |id: &ChunkId| found.find(id);
        let plans = plan::verdicts(&found.marks, &find, 1.0, &damaged, look.everything());
        let leaves = |plan: &&PackPlan| {
            from.contains(&plan.pack) && matches!(plan.verdict, Verdict::Drop | Verdict::Rewrite)
        };
        turn.begin();
        let chosen = plans.iter().filter(leaves).collect();
        let collected = Sweep::new(self, &found, options, progress).run_all(chosen);
        self.forget_usage();
        collected
    }
}
