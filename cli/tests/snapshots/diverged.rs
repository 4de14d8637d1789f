//! Where two nodes part, found without moving what they hold.

use std::fs;
use std::os::unix::fs::FileExt;

use harness::bytes::noise;
use harness::program::finish;

use crate::world::{LARGE, World, packed};

/// The node of `store` at rounds 1 and 2, and that of `other` at rounds 2 and 3; at round 2 their states differ in one place of the
/// large file, and in times.
fn two_nodes() -> World {
    let world = World::new();
    world.good(&["snapshot", "create", "state", "live", "--round", "1"]);
    world.set_round(2);
    world.good(&["snapshot", "create", "state", "live", "--round", "2", "--state-hash", "aa"]);
    // A file of its own, written at another time.
    fs::write(world.path("live/large"), noise(1, LARGE)).unwrap();
    let large = fs::File::options().write(true).open(world.path("live/large")).unwrap();
    large.write_all_at(b"another history", 2_000_000).unwrap();
    world.good_on("other", &["snapshot", "create", "state", "live", "--round", "2", "--state-hash", "bb"]);
    world.good_on("other", &["snapshot", "create", "state", "live", "--round", "3"]);
    world
}

#[test]
fn the_place_is_found_of_the_newest_round_that_both_have_and_no_data_moves() {
    let world = two_nodes();
    let other = world.daemon_on("other", &[]);
    let before = packed(&world.path("store"));
    let lines = world.json(&["snapshot", "diff", "state", "--with", &other.url]);
    let moved = packed(&world.path("store")) - before;
    assert!(moved < 100_000, "{moved} bytes came, of a file of {LARGE}");
    let [difference, summary] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((&difference["path"], &difference["change"]), (&"large".into(), &"changed".into()));
    let [range] = difference["ranges"].as_array().unwrap().as_slice() else { panic!("{difference}") };
    let (from, to) = (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
    assert!(from <= 2_000_000 && 2_000_015 <= to && to - from < 300_000, "{range}");
    assert_eq!((&summary["a"]["round"], &summary["b"]["round"]), (&2.into(), &2.into()));
    assert_eq!((&summary["a"]["state_hash"], &summary["b"]["state_hash"]), (&"aa".into(), &"bb".into()));
    assert_eq!(summary["b"]["peer"].as_str(), Some(other.url.as_str()));
    let told = world.good(&["snapshot", "diff", "state@2", "--with", &other.url]);
    assert!(told.contains("the state hashes differ: aa and bb"), "{told}");
    // A round that only one has.
    world.bad(3, &["snapshot", "diff", "state@1", "--with", &other.url]);
    world.bad(3, &["snapshot", "diff", "state@3", "--with", &other.url]);
    // Nothing of theirs has a name here, and all that has is whole.
    assert_eq!(world.rounds(), [2, 1]);
    assert_eq!(world.json(&["verify"])[0]["clean"], true);
    let listed: Vec<u64> = world
        .json(&["snapshot", "ls", "state", "--from", &other.url])
        .iter()
        .map(|line| line["round"].as_u64().unwrap())
        .collect();
    assert_eq!(listed, [3, 2]);
    drop(other);
    let output = finish(
        world.command(&["snapshot", "diff", "state", "--with", "http://127.0.0.1:9"]).spawn().unwrap(),
    );
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn nodes_that_agree_say_so_through_their_daemons() {
    let world = World::new();
    for store in ["store", "other"] {
        // Each has its own files, of its own time.
        fs::write(world.path("live/large"), noise(1, LARGE)).unwrap();
        world.good_on(store, &["snapshot", "create", "state", "live", "--round", "1"]);
    }
    let _own = world.daemon(&[]);
    let other = world.daemon_on("other", &[]);
    let lines = world.json(&["snapshot", "diff", "state", "--with", &other.url]);
    let [summary] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((&summary["same_content"], &summary["metadata"]), (&true.into(), &1.into()), "{summary}");
    let told = world.good(&["snapshot", "diff", "state", "--with", &other.url, "--metadata"]);
    assert!(told.starts_with("m large  (mtime)\n") && told.contains("hold the same state"), "{told}");
}
