//! Random histories of a store on a simulated machine on which everything goes wrong that can: whatever happens, what was
//! acknowledged is there and every byte of it holds, and what was not acknowledged is there whole or not at all.
//!
//! `CAIRN_HISTORIES` says how many are run, `CAIRN_SOAK` (`90s`, `30m`, `4h`) for how long instead, from a seed of its own each
//! time. A failure tells its seed, and the history made as short as it gets; `CAIRN_SEED` repeats one.

mod history;
mod machine;
mod model;
#[path = "../../delta/tests/reloc/program.rs"]
mod program;
mod steps;
mod tally;
mod world;

use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::history::{History, keep_quiet};
use crate::tally::Tally;
use crate::world::World;

/// Histories that are run where nothing else is said.
const HISTORIES: u64 = 10_000;

/// Which histories are to be run.
struct Wanted {
    /// The seed of the first; the others follow.
    first: u64,
    count: u64,
    until: Option<Instant>,
}

impl Wanted {
    fn told() -> Self {
        let number = |name| env::var(name).ok().map(|told| told.parse().expect("a number"));
        if let Some(seed) = number("CAIRN_SEED") {
            return Self { first: seed, count: 1, until: None };
        }
        if let Ok(told) = env::var("CAIRN_SOAK") {
            let first = RandomState::new().build_hasher().finish();
            return Self { first, count: u64::MAX, until: Some(Instant::now() + time(&told)) };
        }
        Self { first: 0, count: number("CAIRN_HISTORIES").unwrap_or(HISTORIES), until: None }
    }

    /// The seed of the next.
    fn next(&self, taken: &AtomicU64) -> Option<u64> {
        let number = taken.fetch_add(1, Ordering::Relaxed);
        let is_left = number < self.count && self.until.is_none_or(|until| Instant::now() < until);
        is_left.then_some(self.first.wrapping_add(number))
    }
}

/// `90s`, `30m`, `4h`.
fn time(told: &str) -> Duration {
    let (number, unit) = told.split_at(told.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("{told:?} is no time: 90s, 30m, 4h"),
    };
    Duration::from_secs(number.parse::<u64>().expect("a number before the unit") * seconds)
}

#[test]
fn nothing_that_was_acknowledged_is_ever_lost() {
    let (world, wanted) = (&World::new(), &Wanted::told());
    let (taken, tally) = (&AtomicU64::new(0), &Mutex::new(Tally::default()));
    let failed: &Mutex<Option<(u64, String)>> = &Mutex::new(None);
    keep_quiet();
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
                while lock().is_none()
                    && let Some(seed) = wanted.next(taken)
                {
                    match History::of(seed).run(world) {
                        Ok(done) => *tally.lock().unwrap_or_else(PoisonError::into_inner) += done,
                        Err(failure) => drop(lock().get_or_insert((seed, failure))),
                    }
                }
            });
        }
    });
    println!("{} in {:.0?}", tally.lock().unwrap_or_else(PoisonError::into_inner), begun.elapsed());
    let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((seed, failure)) = failed {
        println!("history {seed} fails: {failure}\nto repeat it: CAIRN_SEED={seed}");
        let (history, failure) = History::of(seed).shortened(world, failure);
        panic!("history {seed}, shortened: {failure}\n{history:#?}");
    }
}
