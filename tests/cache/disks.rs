//! Disks that take nothing more: the cache says so once, waits before it tries again, and files are read all the same.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cairn_fusefs::{FileId, FileSpec, Files, ReadError, Ready};
use harness::mount::Mount;
use harness::scratch::Scratch;
use harness::user::skip;

use super::{open, store, whole};

const LEN: usize = 3 << 20;

fn mounted(what: &str, mount: Result<Mount, String>) -> Option<Mount> {
    mount.inspect_err(|why| skip(what, why)).ok()
}

fn read(files: &Files, file: &FileSpec) -> Vec<u8> {
    let mut reply = Vec::new();
    files.read(file, 0, u32::MAX, &mut reply).unwrap();
    reply
}

/// Tries until the cache takes files again.
fn in_time(files: &Files, file: &FileSpec) -> OwnedFd {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match files.materialise(file, None) {
            Ok(opened) => return opened,
            Err(error) => assert!(error.is_of_cache() && Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_costs_no_read_and_is_used_again_when_there_is_room() {
    let Some(mount) = mounted("a full disk", Mount::tmpfs(4 << 20)) else { return };
    let scratch = Scratch::new();
    let (store, specs, plain) = store(&scratch, 3, LEN);
    let dir = mount.path().join("cache");
    let files = open(&store, &dir, 1 << 30);
    assert!(whole(files.materialise(&specs[0], None).unwrap()) == plain[0]);
    // The disk is smaller than the bound: what is not in use makes room, once its last descriptor is closed.
    assert!(whole(in_time(&files, &specs[1])) == plain[1]);
    assert_eq!((files.status().files, files.status().unavailable), (1, None));
    let held = FileId::of(&specs[1]);
    files.hold(&held);
    let error = files.materialise(&specs[2], None).unwrap_err();
    assert!(matches!(error, ReadError::Cache { .. }) && error.is_of_cache(), "{error}");
    // Now nothing is tried, and nobody is told to wait for it.
    assert_eq!(files.ready(&specs[2]), Ready::Large);
    assert_eq!(files.ready(&specs[1]), Ready::Materialised);
    let again = files.materialise(&specs[2], None).unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    assert!(files.status().unavailable.is_some());
    for (spec, plain) in specs.iter().zip(&plain) {
        assert!(read(&files, spec) == *plain);
    }
    assert_eq!(std::fs::read_dir(dir.join("part")).unwrap().count(), 0);
    files.release(&held);
    assert!(whole(in_time(&files, &specs[2])) == plain[2]);
    assert_eq!(files.status().unavailable, None);
    assert_eq!(files.ready(&specs[0]), Ready::MustMaterialise);
}

#[test]
fn a_read_only_disk_gives_what_it_has_and_the_rest_is_read_by_chunks() {
    let Some(mount) = mounted("a read-only disk", Mount::tmpfs(16 << 20)) else { return };
    let scratch = Scratch::new();
    let (store, specs, plain) = store(&scratch, 2, LEN);
    let files = open(&store, &mount.path().join("cache"), 1 << 30);
    drop(files.materialise(&specs[0], None).unwrap());
    mount.make_read_only().unwrap();
    assert!(matches!(files.materialise(&specs[1], None), Err(ReadError::Cache { .. })));
    assert!(whole(files.materialise(&specs[0], None).unwrap()) == plain[0]);
    for (spec, plain) in specs.iter().zip(&plain) {
        assert!(read(&files, spec) == *plain);
    }
    drop(files);
    // A daemon starts all the same.
    let files = open(&store, &mount.path().join("cache"), 1 << 30);
    assert!(whole(files.open_materialised(&FileId::of(&specs[0])).unwrap()) == plain[0]);
    assert!(read(&files, &specs[1]) == plain[1]);
}

#[test]
fn the_bound_is_never_passed_on_disk() {
    let bytes_max = 8 << 20;
    let Some(mount) = mounted("the bytes on a disk", Mount::tmpfs(bytes_max + (1 << 20))) else { return };
    let scratch = Scratch::new();
    let (store, specs, plain) = store(&scratch, 16, 900_000);
    let files = open(&store, &mount.path().join("cache"), bytes_max);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (files, specs, plain) = (&files, &specs, &plain);
            scope.spawn(move || {
                for round in 0..100 {
                    let number = (round * 7 + thread * 5) % specs.len();
                    match files.materialise(&specs[number], None) {
                        Ok(file) => assert!(round % 16 > 0 || whole(file) == plain[number]),
                        Err(ReadError::NoRoom { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    // Had it written more than it may, the disk would have been full.
    assert_eq!(files.status().unavailable, None);
    assert!(files.status().evicted > 0);
}
