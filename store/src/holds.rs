//! Who counts on which packs, so that none goes which somebody is about to name, reads, or has just found a chunk in.
//!
//! Three kinds of people meet here:
//! - Whoever deduplicates has a [`Stake`] from before the first look-up until the result is named or given up, and asks
//!   [`Holds::rely`] of each pack that it finds a chunk in. True: the pack stays while the stake lives. False: the pack is
//!   going or gone, and the chunk has to be stored again.
//! - Whoever names what it found here without a stake looks and names under [`Holds::naming`].
//! - Whoever removes packs takes [`Holds::commit`], makes sure that everything named and held by then was looked at, and
//!   condemns what nobody relies on. From that moment look-ups that decide anything do not see the condemned packs. Each
//!   is then removed between [`Holds::begin_removal`] and [`Holds::end_removal`].
//!
//! A pack's name is the hash of its footer, so whoever stores the same chunks again makes a pack of the same name while
//! the old one is on its way out. It calls [`Holds::claim`] before the rename, which takes the pack off the list, or waits
//! for a removal that has begun.
//!
//! A pack that is relied on is remembered with the youngest stake of that moment, and is free once all stakes up to that
//! one have ended. So nobody has to know through whose stake it was found, and stakes that overlap for ever keep nothing
//! for ever.
//!
//! Nothing here knows of files or indexes. `cargo test -p cairn-store --features shuttle --lib holds::` runs it in orders
//! that a scheduler chooses.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crate::id::PackId;
use crate::lease::Hold;
use crate::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is relied on and what is on its way out, of one store in one process.
#[derive(Default)]
pub(crate) struct Holds {
    /// Held shared while something is found here and named, alone while packs are condemned. Taken before the names' lock
    /// and before that of the index.
    naming: RwLock<()>,
    /// Guards all of the rest. A leaf lock.
    state: Mutex<State>,
    /// A removal has ended.
    removed: Condvar,
    /// Stakes and condemned packs, so that nobody takes the lock while there are none.
    watched: AtomicUsize,
    /// How often packs were condemned: an index that was opened before the last time may show some of them.
    condemnations: AtomicU64,
    /// How often what was found here was named.
    named: AtomicU64,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The stakes that live, by number.
    active: BTreeSet<u64>,
    /// What some of them hold.
    held: BTreeMap<u64, Hold>,
    /// How often something was added to `held`.
    held_changes: u64,
    /// Packs that somebody with a stake found a chunk in, each with the youngest stake of that moment.
    relied: HashMap<PackId, u64>,
    /// Packs that were sealed while there were stakes, in the same way.
    sealed: HashMap<PackId, u64>,
    condemned: HashMap<PackId, Fate>,
}

/// How far a condemned pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    BeingRemoved,
    /// Some stake up to this one may know an index that still has it.
    Gone(u64),
}

/// Why a pack is not condemned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Spared {
    /// Somebody under way found a chunk in it.
    ReliedOn,
    /// It was sealed by somebody who is under way.
    JustSealed,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Each change is made whole, so a panic elsewhere leaves it sound.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Whether some stake up to `youngest` lives.
    fn lives(&self, youngest: u64) -> bool {
        self.active.first().is_some_and(|oldest| *oldest <= youngest)
    }

    fn watched(&self) -> usize {
        self.active.len() + self.condemned.len()
    }

    fn forget_what_ended(&mut self) {
        let oldest = self.active.first().copied().unwrap_or(u64::MAX);
        self.relied.retain(|_, youngest| *youngest >= oldest);
        self.sealed.retain(|_, youngest| *youngest >= oldest);
        self.condemned.retain(|_, fate| !matches!(fate, Fate::Gone(youngest) if *youngest < oldest));
    }
}

impl Holds {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        self.watched.store(state.watched(), Ordering::SeqCst);
        result
    }

    /// Begins a stake. What is relied on from now on stays until it ends.
    pub(crate) fn begin(self: &Arc<Self>) -> Stake {
        self.begin_holding(None)
    }

    /// Begins a stake that also holds something that is to be looked at before packs are condemned.
    pub(crate) fn begin_holding(self: &Arc<Self>, hold: Option<Hold>) -> Stake {
        let number = self.change(|state| {
            let number = state.next;
            state.next += 1;
            state.active.insert(number);
            if let Some(hold) = hold {
                state.held.insert(number, hold);
                state.held_changes += 1;
            }
            number
        });
        Stake(Arc::new(Staked { holds: Arc::clone(self), number }))
    }

    fn end(&self, number: u64) {
        self.change(|state| {
            if state.active.remove(&number) {
                state.held.remove(&number);
                state.forget_what_ended();
            }
        });
    }

    /// Whether a chunk that lies in this pack counts as being here. While there is a stake the pack stays for it.
    pub(crate) fn rely(&self, pack: &PackId) -> bool {
        if self.watched.load(Ordering::SeqCst) == 0 {
            return true;
        }
        let mut state = lock(&self.state);
        if state.condemned.contains_key(pack) {
            return false;
        }
        if let Some(youngest) = state.active.last().copied() {
            state.relied.insert(*pack, youngest);
        }
        true
    }

    /// A pack of this name is about to be made: a condemned one of the same name does not go any more, or has gone.
    pub(crate) fn claim(&self, pack: &PackId) {
        let mut state = lock(&self.state);
        while state.condemned.get(pack) == Some(&Fate::BeingRemoved) {
            state = self.removed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.condemned.remove(pack);
        if let Some(youngest) = state.active.last().copied() {
            state.sealed.insert(*pack, youngest);
        }
        self.watched.store(state.watched(), Ordering::SeqCst);
    }

    /// For whoever names something: no pack is condemned before this is dropped.
    pub(crate) fn naming(&self) -> RwLockReadGuard<'_, ()> {
        self.naming.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for whoever finds out what is here, and names it: until that is done no pack goes.
    pub(crate) fn naming_what_is_here(&self) -> RwLockReadGuard<'_, ()> {
        let guard = self.naming();
        self.named.fetch_add(1, Ordering::SeqCst);
        guard
    }

    /// How often somebody named what was here.
    pub(crate) fn named(&self) -> u64 {
        self.named.load(Ordering::SeqCst)
    }

    /// Nobody names anything before this is dropped.
    pub(crate) fn commit(&self) -> Commit<'_> {
        let alone = self.naming.write().unwrap_or_else(PoisonError::into_inner);
        Commit { holds: self, _alone: alone }
    }

    /// What stakes of this process hold, and how often something was added to it so far.
    pub(crate) fn held(&self) -> (Vec<Hold>, u64) {
        let state = lock(&self.state);
        (state.held.values().cloned().collect(), state.held_changes)
    }

    /// Why a pack would not be condemned now.
    pub(crate) fn spares(&self, pack: &PackId) -> Option<Spared> {
        lock(&self.state).spares(pack)
    }

    /// The packs that are on their way out, and some that are gone.
    pub(crate) fn condemned(&self) -> HashSet<PackId> {
        if self.watched.load(Ordering::SeqCst) == 0 {
            return HashSet::new();
        }
        lock(&self.state).condemned.keys().copied().collect()
    }

    /// How often packs were condemned so far.
    pub(crate) fn condemnations(&self) -> u64 {
        self.condemnations.load(Ordering::SeqCst)
    }

    /// Whether a condemned pack may be removed now. If so, nobody makes one of its name before [`Holds::end_removal`].
    pub(crate) fn begin_removal(&self, pack: &PackId) -> bool {
        match lock(&self.state).condemned.get_mut(pack) {
            Some(fate @ Fate::Waiting) => {
                *fate = Fate::BeingRemoved;
                true
            }
            _ => false,
        }
    }

    /// The pack was removed, or stays after all.
    pub(crate) fn end_removal(&self, pack: &PackId, is_gone: bool) {
        self.change(|state| match state.active.last().copied() {
            Some(youngest) if is_gone => _ = state.condemned.insert(*pack, Fate::Gone(youngest)),
            _ => _ = state.condemned.remove(pack),
        });
        self.removed.notify_all();
    }

    /// A condemned pack stays after all, if nobody has begun to remove it.
    pub(crate) fn spare(&self, pack: &PackId) {
        self.change(|state| {
            if state.condemned.get(pack) == Some(&Fate::Waiting) {
                state.condemned.remove(pack);
            }
        });
    }
}

impl State {
    fn spares(&self, pack: &PackId) -> Option<Spared> {
        let holds = |map: &HashMap<PackId, u64>| map.get(pack).is_some_and(|youngest| self.lives(*youngest));
        if holds(&self.relied) {
            return Some(Spared::ReliedOn);
        }
        holds(&self.sealed).then_some(Spared::JustSealed)
    }
}

/// Nobody names anything while this lives.
pub(crate) struct Commit<'a> {
    holds: &'a Holds,
    _alone: RwLockWriteGuard<'a, ()>,
}

impl Commit<'_> {
    /// Condemns all of these packs, or none. `held_changes` is what [`Holds::held`] said when everything that was held
    /// had been looked at.
    ///
    /// # Errors
    /// Those packs that somebody relies on by now. None of them, if something else is held by now.
    pub(crate) fn condemn(&self, packs: &[PackId], held_changes: u64) -> Result<(), Vec<(PackId, Spared)>> {
        self.holds.change(|state| {
            if state.held_changes != held_changes {
                return Err(Vec::new());
            }
            let spared: Vec<_> = packs.iter().filter_map(|pack| Some((*pack, state.spares(pack)?))).collect();
            if !spared.is_empty() {
                return Err(spared);
            }
            state.condemned.extend(packs.iter().map(|pack| (*pack, Fate::Waiting)));
            self.holds.condemnations.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }

    /// Condemns packs that were sealed by whoever asks, if nobody found a chunk in them, and nothing was named since
    /// [`Holds::named`] gave `named`. Whether it did.
    pub(crate) fn condemn_own(&self, packs: &[PackId], named: u64) -> bool {
        self.holds.change(|state| {
            let lives = |youngest: &u64| state.lives(*youngest);
            let is_relied_on = |pack: &PackId| state.relied.get(pack).is_some_and(lives);
            if self.holds.named() != named || packs.iter().any(is_relied_on) {
                return false;
            }
            state.condemned.extend(packs.iter().map(|pack| (*pack, Fate::Waiting)));
            self.holds.condemnations.fetch_add(1, Ordering::SeqCst);
            true
        })
    }
}

/// While it lives, what is relied on stays. Clones are the same stake; it ends with the last, or when it is told to.
#[derive(Clone)]
pub(crate) struct Stake(Arc<Staked>);

struct Staked {
    holds: Arc<Holds>,
    number: u64,
}

impl Drop for Staked {
    fn drop(&mut self) {
        self.holds.end(self.number);
    }
}

impl fmt::Debug for Stake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stake({})", self.0.number)
    }
}

impl Stake {
    /// What it relies on may go.
    pub(crate) fn end(&self) {
        self.0.holds.end(self.0.number);
    }

    /// Whether it lives, as one of `holds`.
    pub(crate) fn is_of(&self, holds: &Arc<Holds>) -> bool {
        Arc::ptr_eq(&self.0.holds, holds) && lock(&holds.state).active.contains(&self.0.number)
    }

    /// [`Holds::rely`].
    pub(crate) fn rely(&self, pack: &PackId) -> bool {
        self.0.holds.rely(pack)
    }

    /// [`Holds::claim`].
    pub(crate) fn claim(&self, pack: &PackId) {
        self.0.holds.claim(pack);
    }
}

/// Holds something in the process that writes the store, until dropped: see [`crate::Writer::hold`].
#[derive(Debug)]
#[must_use = "it holds nothing once it is dropped"]
pub struct HoldGuard {
    _lease: Stake,
}

impl HoldGuard {
    pub(crate) fn new(stake: Stake) -> Self {
        Self { _lease: stake }
    }
}
