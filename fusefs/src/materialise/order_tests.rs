//! The cache under orders that a scheduler chooses: files that are made, opened, held, synced and evicted at once.
#![expect(clippy::disallowed_methods, reason = "tests look at the folder from outside")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::cache::Cache;
use super::folder::Folder;
use crate::files::FileId;

/// Orders that are tried.
const ORDERS: usize = 4000;
/// Steps that may be far apart.
const DEPTH: usize = 3;
const BOOT: &str = "0123456789abcdef";
/// Bytes that a file is set aside for.
const ROOM: u64 = 16 << 10;

fn id(number: u8) -> FileId {
    FileId([number; 32])
}

fn content(number: u8) -> Vec<u8> {
    vec![number; 5000]
}

/// Makes a file, unless it is there, if there is room. Nobody else makes it meanwhile: that is what flights are for.
fn make(cache: &Cache, number: u8) {
    if let Some(opened) = cache.open(&id(number)) {
        return check(opened.file, number);
    }
    let Some(reservation) = cache.reserve(ROOM) else { return };
    let part = cache.folder.begin().unwrap();
    let mut file = File::from(part.file.as_fd().try_clone_to_owned().unwrap());
    file.write_all(&content(number)).unwrap();
    let opened = cache.publish(part, &id(number), reservation).unwrap();
    check(opened, number);
}

fn check(file: OwnedFd, number: u8) {
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).unwrap();
    assert!(bytes == content(number), "{} bytes", bytes.len());
}

/// Opens a file, if it is there. The disk takes its time.
fn open(cache: &Cache, number: u8) {
    let slowly = |folder: &Folder, id: &FileId, synced| {
        shuttle::thread::yield_now();
        let opened = folder.open_file(id, synced);
        shuttle::thread::yield_now();
        opened
    };
    if let Some(opened) = cache.open_by(&id(number), slowly) {
        check(opened.file, number);
    }
}

/// Opens a file that stays for as long as it is held, if it is there then.
fn hold(cache: &Cache, number: u8) {
    cache.entries().hold(&id(number));
    if let Some(opened) = cache.open(&id(number)) {
        check(opened.file, number);
        let again = cache.open(&id(number)).expect("what is held stays");
        check(again.file, number);
    }
    cache.entries().release(&id(number));
}

/// When nothing is under way, what is known of is on disk, and nothing else is.
fn check_quiet(cache: &Cache, dir: &Path) {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            found.insert(file.file_name().into_string().unwrap());
        }
    }
    for number in 0..3 {
        let (name, known) = (id(number).to_string(), cache.entries().contains(&id(number)));
        let there: Vec<_> = found.iter().filter(|file| file.starts_with(&name)).cloned().collect();
        assert_eq!(there.len(), usize::from(known), "known: {known}, on disk: {there:?}");
        found.retain(|name| !there.contains(name));
    }
    assert!(found.is_empty(), "{found:?} are left");
}

#[test]
fn what_is_opened_is_whole_and_nothing_is_lost_track_of() {
    let scratch = tempfile::Builder::new().prefix("cairn-cache-").tempdir_in("/dev/shm");
    let scratch = Arc::new(scratch.or_else(|_| tempfile::tempdir()).unwrap());
    let body = move || {
        let dir = scratch.path().join("files");
        let _ = fs::remove_dir_all(&dir);
        let cache = Arc::new(Cache::new(Folder::open(&dir, BOOT).unwrap(), 2 * ROOM));
        make(&cache, 0);
        let work: [fn(&Cache); 5] = [
            |cache| {
                make(cache, 1);
                make(cache, 0);
            },
            |cache| {
                open(cache, 0);
                open(cache, 1);
            },
            |cache| hold(cache, 0),
            |cache| _ = cache.give_back(ROOM),
            |cache| {
                cache.sync(&id(0));
                cache.sync(&id(1));
            },
        ];
        let spawn = |work: fn(&Cache)| {
            let cache = Arc::clone(&cache);
            shuttle::thread::spawn(move || work(&cache))
        };
        let threads = work.map(spawn);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        check_quiet(&cache, &dir);
    };
    shuttle::check_random(body.clone(), ORDERS);
    shuttle::check_pct(body, ORDERS, DEPTH);
}
