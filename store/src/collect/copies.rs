//! A chunk that is needed may lie in a pack that goes as well as in one that stays, and counts where the index finds it.
//! That copy has to be read before the other goes: it may be the damaged one that somebody has just mended.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::marks::Marked;
use super::sweep::Sweep;
use crate::block::Decompressor;
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::index::{Index, Place};
use crate::store::is_damage;

/// What became of reading copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies {
    /// All that are needed hold.
    Read,
    /// It is to stop.
    Stopped,
}

/// Where a chunk counts, seen from a pack that is to go.
enum Elsewhere {
    /// Nobody needs it.
    NotNeeded,
    /// In these places, one of which is where whoever needs it finds it.
    At(BTreeSet<Place>),
    /// It is needed, and in no other pack any more.
    Nowhere,
}

impl Sweep<'_> {
    /// Reads the other copies of what is needed and lies in packs that are to go, too. Where one does not hold, the chunk
    /// in the pack that was to go is needed.
    pub(super) fn read_copies(&mut self, packs: &[PackId], index: &Index) -> Result<Copies> {
        let found = self.found;
        // For each place that has to hold: where else its chunk is.
        let mut wanted: BTreeMap<Place, Vec<(ChunkId, Place)>> = BTreeMap::new();
        for pack in packs.iter().filter_map(|pack| found.marks.pack(pack)) {
            for (id, here) in pack.unneeded(self.writer)? {
                match self.elsewhere(&id, pack, index) {
                    Elsewhere::NotNeeded => {}
                    Elsewhere::Nowhere => found.marks.need(&here),
                    Elsewhere::At(places) => {
                        places.into_iter().for_each(|place| wanted.entry(place).or_default().push((id, here)))
                    }
                }
            }
        }
        wanted.retain(|place, _| !self.read.contains(place));
        let mut decompressor = Decompressor::default();
        let places: Vec<Place> = wanted.keys().copied().collect();
        for places in places.chunk_by(|a, b| (a.pack, a.frame) == (b.pack, b.frame)) {
            let Some(bad) = self.read_frame(places, &wanted, &mut decompressor)? else {
                return Ok(Copies::Stopped);
            };
            for place in places {
                if !bad.contains(place) {
                    self.read.insert(*place);
                    continue;
                }
                self.writer.note_damaged(*place);
                wanted[place].iter().for_each(|(_, here)| found.marks.need(here));
            }
        }
        found.need_bases();
        Ok(Copies::Read)
    }

    /// Where else than in a pack a chunk counts that is not marked there.
    fn elsewhere(&self, id: &ChunkId, pack: &Marked, index: &Index) -> Elsewhere {
        let marks = &self.found.marks;
        let is_other = |place: &Place| place.pack != pack.id;
        let is_needed = |place: &Place| {
            marks.pack(&place.pack).is_some_and(|other| other.is_needed(place.frame, place.slot))
        };
        let marked = self.found.find(id).filter(is_other).filter(is_needed);
        // In a pack that is younger than the marks: whoever needs it may have it from there.
        let counts =
            |place: &Place| marks.pack(&place.pack).is_none() || is_needed(place) || marked.is_some();
        let now = index.lookup(id).filter(is_other).filter(counts);
        let is_there = |place: &Place| index.packs().contains(&place.pack);
        let places: BTreeSet<Place> = marked.filter(is_there).into_iter().chain(now).collect();
        match (places.is_empty(), marked) {
            (false, _) => Elsewhere::At(places),
            // The pack in which it was marked went since, with somebody who had just made it.
            (true, Some(_)) => Elsewhere::Nowhere,
            (true, None) => Elsewhere::NotNeeded,
        }
    }

    /// Reads places in one frame; gives those that do not hold, or nothing if it is to stop.
    fn read_frame(
        &mut self,
        places: &[Place],
        wanted: &BTreeMap<Place, Vec<(ChunkId, Place)>>,
        decompressor: &mut Decompressor,
    ) -> Result<Option<HashSet<Place>>> {
        let all = || places.iter().copied().collect();
        let Some(first) = places.first() else { return Ok(Some(HashSet::new())) };
        let pack = match self.writer.store().pack(first.pack) {
            Ok(pack) => pack,
            Err(error) if is_damage(&error) => return Ok(Some(all())),
            Err(error) => return Err(error),
        };
        if !self.pace.spend(pack.row(first.frame).map_or(0, |row| row.len.into())) {
            return Ok(None);
        }
        let block = match self.writer.store().block_in(&pack, first.frame, decompressor, Vec::new()) {
            Ok(block) => block,
            Err(error) if is_damage(&error) => return Ok(Some(all())),
            Err(error) => return Err(error),
        };
        let holds = |place: &Place| {
            let slot = usize::from(place.slot);
            let ids = wanted[place].iter().map(|(id, _)| id);
            let there = block.header().chunks.get(slot).map(|(id, _)| id);
            ids.into_iter().all(|id| Some(id) == there) && block.chunk(slot).is_ok()
        };
        Ok(Some(places.iter().filter(|place| !holds(place)).copied().collect()))
    }
}
