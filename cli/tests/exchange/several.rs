//! Several peers at once, not all of which are well.

use std::fs;

use harness::program::{finish, until};

use crate::world::{SAME, World};

/// A copy of a store, as of one that was set up by copying.
fn copy(world: &World, from: &str, to: &str) {
    let copied =
        std::process::Command::new("cp").arg("-a").arg(world.path(from)).arg(world.path(to)).status();
    assert!(copied.unwrap().success());
}

#[test]
fn two_peers_share_the_work_and_each_is_named() {
    let world = World::new();
    let one = world.origin();
    copy(&world, "origin", "twin");
    let two = world.node("twin");
    let (first, second) = (one.serve(&["--bandwidth", "2M"]), two.serve(&["--bandwidth", "2M"]));
    let node = world.node("node");
    let lines = node.json(&["pull", "tool@1", "--from", &first.url, "--from", &second.url]);
    let peers = lines[1]["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 2, "{lines:?}");
    for (peer, url) in peers.iter().zip([&first.url, &second.url]) {
        assert_eq!(&peer["url"], url);
        assert!(peer["chunks"].as_u64().unwrap() > 10 && peer["dropped"].is_null(), "{peer}");
    }
    node.check(1);
}

#[test]
fn a_peer_that_goes_away_in_the_middle_leaves_its_part_to_the_other() {
    let world = World::new();
    let one = world.origin();
    copy(&world, "origin", "twin");
    let two = world.node("twin");
    let (first, second) = (one.serve(&["--bandwidth", "1M"]), two.serve(&["--bandwidth", "1M"]));
    let node = world.node("node");
    let arguments = ["pull", "tool@1", "--from", &first.url, "--from", &second.url, "--json"];
    let child = node.command(&arguments).spawn().unwrap();
    until("a part to be pulled", || node.pack_bytes() > SAME as u64 / 4);
    second.kill();
    let output = finish(child);
    assert!(output.status.success(), "{}", harness::program::text(&output.stderr));
    let last = output.stdout.split(|byte| *byte == b'\n').nth(1).unwrap();
    let pulled: serde_json::Value = serde_json::from_slice(last).unwrap();
    let chunks = |peer: usize| pulled["peers"][peer]["chunks"].as_u64().unwrap();
    assert!(chunks(0) > chunks(1), "{pulled}");
    node.check(1);
}

#[test]
fn a_peer_whose_packs_are_damaged_spoils_nothing() {
    let world = World::new();
    let one = world.origin();
    copy(&world, "origin", "bad");
    for entry in fs::read_dir(world.path("bad/packs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // Whole frames of data are lost, and what says where they are is not.
        if bytes.len() > 200_000 {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 4096].fill(7);
            fs::write(&path, bytes).unwrap();
        }
    }
    let two = world.node("bad");
    let (first, second) = (one.serve(&[]), two.serve(&[]));
    let node = world.node("node");
    // Alone it does not have all of it.
    let refused = node.bad(6, &["pull", "tool@1", "--from", &second.url]);
    assert!(refused.contains(&second.url), "{refused}");
    assert!(!node.has("tool@1"));
    node.good(&["pull", "tool@1", "--from", &second.url, "--from", &first.url]);
    node.check(1);
}
