//! Daemons that collect by themselves.

use harness::program::until;

use crate::world::{OWN_BYTES, World};

const OWN: u64 = OWN_BYTES as u64;

#[test]
fn a_daemon_collects_by_its_rule_and_says_so() {
    let world = World::new();
    for version in ["1", "2"] {
        world.good(&["use", &format!("app@{version}")]);
    }
    let full = world.packed();
    let rule =
        ["--gc-every", "100ms", "--gc-keep-generations", "1", "--gc-keep-versions", "0s", "--gc-grace", "0s"];
    let _daemon = world.daemon(&rule);
    until("version 1 to go", || world.packed() + OWN < full);
    let left = world.good(&["ls", "--json"]);
    assert_eq!(left.lines().count(), 2, "{left}");
    let status = world.json(&["status"]);
    assert_eq!(status["collection"]["failure"], serde_json::Value::Null, "{status}");
    assert!(world.good(&["status"]).contains("collection"));
    world.verify();
}

#[test]
fn a_daemon_that_wants_room_gives_the_oldest_versions_for_it() {
    let world = World::new();
    // No disk has as much.
    let _daemon = world.daemon(&["--gc-every", "100ms", "--gc-free", "8000000T"]);
    until("all spare versions to go", || world.good(&["ls", "--json"]).lines().count() == 1);
    until("their bytes to go", || world.packed() < 2 * OWN);
    assert!(world.good(&["ls"]).contains("stable"));
    world.verify();
}

#[test]
fn a_daemon_without_a_rule_collects_nothing() {
    let world = World::new();
    let _daemon = world.daemon(&[]);
    world.good(&["rm", "app@1"]);
    assert!(world.json(&["status"])["collection"].is_null());
}
