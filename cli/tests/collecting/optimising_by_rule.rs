//! Daemons that tell older versions in terms of newer ones by themselves.

use harness::program::until;
use serde_json::Value;

use crate::world::World;

#[test]
fn a_daemon_does_it_when_no_command_runs_and_says_so() {
    let world = World::of_builds(3);
    let full = world.packed();
    let _daemon = world.daemon(&["--optimise-every", "100ms", "--gc-every", "150ms", "--gc-grace", "0s"]);
    until("both to be told", || world.packed() * 2 < full);
    until("it to say so", || world.json(&["status"])["optimising"]["versions"] == 2);
    let status = world.json(&["status"]);
    assert_eq!(status["optimising"]["failure"], Value::Null, "{status}");
    assert!(status["optimising"]["bytes_after"].as_u64().unwrap() > 0, "{status}");
    assert!(world.good(&["status"]).contains("optimising"));
    world.check_builds(1..=3);
    // What comes later, too. The third stays, since the others stand on it.
    let told = world.told();
    (4..=5).for_each(|number| world.add_build(number));
    until("another to be told", || world.told() > told);
    world.check_builds(1..=5);
    world.verify();
}

#[test]
fn a_daemon_that_is_not_to_does_not_but_by_command() {
    let world = World::of_builds(2);
    let _daemon = world.daemon(&["--optimise-every", "0"]);
    assert!(world.json(&["status"])["optimising"].is_null());
    assert_eq!(world.json(&["optimise"])["done"]["versions"], 1);
    world.check_builds(1..=2);
    world.verify();
}
