//! The journal on a disk without a free byte: what adds is refused and changes nothing, what takes away goes on, also
//! after a restart, after crashes, and where a segment would have been left for a new one.

use std::path::Path;
use std::sync::Arc;

use super::format_tests::{VERSION_2, unhex};
use super::tests::{key, record};
use super::{Journal, Op};
use crate::Error;
use crate::id::ArtifactId;
use crate::io::{Io, Sim};
use crate::refs::View;
use crate::reserve::Reserve;

const ROOT: &str = "/store";
const DIR: &str = "/store/journal";
const REFS: u64 = 40;

fn open(sim: &Sim) -> Result<Journal, Error> {
    let journal = Journal::open_write(Arc::new(sim.clone()), Path::new(DIR))?.rolling_at(2000);
    Ok(journal.with_reserve(Reserve::open(Arc::new(sim.clone()), Path::new(ROOT))))
}

fn artifact(n: u64) -> ArtifactId {
    ArtifactId::of(&n.to_le_bytes())
}

fn set(n: u64) -> Op {
    Op::SetRef { key: key("app", &n.to_string()), old: None, record: record(artifact(n)) }
}

fn remove(n: u64) -> Op {
    Op::RemoveRef { key: key("app", &n.to_string()), old: artifact(n) }
}

fn read(sim: &Sim) -> View {
    Journal::open_read(sim, Path::new(DIR)).unwrap().0
}

/// A machine with refs, on whose disk not one more can be made.
fn full(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    sim.create_dir_all(Path::new(ROOT)).unwrap();
    sim.settle();
    let mut journal = open(&sim).unwrap();
    for n in 0..REFS {
        journal.append(vec![set(n)], "w", n).unwrap();
    }
    sim.settle();
    sim.fill();
    for n in REFS.. {
        let before = Arc::clone(journal.view());
        match journal.append(vec![set(n)], "w", n) {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, Error::Full { .. }), "{error}");
                assert!(error.is_disk_full());
                assert_eq!(*journal.view(), before);
                assert!(n > REFS, "room was taken ahead");
                break;
            }
        }
    }
    sim
}

#[test]
fn what_takes_away_goes_on_without_a_free_byte_and_across_restarts() {
    let sim = full(1);
    let mut left = read(&sim).refs.len() as u64;
    let mut sim = sim;
    while left > 0 {
        let mut journal = open(&sim).unwrap();
        for _ in 0..left.min(17) {
            left -= 1;
            journal.append(vec![remove(left)], "w", 0).unwrap_or_else(|error| panic!("{left}: {error}"));
            let refused = journal.append(vec![set(1000 + left)], "w", 0);
            // What was taken ahead for a removal serves everybody.
            assert!(matches!(refused, Ok(_) | Err(Error::Full { .. })), "{refused:?}");
            if refused.is_ok() {
                journal.append(vec![remove(1000 + left)], "w", 0).unwrap();
            }
        }
        assert_eq!(read(&sim), **journal.view());
        drop(journal);
        sim = sim.reboot(left);
    }
    assert!(read(&sim).refs.is_empty());
}

#[test]
fn the_reserve_is_for_what_takes_away_alone() {
    let sim = full(2);
    let mut journal = open(&sim).unwrap();
    let reserve = || sim.open(Path::new("/store/reserve")).unwrap().len().unwrap();
    let whole = reserve();
    let both = vec![remove(0), set(5000)];
    for ops in [vec![set(5000)], both, vec![Op::SetWhole { artifact: artifact(1) }]] {
        assert!(journal.append(ops, "w", 0).is_err());
    }
    assert_eq!(reserve(), whole);
    journal.append(vec![remove(0)], "w", 0).unwrap();
    assert!(reserve() < whole);
    // There is room again, and the next segment or piece of one takes it back.
    sim.heal();
    for n in 6000..7000 {
        journal.append(vec![set(n)], "w", 0).unwrap();
    }
    assert_eq!(reserve(), whole);
    assert!(sim.list(Path::new(DIR)).unwrap().len() > 1, "segments roll again");
}

#[test]
fn crashes_of_removals_on_a_full_disk_lose_nothing() {
    let full = full(3);
    let removals = |sim: &Sim, gone: &mut u64| -> Result<(), Error> {
        let mut journal = open(sim)?;
        let first = journal.view().refs.len() as u64;
        for n in (first - 12..first).rev() {
            journal.append(vec![remove(n)], "w", 0)?;
            *gone += 1;
        }
        Ok(())
    };
    let sim = full.reboot(0);
    let had = read(&sim).refs.len() as u64;
    let before = sim.operations();
    removals(&sim, &mut 0).unwrap();
    let (operations, syncs) = (sim.operations() - before, sim.syncs());
    for n in 1..=operations + syncs {
        for seed in 0..8 {
            let (sim, mut gone) = (full.reboot(0), 0);
            if n <= operations {
                sim.crash_at_operation(n);
            } else {
                sim.crash_at_sync(n - operations);
            }
            let context = format!("crash {n}, seed {seed}");
            removals(&sim, &mut gone).unwrap_err();
            let sim = sim.reboot(seed);
            let left = read(&sim).refs.len() as u64;
            assert!(left == had - gone || left + 1 == had - gone, "{context}: {left} of {had}, {gone} gone");
            removals(&sim, &mut 0).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(read(&sim).refs.len() as u64, left - 12, "{context}");
        }
    }
}

#[test]
fn a_segment_of_an_earlier_version_is_left_with_the_help_of_the_reserve() {
    let sim = Sim::new(4);
    sim.create_dir_all(Path::new(DIR)).unwrap();
    drop(Reserve::open(Arc::new(sim.clone()), Path::new(ROOT)));
    let old = sim.create(&Path::new(DIR).join("0000000000000009.journal")).unwrap();
    old.write_all_at(&unhex(VERSION_2), 0).unwrap();
    sim.settle();
    sim.fill();
    let mut journal = open(&sim).unwrap();
    assert!(matches!(journal.append(vec![set(1)], "w", 0), Err(Error::Full { .. })));
    journal.append(vec![Op::RemoveRef { key: key("p", "2"), old: ArtifactId::of(b"b") }], "w", 0).unwrap();
    assert_eq!(read(&sim).refs.len(), 1);
    drop(journal);
    open(&sim.reboot(1)).unwrap();
}
