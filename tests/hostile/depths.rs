//! Verifying without reading everything: what each depth finds, and what it does not.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cairn_store::index::Index;
use cairn_store::io::Io;
use cairn_store::{Depth, PackId, Store, VerifyOptions, VerifyReport};
use harness::stores::verify;

use crate::specimen::{STORE, Specimen};

fn at_depth(store: &Store, depth: Depth) -> VerifyReport {
    store.verify(&VerifyOptions { depth, ..VerifyOptions::default() }, &()).unwrap()
}

fn fast(specimen: &Specimen) -> VerifyReport {
    at_depth(&specimen.open(), Depth::Structure)
}

fn sample(specimen: &Specimen, percent: f64, seed: u64) -> VerifyReport {
    at_depth(&specimen.open(), Depth::Sample { percent, seed })
}

/// The packs with their kinds: whether they hold metadata.
fn packs(specimen: &Specimen) -> Vec<(PackId, bool)> {
    let packs = specimen.open().packs().unwrap();
    packs.into_iter().map(|pack| (pack.id, pack.metadata)).collect()
}

fn path(pack: &PackId) -> std::path::PathBuf {
    Path::new(STORE).join("packs").join(format!("{pack}.pack"))
}

/// Flips a bit at `at`, does something, and flips it back.
fn with_flipped<T>(specimen: &Specimen, pack: &PackId, at: u64, run: impl FnOnce() -> T) -> T {
    let file = specimen.sim.open_write(&path(pack)).unwrap();
    let bytes = specimen.sim.read(&path(pack)).unwrap();
    let at_byte = usize::try_from(at).unwrap();
    file.write_all_at(&[bytes[at_byte] ^ 1], at).unwrap();
    let result = run();
    file.write_all_at(&bytes[at_byte..=at_byte], at).unwrap();
    result
}

#[test]
fn the_structure_is_checked_without_a_byte_of_a_file() {
    let specimen = Specimen::new();
    let report = fast(&specimen);
    assert!(report.is_clean() && report.derived.is_empty(), "{report:?}");
    assert_eq!((report.packs, report.frames, report.artifacts), (packs(&specimen).len() as u64, 0, 3));
    for (pack, is_metadata) in packs(&specimen) {
        let len = specimen.sim.read(&path(&pack)).unwrap().len() as u64;
        // A footer is always looked at, a frame where it leads to files.
        let report = with_flipped(&specimen, &pack, len - 30, || fast(&specimen));
        assert!(report.damage.iter().any(|damage| damage.pack == Some(pack)), "{report:?}");
        let frames: Vec<u64> =
            specimen.frames.keys().filter(|(of, _)| *of == pack).map(|(_, at)| *at).collect();
        for (frame, stored) in specimen.frames.iter().filter(|((of, _), _)| *of == pack) {
            let middle = frame.1 + stored - 5;
            let report = with_flipped(&specimen, &pack, middle, || fast(&specimen));
            assert_eq!(report.is_clean(), !is_metadata, "frame {} of {frames:?}: {report:?}", frame.1);
            assert!(!with_flipped(&specimen, &pack, middle, || verify(&specimen.open())).is_clean());
        }
        // What is gone is missed.
        let bytes = specimen.sim.read(&path(&pack)).unwrap();
        specimen.sim.remove(&path(&pack)).unwrap();
        let report = fast(&specimen);
        let lost = specimen.frames.keys().filter(|(of, _)| *of == pack).copied().collect();
        let affected: BTreeSet<_> = report.affected.iter().map(|affected| affected.artifact).collect();
        assert_eq!(affected, specimen.users(&lost));
        specimen.sim.create(&path(&pack)).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    assert!(fast(&specimen).is_clean());
}

#[test]
fn a_sample_is_as_large_as_was_asked_for_and_comes_again_with_its_seed() {
    let specimen = Specimen::new();
    let all = verify(&specimen.open());
    let whole = sample(&specimen, 100.0, 1);
    assert_eq!((whole.frames, whole.chunks, whole.plain_bytes), (all.frames, all.chunks, all.plain_bytes));
    let half = sample(&specimen, 50.0, 1);
    assert_eq!(half.frames, all.frames.div_ceil(2));
    assert_eq!(sample(&specimen, 0.001, 1).frames, 1, "at least one");
    // Each seed finds what lies in the frames that it chooses, always.
    let mut found = BTreeSet::new();
    let (pack, at) = *specimen.frames.keys().next().unwrap();
    with_flipped(&specimen, &pack, at + specimen.frames[&(pack, at)] - 5, || {
        for seed in 0..40 {
            let clean = sample(&specimen, 30.0, seed).damage.is_empty();
            assert_eq!(clean, sample(&specimen, 30.0, seed).damage.is_empty(), "seed {seed}");
            found.insert(clean);
        }
        assert!(!sample(&specimen, 100.0, 7).is_clean());
    });
    assert_eq!(found.len(), 2, "some seeds find it and some do not");
}

#[test]
fn what_the_index_knows_of_a_pack_that_lost_its_tables_is_reported_at_once() {
    let specimen = Specimen::new();
    let io: Arc<dyn Io> = Arc::new(specimen.sim.clone());
    Index::open(&io, Path::new(STORE)).unwrap().persist(&*io, Path::new(STORE), true).unwrap();
    for (pack, _) in packs(&specimen) {
        let bytes = specimen.sim.read(&path(&pack)).unwrap();
        let frames: Vec<_> =
            specimen.frames.keys().filter(|(of, _)| *of == pack).map(|(_, at)| *at).collect();
        for frame in frames {
            // Neither the footer nor the head of the frame can be read.
            let mut bad = bytes.clone();
            let (at, len) = (usize::try_from(frame).unwrap(), bytes.len());
            bad[at..at + 8].fill(0);
            bad[len - 8..].fill(0);
            specimen.put(&path(&pack), &bad);
            let lost = BTreeSet::from([(pack, frame)]);
            for report in [verify(&specimen.open()), fast(&specimen)] {
                let affected: BTreeSet<_> =
                    report.affected.iter().map(|affected| affected.artifact).collect();
                assert_eq!(affected, specimen.users(&lost), "{report:?}");
                assert!(report.damage.iter().any(|damage| !damage.chunks.is_empty()), "{report:?}");
            }
            // Frames behind it are found.
            let failed = specimen.unreadable(&specimen.open());
            let needs = |file| !specimen.needs[file].is_disjoint(&lost);
            assert!(specimen.needs.keys().all(|file| failed.contains_key(file) == needs(file)));
        }
        specimen.put(&path(&pack), &bytes);
    }
    assert!(verify(&specimen.open()).is_clean());
}

#[test]
fn a_damaged_run_of_the_index_is_named_and_is_no_damage() {
    let specimen = Specimen::new();
    let io: Arc<dyn Io> = Arc::new(specimen.sim.clone());
    Index::open(&io, Path::new(STORE)).unwrap().persist(&*io, Path::new(STORE), true).unwrap();
    let (run, bytes) = specimen.files_in("index").pop().unwrap();
    for at in [0, 70, bytes.len() - 3] {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        specimen.put(&run, &bad);
        let report = fast(&specimen);
        assert!(report.is_clean(), "{report:?}");
        assert!(report.derived.iter().any(|damage| damage.file == run), "{report:?}");
        if specimen.sim.list(run.parent().unwrap()).unwrap().is_empty() {
            specimen.sim.create(&run).unwrap();
        }
    }
}
