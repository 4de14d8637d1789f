//! The simulator is as unkind as it says, and no more.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

const ROOT: &str = "/";
const FILE: &str = "/file";

fn read(sim: &Sim, path: &str) -> Option<Vec<u8>> {
    sim.read(Path::new(path)).ok()
}

/// A machine with an empty durable file.
fn with_file() -> (Sim, Arc<dyn WriteFile>) {
    let sim = Sim::new(0);
    let file = sim.create(Path::new(FILE)).unwrap();
    sim.sync_dir(Path::new(ROOT)).unwrap();
    (sim, file)
}

/// What `path` may hold after a crash.
fn outcomes(sim: &Sim, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..400).map(|seed| read(&sim.reboot(seed), path)).collect()
}

#[test]
fn synced_bytes_under_synced_names_survive_always() {
    let (sim, file) = with_file();
    file.write_all_at(b"hello world", 0).unwrap();
    file.write_all_at(b"J", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, FILE), [Some(b"Jello world".to_vec())].into());
}

#[test]
fn unsynced_bytes_are_lost_kept_torn_or_zeros() {
    let (sim, file) = with_file();
    file.write_all_at(b"abc", 0).unwrap();
    assert_eq!(read(&sim, FILE).unwrap(), b"abc");
    let all = outcomes(&sim, FILE);
    for expected in [b"".as_slice(), b"a", b"ab", b"abc", b"ab\0", b"\0\0\0"] {
        assert!(all.contains(&Some(expected.to_vec())), "{expected:?} is missing of {all:?}");
    }
    let possible = |bytes: &[u8]| bytes.iter().zip(b"abc").all(|(have, want)| have == want || *have == 0);
    assert!(all.iter().all(|bytes| bytes.as_ref().is_some_and(|bytes| bytes.len() <= 3 && possible(bytes))));
}

#[test]
fn unsynced_bytes_are_torn_by_sectors() {
    let (sim, file) = with_file();
    file.write_all_at(&[7; 3 * 512], 0).unwrap();
    let all = outcomes(&sim, FILE);
    let shapes: BTreeSet<Vec<u8>> =
        all.into_iter().flatten().map(|bytes| bytes.iter().step_by(512).copied().collect()).collect();
    for expected in [[0, 7, 0], [0, 0, 7], [7, 0, 7]] {
        assert!(shapes.contains(expected.as_slice()), "{expected:?} is missing of {shapes:?}");
    }
}

#[test]
fn overwritten_bytes_are_the_old_or_the_new_and_later_writes_may_overtake() {
    let (sim, file) = with_file();
    file.write_all_at(b"old", 0).unwrap();
    file.sync().unwrap();
    file.write_all_at(b"new", 0).unwrap();
    file.write_all_at(b"end", 3).unwrap();
    let all = outcomes(&sim, FILE);
    for expected in [b"old".as_slice(), b"new", b"oldend", b"newend", b"nld"] {
        assert!(all.contains(&Some(expected.to_vec())), "{expected:?}");
    }
    file.sync().unwrap();
    file.set_len(2).unwrap();
    assert_eq!(outcomes(&sim, FILE), [Some(b"newend".to_vec()), Some(b"ne".to_vec())].into());
}

#[test]
fn unsynced_names_are_lost_or_kept_and_a_rename_is_atomic() {
    let (sim, file) = with_file();
    file.write_all_at(b"old", 0).unwrap();
    file.sync().unwrap();
    let part = Path::new("/part");
    let new = sim.create(part).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    new.sync().unwrap();
    assert_eq!(outcomes(&sim, "/part"), [None, Some(b"new".to_vec())].into());
    sim.rename(part, Path::new(FILE)).unwrap();
    assert_eq!((read(&sim, FILE), read(&sim, "/part")), (Some(b"new".to_vec()), None));
    assert_eq!(outcomes(&sim, FILE), [Some(b"old".to_vec()), Some(b"new".to_vec())].into());
    sim.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(outcomes(&sim, FILE), [Some(b"new".to_vec())].into());
    assert_eq!(outcomes(&sim, "/part"), [None].into());
    sim.remove(Path::new(FILE)).unwrap();
    assert_eq!(outcomes(&sim, FILE), [Some(b"new".to_vec()), None].into());
    sim.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(outcomes(&sim, FILE), [None].into());
}

#[test]
fn what_lies_in_a_lost_directory_is_lost() {
    let sim = Sim::new(0);
    sim.create_dir_all(Path::new("/a/b")).unwrap();
    let file = sim.create(Path::new("/a/b/c")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync().unwrap();
    sim.sync_dir(Path::new("/a/b")).unwrap();
    sim.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(outcomes(&sim, "/a/b/c"), [None, Some(b"x".to_vec())].into());
    sim.sync_dir(Path::new("/a")).unwrap();
    assert_eq!(outcomes(&sim, "/a/b/c"), [Some(b"x".to_vec())].into());
}

#[test]
fn write_atomic_leaves_the_old_bytes_or_the_new() {
    let sim = Sim::new(0);
    let path = Path::new(FILE);
    sim.write_atomic(path, b"old").unwrap();
    for n in 1..=sim.operations() {
        for seed in 0..20 {
            let sim = sim.reboot(seed);
            sim.crash_at_operation(n);
            let done = sim.write_atomic(path, b"newer").is_ok();
            let now = read(&sim.reboot(seed), FILE).unwrap();
            assert!(now == b"newer" || !done && now == b"old", "operation {n}, seed {seed}: {now:?}");
        }
    }
}

#[test]
fn planned_operations_fail_once_and_a_full_disk_until_healed() {
    let (sim, file) = with_file();
    sim.fail_at(2, Fault::Io);
    sim.fail_at(3, Fault::NoSpace);
    file.write_all_at(b"one", 0).unwrap();
    assert_eq!(sim.list(Path::new(ROOT)).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    assert_eq!(sim.create(Path::new("/b")).err().unwrap().kind(), io::ErrorKind::StorageFull);
    assert_eq!(sim.list(Path::new(ROOT)).unwrap().len(), 1);
    sim.full_from(1);
    for _ in 0..2 {
        assert_eq!(file.write_all_at(b"onetwo", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        let now = read(&sim, FILE).unwrap();
        assert!(now.len() >= 3 && b"onetwo".starts_with(&now), "{now:?}");
    }
    file.sync().unwrap();
    sim.heal();
    file.write_all_at(b"onetwo", 0).unwrap();
    assert!(!sim.crashed());
}

#[test]
fn after_a_failed_sync_a_later_one_saves_only_what_is_written_again() {
    let (sim, file) = with_file();
    sim.fail_at(2, Fault::Io);
    file.write_all_at(b"abc", 0).unwrap();
    file.sync().unwrap_err();
    file.write_all_at(b"def", 3).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&sim, FILE).unwrap(), b"abcdef");
    // What reached the disk was decided by the failing sync: look at many of those.
    let fates: BTreeSet<Option<Vec<u8>>> = (0..200)
        .map(|seed| {
            let (sim, _) = with_file();
            let sim = sim.reboot(seed);
            let file = sim.open_write(Path::new(FILE)).unwrap();
            sim.fail_at(2, Fault::Io);
            file.write_all_at(b"abc", 0).unwrap();
            file.sync().unwrap_err();
            file.sync().unwrap();
            read(&sim.reboot(seed), FILE)
        })
        .collect();
    assert!(fates.contains(&Some(b"abc".to_vec())) && fates.contains(&Some(Vec::new())), "{fates:?}");
    file.write_all_at(b"abc", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&sim, FILE), [Some(b"abcdef".to_vec())].into());
}

#[test]
fn the_world_stops_at_the_sync_that_was_named() {
    let (sim, file) = with_file();
    assert_eq!(sim.syncs(), 1);
    sim.crash_at_sync(2);
    file.write_all_at(b"a", 0).unwrap();
    file.sync().unwrap();
    file.write_all_at(b"b", 1).unwrap();
    file.sync().unwrap_err();
    assert!(sim.crashed());
    assert!(sim.open(Path::new(FILE)).is_err() && sim.list(Path::new(ROOT)).is_err());
    let all = outcomes(&sim, FILE);
    assert!(all.contains(&Some(b"a".to_vec())) && all.contains(&Some(b"ab".to_vec())), "{all:?}");
    assert!(!all.contains(&Some(Vec::new())));
    assert!(file.write_all_at(b"c", 0).is_err(), "a file of the stopped machine is dead");
}

#[test]
fn settled_is_durable() {
    let sim = Sim::new(0);
    sim.create_dir_all(Path::new("/a")).unwrap();
    sim.create(Path::new("/a/b")).unwrap().write_all_at(b"x", 0).unwrap();
    sim.settle();
    assert_eq!(outcomes(&sim, "/a/b"), [Some(b"x".to_vec())].into());
}

#[test]
fn the_same_seed_repeats_and_another_does_not() {
    let run = |seed| {
        let sim = Sim::new(seed);
        let file = sim.create(Path::new(FILE)).unwrap();
        for n in 0..20u8 {
            if n % 5 == 4 {
                sim.fail_at(1, Fault::NoSpace);
            }
            let _ = file.write_all_at(&[n; 700], u64::from(n) * 700);
        }
        sim.fail_at(1, Fault::Io);
        file.sync().unwrap_err();
        sim.sync_dir(Path::new(ROOT)).unwrap();
        read(&sim.reboot(seed), FILE).unwrap()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn calls_that_make_no_sense_fail_as_they_do_on_linux() {
    let (sim, file) = with_file();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let missing = Path::new("/no/such");
    assert_eq!(kind(sim.create(missing).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(sim.create(Path::new(FILE)).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(sim.open(missing).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(sim.list(Path::new("/no")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(sim.list(Path::new(FILE)).map(drop)), io::ErrorKind::NotADirectory);
    assert_eq!(kind(sim.create_dir_all(Path::new(FILE))), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(sim.rename(missing, Path::new(FILE))), io::ErrorKind::NotFound);
    assert_eq!(kind(sim.remove(missing)), io::ErrorKind::NotFound);
    assert_eq!(kind(file.write_all_at(b"x", u64::MAX)), io::ErrorKind::FileTooLarge);
    let reader = sim.open(Path::new(FILE)).unwrap();
    assert_eq!(kind(reader.read_exact_at(&mut [0], 0)), io::ErrorKind::UnexpectedEof);
    assert!(matches!(reader.map().unwrap(), Bytes::Owned(bytes) if bytes.is_empty()));
}

#[test]
fn several_threads_may_use_it() {
    let sim = Sim::new(0);
    std::thread::scope(|scope| {
        for n in 0..4u8 {
            let sim = &sim;
            scope.spawn(move || {
                let path = format!("/{n}");
                sim.write_atomic(Path::new(&path), &[n; 100]).unwrap();
                assert_eq!(read(sim, &path).unwrap(), [n; 100]);
            });
        }
    });
    assert_eq!(sim.reboot(1).list(Path::new(ROOT)).unwrap().len(), 4);
}

#[test]
fn open_files_and_failures_are_counted_and_bits_turn() {
    let (sim, file) = with_file();
    file.write_all_at(b"abc", 0).unwrap();
    file.sync().unwrap();
    let reader = sim.open(Path::new(FILE)).unwrap();
    assert_eq!((sim.open_files(), sim.failures()), (2, 0));
    drop((file, reader));
    sim.fail_at(1, Fault::Io);
    assert!(sim.open(Path::new(FILE)).is_err());
    assert_eq!((sim.open_files(), sim.failures()), (0, 1));
    let operations = sim.operations();
    sim.rot(Path::new(FILE), 1, 1);
    sim.rot(Path::new(FILE), 9, 1);
    sim.rot(Path::new("/none"), 0, 1);
    assert_eq!(sim.operations(), operations);
    assert_eq!(read(&sim, FILE).unwrap(), b"acc");
    assert_eq!(outcomes(&sim, FILE), [Some(b"acc".to_vec())].into());
}

#[test]
fn a_disk_that_holds_no_more_says_so_and_what_was_allocated_is_there() {
    let (sim, file) = with_file();
    file.write_all_at(&[1; 5000], 0).unwrap();
    assert_eq!(sim.used(), 8192);
    assert!(file.allocate(5000, 8000).unwrap());
    assert_eq!((sim.used(), read(&sim, FILE).unwrap().len()), (16384, 5000));
    sim.fill();
    assert_eq!(sim.create(Path::new("/b")).err().unwrap().kind(), io::ErrorKind::StorageFull);
    file.write_all_at(&[2; 8000], 5000).unwrap();
    assert_eq!(file.write_all_at(&[3; 9000], 13000).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(read(&sim, FILE).unwrap().len() <= 16384);
    assert_eq!(file.allocate(16384, 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.set_len(5000).unwrap();
    assert_eq!(sim.used(), 8192);
    file.sync().unwrap();
    sim.create(Path::new("/b")).unwrap();
    sim.remove(Path::new(FILE)).unwrap();
    assert_eq!(sim.used(), 0);
    let refused = sim.write_atomic(Path::new("/c"), &[4; 20000]).unwrap_err();
    assert_eq!((refused.kind(), sim.list(Path::new(ROOT)).unwrap().len()), (io::ErrorKind::StorageFull, 1));
}

#[test]
fn what_was_allocated_may_be_lost_until_it_is_synced() {
    let rooms = |sync: bool| -> BTreeSet<u64> {
        let (sim, file) = with_file();
        file.allocate(0, 10_000).unwrap();
        if sync {
            file.sync().unwrap();
        }
        (0..40).map(|seed| sim.reboot(seed).used()).collect()
    };
    assert_eq!((rooms(false), rooms(true)), ([0, 12288].into(), [12288].into()));
}
