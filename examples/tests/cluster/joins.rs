//! Nodes join while others write.

use std::fs;

use harness::program::until;

use crate::world::{Daemon, Join, Node, World, dump};

/// How fast producers of a test write.
pub(crate) const PACE: [&str; 4] = ["--interval", "5ms", "--value-bytes", "500"];

/// A daemon, and a bootstrap that writes into its stream on top of a state of some size.
pub(crate) fn network() -> (World, Daemon, Node) {
    let world = World::new();
    world.init("kv1", 4000, 1000);
    let daemon = world.serve("a");
    world.token("a");
    let bootstrap = world.node("bootstrap", "kv1", &daemon, &PACE);
    bootstrap.reaches(20, || world.log_of(&bootstrap));
    (world, daemon, bootstrap)
}

/// Waits for so many more rounds.
pub(crate) fn go_on(world: &World, node: &Node, rounds: u64) {
    let now = node.round().unwrap();
    node.reaches(now + rounds, || world.log_of(node));
}

#[test]
fn one_joins_while_another_produces_and_then_produces_too() {
    let (world, daemon, bootstrap) = network();
    let taken = world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 20);

    let said = world.join("kv2", &[&daemon.url], &[]).joined();
    let chosen = Join::line(&said, "chosen");
    assert_eq!(chosen["round"], taken["round"], "{said:?}");
    assert_eq!(Join::line(&said, "applied")["round"], taken["round"]);
    let consistent = Join::line(&said, "consistent");
    assert!(consistent["round"].as_u64() >= Some(taken["round"].as_u64().unwrap() + 20), "{said:?}");
    let states: Vec<_> = said.iter().map(|line| line["state"].as_str().unwrap()).collect();
    let first = |state| states.iter().position(|there| *there == state).unwrap();
    let order = ["subscribed", "chosen", "transferring", "verifying", "applied", "replaying", "consistent"];
    assert!(order.map(first).is_sorted(), "{states:?}");
    // The state says the same of itself as whoever brought it.
    let own = String::from_utf8(dump(&world.path("kv2"))).unwrap();
    let line = format!("{} {}\n", consistent["round"], consistent["state_hash"].as_str().unwrap());
    assert!(own.starts_with(&line), "{line}");

    let validator = world.node("validator", "kv2", &daemon, &[&PACE[..], &["--seed", "2"]].concat());
    let listener_said = world.join("kv3", &[&daemon.url], &[]).joined();
    assert_eq!(Join::line(&listener_said, "chosen")["round"], taken["round"]);
    let listener = world.node("listener", "kv3", &daemon, &[]);
    // A write at one is read at all.
    let round: u64 = validator.ask("put 6b 76").unwrap().parse().unwrap();
    assert!(listener.ask("put 6b 77").unwrap().starts_with("error"), "a listener writes");
    for node in [&bootstrap, &validator, &listener] {
        node.reaches(round, || world.log_of(node));
        assert_eq!(node.ask("get 6b").unwrap(), "some 76");
    }
    world.all_are_equal(&daemon, vec![bootstrap, validator, listener], &[]);
}

#[test]
fn a_joiner_that_follows_is_a_listener() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    let mut join = world.join("kv2", &[&daemon.url], &["--follow"]);
    assert!(join.reaches("following"), "{:?}\n{}", join.said, join.log());
    go_on(&world, &bootstrap, 50);
    join.interrupt();
    join.ended();
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

#[test]
fn joining_again_brings_what_changed_alone() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    world.join("kv2", &[&daemon.url], &[]).joined();
    go_on(&world, &bootstrap, 20);
    world.snapshot("a", &bootstrap, &[]);
    let said = world.join("kv2", &[&daemon.url], &[]).joined();
    let transferring = Join::line(&said, "transferring");
    let (lacking, here) = (transferring["total"].as_u64().unwrap(), transferring["here"].as_u64().unwrap());
    assert!(lacking < here / 2, "{transferring}");
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

#[test]
fn a_node_that_nobody_thaws_thaws_by_itself() {
    let (world, daemon, bootstrap) = network();
    assert!(!bootstrap.ask("freeze 300").unwrap().starts_with("error"));
    assert!(bootstrap.ask("freeze 300").unwrap().contains("already"));
    let frozen = bootstrap.round().unwrap();
    until("it to go on", || bootstrap.round() > Some(frozen));
    assert!(bootstrap.ask("thaw").unwrap().starts_with("error"), "a thaw that came too late is a good one");
    // Who freezes and is killed leaves it to others to thaw, who do not know whether that is needed.
    assert!(!bootstrap.ask("thaw").unwrap().starts_with("error"));
    // So a snapshot whose copy took too long fails, and the network goes on.
    let sleepy = format!(
        "'{}' freeze --timeout 1ms '{}'",
        crate::world::binary("kv-node").display(),
        bootstrap.socket.display()
    );
    let thaw =
        format!("'{}' thaw '{}'", crate::world::binary("kv-node").display(), bootstrap.socket.display());
    let output = world.run(
        "a",
        &[
            "snapshot",
            "create",
            "kv",
            bootstrap.dir.to_str().unwrap(),
            "--round",
            "1",
            "--freeze",
            &sleepy,
            "--thaw",
            &thaw,
        ],
    );
    assert!(!output.status.success());
    assert!(!world.good("a", &["snapshot", "ls"]).contains("kv"));
    go_on(&world, &bootstrap, 5);
    world.all_are_equal(&daemon, vec![bootstrap], &[]);
}

#[test]
fn a_state_that_diverges_stops_its_node() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    world.join("kv2", &[&daemon.url], &[]).joined();
    // Somebody else's round, at the place of the next one: its own state is of another beginning.
    fs::create_dir(world.path("other")).unwrap();
    let listener = world.node("listener", "other", &daemon, &[]);
    assert_eq!(listener.ended(), Some(3), "{}", world.log("other"));
    assert!(world.log("other").contains("DIVERGED at round 1"), "{}", world.log("other"));
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}
