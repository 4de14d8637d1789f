//! Going back to the newest whole state: after damage anywhere, and however often it is interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tests::{key, record};
use super::{Journal, Op, log, salvage};
use crate::Error;
use crate::id::ArtifactId;
use crate::io::{Io, Sim};
use crate::refs::View;

const DIR: &str = "/store/journal";
const QUARANTINE: &str = "/store/quarantine";
const REFS: u64 = 40;

fn set(n: u64) -> Op {
    let artifact = ArtifactId::of(&n.to_le_bytes());
    Op::SetRef { key: key("app", &n.to_string()), old: None, record: record(artifact) }
}

fn open(sim: &Sim) -> Result<Journal, Error> {
    Ok(Journal::open_write(Arc::new(sim.clone()), Path::new(DIR))?.rolling_at(500))
}

fn read(sim: &Sim) -> Result<View, Error> {
    Journal::open_read(sim, Path::new(DIR)).map(|(view, _)| view)
}

/// A journal of several segments, the view after each record, and its segments, oldest first.
fn journal() -> (Sim, Vec<View>, Vec<PathBuf>) {
    let sim = Sim::new(1);
    let mut journal = open(&sim).unwrap();
    let mut views = vec![View::clone(journal.view())];
    for n in 0..REFS {
        journal.append(vec![set(n)], "w", 1000 + n).unwrap();
        views.push(View::clone(journal.view()));
    }
    sim.settle();
    let mut names: Vec<_> = sim.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    let paths: Vec<PathBuf> = names.iter().map(|name| Path::new(DIR).join(name)).collect();
    assert!(paths.len() > 2, "{names:?}");
    (sim, views, paths)
}

fn flip(sim: &Sim, path: &Path, at: usize) {
    let bytes = sim.read(path).unwrap();
    sim.open_write(path).unwrap().write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    sim.settle();
}

fn mend(sim: &Sim) -> Result<(), Error> {
    match salvage::plan(sim, Path::new(DIR))? {
        Some(plan) => salvage::run(sim, Path::new(DIR), &plan, Path::new(QUARANTINE)),
        None => Ok(()),
    }
}

#[test]
fn damage_anywhere_in_the_newest_segment_costs_what_comes_after_it() {
    let (whole, views, paths) = journal();
    let newest = paths.last().unwrap();
    let len = whole.read(newest).unwrap().len();
    let (mut worst, mut best) = (usize::MAX, 0);
    for at in (0..len).step_by(7) {
        let sim = whole.reboot(0);
        flip(&sim, newest, at);
        if read(&sim).is_ok() {
            // A torn end, as far as anybody can tell, or a newer version's mark is no damage.
            continue;
        }
        let Ok(Some(plan)) = salvage::plan(&sim, Path::new(DIR)) else {
            assert!(matches!(read(&sim), Err(Error::NewerFormat { .. })), "byte {at}");
            continue;
        };
        let known = views.iter().position(|view| view.refs == plan.view.refs);
        let known = known.unwrap_or_else(|| panic!("byte {at}: {:?}", plan.view));
        (worst, best) = (worst.min(known), best.max(known));
        salvage::run(&sim, Path::new(DIR), &plan, Path::new(QUARANTINE)).unwrap();
        assert_eq!(read(&sim).unwrap(), *plan.view, "byte {at}");
        assert!(salvage::plan(&sim, Path::new(DIR)).unwrap().is_none());
        assert_eq!(sim.list(Path::new(QUARANTINE)).unwrap().len(), 1);
        // It goes on, and can be told from its beginning.
        let mut journal = open(&sim).unwrap();
        journal.append(vec![set(100)], "w", 0).unwrap();
        let told: Result<Vec<_>, _> = log(Arc::new(sim.clone()), Path::new(DIR)).unwrap().collect();
        assert_eq!(told.unwrap().len(), known + 1, "byte {at}");
    }
    assert!(worst < best && best < views.len() - 1, "{worst} to {best} of {}", views.len());
}

#[test]
fn going_back_can_be_interrupted_anywhere() {
    let (whole, _, paths) = journal();
    // The two newest: of one not even the checkpoint, of the other the last change.
    let older = &paths[paths.len() - 2];
    flip(&whole, paths.last().unwrap(), 40);
    let len = whole.read(older).unwrap().len();
    flip(&whole, older, len - 20);
    let sim = whole.reboot(0);
    let expected = salvage::plan(&sim, Path::new(DIR)).unwrap().unwrap();
    assert!(expected.cut.is_some() && expected.quarantined.len() == 1);
    let before = sim.operations();
    mend(&sim).unwrap();
    let operations = sim.operations() - before;
    for n in 1..=operations {
        for seed in 0..20 {
            let sim = whole.reboot(0);
            sim.crash_at_operation(n);
            let _ = mend(&sim);
            let sim = sim.reboot(seed);
            mend(&sim).unwrap_or_else(|error| panic!("operation {n}, seed {seed}: {error}"));
            assert_eq!(read(&sim).unwrap(), *expected.view, "operation {n}, seed {seed}");
            // All that was damaged is kept.
            assert!(sim.list(Path::new(QUARANTINE)).unwrap().len() >= 2, "operation {n}, seed {seed}");
            open(&sim).unwrap().append(vec![set(100)], "w", 0).unwrap();
        }
    }
}

#[test]
fn without_any_whole_checkpoint_nothing_is_done() {
    let (sim, _, paths) = journal();
    for path in &paths {
        flip(&sim, path, 40);
    }
    let error = salvage::plan(&sim, Path::new(DIR)).unwrap_err();
    assert!(error.to_string().contains("no segment of it has a whole checkpoint"), "{error}");
}
