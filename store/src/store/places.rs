//! Where chunks lie: in the index, in packs that it does not know yet, and, where one copy is damaged, in another pack.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Placed, Store, lock};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::{Index, Overlay, Place};
use crate::pack::{Pack, PackKind, SEALED};

/// Places that are remembered as damaged, at most; of those beyond, the damage is found again at each read.
const DAMAGED_MAX: usize = 1 << 18;

/// Places whose bytes were found not to hold, for as long as the process lives.
#[derive(Default)]
pub(super) struct DamagedPlaces {
    /// Guards the places; a leaf lock.
    known: RwLock<Damaged>,
    /// Their number, so that nobody takes the lock while there are none.
    count: AtomicUsize,
}

#[derive(Default)]
struct Damaged {
    places: HashSet<Place>,
    /// Packs that are about to go: all places in them.
    packs: HashSet<PackId>,
}

impl DamagedPlaces {
    fn change(&self, change: impl FnOnce(&mut Damaged)) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        self.count.store(known.places.len() + known.packs.len(), Ordering::Release);
    }

    fn note(&self, place: Place) {
        self.change(|known| {
            if known.places.len() < DAMAGED_MAX {
                known.places.insert(place);
            }
        });
    }

    fn has(&self, place: &Place) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.places.contains(place) || known.packs.contains(&place.pack)
    }
}

impl Store {
    /// The places of chunks, as of when they were first asked for.
    pub(crate) fn index(&self) -> Result<Arc<Index>> {
        let mut known = lock(&self.inner.index);
        match &*known {
            Some(index) => Ok(Arc::clone(index)),
            None => {
                // Whoever condemns packs meanwhile waits for this, and then sets an index of its own.
                let index = Arc::new(self.open_index(&self.holds().condemned())?);
                self.inner.overlay.absorbed(index.packs());
                *known = Some(Arc::clone(&index));
                Ok(index)
            }
        }
    }

    /// Opens the index of the packs that there are now, without some.
    pub(crate) fn open_index(&self, without: &HashSet<PackId>) -> Result<Index> {
        Index::open_without(&*self.inner.io, &self.inner.path, without)
    }

    /// From now on look-ups ask this index.
    pub(crate) fn set_index(&self, index: Arc<Index>) {
        let mut known = lock(&self.inner.index);
        self.inner.overlay.absorbed(index.packs());
        *known = Some(index);
    }

    /// The places of chunks, if they were asked for already and nobody opens them at the moment.
    fn index_if_known(&self) -> Option<Arc<Index>> {
        self.inner.index.try_lock().ok()?.clone()
    }

    /// The places of chunks in the packs that there are now, which are given too. Packs that were sealed a moment ago may
    /// be in the overlay and not in the index.
    pub(crate) fn index_now(&self) -> Result<(Arc<Index>, HashSet<PackId>)> {
        let mut index = self.index()?;
        if index.is_to_be_read_again() {
            self.refresh_index();
            index = self.index()?;
        }
        let listed = self.list_packs()?;
        if listed == *index.packs() {
            return Ok((index, listed));
        }
        let sealed = self.inner.overlay.sealed_packs();
        let known = |pack: &PackId| index.packs().contains(pack) || sealed.contains(pack);
        if listed.iter().all(known) && index.packs().iter().all(|pack| listed.contains(pack)) {
            return Ok((index, listed));
        }
        self.refresh_index();
        let index = self.index()?;
        let packs = index.packs().clone();
        Ok((index, packs))
    }

    /// The packs that there are now, but those that are about to go.
    pub(crate) fn list_packs(&self) -> Result<HashSet<PackId>> {
        let mut listed = crate::index::list_packs(&*self.inner.io, &self.packs_dir())?;
        let condemned = self.holds().condemned();
        if !condemned.is_empty() {
            listed.retain(|pack| !condemned.contains(pack));
        }
        Ok(listed)
    }

    /// The places of chunks in all packs that are sealed now.
    pub(crate) fn index_of_all(&self) -> Result<Arc<Index>> {
        let (index, packs) = self.index_now()?;
        if *index.packs() == packs {
            return Ok(index);
        }
        self.refresh_index();
        self.index()
    }

    /// The places of chunks in all packs that are sealed now, from runs none of which is damaged: what it does not find is
    /// in no pack.
    pub(crate) fn sound_index(&self) -> Result<Arc<Index>> {
        self.index_of_all()?;
        self.repair_index()?;
        self.index()
    }

    /// Opens the index with the packs that there are now, so that the overlay need not know them. Readers go on with the
    /// one that they have meanwhile.
    pub(crate) fn absorb_sealed(&self) -> Result<Arc<Index>> {
        loop {
            let before = self.holds().condemnations();
            let index = Arc::new(self.open_index(&self.holds().condemned())?);
            let mut known = lock(&self.inner.index);
            // An index that was opened while packs were condemned may show them.
            if self.holds().condemnations() == before {
                self.inner.overlay.absorbed(index.packs());
                *known = Some(Arc::clone(&index));
                return Ok(index);
            }
        }
    }

    /// What is here and not in the index yet.
    pub(crate) fn overlay(&self) -> &Overlay {
        &self.inner.overlay
    }

    /// Forgets the index, so that the next question opens it with the packs that there are now.
    pub(crate) fn refresh_index(&self) {
        *lock(&self.inner.index) = None;
    }

    /// Where a chunk lies, as far as it is known without looking for new packs, sound or not.
    pub(crate) fn known_place(&self, id: &ChunkId) -> Result<Option<Place>> {
        let index = self.index()?;
        if let Some(place) = self.inner.overlay.lookup(id).or_else(|| index.lookup(id)) {
            return Ok(Some(place));
        }
        // It may have moved from the one to the other in between.
        let now = self.index()?;
        Ok(if Arc::ptr_eq(&index, &now) { None } else { now.lookup(id) })
    }

    /// Like [`Store::known_place`], if that takes no waiting: nothing also where the place is known to be damaged.
    pub(crate) fn place_if_known(&self, id: &ChunkId) -> Option<Place> {
        let place = self.inner.overlay.lookup(id).or_else(|| self.index_if_known()?.lookup(id))?;
        (!self.inner.damaged.has(&place)).then_some(place)
    }

    /// Whether a chunk lies in a sealed pack, as far as that is known without looking for new packs.
    pub(crate) fn is_sealed(&self, id: &ChunkId) -> Result<bool> {
        let index = self.index()?;
        if index.lookup(id).is_some() || self.inner.overlay.is_sealed(id) {
            return Ok(true);
        }
        let now = self.index()?;
        Ok(!Arc::ptr_eq(&index, &now) && now.lookup(id).is_some())
    }

    /// Where a chunk lies, soundly if there is a choice. What the index does not know is looked for again among new packs,
    /// and once more without damaged runs, before it counts as absent.
    pub(crate) fn locate(&self, id: &ChunkId) -> Result<Option<Place>> {
        let mut place = self.known_place(id)?;
        if place.is_none() {
            self.index_now()?;
            place = self.known_place(id)?;
        }
        if place.is_none() && self.repair_index()? {
            place = self.known_place(id)?;
        }
        let Some(place) = place.filter(|place| self.inner.damaged.has(place)) else { return Ok(place) };
        let sound = self.copy_of(id, |other| !self.inner.damaged.has(other))?;
        Ok(Some(sound.unwrap_or(place)))
    }

    /// Where a chunk lies soundly, as far as is known without looking for new packs, and without those that are about to
    /// go: for whoever will count on it being here.
    pub(crate) fn sound_place(&self, id: &ChunkId) -> Result<Option<Place>> {
        let place = match self.known_place(id)? {
            Some(place) if self.inner.damaged.has(&place) => {
                self.copy_of(id, |other| !self.inner.damaged.has(other))?
            }
            place => place,
        };
        self.counted_on(id, place)
    }

    /// Where a chunk lies, as far as is known without looking for new packs, and without those that are about to go: for
    /// whoever will count on it being here.
    pub(crate) fn counted_place(&self, id: &ChunkId) -> Result<Option<Place>> {
        let place = self.known_place(id)?;
        self.counted_on(id, place)
    }

    fn counted_on(&self, id: &ChunkId, place: Option<Place>) -> Result<Option<Place>> {
        let counts = |place: &Place| self.holds().rely(&place.pack);
        match place {
            Some(place) if !counts(&place) => {
                // The index has let go of that pack meanwhile, or will in a moment.
                Ok(self.known_place(id)?.filter(|again| *again != place && counts(again)))
            }
            place => Ok(place),
        }
    }

    /// A place of a chunk that will do, among all packs that have it. The first time that it is asked since the packs
    /// changed, it reads all their footers.
    pub(crate) fn copy_of(&self, id: &ChunkId, will_do: impl Fn(&Place) -> bool) -> Result<Option<Place>> {
        let index = self.index()?;
        let first = [self.inner.overlay.lookup(id), index.lookup(id)];
        if let Some(place) = first.into_iter().flatten().find(|place| will_do(place)) {
            return Ok(Some(place));
        }
        let copies = index.copies(&*self.inner.io, &self.packs_dir());
        Ok(copies.get(id).and_then(|places| places.iter().find(|place| will_do(place))).copied())
    }

    /// A place of a chunk in another pack, as far as known a sound one.
    pub(crate) fn sound_copy_outside(&self, pack: PackId, id: &ChunkId) -> Result<Option<Place>> {
        self.copy_of(id, |place| place.pack != pack && !self.inner.damaged.has(place))
    }

    /// The pack of a chunk's place. Where it was collected since its place was looked up, the place where the chunk is
    /// now, if it is anywhere.
    pub(crate) fn open_place(&self, id: &ChunkId, place: Place) -> Result<Option<(Arc<Pack>, Place)>> {
        match self.pack(place.pack) {
            Ok(pack) => Ok(Some((pack, place))),
            Err(_) if self.is_gone(place.pack) => {
                self.renew_index()?;
                let Some(place) = self.locate(id)? else { return Ok(None) };
                Ok(Some((self.pack(place.pack)?, place)))
            }
            Err(error) => Err(error),
        }
    }

    /// Remembers that a place does not hold what it should: from now on other places of the chunk are preferred. A pack
    /// that is gone had nothing wrong, and may be made anew.
    pub(crate) fn note_damaged(&self, place: Place) {
        if self.inner.overlay.pack(&place.pack).is_some() || !self.is_gone(place.pack) {
            self.inner.damaged.note(place);
        }
    }

    /// Whether nothing was found damaged since the store was opened.
    pub(crate) fn knows_no_damage(&self) -> bool {
        self.inner.damaged.count.load(Ordering::Acquire) == 0
    }

    /// Whether this place was found damaged.
    pub(crate) fn is_known_damaged(&self, place: &Place) -> bool {
        self.inner.damaged.has(place)
    }

    /// Forgets what was noted of frames all of whose bytes were just found to hold: the disk may have failed for a while.
    pub(crate) fn note_sound(&self, pack: PackId, frames: &[u16]) {
        if !self.knows_no_damage() {
            let is_sound = |place: &Place| place.pack == pack && frames.contains(&place.frame);
            self.inner.damaged.change(|known| known.places.retain(|place| !is_sound(place)));
        }
    }

    /// Forgets what was noted of packs of deltas, in which what a frame stands on may be to blame: what does not hold is found
    /// again when it is read.
    pub(crate) fn forget_damage_of_deltas(&self) {
        if !self.knows_no_damage() {
            let packs = self.damaged_packs().into_keys();
            let is_of_deltas =
                |id: &PackId| self.pack(*id).is_ok_and(|pack| pack.footer().kind == PackKind::Delta);
            let deltas: HashSet<PackId> = packs.filter(is_of_deltas).collect();
            self.inner.damaged.change(|known| known.places.retain(|place| !deltas.contains(&place.pack)));
        }
    }

    /// From now on all places in a pack count as damaged: it is about to be replaced.
    pub(crate) fn condemn(&self, pack: PackId) {
        self.inner.damaged.change(|known| _ = known.packs.insert(pack));
    }

    /// The pack is gone, or stays after all.
    pub(crate) fn spare(&self, pack: &PackId) {
        self.inner.damaged.change(|known| _ = known.packs.remove(pack));
    }

    /// Removes packs that were just sealed and are of no use, unless somebody may count on one of them; `named` is what
    /// [`crate::holds::Holds::named`] gave before the first was sealed. Whether they went, or are let go of.
    pub(crate) fn discard(&self, packs: &[PackId], named: u64) -> bool {
        if packs.is_empty() {
            return true;
        }
        if !self.holds().commit().condemn_own(packs, named) {
            return false;
        }
        for pack in packs {
            if let Err(error) = self.remove_condemned(pack) {
                tracing::warn!(%pack, %error, "cannot remove a pack that is of no use");
            }
        }
        self.refresh_index();
        true
    }

    /// The packs in which something was found damaged.
    pub(crate) fn damaged_packs(&self) -> BTreeMap<PackId, String> {
        if self.knows_no_damage() {
            return BTreeMap::new();
        }
        let known = self.inner.damaged.known.read().unwrap_or_else(PoisonError::into_inner);
        let places = known.places.iter().map(|place| place.pack);
        let packs = places.chain(known.packs.iter().copied());
        packs.map(|pack| (pack, "something in it was found damaged".to_owned())).collect()
    }

    /// Removes a condemned pack, unless somebody has made it anew; whether it did. The directory is not synced.
    pub(crate) fn remove_condemned(&self, pack: &PackId) -> Result<bool> {
        if !self.holds().begin_removal(pack) {
            return Ok(false);
        }
        let path = self.packs_dir().join(format!("{pack}.{SEALED}"));
        let removed = match self.inner.io.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => Ok(true),
        };
        self.holds().end_removal(pack, removed.is_ok());
        if removed.is_ok() {
            self.forget_pack(*pack);
        }
        removed
    }

    /// Lets go of a pack that is not to be read any more, or only as the other file that has its name now.
    pub(crate) fn forget_pack(&self, pack: PackId) {
        lock(&self.inner.packs).remove(&pack);
        lock(&self.inner.blocks).forget(pack);
        self.inner.unfolding.forget(pack);
        self.inner.damaged.change(|known| known.places.retain(|place| place.pack != pack));
    }

    /// Opens the index anew if that may say something else: there are other packs now, or it has damaged runs.
    pub(super) fn renew_index(&self) -> Result<bool> {
        let index = self.index()?;
        if !Arc::ptr_eq(&index, &self.index_now()?.0) {
            return Ok(true);
        }
        self.repair_index()
    }

    /// Opens the index without its damaged runs, if it has any.
    fn repair_index(&self) -> Result<bool> {
        loop {
            let (index, before) = (self.index()?, self.holds().condemnations());
            let (io, path, without) = (&*self.inner.io, &self.inner.path, self.holds().condemned());
            let Some(repaired) = index.without_damaged(io, path, &without)? else { return Ok(false) };
            let mut known = lock(&self.inner.index);
            if self.holds().condemnations() == before {
                self.inner.overlay.absorbed(repaired.packs());
                *known = Some(Arc::new(repaired));
                return Ok(true);
            }
        }
    }

    /// Where a chunk lies and what it shares its frame with, if it is here.
    ///
    /// # Errors
    /// [`crate::Error::Damaged`], [`crate::Error::Io`].
    pub fn place(&self, id: &ChunkId) -> Result<Option<Placed>> {
        let Some(place) = self.locate(id)? else { return Ok(None) };
        let Some((pack, place)) = self.open_place(id, place)? else { return Ok(None) };
        let row = pack.row(place.frame).ok_or_else(|| self.misplaced(id, place))?;
        Ok(Some(Placed {
            pack: place.pack,
            frame_offset: row.offset,
            frame_stored: row.len,
            frame_plain: row.plain_len,
        }))
    }
}
