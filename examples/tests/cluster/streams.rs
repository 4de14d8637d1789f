//! Streams that are not what streams are, and one that is much faster than the joiner.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::joins::{go_on, network};
use crate::proxy::{Gate, Item, Proxy, Way};
use crate::world::{Daemon, Join, NAME, replay_command};

/// A peer whose events go through `change`, made anew for each time that somebody follows.
fn bent<F>(daemon: &Daemon, change: impl Fn() -> F + Send + Sync + 'static) -> Proxy
where
    F: FnMut(Item) -> Vec<Item> + 'static,
{
    Proxy::to(daemon.address(), move |request| {
        let follows = request.starts_with(&format!("GET /v1/streams/{NAME}")) && !request.contains("span=1");
        if follows { Way::Items(Box::new(change())) } else { Way::Pass }
    })
}

#[test]
fn gaps_duplicates_and_another_order() {
    let (world, daemon, bootstrap) = network();
    let taken = world.snapshot("a", &bootstrap, &[]);
    let at = taken["round"].as_u64().unwrap();
    go_on(&world, &bootstrap, 20);
    let is_missing = Arc::new(AtomicBool::new(true));
    let gap = bent(&daemon, move || {
        let is_missing = Arc::clone(&is_missing);
        // Once: it is there when it is asked for again.
        move |item| match item.round() {
            Some(round) if round == at + 5 && is_missing.swap(false, Ordering::Relaxed) => Vec::new(),
            _ => vec![item],
        }
    });
    let twice = bent(&daemon, || |item: Item| vec![item.clone(), item]);
    let last = Arc::new(AtomicU64::new(0));
    let swapped = bent(&daemon, move || {
        let (last, mut held) = (Arc::clone(&last), None);
        // One after the other, each once: asked for again it comes in its turn.
        move |item: Item| match (item.round(), held.take()) {
            (Some(round), None) if round % 16 == 0 && last.fetch_max(round, Ordering::Relaxed) < round => {
                held = Some(item);
                Vec::new()
            }
            (_, Some(late)) => vec![item, late],
            (_, None) => vec![item],
        }
    });
    let peers = [("gap", &gap), ("twice", &twice), ("swapped", &swapped)];
    for (what, peer) in peers {
        world.join(&format!("kv-{what}"), &[&peer.url], &["--retries", "10"]).joined();
    }
    world.all_are_equal(&daemon, vec![bootstrap], &["kv-gap", "kv-twice", "kv-swapped"]);
}

#[test]
fn what_one_peer_never_gives_another_does() {
    let (world, daemon, bootstrap) = network();
    let at = world.snapshot("a", &bootstrap, &[])["round"].as_u64().unwrap();
    go_on(&world, &bootstrap, 20);
    let without = bent(&daemon, move || {
        move |item: Item| if item.round() == Some(at + 5) { Vec::new() } else { vec![item] }
    });
    let said = world.join("kv-alone", &[&without.url], &["--retries", "0", "--timeout", "50s"]).refused();
    assert!(said.contains("error"), "{said}");
    world.join("kv2", &[&without.url, &daemon.url], &["--retries", "10"]).joined();
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

#[test]
fn what_one_peer_makes_up_is_not_applied() {
    let (world, daemon, bootstrap) = network();
    let at = world.snapshot("a", &bootstrap, &[])["round"].as_u64().unwrap();
    go_on(&world, &bootstrap, 20);
    let made_up = bent(&daemon, move || {
        move |mut item: Item| {
            if item.round() == Some(at + 5) {
                // The last byte of the last value.
                *item.1.last_mut().unwrap() ^= 1;
            }
            vec![item]
        }
    });
    world.join("kv-alone", &[&made_up.url], &["--retries", "0", "--timeout", "50s"]).refused();
    assert!(!world.path("kv-alone").exists());
    world.join("kv2", &[&made_up.url, &daemon.url], &["--retries", "10", "--timeout", "55s"]).joined();
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

/// A replay that applies nothing before `gate` is there.
fn held_back(gate: &str) -> String {
    format!("while [ ! -e '{gate}' ]; do sleep 0.01; done; exec {}", replay_command())
}

#[test]
fn a_stream_ten_times_as_fast_as_the_joiner() {
    let (world, daemon, bootstrap) = network();
    let at = world.snapshot("a", &bootstrap, &[])["round"].as_u64().unwrap();
    go_on(&world, &bootstrap, 20);
    let gate = world.path("gate");
    let mut join = world.join_with("kv2", &[&daemon.url], &held_back(gate.to_str().unwrap()), &[]);
    assert!(join.reaches("replaying"), "{:?}\n{}", join.said, join.log());
    let behind = bootstrap.round().unwrap() - at;
    go_on(&world, &bootstrap, 10 * behind);
    fs::write(&gate, b"").unwrap();
    join.joined();
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

#[test]
fn a_buffer_that_overflows_leads_to_a_newer_snapshot() {
    let (world, daemon, bootstrap) = network();
    let first = world.snapshot("a", &bootstrap, &[])["round"].clone();
    go_on(&world, &bootstrap, 20);
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let slow = Proxy::to(daemon.address(), move |request| {
        let is_of_chunks = request.contains("part=chunks") || request.contains("/v1/chunks");
        if is_of_chunks { Way::Wait(Arc::clone(&theirs)) } else { Way::Pass }
    });
    let join = world.join("kv2", &[&slow.url], &["--buffer-max", "1500K", "--retries", "10"]);
    gate.has_somebody();
    // A round takes over 1 kB. What comes while the second one is replayed has to fit.
    go_on(&world, &bootstrap, 2500);
    let second = world.snapshot("a", &bootstrap, &[])["round"].clone();
    gate.open();
    let said = join.joined();
    let chosen: Vec<_> =
        said.iter().filter(|line| line["state"] == "chosen").map(|line| &line["round"]).collect();
    assert_eq!(chosen, [&first, &second], "{said:?}");
    assert!(Join::line(&said, "retrying")["reason"].is_string());
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}
