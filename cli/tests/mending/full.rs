//! The store's own disk without a free byte, for root too.

use std::fs;

use harness::bytes::noise;
use harness::mount::Mount;

use crate::world::World;

/// Two versions in use, a pin, and a disk of this kind that holds nothing more.
fn full(kind: &str, bytes: u64) -> Option<(World, Mount)> {
    let mount = match Mount::image_of(kind, bytes) {
        Ok(mount) => mount,
        Err(why) => {
            eprintln!("SKIPPED: a full {kind}: {why}");
            return None;
        }
    };
    let mut world = World::new();
    world.store = mount.path().join("store");
    for version in 1..=3 {
        world.file("tree/bin/app", &noise(version, 900_000));
        world.file("tree/same", &noise(99, 200_000));
        world.good(&["add", "tree", "--name", "app", "--version", &version.to_string()]);
        world.good(&["use", &format!("app@{version}")]);
    }
    world.good(&["pin", "1"]);
    world.good(&["tag", "app@2", "stable"]);
    mount.fill("ballast");
    Some((world, mount))
}

/// That it is read as ever.
fn reads(world: &World, versions: &[&str]) {
    assert_eq!(world.good(&["ls", "--json"]).lines().count(), versions.len());
    for version in versions {
        let spec = format!("app@{version}");
        let cat = world.run(&["cat", &format!("{spec}:bin/app")]);
        assert!(cat.stdout == noise(version.parse().unwrap(), 900_000), "{spec}");
        world.good(&["show", &spec]);
    }
    world.good(&["verify"]);
    world.good(&["log"]);
    world.good(&["status"]);
}

/// That nothing is added, with what to do.
fn refuses(world: &World) {
    world.file("more/file", &noise(50, 300_000));
    for _ in 0..2 {
        let (_, said) = world.ends(1, &["add", "more", "--name", "more", "--version", "1"]);
        assert!(said.contains("No space left"), "{said}");
    }
    // Small changes find the room that was taken ahead, until that is used up.
    let said = (0..5000).find_map(|number| {
        let output = world.run(&["tag", "app@3", &format!("{}{number}", "c".repeat(40))]);
        (output.status.code() != Some(0)).then(|| harness::program::text(&output.stderr))
    });
    let said = said.expect("the disk is full");
    assert!(said.contains("the disk is full") && said.contains("cairn gc"), "{said}");
}

/// Bytes that anybody finds free.
fn free(mount: &Mount) -> u64 {
    let found = rustix::fs::statvfs(mount.path()).unwrap();
    found.f_bfree * found.f_frsize
}

fn removes(world: &World, mount: &Mount) {
    reads(world, &["1", "2", "3"]);
    refuses(world);
    mount.again().unwrap();
    reads(world, &["1", "2", "3"]);
    world.good(&["unpin", "1"]);
    world.good(&["prune", "--keep", "1"]);
    world.good(&["rm", "app@1"]);
    mount.again().unwrap();
    let daemon = world.daemon(&[]);
    world.good(&["rm", "app@2", "--force"]);
    let before = free(mount);
    world.good(&["gc"]);
    let after = free(mount);
    assert!(after > before + (1 << 20), "{before} bytes were free, and {after} are");
    reads(world, &["3"]);
    daemon.end();
    reads(world, &["3"]);
    let reserve = fs::metadata(world.store.join("reserve")).unwrap();
    assert_eq!(reserve.len(), 1 << 20, "it is taken back");
    // And with room again, all is as ever.
    fs::remove_file(mount.path().join("ballast")).unwrap();
    world.good(&["add", "more", "--name", "more", "--version", "1"]);
    world.good(&["verify"]);
}

#[test]
fn a_full_ext4_is_read_and_emptied() {
    let Some((world, mount)) = full("ext4", 20 << 20) else { return };
    removes(&world, &mount);
}

#[test]
fn a_full_xfs_is_read_and_emptied() {
    let Some((world, mount)) = full("xfs", 320 << 20) else { return };
    removes(&world, &mount);
}
