//! The cache of whole files on a real disk: bounds under many threads, crashes, damage, lost files.
#![expect(clippy::disallowed_methods, reason = "tests look at the folder from outside, and spoil it")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::testing::{Scratch, noise};

const BOOT: &str = "0123456789abcdef0123456789abcdef";

fn open(scratch: &Scratch, bytes_max: u64) -> Materialiser {
    open_as(scratch, bytes_max, BOOT)
}

fn open_as(scratch: &Scratch, bytes_max: u64, boot: &str) -> Materialiser {
    Materialiser::open_as(scratch.store.clone(), &scratch.cache_dir(), Some(bytes_max), boot).unwrap()
}

fn whole(file: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The files in the cache's folder, without the parts, and the bytes that they take.
fn on_disk(scratch: &Scratch) -> (Vec<String>, u64) {
    let (mut names, mut bytes) = (Vec::new(), 0);
    for folder in fs::read_dir(scratch.cache_dir()).unwrap().map(Result::unwrap) {
        for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            // It may be removed at this moment.
            bytes += entry.metadata().map_or(0, |meta| meta.blocks() * 512);
            if folder.file_name() != "part" {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    names.sort();
    (names, bytes)
}

fn parts(scratch: &Scratch) -> usize {
    fs::read_dir(scratch.cache_dir().join("part")).unwrap().count()
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

#[test]
fn many_threads_keep_the_bound_and_what_is_held() {
    let plain: Vec<_> = (0..24).map(|n| noise(n, 300_000 + usize::try_from(n).unwrap() * 10_000)).collect();
    let (scratch, specs) = Scratch::with(&plain);
    let bytes_max = 3 << 20;
    let cache = open(&scratch, bytes_max);
    let (held, left) = (FileId::of(&specs[0]), AtomicUsize::new(6));
    cache.hold(&held);
    assert!(whole(cache.materialise(&specs[0], soon()).unwrap()) == plain[0]);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (cache, specs, plain, left) = (&cache, &specs, &plain, &left);
            scope.spawn(move || {
                for round in 0..60 {
                    let number = (round * 7 + thread * 5) % specs.len();
                    let id = FileId::of(&specs[number]);
                    cache.hold(&id);
                    match cache.materialise(&specs[number], soon()) {
                        Ok(file) => {
                            assert!(cache.has(&id), "it is held");
                            assert!(whole(file) == plain[number]);
                            assert!(whole(cache.open_file(&id).unwrap()) == plain[number]);
                        }
                        Err(ReadError::NoRoom { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                    cache.release(&id);
                }
                left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while left.load(Ordering::SeqCst) > 0 {
            let figures = cache.figures();
            assert!(figures.bytes <= bytes_max, "{} bytes", figures.bytes);
        }
    });
    let figures = cache.figures();
    assert!(cache.has(&held) && figures.held == 1 && figures.evicted > 0, "{}", figures.evicted);
    let (names, bytes) = on_disk(&scratch);
    assert_eq!((names.len() as u64, bytes), (figures.files, figures.bytes));
    assert_eq!(parts(&scratch), 0);
}

#[test]
fn many_that_want_one_file_make_it_once() {
    let (scratch, specs) = Scratch::with(&[noise(1, 4 << 20)]);
    let cache = open(&scratch, 64 << 20);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| cache.materialise(&specs[0], soon()).unwrap());
        }
    });
    let figures = cache.figures();
    assert_eq!((figures.materialised, figures.misses, figures.files), (1, 1, 1));
}

#[test]
fn the_least_recently_used_goes_first_and_the_order_outlives_the_process() {
    let plain: Vec<_> = (0..4).map(|n| noise(n, 400_000)).collect();
    let (scratch, specs) = Scratch::with(&plain);
    let cache = open(&scratch, 1_300_000);
    for spec in &specs[..3] {
        cache.materialise(spec, None).unwrap();
    }
    assert!(cache.open_file(&FileId::of(&specs[0])).is_some());
    cache.materialise(&specs[3], None).unwrap();
    let there =
        |cache: &Materialiser| specs.iter().map(|spec| cache.has(&FileId::of(spec))).collect::<Vec<_>>();
    assert_eq!(there(&cache), [true, false, true, true]);
    drop(cache);
    for (age, number) in [(10, 3), (20, 0), (30, 2)] {
        let name = on_disk(&scratch)
            .0
            .into_iter()
            .find(|name| name.starts_with(&FileId::of(&specs[number]).to_string()));
        let path = scratch.cache_dir().join(&name.as_ref().unwrap()[..2]).join(name.unwrap());
        let time = std::time::SystemTime::now() - Duration::from_secs(age);
        File::open(path).unwrap().set_modified(time).unwrap();
    }
    // A smaller bound at the next start.
    let cache = open(&scratch, 850_000);
    assert_eq!(there(&cache), [true, false, false, true]);
    assert_eq!(on_disk(&scratch).0.len(), 2);
    drop(cache);
    assert_eq!(there(&open(&scratch, 450_000)), [false, false, false, true]);
}

#[test]
fn when_all_is_held_there_is_no_room_and_nothing_breaks() {
    let plain: Vec<_> = (0..3).map(|n| noise(n, 400_000)).collect();
    let (scratch, specs) = Scratch::with(&plain);
    let cache = open(&scratch, 900_000);
    for spec in &specs[..2] {
        cache.hold(&FileId::of(spec));
        cache.materialise(spec, None).unwrap();
    }
    assert!(matches!(cache.materialise(&specs[2], None), Err(ReadError::NoRoom { .. })));
    assert!(cache.is_well());
    cache.release(&FileId::of(&specs[0]));
    cache.materialise(&specs[2], None).unwrap();
    assert!(!cache.has(&FileId::of(&specs[0])) && cache.has(&FileId::of(&specs[1])));
}

#[test]
fn what_was_synced_outlives_the_boot_and_what_was_not_does_not() {
    let plain = [noise(1, 300_000), noise(2, 300_000), noise(3, 300_000)];
    let (scratch, specs) = Scratch::with(&plain);
    let cache = open(&scratch, 64 << 20);
    let ids: Vec<_> = specs.iter().map(FileId::of).collect();
    for spec in &specs {
        cache.materialise(spec, None).unwrap();
    }
    cache.cache.sync(&ids[0]);
    let names =
        [ids[0].to_string(), format!("{}.{}", ids[1], &BOOT[..16]), format!("{}.{}", ids[2], &BOOT[..16])];
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(on_disk(&scratch).0, sorted(names.to_vec()));
    drop(cache);
    // The process was killed; the machine runs on. One file has both names, as two processes leave it.
    let mode =
        fs::metadata(scratch.cache_dir().join(&names[0][..2]).join(&names[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o400);
    let folder = scratch.cache_dir().join(&names[0][..2]);
    fs::copy(folder.join(&names[0]), folder.join(format!("{}.{}", names[0], &BOOT[..16]))).unwrap();
    let cache = open(&scratch, 64 << 20);
    for (spec, plain) in specs.iter().zip(&plain) {
        assert!(whole(cache.open_file(&FileId::of(spec)).unwrap()) == *plain);
    }
    assert_eq!((on_disk(&scratch).0.len(), cache.figures().files), (3, 3));
    drop(cache);
    // The machine started again.
    let cache = open_as(&scratch, 64 << 20, "fedcba9876543210");
    assert_eq!(ids.iter().map(|id| cache.has(id)).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(on_disk(&scratch).0, [ids[0].to_string()]);
    assert!(whole(cache.materialise(&specs[1], None).unwrap()) == plain[1]);
}

#[test]
fn leftovers_and_strangers_go_at_the_start_and_what_is_being_written_stays() {
    let (scratch, specs) = Scratch::with(&[noise(1, 300_000)]);
    let cache = open(&scratch, 64 << 20);
    cache.materialise(&specs[0], None).unwrap();
    let part = cache.cache.folder.begin().unwrap();
    let id = FileId::of(&specs[0]).to_string();
    let dir = scratch.cache_dir();
    fs::create_dir_all(dir.join("zz")).unwrap();
    let strangers = [
        "part/1-0".to_owned(),
        "zz/file".to_owned(),
        format!("zz/{id}"),
        format!("{}/{}", &id[..2], &id[..60]),
        format!("{}/{id}.", &id[..2]),
        format!("{}/{id}.other", &id[..2]),
    ];
    for stranger in &strangers {
        fs::write(dir.join(stranger), "torn").unwrap();
    }
    let second = open(&scratch, 64 << 20);
    assert_eq!(on_disk(&scratch).0, [format!("{id}.{}", &BOOT[..16])]);
    assert_eq!(parts(&scratch), 1, "the one that is being written");
    drop(part);
    assert_eq!(parts(&scratch), 0);
    drop((cache, second));
}

#[test]
fn a_file_that_somebody_removed_is_made_again() {
    let (scratch, specs) = Scratch::with(&[noise(1, 300_000)]);
    let cache = open(&scratch, 64 << 20);
    let id = FileId::of(&specs[0]);
    cache.materialise(&specs[0], None).unwrap();
    for entry in fs::read_dir(scratch.cache_dir()).unwrap().map(Result::unwrap) {
        fs::remove_dir_all(entry.path()).unwrap();
    }
    assert!(cache.open_file(&id).is_none() && !cache.has(&id));
    assert_eq!(cache.figures().bytes, 0);
    assert_eq!(whole(cache.materialise(&specs[0], None).unwrap()).len(), 300_000);
    assert!(cache.has(&id));
}

#[test]
fn a_deadline_ends_it_and_nothing_is_left() {
    let (scratch, specs) = Scratch::with(&[noise(1, 8 << 20)]);
    let cache = open(&scratch, 64 << 20);
    let past = Some(Instant::now());
    assert!(matches!(cache.materialise(&specs[0], past), Err(ReadError::Deadline)));
    assert_eq!((on_disk(&scratch), parts(&scratch)), ((Vec::new(), 0), 0));
    assert!(cache.is_well());
    // Who has more time is not held up by who had less.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !cache.has(&FileId::of(&specs[0])) {
                    let _ = cache.materialise(&specs[0], Some(Instant::now() + Duration::from_micros(100)));
                }
            });
        }
        assert_eq!(whole(cache.materialise(&specs[0], None).unwrap()).len(), 8 << 20);
    });
}

#[test]
fn damage_fails_the_file_that_has_it_and_no_other() {
    let plain = [noise(1, 400_000), noise(2, 2 << 20)];
    let (scratch, specs) = Scratch::with(&plain);
    let packs = fs::read_dir(scratch.store.path().join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let data = packs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let file = File::options().read(true).write(true).open(&data).unwrap();
    // In the last block of the data, which the second file alone has.
    let at = fs::metadata(&data).unwrap().len() - 100_000;
    file.write_all_at(b"damaged", at).unwrap();
    let cache = open(&scratch, 64 << 20);
    assert!(matches!(cache.materialise(&specs[1], None), Err(ReadError::Damaged { .. })));
    assert!(matches!(cache.materialise(&specs[1], None), Err(ReadError::Damaged { .. })));
    assert!(cache.is_well());
    assert_eq!((on_disk(&scratch), parts(&scratch)), ((Vec::new(), 0), 0));
    assert!(whole(cache.materialise(&specs[0], None).unwrap()) == plain[0]);
    // Chunk by chunk, all of the file can be read but for what is damaged.
    let files = crate::Files::open(scratch.store.clone(), scratch.options()).unwrap();
    let (mut bad, step) = (0, 4096);
    for start in (0..plain[1].len()).step_by(step) {
        let mut reply = b"before".to_vec();
        let expected = &plain[1][start..start + step];
        match files.read(&specs[1], start as u64, u32::try_from(step).unwrap(), &mut reply) {
            Ok(()) => assert!(reply[6..] == *expected),
            Err(error) => {
                bad += 1;
                assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
                // What came before it is right.
                assert!(expected.starts_with(&reply[6..]));
                files.note_damage(&error, || b"uv/1/bin/uv".to_vec());
            }
        }
    }
    assert!(bad > 0 && bad < plain[1].len() / step / 2, "{bad} bad reads");
    let status = files.status();
    assert_eq!(
        (status.damage_count, status.damage[0].path.as_slice()),
        (status.damage.len() as u64, &b"uv/1/bin/uv"[..])
    );
    assert_eq!(status.damage.iter().map(|damage| damage.times).sum::<u64>(), bad as u64);
    assert!(status.damage[0].pack.is_some() && status.damage[0].offset.is_some());
}

#[test]
fn twenty_thousand_opens_leave_no_descriptor_behind() {
    let plain: Vec<_> = (0..50).map(|n| noise(n, 70_000)).collect();
    let (scratch, specs) = Scratch::with(&plain);
    let files = crate::Files::open(scratch.store.clone(), scratch.options()).unwrap();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    for spec in &specs {
        files.materialise(spec, None).unwrap();
    }
    let before = descriptors();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..5_000 {
                    let (spec, plain) = (&specs[number % 50], &plain[number % 50]);
                    let id = FileId::of(spec);
                    files.hold(&id);
                    let file = files.open_materialised(&id).unwrap();
                    let mut byte = [0];
                    File::from(file).read_exact_at(&mut byte, 69_999).unwrap();
                    assert_eq!(byte[0], plain[69_999]);
                    files.release(&id);
                }
            });
        }
    });
    // Other tests of this process open files at the same time; a leak would be of thousands.
    assert!(descriptors() < before + 500, "{before} before, {} after", descriptors());
    assert!(files.status().hits >= 20_000 && files.status().held == 0);
}

#[test]
fn files_are_made_in_the_background_and_that_ends_with_the_process() {
    let plain: Vec<_> = (0..8).map(|n| noise(n, 1 << 20)).collect();
    let (scratch, specs) = Scratch::with(&plain);
    let files = crate::Files::open(scratch.store.clone(), scratch.options()).unwrap();
    specs.iter().chain(&specs).for_each(|spec| files.prefetch(spec));
    let end = Instant::now() + Duration::from_secs(60);
    while files.status().materialised < 8 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!(files.status().files, 8);
    drop(files);
    fs::remove_dir_all(scratch.cache_dir()).unwrap();
    let files = crate::Files::open(scratch.store.clone(), scratch.options()).unwrap();
    specs.iter().for_each(|spec| files.prefetch(spec));
    drop(files);
    assert_eq!(parts(&scratch), 0);
}
