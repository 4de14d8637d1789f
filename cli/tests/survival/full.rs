//! A disk of the cache that is full.

use std::fs;
use std::process::Command;

use harness::program::until;

use crate::world::{World, contents};

#[test]
fn a_full_cache_disk_slows_reads_and_fails_none() {
    let Some(mut world) = World::new("a full disk of the cache") else { return };
    let disk = world.place("store/cache/files");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "cairn-test"]).arg(&disk).status();
    assert!(mounted.unwrap().success());
    let filler = disk.join("filler");
    let error = fs::write(&filler, vec![1; 4 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    let mnt = world.mnt.to_str().unwrap().to_owned();
    world.daemon = Some(world.start(&["--mount", &mnt, "--cache-max", "1GiB"]));
    for _ in 0..3 {
        for version in 1..=2 {
            assert!(fs::read(world.at(&format!("tool/{version}/large"))).unwrap() == contents(version).1);
        }
    }
    let output = Command::new(world.at("bin/tool")).arg(world.at("current/tool/large")).output().unwrap();
    assert!(output.status.success() && output.stdout == contents(1).1);
    let why = world.status()["cache"]["unavailable"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("No space left"), "{}", world.status());
    assert!(world.good(&["status"]).contains("takes nothing: "));
    world.exchange();
    assert!(fs::read(world.at("tool/2/large")).unwrap() == contents(2).1);
    // It recovers by itself.
    fs::remove_file(filler).unwrap();
    until("the cache to take files again", || {
        assert!(fs::read(world.at("tool/2/large")).unwrap() == contents(2).1);
        let cache = &world.status()["cache"];
        cache["files"].as_u64().unwrap() > 0 && cache["unavailable"].is_null()
    });
    // More than it holds: what is not in use makes room.
    for version in [1, 2, 1, 2] {
        assert!(fs::read(world.at(&format!("tool/{version}/large"))).unwrap() == contents(version).1);
    }
}
