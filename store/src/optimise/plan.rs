//! What of which versions is to be told in terms of others, and what is to be plain.

use std::collections::{BTreeSet, HashSet};

use super::graph::Graph;
use super::pairs::{Pair, Standing, pairs};
use crate::collect::Needed;
use crate::content::ChunkRef;
use crate::delta::Gap;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, PackId};
use crate::index::Place;
use crate::progress::Progress;
use crate::refs::{RefKey, View};
use crate::store::{Store, is_damage};
use crate::writer::Writer;

/// A version that is to be told in terms of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptimiseVersion {
    /// The version.
    pub version: RefKey,
    /// Its artifact.
    pub artifact: ArtifactId,
    /// The other one.
    pub base: RefKey,
    /// Its artifact.
    pub base_artifact: ArtifactId,
    /// Chunks that it has, that nothing needs which stays plain, and that are plain now.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Bytes that they take now, about.
    pub stored_bytes: u64,
}

/// What optimising would look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptimisePlan {
    /// Versions of which something can be told in terms of others, in the order in which that is done: of each name from
    /// the newest on.
    pub versions: Vec<OptimiseVersion>,
    /// Artifacts that stay plain.
    pub plain: BTreeSet<ArtifactId>,
    /// Chunks of these that are told in terms of others, and become plain again.
    pub unfolded_chunks: u64,
    /// Their plain bytes.
    pub unfolded_bytes: u64,
}

impl OptimisePlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.versions.is_empty() && self.unfolded_chunks == 0
    }

    /// Bytes that what is looked at takes now, about.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.versions.iter().map(|version| version.stored_bytes).sum()
    }
}

impl Writer {
    /// Finds out which versions can be told in terms of others, and what is to be plain again. Reads their metadata, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the version's name where an object of one that stays plain cannot be read,
    /// [`Error::Cancelled`], [`Error::Io`].
    pub fn plan_optimise(&self, progress: &dyn Progress) -> Result<OptimisePlan> {
        let view = self.names();
        let plain = stays_plain(&view);
        let needed = self.needed(&plain.iter().copied().collect::<Vec<_>>(), progress)?;
        let store = self.local();
        let folded = folded(&store, &needed)?;
        let mut plan = OptimisePlan {
            unfolded_chunks: folded.len() as u64,
            unfolded_bytes: folded.iter().map(|(chunk, _)| u64::from(chunk.len)).sum(),
            versions: Vec::new(),
            plain,
        };
        let graph = Graph::of(&store, needed.delta_packs())?;
        let mut seen = HashSet::new();
        let standing = Standing { plain: &plan.plain, graph: &graph };
        for pair in pairs(&store, &view, &standing, &|_| true, progress)? {
            let gap = match self.gap_of(&pair, progress) {
                Ok(Some(gap)) => gap,
                Ok(None) => continue,
                Err(error) if is_damage(&error) => continue,
                Err(error) => return Err(error),
            };
            let mut version = OptimiseVersion {
                version: pair.version.0,
                artifact: pair.version.1,
                base: pair.base.0,
                base_artifact: pair.base.1,
                chunks: 0,
                plain_bytes: 0,
                stored_bytes: 0,
            };
            for chunk in (0..gap.chunks()).map(|number| gap.chunk(number)) {
                if let Some(stored) = stored_if_open(&needed, &graph, &chunk)
                    && seen.insert(chunk.id)
                {
                    version.chunks += 1;
                    version.plain_bytes += u64::from(chunk.len);
                    version.stored_bytes += stored;
                }
            }
            if version.chunks > 0 {
                plan.versions.push(version);
            }
        }
        Ok(plan)
    }

    /// What the version of a pair has and the one lacks that it is told in terms of.
    pub(super) fn gap_of(&self, pair: &Pair, progress: &dyn Progress) -> Result<Option<Gap>> {
        match Gap::between(self, &pair.base.1, &pair.version.1, progress) {
            Err(Error::Absent { .. }) => Ok(None),
            gap => gap,
        }
    }
}

/// Bytes that a chunk takes where it lies, about, if it is plain, nothing stands on it, and nothing needs it that stays
/// plain.
pub(super) fn stored_if_open(needed: &Needed, graph: &Graph, chunk: &ChunkRef) -> Option<u64> {
    let lying = needed.find(&chunk.id).filter(|lying| !lying.is_needed && !lying.is_told)?;
    if graph.is_told(&chunk.id) || graph.is_base(&chunk.id) || needed.is_damaged(&lying.place.pack) {
        return None;
    }
    let (stored, plain) = (u64::from(lying.frame.len), u64::from(lying.frame.plain_len.max(1)));
    Some((stored * u64::from(chunk.len)).div_ceil(plain))
}

/// The chunks that are told in terms of others although something needs them that is to stay plain, with the packs that
/// they are in.
pub(super) fn folded(store: &Store, needed: &Needed) -> Result<Vec<(ChunkRef, PackId)>> {
    let mut found = Vec::new();
    for id in needed.delta_packs().filter(|id| !needed.is_damaged(id)) {
        for (frame, header) in store.pack(id)?.sound_headers()? {
            let is_needed = |slot: u16| needed.is_needed(&Place { pack: id, frame, slot });
            let slots = (0u16..).zip(&header.chunks).filter(|(slot, _)| is_needed(*slot));
            let chunks = slots.map(|(_, (id, len))| ChunkRef { id: *id, len: *len });
            found.extend(chunks.filter(|_| !header.bases.is_empty()).map(|chunk| (chunk, id)));
        }
    }
    Ok(found)
}

/// What is read often.
pub(super) fn stays_plain(view: &View) -> BTreeSet<ArtifactId> {
    let mut plain: BTreeSet<ArtifactId> =
        super::pairs::by_name(view).into_values().filter_map(|versions| Some(versions.last()?.1)).collect();
    for (key, version) in view.channels.iter() {
        let (name, platform) = (key.name.clone(), key.platform.clone());
        let key = RefKey { name, version: version.clone(), platform };
        plain.extend(view.refs.get(&key).map(|record| record.artifact));
    }
    for profile in view.profiles.values() {
        let shown = profile.pins.iter().chain([&profile.current]);
        let shown = shown.filter_map(|number| profile.generations.get(number));
        plain.extend(shown.flat_map(|shown| shown.packages.values()).map(|package| package.artifact));
    }
    plain
}
