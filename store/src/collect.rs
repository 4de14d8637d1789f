//! Collection: what no name leads to and nobody holds goes, whole packs at a time. Packs of which little is needed are
//! written again without the rest, and many small ones become few.
//!
//! Marking comes first ([`Writer::plan_collection`], which changes nothing), then the run ([`Writer::collect`]): packs
//! that nobody needs go first, since that takes no room; then batches of others are copied, synced, and go. Whenever it
//! stops, by request, by an error or by a crash, each needed chunk is in a sealed pack, at worst in two.
//!
//! A chunk that is needed may lie in a frame that stands on others, in a pack of deltas. As long as such a pack is there, all
//! that its frames stand on is needed too. A frame that is needed, and stands on what nobody else needs, is written again
//! so that it stands alone, and the next collection finds that without use.
//!
//! It works beside everything else. Whoever stores, pulls or names meanwhile meets it in `holds.rs`: right before packs
//! go, what was named or held since they were chosen is marked too, until nothing is left that was not; then they are
//! condemned in the same moment, and from then on nobody finds anything in them.
//!
//! Roles: `marks` are the bits; `mark` is the walk that sets them; `plan` says what becomes of each pack; `sweep` is how
//! packs go; `copies` looks whether what also lies elsewhere can be read there; `rewrite` writes what is needed of a pack
//! into others; `moved` lets go of what somebody else has just written anew; `pace` says when to stop, and holds it back.
//!
//! It does not mend anything. A pack in which something does not hold stays as it is, for [`Writer::repair`].

mod copies;
mod mark;
mod marks;
mod moved;
mod pace;
mod plan;
mod rewrite;
mod sweep;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use self::mark::Marker;
use self::marks::Marks;
pub(crate) use self::moved::Needed;
pub(crate) use self::pace::Pace;
pub use self::plan::{PackPlan, Verdict, WhyKept};
use self::sweep::Sweep;
use crate::error::{Error, Result};
use crate::holds::HoldGuard;
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::index::{Index, Place};
use crate::lease::{Held, Hold, Holder};
use crate::pack::PackKind;
use crate::pool::default_threads;
use crate::progress::Progress;
use crate::store::lock;
use crate::writer::{Writer, wait_for};

/// How a collection goes about it.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// A pack is written again when less than this part of it is needed.
    pub live_ratio: f64,
    /// Bytes that are read and written a second, at most, once packs are chosen.
    pub bandwidth: Option<u64>,
    /// It stops after this time, between two steps.
    pub max_time: Option<Duration>,
    /// A pack goes only when collections of this process have found it without use for so long: for readers that know
    /// of it and hold nothing. Zero: at once. Of a pack that is written again the first time counts at which too little
    /// of it was needed.
    pub grace: Duration,
    /// Threads that mark; one for each core where none are given.
    pub threads: Option<NonZero<usize>>,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self { live_ratio: 0.6, bandwidth: None, max_time: None, grace: Duration::ZERO, threads: None }
    }
}

impl CollectOptions {
    fn threads(&self) -> NonZero<usize> {
        self.threads.or_else(|| NonZero::new(default_threads())).unwrap_or(NonZero::<usize>::MIN)
    }
}

/// What a collection will do.
#[derive(Debug, Clone)]
pub struct CollectPlan {
    /// All packs, ascending by id, each with what becomes of it.
    pub packs: Vec<PackPlan>,
    /// What is held beside what is named, by whom.
    pub holds: Vec<Hold>,
    /// Chunks that are needed. One that lies in several packs counts once, but where a copy is known to be damaged.
    pub needed_chunks: u64,
    /// Bytes that they take, about.
    pub needed_bytes: u64,
    /// Chunks that are not, copies among them.
    pub garbage_chunks: u64,
    /// Bytes that they take, about.
    pub garbage_bytes: u64,
    /// Bytes that doing all of it frees, about.
    pub freed_bytes: u64,
    found: Arc<Found>,
}

impl CollectPlan {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.packs.iter().all(|pack| matches!(pack.verdict, Verdict::Keep(_)))
    }
}

/// What a collection has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packs that are gone, since nothing in them was needed.
    pub dropped: Vec<PackId>,
    /// Packs that are gone, since what was needed of them is in others.
    pub rewritten: Vec<PackId>,
    /// Packs that were made.
    pub made: Vec<PackId>,
    /// Bytes of the packs that are gone.
    pub freed_bytes: u64,
    /// Bytes of the packs that were made.
    pub written_bytes: u64,
    /// Packs that were to go and stay, and damaged ones, with the reason.
    pub kept_back: Vec<(PackId, WhyKept)>,
    /// Whether no room was left to write packs again.
    pub disk_full: bool,
    /// Whether it came to its end: false where it was stopped, and going on would do more.
    pub complete: bool,
}

/// What was found when a collection was planned, and is added to while it runs.
struct Found {
    marks: Marks,
    /// The index by which it was marked.
    index: Arc<Index>,
    /// How often packs had gone by then.
    epoch: u64,
    /// Chunks that count elsewhere than the index says: they were just written there.
    moved: Moved,
    /// Guards what was marked. A leaf lock.
    seen: Mutex<Seen>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Found({} packs)", self.marks.packs().len())
    }
}

/// Where chunks count that were just written anew.
pub(crate) type Moved = Arc<HashMap<ChunkId, Place>>;

impl Found {
    /// Where a chunk counted when it was marked.
    fn find(&self, id: &ChunkId) -> Option<Place> {
        self.moved.get(id).copied().or_else(|| self.index.lookup(id))
    }

    /// Marks what packs of deltas stand on of which something is needed.
    fn need_bases(&self) {
        self.marks.need_bases(&|id| self.find(id), &|_| false);
    }

    /// The same of all that there are.
    fn need_all_bases(&self, there: &HashSet<PackId>) {
        self.marks.need_bases(&|id| self.find(id), &|pack| there.contains(pack));
    }
}

/// What was marked.
#[derive(Default)]
struct Seen {
    /// Artifacts that are named and not known to be partial.
    named: BTreeSet<ArtifactId>,
    /// What was held, and is wholly marked. The rest of what is held is looked at again before packs go.
    held: HashSet<Held>,
}

/// A look at what is named and held.
struct Look {
    /// The last change of names in it.
    seq: u64,
    /// How often something had been held in this process.
    held_changes: u64,
    holds: Vec<Hold>,
    /// Whether something was marked that was not before.
    is_news: bool,
}

impl Look {
    /// Who holds everything, if anybody does.
    fn everything(&self) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.held == Held::Everything)
    }
}

/// What the collections of a writer know of one another.
#[derive(Default)]
pub(crate) struct Collections {
    /// Held while packs are collected or repaired. Taken after the turn of ingests, before all other locks.
    turn: Mutex<()>,
    /// Whether another process may be about to write the store.
    suspended: AtomicBool,
    /// How often packs went: what was marked before then may have moved.
    epoch: AtomicU64,
    /// Guards who is asked what he holds. A leaf lock.
    holders: Mutex<Vec<Arc<dyn Holder>>>,
    /// Guards since when packs are known to be of too little use. A leaf lock.
    useless_since: Mutex<HashMap<PackId, Instant>>,
}

/// The right to let packs go. Once it has begun, what was marked before its end may not be where it was.
pub(crate) struct Turn<'a> {
    _alone: MutexGuard<'a, ()>,
    epoch: &'a AtomicU64,
    has_begun: Cell<bool>,
}

impl Turn<'_> {
    /// From now on packs go: what was marked until now is of no use to anybody else.
    pub(crate) fn begin(&self) {
        self.has_begun.set(true);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.has_begun.get() {
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Collections {
    /// Waits until nobody else lets packs go.
    pub(crate) fn wait_for_turn(&self, progress: &dyn Progress) -> Result<Turn<'_>> {
        let alone = wait_for(&self.turn, progress)?;
        Ok(Turn { _alone: alone, epoch: &self.epoch, has_begun: Cell::new(false) })
    }

    /// Ends the collection that runs after its step, and lets none begin.
    pub(crate) fn suspend(&self) {
        self.suspended.store(true, Ordering::SeqCst);
        drop(lock(&self.turn));
    }

    pub(crate) fn resume(&self) {
        self.suspended.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }
}

impl Writer {
    /// From now on `holder` is asked what it holds, whenever packs are collected.
    pub fn add_holder(&self, holder: Arc<dyn Holder>) {
        lock(&self.collections().holders).push(holder);
    }

    /// Holds something until the guard is dropped: for a transfer, its target, from before it looks what is here; for
    /// who reads, what he reads, from before he looks whether it is still named. Whatever anybody finds to be here while
    /// there are guards, and all that is stored through the intake meanwhile, stays as long as they do; so what is held
    /// for hours is better told by a [`Holder`].
    pub fn hold(&self, held: Held, by: String) -> HoldGuard {
        HoldGuard::new(self.holds().begin_holding(Some(Hold { held, by })))
    }

    /// All that is held beside what is named: in this process and by others.
    ///
    /// # Errors
    /// [`Error::Io`] when leases cannot be listed.
    pub fn what_is_held(&self) -> Result<Vec<Hold>> {
        self.all_holds().map(|(holds, _)| holds)
    }

    /// What is held, and how often something had been held in this process when it was asked.
    fn all_holds(&self) -> Result<(Vec<Hold>, u64)> {
        let (mut holds, changes) = self.holds().held();
        let holders = lock(&self.collections().holders).clone();
        holders.iter().for_each(|holder| holds.extend(holder.holds()));
        if self.is_shared() {
            holds.extend(self.leases()?);
        }
        Ok((holds, changes))
    }

    /// Finds out what is needed of each pack, and what a collection would do with it. Reads the metadata of all that is
    /// named and held. Changes nothing, but that leases of dead processes are removed.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the version's name where an object of one cannot be read: what it leads to is then not
    /// known, and it has to be mended or that version removed first. [`Error::Cancelled`], [`Error::Io`].
    pub fn plan_collection(&self, options: &CollectOptions, progress: &dyn Progress) -> Result<CollectPlan> {
        let epoch = self.collections().epoch.load(Ordering::SeqCst);
        let index = self.local().sound_index()?;
        let marks = Marks::of(self, index.packs(), options.threads())?;
        let found = Found { marks, index, epoch, moved: Arc::default(), seen: Mutex::default() };
        let look = self.look(&found, &found.index, options, progress)?;
        let damaged: BTreeMap<PackId, String> = self.damaged_packs();
        let find = |id: &ChunkId| found.find(id);
        let packs = plan::verdicts(&found.marks, &find, options.live_ratio, &damaged, look.everything());
        let mut plan = CollectPlan {
            needed_chunks: packs.iter().map(|pack| pack.needed_chunks).sum(),
            needed_bytes: packs.iter().map(|pack| pack.needed_bytes).sum(),
            garbage_chunks: packs.iter().map(|pack| pack.chunks - pack.needed_chunks).sum(),
            garbage_bytes: 0,
            freed_bytes: packs.iter().map(PackPlan::freed_bytes).sum(),
            packs,
            holds: look.holds,
            found: Arc::new(found),
        };
        let stored: u64 = plan.found.marks.packs().iter().map(|pack| pack.stored_bytes().1).sum();
        plan.garbage_bytes = stored.saturating_sub(plan.needed_bytes);
        Ok(plan)
    }

    /// Does what a plan says, as far as it still holds: what is named or held since stays. One runs at a time; who comes
    /// second waits. Where `progress` or `options` stop it, or another process is taking the store over, it ends after
    /// the step that it is at, and the result says that it is not complete.
    ///
    /// # Errors
    /// [`Error::Conflict`] when packs went since the plan was made, [`Error::Damaged`] as [`Writer::plan_collection`] for
    /// what was named since, [`Error::Poisoned`] when it is not known what is named, [`Error::Unavailable`] when another
    /// process is taking the store over, [`Error::Cancelled`] while it waits, [`Error::Io`]. The store is as good as
    /// before, and another collection goes on.
    pub fn collect(
        &self,
        plan: &CollectPlan,
        options: &CollectOptions,
        progress: &dyn Progress,
    ) -> Result<Collected> {
        let collections = self.collections();
        let turn = collections.wait_for_turn(progress)?;
        if collections.is_suspended() {
            return Err(Error::Unavailable {
                what: "collection".to_owned(),
                detail: "another process is taking the store over".to_owned(),
            });
        }
        if collections.epoch.load(Ordering::SeqCst) != plan.found.epoch {
            return Err(Error::Conflict {
                what: "collection".to_owned(),
                detail: "packs went since it was planned; plan it again".to_owned(),
            });
        }
        turn.begin();
        let collected = Sweep::new(self, &plan.found, options, progress).run(&plan.packs);
        drop(turn);
        if plan.found.marks.packs().iter().any(|pack| pack.kind == PackKind::Delta) {
            self.forget_usage();
        }
        // It may have been given up for what made this worth while.
        self.fill_reserve();
        collected
    }

    /// Marks what is named or held and was not marked yet: what is named first, since a reader holds first and looks
    /// whether it is named after that.
    fn look(
        &self,
        found: &Found,
        index: &Arc<Index>,
        options: &CollectOptions,
        progress: &dyn Progress,
    ) -> Result<Look> {
        self.check_names_are_known()?;
        let view = self.names();
        let (holds, held_changes) = self.all_holds()?;
        let (new_named, open) = {
            let seen = lock(&found.seen);
            let is_new = |id: &ArtifactId| !seen.named.contains(id) && !view.partial.contains(id);
            let new_named: Vec<ArtifactId> = view.artifacts().into_iter().filter(is_new).collect();
            let partial = view.partial.iter().map(|id| Held::Artifact(*id));
            let held = holds.iter().map(|hold| hold.held.clone()).chain(partial);
            let open: HashSet<Held> = held.filter(|held| !seen.held.contains(held)).collect();
            (new_named, open)
        };
        let look =
            Look { seq: view.seq, held_changes, holds, is_news: !new_named.is_empty() || !open.is_empty() };
        if !look.is_news {
            return Ok(look);
        }
        let places = (Arc::clone(index), Arc::clone(&found.moved));
        let marker = Marker::new(self, places, &found.marks, options.threads(), progress);
        marker.artifacts(&new_named)?;
        let mut whole = Vec::new();
        for held in open {
            if !marker.held(std::slice::from_ref(&held))? {
                whole.push(held);
            }
        }
        found.need_bases();
        let mut seen = lock(&found.seen);
        seen.named.extend(new_named);
        seen.held.extend(whole);
        Ok(look)
    }
}
