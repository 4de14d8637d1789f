//! Ingests, pulls and collections of a store that is a few sets, in many orders: nothing that is named ever rests on a pack
//! that was removed. With the feature `shuttle` a scheduler chooses the orders; without, the machine does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use super::{Holds, Stake};
use crate::id::PackId;
use crate::lease::{Held, Hold};
use crate::sync::{Mutex, MutexGuard};

#[cfg(not(feature = "shuttle"))]
use std::thread;

#[cfg(feature = "shuttle")]
use shuttle::thread;

/// Runs `test` in many orders.
fn in_many_orders(test: impl Fn() + Send + Sync + 'static) {
    #[cfg(feature = "shuttle")]
    {
        let test = Arc::new(test);
        let again = Arc::clone(&test);
        shuttle::check_random(move || test(), 20_000);
        shuttle::check_pct(move || again(), 20_000, 3);
    }
    #[cfg(not(feature = "shuttle"))]
    (0..500).for_each(|_| test());
}

/// Runs `test` once, where its steps have but one order.
fn in_one_order(test: impl Fn() + Send + Sync + 'static) {
    #[cfg(feature = "shuttle")]
    shuttle::check_random(test, 1);
    #[cfg(not(feature = "shuttle"))]
    test();
}

type Chunk = u8;
type Index = BTreeMap<Chunk, PackId>;

/// What of a store matters here.
#[derive(Default)]
struct Store {
    holds: Arc<Holds>,
    /// The packs that there are, and what is in them.
    disk: Mutex<BTreeMap<PackId, Vec<Chunk>>>,
    index: Mutex<Arc<Index>>,
    /// The chunks that are named, and the number of changes.
    names: Mutex<(BTreeSet<Chunk>, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pack goes by what is in it.
fn pack_of(chunks: &[Chunk]) -> PackId {
    PackId::of(chunks)
}

impl Store {
    fn new(packs: &[&[Chunk]], named: &[Chunk]) -> Arc<Self> {
        let store = Self::default();
        lock(&store.disk).extend(packs.iter().map(|chunks| (pack_of(chunks), chunks.to_vec())));
        lock(&store.names).0.extend(named);
        store.open_index();
        Arc::new(store)
    }

    /// Opens the index of what is on the disk and not condemned, as [`crate::Store`] does.
    fn open_index(&self) {
        loop {
            let before = self.holds.condemnations();
            let condemned = self.holds.condemned();
            let mut index = Index::new();
            for (pack, chunks) in lock(&self.disk).iter().filter(|(pack, _)| !condemned.contains(pack)) {
                index.extend(chunks.iter().map(|chunk| (*chunk, *pack)));
            }
            let mut known = lock(&self.index);
            if self.holds.condemnations() == before {
                *known = Arc::new(index);
                return;
            }
        }
    }

    fn name(&self, chunks: &[Chunk]) {
        let mut names = lock(&self.names);
        names.0.extend(chunks);
        names.1 += 1;
    }

    fn forget(&self, chunk: Chunk) {
        let mut names = lock(&self.names);
        names.0.remove(&chunk);
        names.1 += 1;
    }

    /// Deduplicates chunks, stores the rest in one pack, and names them.
    fn ingest(&self, chunks: &[Chunk]) {
        let stake = self.holds.begin();
        let index = Arc::clone(&*lock(&self.index));
        let is_held = |chunk: &&Chunk| index.get(chunk).is_some_and(|pack| stake.rely(pack));
        let new: Vec<Chunk> = chunks.iter().filter(|chunk| !is_held(chunk)).copied().collect();
        if !new.is_empty() {
            self.seal(&new, &stake);
        }
        let _nothing_goes = self.holds.naming();
        assert!(stake.is_of(&self.holds));
        self.name(chunks);
        stake.end();
    }

    fn seal(&self, chunks: &[Chunk], stake: &Stake) {
        let pack = pack_of(chunks);
        stake.claim(&pack);
        lock(&self.disk).insert(pack, chunks.to_vec());
    }

    /// Names chunks if all of them are here.
    fn name_what_is_here(&self, chunks: &[Chunk]) -> bool {
        let _nothing_goes = self.holds.naming_what_is_here();
        self.open_index();
        let index = Arc::clone(&*lock(&self.index));
        let is_here = chunks.iter().all(|chunk| index.contains_key(chunk));
        if is_here {
            self.name(chunks);
        }
        is_here
    }

    /// Removes the packs of which nothing is named or held. Gives how many went.
    fn collect(&self) -> usize {
        self.open_index();
        // What is younger is not considered: somebody may be about to name it.
        let candidates: BTreeSet<PackId> = lock(&self.index).values().copied().collect();
        loop {
            self.open_index();
            let (named, seq) = lock(&self.names).clone();
            let (held, changes) = self.holds.held();
            if held.iter().any(|hold| hold.held == Held::Everything) {
                return 0;
            }
            let index = Arc::clone(&*lock(&self.index));
            let needed: BTreeSet<PackId> =
                named.iter().filter_map(|chunk| index.get(chunk)).copied().collect();
            let is_free = |pack: &&PackId| !needed.contains(pack) && self.holds.spares(pack).is_none();
            let leaving: Vec<PackId> = candidates.iter().filter(is_free).copied().collect();
            let commit = self.holds.commit();
            if lock(&self.names).1 != seq || commit.condemn(&leaving, changes).is_err() {
                drop(commit);
                thread::yield_now();
                continue;
            }
            self.open_index();
            drop(commit);
            return leaving.iter().filter(|pack| self.remove(pack)).count();
        }
    }

    fn remove(&self, pack: &PackId) -> bool {
        let goes = self.holds.begin_removal(pack);
        if goes {
            lock(&self.disk).remove(pack);
            self.holds.end_removal(pack, true);
        }
        goes
    }

    /// Everything that is named is in some pack.
    fn check(&self) {
        self.open_index();
        let index = Arc::clone(&*lock(&self.index));
        let named = lock(&self.names).0.clone();
        for chunk in named {
            assert!(index.contains_key(&chunk), "chunk {chunk} is named and in no pack");
        }
        assert!(lock(&self.holds.state).active.is_empty());
        assert!(lock(&self.holds.state).relied.is_empty() && lock(&self.holds.state).sealed.is_empty());
    }
}

/// Runs all of these at once.
fn at_once(store: &Arc<Store>, jobs: Vec<fn(&Store)>) {
    let spawn = |job: fn(&Store)| {
        let store = Arc::clone(store);
        thread::spawn(move || job(&store))
    };
    let threads: Vec<_> = jobs.into_iter().map(spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn an_ingest_that_finds_chunks_in_a_dying_pack_names_nothing_that_goes() {
    in_many_orders(|| {
        let store = Store::new(&[&[1, 2], &[3]], &[3]);
        at_once(&store, vec![|store| store.ingest(&[1, 4]), |store| _ = store.collect()]);
        store.check();
    });
}

#[test]
fn whoever_makes_a_pack_of_the_same_name_again_keeps_it() {
    in_many_orders(|| {
        let store = Store::new(&[&[1], &[2]], &[]);
        at_once(
            &store,
            vec![|store| store.ingest(&[1]), |store| _ = store.collect(), |store| store.ingest(&[1, 2])],
        );
        store.check();
    });
}

#[test]
fn what_is_found_to_be_here_and_named_stays() {
    in_many_orders(|| {
        let store = Store::new(&[&[1, 2], &[3]], &[]);
        at_once(
            &store,
            vec![|store| _ = store.name_what_is_here(&[1, 3]), |store| _ = store.collect(), |store| {
                store.ingest(&[2, 3])
            }],
        );
        store.check();
    });
}

#[test]
fn names_that_go_and_come_back_beside_collections() {
    in_many_orders(|| {
        let store = Store::new(&[&[1, 2], &[3, 4]], &[1, 3]);
        at_once(
            &store,
            vec![
                |store| {
                    store.forget(1);
                    store.ingest(&[1, 3]);
                },
                |store| {
                    store.collect();
                    store.collect();
                },
                |store| {
                    store.forget(3);
                    _ = store.name_what_is_here(&[2, 4]);
                },
            ],
        );
        store.check();
    });
}

#[test]
fn what_is_held_in_time_stays() {
    in_many_orders(|| {
        let store = Store::new(&[&[1]], &[1]);
        at_once(
            &store,
            vec![
                |store| {
                    let hold = Hold { held: Held::Everything, by: String::new() };
                    let stake = store.holds.begin_holding(Some(hold));
                    // Held first and looked at after that: from here on it stays, or it is gone and that is seen.
                    let is_named = lock(&store.names).0.contains(&1);
                    thread::yield_now();
                    assert!(!is_named || lock(&store.disk).contains_key(&pack_of(&[1])));
                    drop(stake);
                },
                |store| store.forget(1),
                |store| _ = store.collect(),
            ],
        );
        store.check();
    });
}

#[test]
fn stakes_that_overlap_for_ever_keep_nothing_for_ever() {
    in_one_order(|| {
        let holds = Arc::new(Holds::default());
        let packs = [pack_of(&[1]), pack_of(&[2])];
        let first = holds.begin();
        assert!(first.rely(&packs[0]));
        let second = holds.begin();
        assert!(second.rely(&packs[1]));
        drop(first);
        let third = holds.begin();
        assert!(holds.spares(&packs[0]).is_none() && holds.spares(&packs[1]).is_some());
        drop(second);
        // What was found while the third was not there yet is not its.
        assert!(holds.spares(&packs[1]).is_none());
        assert!(third.rely(&packs[1]));
        assert_eq!(holds.commit().condemn(&packs, 0).unwrap_err().len(), 1);
        holds.commit().condemn(&packs[..1], 0).unwrap();
        assert!(!third.rely(&packs[0]));
        assert!(holds.begin_removal(&packs[0]) && !holds.begin_removal(&packs[0]));
        holds.end_removal(&packs[0], true);
        // The third may know an index that has it.
        assert!(!third.rely(&packs[0]));
        drop(third);
        assert!(holds.condemned().is_empty());
    });
}
