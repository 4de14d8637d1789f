//! The joiner, the daemon that it joins from, or both are killed at each step of joining; whoever joins then finishes.

use crate::joins::{PACE, go_on, network};
use crate::world::{Daemon, World};

/// The steps at which somebody is killed.
const STEPS: [&str; 7] =
    ["subscribed", "chosen", "transferring", "verifying", "applied", "replaying", "following"];

/// A daemon that takes the place of one that was killed.
fn again(world: &World, address: &str) -> Daemon {
    world.serve_at("a", address)
}

#[test]
fn a_joiner_that_is_killed_joins_again() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 20);
    let mut joined = Vec::new();
    for step in STEPS {
        let node = format!("kv-{step}");
        let mut join = world.join(&node, &[&daemon.url], &["--follow"]);
        assert!(join.reaches(step), "never {step}: {:?}\n{}", join.said, join.log());
        join.kill();
        world.join(&node, &[&daemon.url], &[]).joined();
        joined.push(node);
    }
    let joined: Vec<_> = joined.iter().map(String::as_str).collect();
    world.all_are_equal(&daemon, vec![bootstrap], &joined);
}

#[test]
fn a_joiner_outlives_the_daemon_that_it_joins_from() {
    let (world, mut daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 20);
    let mut joined = Vec::new();
    for step in STEPS {
        let node = format!("kv-{step}");
        let more = if step == "following" { &["--follow"][..] } else { &["--retries", "10"] };
        let mut join = world.join(&node, &[&daemon.url], more);
        assert!(join.reaches(step), "never {step}: {:?}\n{}", join.said, join.log());
        let address = daemon.address().to_owned();
        daemon.kill();
        daemon = again(&world, &address);
        if step == "following" {
            go_on(&world, &bootstrap, 20);
            join.interrupt();
            join.ended();
        } else {
            join.joined();
        }
        joined.push(node);
    }
    let joined: Vec<_> = joined.iter().map(String::as_str).collect();
    world.all_are_equal(&daemon, vec![bootstrap], &joined);
}

#[test]
fn joiner_daemon_and_producer_are_killed_together() {
    let (world, mut daemon, mut bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 20);
    let mut joined = Vec::new();
    for step in STEPS {
        let node = format!("kv-{step}");
        let mut join = world.join(&node, &[&daemon.url], &["--follow"]);
        assert!(join.reaches(step), "never {step}: {:?}\n{}", join.said, join.log());
        let address = daemon.address().to_owned();
        daemon.kill();
        bootstrap.kill();
        join.kill();
        daemon = again(&world, &address);
        bootstrap = world.node("bootstrap", "kv1", &daemon, &PACE);
        go_on(&world, &bootstrap, 5);
        world.join(&node, &[&daemon.url], &[]).joined();
        joined.push(node);
    }
    let joined: Vec<_> = joined.iter().map(String::as_str).collect();
    world.all_are_equal(&daemon, vec![bootstrap], &joined);
}
