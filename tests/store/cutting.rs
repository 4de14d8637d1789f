//! Files are cut as the published algorithm cuts them, whatever way they come in and whatever the store held before.

use std::path::Path;

use cairn_store::chunker::{CdcBounds, PACKAGE_BOUNDS};
use cairn_store::{ArtifactId, ChunkId, ChunkRef, IngestOptions, Store, Writer};
use fastcdc::v2020::FastCDC;
use harness::bytes::{noise, periodic, sqlite, text};
use harness::scratch::Scratch;
use harness::stores::{add, at, chunk_list, options, read_file, stream, with_threads, writer};

const MIB: usize = 1 << 20;

/// The list of chunks of these lengths: zeros are holes, and holes in a row are one.
fn list(mut bytes: &[u8], lens: impl Iterator<Item = usize>) -> Vec<ChunkRef> {
    let mut list: Vec<ChunkRef> = Vec::new();
    for len in lens {
        let (chunk, rest) = bytes.split_at(len);
        bytes = rest;
        let len = u32::try_from(len).unwrap();
        match list.last_mut() {
            _ if chunk.iter().any(|byte| *byte != 0) => list.push(ChunkRef { id: ChunkId::of(chunk), len }),
            Some(last) if last.is_hole() => last.len += len,
            _ => list.push(ChunkRef::hole(len)),
        }
    }
    assert!(bytes.is_empty());
    list
}

fn published(bytes: &[u8], bounds: CdcBounds) -> Vec<ChunkRef> {
    let CdcBounds { min, avg, max } = bounds;
    let cuts = FastCDC::new(bytes, min as usize, avg as usize, max as usize);
    list(bytes, cuts.map(|chunk| chunk.length))
}

/// Compares the list of the file `name`, and the bytes that it leads to.
fn assert_cut(store: &Store, artifact: &ArtifactId, name: &str, bytes: &[u8], expected: &[ChunkRef]) {
    let found = chunk_list(store, artifact, name.as_bytes());
    let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{name}: {} chunks and not {}, which differ from number {first:?} on",
        found.len(),
        expected.len()
    );
    assert!(read_file(store, artifact, name.as_bytes()).unwrap() == bytes, "{name}: other bytes");
}

fn add_file(store: &Writer, path: &Path, version: &str) -> ArtifactId {
    add(store, path, &options("cut", version)).artifact
}

/// The contents of many kinds and lengths.
fn contents() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for len in [129, 4096, 70_000, 262_144, 262_145, 4 * MIB, 4 * MIB + 1, 9 * MIB + 12_345] {
        files.push((format!("noise {len}"), noise(len as u64, len)));
    }
    for len in [200, 65_536, 300_000, 8 * MIB, 8 * MIB + 1] {
        files.push((format!("zeros {len}"), vec![0; len]));
        files.push((format!("ones {len}"), vec![1; len]));
    }
    for period in [2, 4096, 5000, 65_536, 100_000] {
        files.push((format!("periodic {period}"), periodic(period as u64, period, 9 * MIB + 7)));
    }
    files.push(("text".to_owned(), text(1, 6 * MIB)));
    files.push(("long".to_owned(), noise(40, 40 * MIB + 4097)));
    let mixed = [
        noise(1, 3 * MIB + 11),
        vec![0; 6 * MIB],
        text(2, MIB),
        periodic(3, 4096, 5 * MIB),
        vec![0; 100_000],
        noise(4, 2 * MIB),
        vec![0; 5 * MIB],
    ];
    files.push(("mixed".to_owned(), mixed.concat()));
    files
}

#[test]
fn windows_side_by_side_give_the_cuts_of_the_published_algorithm() {
    let scratch = Scratch::in_memory();
    let source = scratch.folder("source");
    let files = contents();
    for (name, bytes) in &files {
        std::fs::write(source.join(name), bytes).unwrap();
    }
    let store = writer(&scratch.join("store"));
    let artifact = add_file(&store, &source, "1");
    for (name, bytes) in &files {
        assert_cut(&store, &artifact, name, bytes, &published(bytes, PACKAGE_BOUNDS));
    }
}

#[test]
fn a_stream_gives_the_artifact_of_the_file() {
    let scratch = Scratch::in_memory();
    let databases = [
        ("database", sqlite(1, 1500)),
        ("torn database", [sqlite(2, 1500), vec![1]].concat()),
        ("small database", sqlite(3, 3)),
        ("header alone", b"SQLite format 3\0\x10\0".to_vec()),
    ];
    let databases = databases.map(|(name, bytes)| (name.to_owned(), bytes));
    let short = (0..140).map(|len| (format!("short {len}"), noise(len, usize::try_from(len).unwrap())));
    for (name, bytes) in contents().into_iter().chain(databases).chain(short) {
        let path = scratch.file(&name, &bytes);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let from_file = writer(&scratch.join("files"));
        let from_stream = writer(&scratch.join("streams"));
        let file = from_file.ingest(at(&path), &options("cut", "1"), &()).unwrap();
        let streamed = from_stream.ingest(stream(&name, bytes.clone()), &options("cut", "1"), &()).unwrap();
        assert_eq!(streamed.artifact, file.artifact, "{name}");
        assert_eq!((streamed.files, streamed.bytes, streamed.chunks), (file.files, file.bytes, file.chunks));
        assert!(read_file(&from_stream, &streamed.artifact, name.as_bytes()).unwrap() == bytes, "{name}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn databases_are_cut_at_their_pages_and_nowhere_else() {
    let scratch = Scratch::in_memory();
    let store = writer(&scratch.join("store"));
    for (version, pages) in [("1", 1), ("2", 64), ("3", 65), ("4", 1023), ("5", 1024), ("6", 3000)] {
        let mut bytes = sqlite(7, pages);
        if pages > 2000 {
            bytes[4096 * 5..4096 * 1500].fill(0);
        }
        let path = scratch.file("database", &bytes);
        let artifact = add_file(&store, &path, version);
        assert_cut(&store, &artifact, "database", &bytes, &list(&bytes, (0..pages).map(|_| 4096)));
    }
}

/// Each is a change to a file of several windows; the earlier version gives hints of where to cut.
fn edits() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let before = noise(11, 10 * MIB + 333);
    let edit = |act: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = before.clone();
        act(&mut bytes);
        bytes
    };
    let insert = |at: usize, len: usize| edit(&|bytes| drop(bytes.splice(at..at, noise(12, len))));
    let holed = {
        let mut bytes = before.clone();
        bytes[MIB..7 * MIB].fill(0);
        bytes
    };
    let half = before[..5 * MIB].to_vec();
    let changes = vec![
        ("the same", before.clone()),
        ("a byte at the start", insert(0, 1)),
        ("a byte in the middle", insert(5 * MIB, 1)),
        ("a page in the middle", insert(3 * MIB + 17, 4096)),
        ("more than a window", insert(2 * MIB, 5 * MIB)),
        ("at the end", insert(before.len(), 1)),
        ("a window at the end", insert(before.len(), 4 * MIB)),
        ("a byte changed", edit(&|bytes| bytes[6 * MIB] ^= 1)),
        ("the start cut off", edit(&|bytes| drop(bytes.drain(..100_000)))),
        ("the middle cut out", edit(&|bytes| drop(bytes.drain(3 * MIB..8 * MIB)))),
        ("the end cut off", edit(&|bytes| bytes.truncate(9 * MIB + 5))),
        ("a byte of the end cut off", edit(&|bytes| bytes.truncate(bytes.len() - 1))),
        ("half of it", half.clone()),
        ("a hole", holed.clone()),
        ("other bytes", noise(13, 8 * MIB)),
        ("twice", [&before[..], &before].concat()),
    ];
    let mut edits: Vec<_> = changes.into_iter().map(|(what, after)| (what, before.clone(), after)).collect();
    edits.push(("a hole that fills", holed, before.clone()));
    edits.push(("half that grows", half, before));
    edits
}

#[test]
fn an_earlier_version_changes_no_cut() {
    for (what, before, after) in edits() {
        let scratch = Scratch::in_memory();
        let store = writer(&scratch.join("store"));
        let path = scratch.file("file", &before);
        add_file(&store, &path, "1");
        // From the stat cache the earlier content of the file itself, from the earlier version that of its name.
        std::fs::write(&path, &after).unwrap();
        let changed = add_file(&store, &path, "2");
        let expected = published(&after, PACKAGE_BOUNDS);
        println!("{what}");
        assert_cut(&store, &changed, "file", &after, &expected);
        let elsewhere = scratch.folder("elsewhere");
        std::fs::write(elsewhere.join("file"), &after).unwrap();
        let again = add_file(&store, &elsewhere.join("file"), "3");
        assert_cut(&store, &again, "file", &after, &expected);
    }
}

#[test]
fn an_earlier_version_that_was_cut_at_pages_changes_no_cut() {
    let scratch = Scratch::in_memory();
    let store = writer(&scratch.join("store"));
    let mut bytes = sqlite(21, 2000);
    bytes[4096 * 100..4096 * 900].fill(0);
    let path = scratch.file("file", &bytes);
    add_file(&store, &path, "1");
    bytes.extend(b"no whole page");
    std::fs::write(&path, &bytes).unwrap();
    let artifact = add_file(&store, &path, "2");
    assert_cut(&store, &artifact, "file", &bytes, &published(&bytes, PACKAGE_BOUNDS));
}

#[test]
fn other_bounds_give_other_cuts_of_a_file_that_is_known() {
    let scratch = Scratch::in_memory();
    let store = writer(&scratch.join("store"));
    let bytes = noise(31, 3 * MIB);
    let path = scratch.file("file", &bytes);
    scratch.let_grain_pass(&path);
    add_file(&store, &path, "1");
    let bounds = CdcBounds { min: 2 << 10, avg: 8 << 10, max: 32 << 10 };
    let artifact = add(&store, &path, &IngestOptions { bounds, ..options("cut", "2") }).artifact;
    assert_cut(&store, &artifact, "file", &bytes, &published(&bytes, bounds));
    let back = add_file(&store, &path, "3");
    assert_cut(&store, &back, "file", &bytes, &published(&bytes, PACKAGE_BOUNDS));
}

#[test]
fn a_hole_of_the_earlier_version_is_not_held_in_memory() {
    const HOLE: u64 = 2 << 30;
    let scratch = Scratch::new();
    let store = writer(&scratch.join("store"));
    let path = scratch.file("file", &noise(41, 300_000));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &noise(42, 300_000), HOLE).unwrap();
    let one_thread = |version| with_threads(1, options("cut", version));
    add(&store, &path, &one_thread("1"));
    let before = most_memory_kib();
    std::os::unix::fs::FileExt::write_all_at(&file, b"changed", 0).unwrap();
    add(&store, &path, &one_thread("2"));
    // The kernel counts in batches, so it may say a little less than before.
    let grown = most_memory_kib().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} KiB more");
}

/// The most memory that this process has had so far.
fn most_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
