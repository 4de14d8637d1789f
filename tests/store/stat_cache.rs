//! Files that did not change are not read; files that did are, however they look.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cairn_store::Writer;
use harness::bytes::noise;
use harness::plan::date;
use harness::scratch::Scratch;
use harness::stores::{add, content, options, read_file, writer};

const FILES: u64 = 20;

fn setting() -> (Scratch, PathBuf, Writer) {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    for number in 0..FILES {
        let len = [10, 5000, 300_000][usize::try_from(number % 3).unwrap()];
        fs::write(source.join(number.to_string()), noise(number, len)).unwrap();
    }
    scratch.let_grain_pass(&source.join("19"));
    let writer = writer(&scratch.join("store"));
    (scratch, source, writer)
}

/// Files that are not read when the tree is added again, as another version.
fn unchanged(writer: &Writer, source: &Path, version: &str) -> u64 {
    let added = add(writer, source, &options("cached", version));
    for path in fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().as_encoded_bytes();
        assert!(
            read_file(writer, &added.artifact, name).unwrap() == fs::read(&path).unwrap(),
            "{}",
            path.display()
        );
    }
    added.unchanged_files
}

#[test]
fn unchanged_files_are_not_read_again() {
    let (scratch, source, writer) = setting();
    assert_eq!(unchanged(&writer, &source, "1"), 0);
    assert_eq!(unchanged(&writer, &source, "2"), FILES);
    drop(writer);
    let writer = harness::stores::writer(&scratch.join("store"));
    assert_eq!(unchanged(&writer, &source, "3"), FILES);
    // The same folder under another path is another folder.
    fs::rename(&source, scratch.join("moved")).unwrap();
    assert_eq!(unchanged(&writer, &scratch.join("moved"), "4"), 0);
}

#[test]
fn a_file_that_was_touched_is_read_again() {
    let (_scratch, source, writer) = setting();
    unchanged(&writer, &source, "1");
    date(&source.join("3"), 1_000_000_000, 7);
    assert_eq!(unchanged(&writer, &source, "2"), FILES - 1);
}

#[test]
fn a_change_of_the_same_length_and_mtime_is_noticed() {
    let (scratch, source, writer) = setting();
    unchanged(&writer, &source, "1");
    for number in 0..3 {
        let path = source.join(number.to_string());
        let stat = path.metadata().unwrap();
        let other = noise(1000, usize::try_from(stat.len()).unwrap());
        fs::write(&path, &other).unwrap();
        date(&path, stat.mtime(), stat.mtime_nsec());
        assert_eq!(path.metadata().unwrap().mtime_nsec(), stat.mtime_nsec());
    }
    scratch.let_grain_pass(&source.join("2"));
    assert_eq!(unchanged(&writer, &source, "2"), FILES - 3);
    assert_eq!(unchanged(&writer, &source, "3"), FILES);
}

#[test]
fn a_file_in_place_of_another_is_read() {
    let (scratch, source, writer) = setting();
    unchanged(&writer, &source, "1");
    let stat = source.join("4").metadata().unwrap();
    let other = scratch.file("other", &noise(2000, usize::try_from(stat.len()).unwrap()));
    date(&other, stat.mtime(), stat.mtime_nsec());
    fs::rename(&other, source.join("4")).unwrap();
    assert_eq!(unchanged(&writer, &source, "2"), FILES - 1);
    // Two that change places are known by what they are, not by where: their times did not change, but their status did.
    fs::rename(source.join("5"), source.join("x")).unwrap();
    fs::rename(source.join("6"), source.join("5")).unwrap();
    fs::rename(source.join("x"), source.join("6")).unwrap();
    assert!(unchanged(&writer, &source, "3") >= FILES - 3);
}

#[test]
fn a_file_that_may_still_change_within_its_times_is_read_again() {
    let (_scratch, source, writer) = setting();
    // From the future, as the clock of another machine may leave it: nothing says when it was last written.
    date(&source.join("7"), 4_000_000_000, 123);
    assert_eq!(unchanged(&writer, &source, "1"), 0);
    assert_eq!(unchanged(&writer, &source, "2"), FILES - 1);
    assert_eq!(unchanged(&writer, &source, "3"), FILES - 1);
}

#[test]
fn what_was_known_is_stored_again_where_it_was_lost() {
    let (scratch, source, writer) = setting();
    let first = add(&writer, &source, &options("cached", "1"));
    let (_, kept) = content(&writer, &first.artifact, b"2");
    drop(writer);
    let packs = scratch.join("store/packs");
    for name in Scratch::names(&packs) {
        fs::remove_file(packs.join(name)).unwrap();
    }
    let writer = harness::stores::writer(&scratch.join("store"));
    assert_eq!(
        unchanged(&writer, &source, "2"),
        FILES.div_ceil(3),
        "bytes that are kept inline were not lost"
    );
    let again = add(&writer, &source, &options("cached", "3"));
    assert_eq!(content(&writer, &again.artifact, b"2").1, kept);
}
