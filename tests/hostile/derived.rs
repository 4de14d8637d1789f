//! The stat cache, the catalogue and the end of the journal: what is derived may hold anything, and a torn end is cut off.

use std::fs;
use std::path::{Path, PathBuf};

use cairn_store::{Error, PublishOptions, Store};
use harness::bytes::noise;
use harness::plan::{all_below, make};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, at, options, with_threads, writer, writer_on};

use crate::specimen::{STORE, Specimen, source};

#[test]
fn a_stat_cache_of_garbage_changes_nothing() {
    let specimen = Specimen::new();
    for (path, bytes) in specimen.files_in("cache/stat") {
        let half = bytes.len() / 2;
        let flips = (0..bytes.len()).step_by(11).map(|at| {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            bad
        });
        let kinds = [Vec::new(), noise(1, bytes.len()), bytes[..half].to_vec(), vec![0xff; 100]];
        for (number, bad) in kinds.into_iter().chain(flips).enumerate() {
            specimen.put(&path, &bad);
            let writer = writer_on(specimen.sim.clone(), Path::new(STORE)).unwrap();
            for (of, artifact) in specimen.artifacts.iter().enumerate() {
                let options = with_threads(1, options(&format!("specimen-{of}"), "1"));
                let again = writer.ingest(at(&source(&specimen.scratch, of)), &options, &()).unwrap();
                assert_eq!(again.artifact, *artifact, "garbage {number} in {}", path.display());
            }
        }
    }
    assert_sound(&specimen.open());
}

#[test]
fn a_torn_end_of_the_journal_takes_back_the_last_change_alone() {
    let specimen = Specimen::new();
    let (path, bytes) = specimen.files_in("journal").remove(0);
    let last_group = {
        let marks = bytes.windows(4).enumerate().filter(|(_, window)| *window == b"CJGR");
        marks.map(|(at, _)| at).max().unwrap()
    };
    let names = |specimen: &Specimen| {
        let view = specimen.open().view().unwrap();
        view.refs.keys().map(|key| key.name.to_string()).collect::<Vec<_>>()
    };
    for len in last_group..bytes.len() {
        specimen.put(&path, &bytes[..len]);
        assert_eq!(names(&specimen), ["specimen-0", "specimen-1"], "{len} of {} bytes", bytes.len());
        let writer = writer_on(specimen.sim.clone(), Path::new(STORE)).unwrap();
        let added = add(&writer, &source(&specimen.scratch, 2), &with_threads(1, options("specimen-2", "1")));
        assert_eq!((added.artifact, added.new_chunks), (specimen.artifacts[2], 0));
        drop(writer);
        assert_eq!(names(&specimen), ["specimen-0", "specimen-1", "specimen-2"]);
        assert_sound(&specimen.open());
    }
}

#[test]
fn a_journal_of_a_newer_format_is_left_alone() {
    let specimen = Specimen::new();
    let (path, mut bytes) = specimen.files_in("journal").remove(0);
    bytes[4] = 99;
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    specimen.put(&path, &bytes);
    let read = specimen.open().view().map(drop).unwrap_err();
    let written = writer_on(specimen.sim.clone(), Path::new(STORE)).map(drop).unwrap_err();
    for error in [read, written] {
        assert!(
            matches!(&error, Error::NewerFormat { path: named, found: 99, .. } if *named == path),
            "{error:?}"
        );
    }
    assert_eq!(specimen.files_in("journal"), [(path, bytes)]);
}

type Act<'a> = &'a dyn Fn(&Path);

/// A store on a real disk with a catalogue, its names, and a tree to add.
fn with_catalogue(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let tree = scratch.join("tree");
    make(&tree, &harness::plan::Folder::new());
    fs::write(tree.join("file"), noise(1, 10_000)).unwrap();
    let path = scratch.join("store");
    let writer = writer(&path);
    for version in ["1", "2", "3"] {
        add(&writer, &tree, &options("catalogued", version));
    }
    (path, tree)
}

#[test]
fn a_catalogue_of_garbage_or_none_loses_nothing() {
    let kinds: [(&str, Act<'_>); 5] = [
        ("removed", &|dir| fs::remove_dir_all(dir).unwrap_or_default()),
        ("emptied", &|dir| each_file(dir, &|_| Vec::new())),
        ("garbage", &|dir| each_file(dir, &|bytes| noise(7, bytes.len().max(100)))),
        ("cut short", &|dir| each_file(dir, &|bytes| bytes[..bytes.len() / 2].to_vec())),
        ("a file in its place", &|dir| {
            fs::remove_dir_all(dir).unwrap_or_default();
            fs::write(dir, b"no folder").unwrap();
        }),
    ];
    for (what, spoil) in kinds {
        let scratch = Scratch::new();
        let (path, tree) = with_catalogue(&scratch);
        spoil(&path.join("catalogue"));
        let opened = Store::open(&path).unwrap();
        assert_eq!(opened.view().unwrap().refs.len(), 3, "{what}");
        let again = writer(&path);
        let ingested = again.ingest(at(&tree), &options("catalogued", "4"), &()).unwrap();
        again.publish(&ingested, &PublishOptions::default()).unwrap();
        assert_eq!(again.view().unwrap().refs.len(), 4, "{what}");
        assert_sound(&again);
        drop(again);
        assert_eq!(writer(&path).view().unwrap().refs.len(), 4, "{what}");
    }
}

fn each_file(dir: &Path, change: &dyn Fn(Vec<u8>) -> Vec<u8>) {
    if !dir.is_dir() {
        return;
    }
    for path in all_below(dir).into_iter().filter(|path| path.is_file()) {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, change(bytes)).unwrap();
    }
}
