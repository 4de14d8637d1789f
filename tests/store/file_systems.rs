//! Stores and trees on file systems of their own: a full one, one that is read-only, and ones that clone files.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use cairn_store::{Error, MetadataPolicy, PublishOptions, Store, Writer};
use harness::bytes::noise;
use harness::compare::Snapshot;
use harness::mount::Mount;
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{
    add, assert_sound, at, options, restore, restore_with_seed, stream, writer, writer_options,
};
use harness::user::skip;

fn mounted(what: &str, mount: Result<Mount, String>) -> Option<Mount> {
    mount.inspect_err(|why| skip(what, why)).ok()
}

fn expect_no_space(error: &Error, below: &std::path::Path) {
    match error {
        Error::Io { path, source, .. } => {
            assert_eq!(source.kind(), ErrorKind::StorageFull, "{error}");
            assert!(path.starts_with(below), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_stops_an_add_and_nothing_else() {
    let Some(mount) = mounted("a full disk", Mount::tmpfs(48 << 20)) else { return };
    let scratch = Scratch::new();
    let (source, small) = (scratch.folder("source"), scratch.folder("small"));
    fs::write(source.join("long"), noise(1, 24 << 20)).unwrap();
    for number in 0..200 {
        fs::write(source.join(number.to_string()), noise(number, 30_000)).unwrap();
    }
    fs::write(small.join("file"), noise(2, 100_000)).unwrap();
    let path = mount.path().join("store");
    let ballast = mount.path().join("ballast");
    let first = writer(&path);
    let before = add(&first, &small, &options("small", "1"));
    fs::write(&ballast, noise(3, 30 << 20)).unwrap();
    // Twice with one writer, and with one that comes later; from files and from a stream.
    for _ in 0..2 {
        let refused = first.ingest(at(&source), &options("long", "1"), &()).unwrap_err();
        expect_no_space(&refused, &path);
        assert!(refused.is_disk_full());
    }
    let refused = first.ingest(stream("stream", noise(4, 24 << 20)), &options("long", "1"), &());
    expect_no_space(&refused.unwrap_err(), &path);
    let refused = first.ingest(stream("db", harness::bytes::sqlite(5, 6000)), &options("long", "1"), &());
    assert!(refused.is_err());
    drop(first);
    let reader = Store::open(&path).unwrap();
    assert_eq!(reader.view().unwrap().refs.len(), 1);
    assert_sound(&reader);
    restore(&reader, &before.artifact, &scratch.join("restored"));
    let later = writer(&path);
    let refused = later.ingest(at(&source), &options("long", "1"), &()).unwrap_err();
    expect_no_space(&refused, &path);
    drop(later);
    // To the last byte: what then fails says so, and does no harm.
    let mut rest = fs::File::create(mount.path().join("rest")).unwrap();
    while std::io::Write::write(&mut rest, &[1; 4096]).is_ok_and(|written| written > 0) {}
    match Writer::open(&path, &writer_options(), &()) {
        Err(error) => expect_no_space(&error, &path),
        Ok(writer) => {
            let refused = writer.ingest(at(&source), &options("long", "1"), &()).unwrap_err();
            expect_no_space(&refused, &path);
        }
    }
    assert_sound(&Store::open(&path).unwrap());
    drop(rest);
    fs::remove_file(mount.path().join("rest")).unwrap();
    fs::remove_file(ballast).unwrap();
    let again = writer(&path);
    let added = add(&again, &source, &options("long", "1"));
    restore(&again, &added.artifact, &scratch.join("long"));
    Snapshot::of(&source).assert_restored(&scratch.join("long"), MetadataPolicy::Portable);
    assert_sound(&again);
}

#[test]
fn a_full_disk_stops_a_restore_and_leaves_nothing() {
    let Some(mount) = mounted("a full disk", Mount::tmpfs(8 << 20)) else { return };
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    fs::write(source.join("long"), noise(1, 20 << 20)).unwrap();
    let store = writer(&scratch.join("store"));
    let artifact = add(&store, &source, &options("long", "1")).artifact;
    let dest = mount.path().join("dest");
    let refused = store.restore(&artifact, &dest, &cairn_store::RestoreOptions::default(), &()).unwrap_err();
    assert!(
        matches!(&refused, Error::Tree { path, source, .. } if path.starts_with(&dest) && source.kind() == ErrorKind::StorageFull),
        "{refused:?}"
    );
    assert_eq!(Scratch::names(mount.path()), [""; 0]);
}

#[test]
fn a_read_only_disk_is_read() {
    let Some(mount) = mounted("a read-only disk", Mount::tmpfs(16 << 20)) else { return };
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    fs::write(source.join("file"), noise(1, 300_000)).unwrap();
    let path = mount.path().join("store");
    let artifact = add(&writer(&path), &source, &options("read", "1")).artifact;
    mount.make_read_only().unwrap();
    let before = Snapshot::of(&path);
    let store = Store::open(&path).unwrap();
    assert_sound(&store);
    restore(&store, &artifact, &scratch.join("restored"));
    Snapshot::of(&source).assert_restored(&scratch.join("restored"), MetadataPolicy::Portable);
    let refused = Writer::open(&path, &writer_options(), &()).map(drop).unwrap_err();
    assert!(matches!(&refused, Error::Io { path: named, .. } if named.starts_with(&path)), "{refused:?}");
    assert_eq!(Snapshot::of(&path), before);
}

/// Restores with a seed on a file system that clones: unchanged bytes are shared, changed ones written, holes made.
fn clones(kind: &str) {
    let Some(mount) = mounted(&format!("cloning on {kind}"), Mount::image(kind)) else { return };
    let (first, second) = (mount.path().join("first"), mount.path().join("second"));
    let long = noise(1, 20 << 20);
    let small = |seed| Plan::File(Fill::Text(seed), 70_000, 0o644);
    make(
        &first,
        &Folder::from([
            (b"changed".to_vec(), Plan::Bytes(long.clone())),
            (b"same".to_vec(), Plan::Bytes(noise(2, 9 << 20))),
            (b"shorter".to_vec(), Plan::Bytes(long.clone())),
            (b"small".to_vec(), small(1)),
            (b"filled".to_vec(), Plan::File(Fill::Noise(3), 8 << 20, 0o644)),
            (b"holes".to_vec(), Plan::File(Fill::Sparse(4), 8 << 20, 0o644)),
        ]),
    );
    let mut changed = long.clone();
    changed[3 << 20..(3 << 20) + 5000].copy_from_slice(&noise(5, 5000));
    make(
        &second,
        &Folder::from([
            (b"changed".to_vec(), Plan::Bytes(changed)),
            (b"same".to_vec(), Plan::Bytes(noise(2, 9 << 20))),
            (b"shorter".to_vec(), Plan::Bytes(long[..12 << 20].to_vec())),
            (b"small".to_vec(), small(2)),
            // What was full is empty, and the other way round.
            (b"filled".to_vec(), Plan::File(Fill::Sparse(3), 8 << 20, 0o644)),
            (b"holes".to_vec(), Plan::File(Fill::Noise(4), 8 << 20, 0o644)),
        ]),
    );
    let scratch = Scratch::new();
    let store = writer(&scratch.join("store"));
    add(&store, &first, &options("app", "1"));
    let ingested = store.ingest(at(&second), &options("app", "2"), &()).unwrap();
    store.publish(&ingested, &PublishOptions::default()).unwrap();
    let before = Snapshot::of(&first);
    let dest = mount.path().join("dest");
    let restored = restore_with_seed(&store, &ingested.artifact, &dest, &first);
    Snapshot::of(&second).assert_restored(&dest, MetadataPolicy::Portable);
    assert_eq!(Snapshot::of(&first), before, "the seed is as it was");
    assert!(restored.cloned_bytes > 27 << 20, "{restored:?}");
    assert!(restored.hole_bytes > 7 << 20, "{restored:?}");
    let blocks = dest.join("filled").metadata().unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "holes were made in the clone: {blocks} blocks");
    // The clone is a file of its own.
    fs::write(first.join("same"), b"written over").unwrap();
    assert!(fs::read(dest.join("same")).unwrap() == noise(2, 9 << 20));
    // In place, with the old tree as the seed.
    let again = store
        .restore(
            &ingested.artifact,
            &dest,
            &cairn_store::RestoreOptions { force: true, ..cairn_store::RestoreOptions::default() },
            &(),
        )
        .unwrap();
    assert!(again.cloned_bytes > 40 << 20, "{again:?}");
    Snapshot::of(&second).assert_restored(&dest, MetadataPolicy::Portable);
}

#[test]
fn xfs_clones() {
    clones("xfs");
}

#[test]
fn btrfs_clones() {
    clones("btrfs");
}

#[test]
fn a_store_on_xfs_and_btrfs_works_as_elsewhere() {
    for kind in ["xfs", "btrfs"] {
        let Some(mount) = mounted(&format!("a store on {kind}"), Mount::image(kind)) else { continue };
        let source = mount.path().join("source");
        make(
            &source,
            &Folder::from([
                (b"holes".to_vec(), Plan::File(Fill::Sparse(1), 64 << 20, 0o644)),
                (b"noise".to_vec(), Plan::File(Fill::Noise(1), 1 << 20, 0o644)),
            ]),
        );
        let store = writer(&mount.path().join("store"));
        let added = add(&store, &source, &options("app", "1"));
        assert!(added.new_bytes < 2 << 20, "{added:?}");
        let dest = mount.path().join("dest");
        restore(&store, &added.artifact, &dest);
        Snapshot::of(&source).assert_restored(&dest, MetadataPolicy::Portable);
        let blocks = dest.join("holes").metadata().unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{kind}: {blocks} blocks");
        assert_sound(&store);
    }
}
