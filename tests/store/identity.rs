//! The same input gives the same artifact: on every run, with any number of threads, from any place, on any machine.

use std::path::Path;

use cairn_store::{ArtifactId, IngestOptions, Input, MetadataPolicy};
use harness::plan::{Fill, Folder, Plan, all_below, date, label, make};
use harness::scratch::Scratch;
use harness::stores::{at, options, stream, with_threads, writer};
use harness::user::{is_root, skip};

/// One tree with everything in it that the portable policy keeps.
fn folder() -> Folder {
    let text = |len| Plan::File(Fill::Text(1), len, 0o644);
    let mut small = Folder::new();
    for number in 0..400 {
        small.insert(format!("entry-{number:03}").into_bytes(), text(number * 3));
    }
    let links = Folder::from([
        (b"dangling".to_vec(), Plan::Link(b"../nowhere".to_vec())),
        (b"loop".to_vec(), Plan::Link(b"loop".to_vec())),
        (b"\xff\xfe".to_vec(), Plan::Link(b"\xfd".to_vec())),
    ]);
    Folder::from([
        (b"program".to_vec(), Plan::File(Fill::Noise(1), 3_000_000, 0o755)),
        (b"long".to_vec(), Plan::File(Fill::Noise(2), (9 << 20) + 12_345, 0o600)),
        (b"holes".to_vec(), Plan::File(Fill::Sparse(3), 6 << 20, 0o644)),
        (b"database".to_vec(), Plan::Bytes(harness::bytes::sqlite(4, 300))),
        (b"empty".to_vec(), text(0)),
        (b"inline".to_vec(), text(128)),
        (b"chunk".to_vec(), text(129)),
        (b"links".to_vec(), Plan::Dir(links, 0o750)),
        (b"small".to_vec(), Plan::Dir(small, 0o755)),
        (b"nothing".to_vec(), Plan::Dir(Folder::new(), 0o700)),
    ])
}

fn ids(store: &Path, source: &Path, options: &IngestOptions) -> ArtifactId {
    writer(store).ingest(at(source), options, &()).unwrap().artifact
}

/// The id of the tree of [`folder`] as `golden@1` for linux/x86_64. It may change with the format's version alone: what
/// was published under it is found under it for ever.
const GOLDEN_PORTABLE: &str = "5cd57100f5ecf8530f0cc09014b9aaca924cabb6449b0b14d9c525b6eed71d3c";
/// The same under the full policy, all owned by user 1000 of group 100 and dated 2001-09-09T01:46:40.000000001Z.
const GOLDEN_FULL: &str = "2030a229ff627c4e7be7ec181ec9fe00a4c0050f44fc1d723d5c1cb0350bc5fb";
/// The id of a stream of bytes.
const GOLDEN_STREAM: &str = "ffeab3d9e7a74621d192b14fa0508df5d877b4010cb9d392ec2b260374cc1bdc";

#[test]
fn golden_ids() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    make(&source, &folder());
    assert_eq!(ids(&scratch.join("store"), &source, &options("golden", "1")).to_string(), GOLDEN_PORTABLE);
    let store = writer(&scratch.join("streams"));
    let input = stream("stream", harness::bytes::noise(9, 5_000_000));
    let streamed = store.ingest(input, &options("golden", "1"), &()).unwrap();
    assert_eq!(streamed.artifact.to_string(), GOLDEN_STREAM);
}

#[test]
fn golden_id_of_full_metadata() {
    if !is_root() {
        return skip("the golden id of full metadata", "only root may give files away");
    }
    let scratch = Scratch::new();
    let source = scratch.join("source");
    make(&source, &folder());
    label(&source.join("inline"), "user.origin", b"made up");
    std::fs::hard_link(source.join("long"), source.join("small/as long")).unwrap();
    for path in all_below(&source).iter().rev().chain([&source]) {
        let mode = path.symlink_metadata().unwrap().permissions();
        std::os::unix::fs::lchown(path, Some(1000), Some(100)).unwrap();
        if !path.is_symlink() {
            std::fs::set_permissions(path, mode).unwrap();
        }
        date(path, 1_000_000_000, 1);
    }
    std::fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let policy = MetadataPolicy::Full;
    let options = IngestOptions { policy, ..options("golden", "1") };
    assert_eq!(ids(&scratch.join("store"), &source, &options).to_string(), GOLDEN_FULL);
}

#[test]
fn threads_and_repeats_do_not_matter() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    make(&source, &folder());
    let expected = ids(&scratch.join("store"), &source, &options("same", "1"));
    for threads in [1, 2, 7] {
        let store = scratch.join(format!("store-{threads}"));
        for _ in 0..2 {
            let options = with_threads(threads, options("same", "1"));
            assert_eq!(ids(&store, &source, &options), expected, "{threads} threads");
        }
    }
}

#[test]
fn neither_place_nor_times_nor_order_matter() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    make(&source, &folder());
    let expected = ids(&scratch.join("store"), &source, &options("same", "1"));
    let elsewhere = Scratch::in_memory();
    let copy = elsewhere.folder("another name");
    // Made in another order, by other means, and dated otherwise.
    let mut paths = all_below(&source);
    paths.sort_by_key(|path| (path.components().count(), std::cmp::Reverse(path.clone())));
    for path in paths {
        let to = copy.join(path.strip_prefix(&source).unwrap());
        let stat = path.symlink_metadata().unwrap();
        if stat.is_symlink() {
            std::os::unix::fs::symlink(path.read_link().unwrap(), &to).unwrap();
        } else if stat.is_dir() {
            std::fs::create_dir(&to).unwrap();
            std::fs::set_permissions(&to, stat.permissions()).unwrap();
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
        date(&to, 1_500_000_000, 5);
    }
    std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(ids(&elsewhere.join("store"), &copy, &options("same", "1")), expected);
}

#[test]
fn what_was_stored_before_does_not_matter() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    make(&source, &folder());
    let expected = ids(&scratch.join("store"), &source, &options("same", "1"));
    let store = writer(&scratch.join("used-store"));
    // Parts of it, other versions of it, and the same under another name.
    harness::stores::add(&store, &source.join("small"), &options("part", "1"));
    harness::stores::add(&store, &source, &options("other", "1"));
    std::fs::write(source.join("inline"), b"other bytes").unwrap();
    harness::stores::add(&store, &source, &options("same", "0"));
    std::fs::write(source.join("inline"), Fill::Text(1).bytes(128)).unwrap();
    assert_eq!(harness::stores::add(&store, &source, &options("same", "1")).artifact, expected);
}

#[test]
fn files_named_one_by_one_are_the_tree_that_holds_them() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    let files =
        ["b", "a", "c"].map(|name| (name.as_bytes().to_vec(), Plan::File(Fill::Text(7), 5000, 0o644)));
    make(&source, &Folder::from(files));
    let store = writer(&scratch.join("store"));
    let tree = store.ingest(at(&source), &options("same", "1"), &()).unwrap().artifact;
    for order in [["a", "b", "c"], ["c", "a", "b"]] {
        let paths = order.map(|name| source.join(name)).to_vec();
        let named = store.ingest(Input::Paths(paths), &options("same", "1"), &()).unwrap();
        assert_eq!(named.artifact, tree);
    }
}

#[test]
fn everything_that_is_part_of_an_artifact_matters() {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    let file = scratch.file("source/file", b"bytes");
    let store = writer(&scratch.join("store"));
    let id = |options: &IngestOptions| store.ingest(at(&source), options, &()).unwrap().artifact;
    let base = options("same", "1");
    let mut ids = vec![
        id(&base),
        id(&options("other", "1")),
        id(&options("same", "2")),
        id(&IngestOptions { platform: Some("linux/aarch64".parse().unwrap()), ..base.clone() }),
        id(&IngestOptions { policy: MetadataPolicy::Full, ..base.clone() }),
        id(&IngestOptions { provenance: [("url".to_owned(), "x".to_owned())].into(), ..base.clone() }),
    ];
    std::fs::write(&file, b"bytez").unwrap();
    ids.push(id(&base));
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    ids.push(id(&base));
    std::fs::rename(&file, source.join("filf")).unwrap();
    ids.push(id(&base));
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
