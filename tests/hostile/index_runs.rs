//! Index runs that are damaged, gone or another store's: nothing is lost by them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_store::index::Index;
use cairn_store::io::Io;
use harness::bytes::noise;
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, options, verify, with_threads, writer_on};

use crate::specimen::{STORE, Specimen, source};

/// A store with an index run, and the run.
fn indexed() -> (Specimen, PathBuf, Vec<u8>) {
    let specimen = Specimen::new();
    persist(&specimen);
    let mut runs = specimen.files_in("index");
    assert_eq!(runs.len(), 1);
    let (path, bytes) = runs.remove(0);
    (specimen, path, bytes)
}

fn persist(specimen: &Specimen) {
    let io: Arc<dyn Io> = Arc::new(specimen.sim.clone());
    Index::open(&io, Path::new(STORE)).unwrap().persist(&*io, Path::new(STORE), true).unwrap();
    specimen.sim.settle();
}

/// Everything can be read, and added again without harm.
fn expect_whole(specimen: &Specimen, context: &str) {
    let failed = specimen.unreadable(&specimen.open());
    assert!(failed.is_empty(), "{context}: {failed:?}");
    let report = verify(&specimen.open());
    assert!(report.is_clean(), "{context}: {report:?}");
}

fn expect_addable(specimen: &Specimen, context: &str) {
    let writer = writer_on(specimen.sim.clone(), Path::new(STORE)).unwrap();
    for (number, artifact) in specimen.artifacts.iter().enumerate() {
        let options = with_threads(1, options(&format!("specimen-{number}"), "1"));
        let added = add(&writer, &source(&specimen.scratch, number), &options);
        assert_eq!(added.artifact, *artifact, "{context}");
    }
    drop(writer);
    specimen.sim.settle();
    expect_whole(specimen, context);
}

/// Puts the run back, which a reader may have removed.
fn restore(specimen: &Specimen, path: &Path, bytes: &[u8]) {
    match specimen.sim.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    specimen.sim.create(path).unwrap().write_all_at(bytes, 0).unwrap();
    specimen.sim.settle();
}

#[test]
fn every_flipped_byte_of_a_run_is_survived() {
    let (specimen, path, bytes) = indexed();
    let header_and_ends = (0..80).chain(bytes.len() - 300..bytes.len());
    for at in header_and_ends.chain((80..bytes.len() - 300).step_by(7)) {
        for garbage in [bytes[at] ^ 1, bytes[at] ^ 0x80, !bytes[at]] {
            let mut bad = bytes.clone();
            bad[at] = garbage;
            restore(&specimen, &path, &bad);
            expect_whole(&specimen, &format!("byte {at} is {garbage}"));
        }
    }
}

#[test]
fn runs_of_garbage_are_survived() {
    let (specimen, path, bytes) = indexed();
    let half = bytes.len() / 2;
    let mut shuffled = bytes.clone();
    shuffled[64..half].copy_from_slice(&noise(1, half - 64));
    let mut zeroed = bytes.clone();
    zeroed[64..].fill(0);
    let mut full = bytes.clone();
    full[64..].fill(0xff);
    let header_alone = [&bytes[..64], &noise(2, bytes.len() - 64)].concat();
    let kinds = [
        ("empty", Vec::new()),
        ("random", noise(3, bytes.len())),
        ("cut short", bytes[..half].to_vec()),
        ("a header alone", bytes[..64].to_vec()),
        ("longer", [&bytes[..], b"x"].concat()),
        ("shuffled", shuffled),
        ("zeros", zeroed),
        ("ones", full),
        ("a good header", header_alone),
    ];
    for (what, bad) in kinds {
        restore(&specimen, &path, &bad);
        expect_whole(&specimen, what);
        restore(&specimen, &path, &bad);
        expect_addable(&specimen, what);
    }
}

#[test]
fn a_full_disk_takes_nothing_that_a_damaged_run_hides() {
    let (specimen, path, bytes) = indexed();
    // It says that it covers all packs and finds nothing: every chunk looks new, and the same packs are written again.
    let mut hiding = bytes;
    let packs = specimen.files_in("packs").len();
    let packs_at = hiding.len() - 32 * packs;
    hiding[64..packs_at].fill(0);
    for at in 1.. {
        restore(&specimen, &path, &hiding);
        // No file of the first tree is taken for unchanged either.
        for (cache, _) in specimen.files_in("cache/stat") {
            specimen.put(&cache, b"");
        }
        let writer = writer_on(specimen.sim.clone(), Path::new(STORE)).unwrap();
        specimen.sim.full_from(at);
        let options = with_threads(1, options("specimen-0", "1"));
        let ended = writer.ingest(harness::stores::at(&source(&specimen.scratch, 0)), &options, &());
        drop(writer);
        specimen.sim.heal();
        specimen.sim.settle();
        expect_whole(&specimen, &format!("a full disk from operation {at} on"));
        if ended.is_ok() {
            assert!(at > 10);
            break;
        }
    }
}

#[test]
fn a_run_that_is_gone_is_made_again() {
    let (specimen, path, bytes) = indexed();
    specimen.sim.remove(&path).unwrap();
    expect_whole(&specimen, "without a run");
    persist(&specimen);
    assert_eq!(specimen.files_in("index"), [(path, bytes)]);
}

#[test]
fn the_run_of_another_store_is_not_used() {
    let (specimen, path, bytes) = indexed();
    let other = {
        let sim = cairn_store::io::Sim::new(1);
        let writer = writer_on(sim.clone(), Path::new(STORE)).unwrap();
        let scratch = Scratch::in_memory();
        // It holds some of the same chunks, elsewhere.
        let file = scratch.file("file", &specimen.bytes[&(specimen.artifacts[0], b"two".to_vec())]);
        add(&writer, &file, &options("other", "1"));
        let io: Arc<dyn Io> = Arc::new(sim.clone());
        Index::open(&io, Path::new(STORE)).unwrap().persist(&*io, Path::new(STORE), true).unwrap();
        let listed = sim.list(&Path::new(STORE).join("index")).unwrap();
        sim.read(&Path::new(STORE).join("index").join(&listed[0].name)).unwrap()
    };
    restore(&specimen, &path, &other);
    expect_whole(&specimen, "another store's run in place of the own");
    restore(&specimen, &path, &bytes);
    restore(&specimen, &path.with_file_name("0000000000000000.run"), &other);
    expect_whole(&specimen, "another store's run beside the own");
    expect_addable(&specimen, "another store's run beside the own");
    assert_sound(&specimen.open());
}
