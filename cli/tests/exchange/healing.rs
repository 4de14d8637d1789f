//! Damage that peers can mend.

use std::fs;
use std::path::PathBuf;

use harness::bytes::noise;

use crate::world::{Node, OWN, SAME, Server, World, can_mount};

/// A store with version 1 from a server, of whose data a part is damaged then.
fn damaged(world: &World) -> (Node<'_>, Server) {
    let server = world.origin().serve(&[]);
    let node = world.node("node");
    node.good(&["pull", "tool@1", "--from", &server.url]);
    damage(&node);
    (node, server)
}

/// The largest pack.
fn pack(node: &Node<'_>) -> PathBuf {
    let entries = fs::read_dir(node.path("packs")).unwrap().map(|entry| entry.unwrap().path());
    entries.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

fn damage(node: &Node<'_>) {
    let path = pack(node);
    let mut bytes = fs::read(&path).unwrap();
    let len = bytes.len();
    for place in [len / 4, len / 2] {
        bytes[place..place + 100].fill(0x55);
    }
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_repair_brings_back_what_is_damaged() {
    let world = World::new();
    let (node, server) = damaged(&world);
    let pack = pack(&node);
    assert!(node.bad(4, &["verify"]).is_empty());
    let plan = node.command(&["verify", "--repair", "--dry-run", "--json"]).output().unwrap();
    assert_eq!(plan.status.code(), Some(4));
    let text = String::from_utf8(plan.stdout).unwrap();
    let plan: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!((&plan["type"], &plan["dry_run"]), (&"repair_plan".into(), &true.into()));
    assert!(plan["wanted_chunks"].as_u64().unwrap() > 0, "{plan}");
    assert!(pack.exists());
    // Nobody to ask: what is sound stays readable, and what is not is still known to lack.
    assert!(node.bad(4, &["verify", "--repair"]).is_empty());
    assert!(!pack.exists());
    assert_eq!(fs::read_dir(node.path("quarantine")).unwrap().count(), 1);
    assert!(node.bad(4, &["verify"]).is_empty());
    let lines = node.json(&["verify", "--repair", "--from", &server.url]);
    let done = lines.last().unwrap();
    assert_eq!((&done["type"], &done["clean"]), (&"repaired".into(), &true.into()), "{done}");
    assert!(done["healed_chunks"].as_u64().unwrap() > 0, "{done}");
    server.kill();
    node.check(1);
    assert_eq!(node.json(&["verify", "--repair"])[0]["clean"], true);
}

#[test]
fn a_read_without_a_daemon_heals() {
    let world = World::new();
    let (node, server) = damaged(&world);
    let dest = world.path("dest");
    node.bad(4, &["export", "tool@1", dest.to_str().unwrap()]);
    node.good(&["peers", "add", &server.url]);
    node.good(&["export", "tool@1", dest.to_str().unwrap()]);
    assert!(fs::read(dest.join("same")).unwrap() == noise(100, SAME));
    server.kill();
    // It stays healed.
    for (file, bytes) in [("same", noise(100, SAME)), ("own", noise(1, OWN))] {
        let printed = node.command(&["cat", &format!("tool@1:{file}")]).output().unwrap();
        assert!(printed.stdout == bytes, "{file}");
    }
}

#[test]
fn a_read_through_a_mount_heals() {
    if !can_mount("a mount that heals") {
        return;
    }
    let world = World::new();
    let (node, server) = damaged(&world);
    node.good(&["peers", "add", &server.url]);
    let mnt = world.path("mnt");
    let daemon = node.mount(&mnt, &["--fetch-max", "10s"]);
    for (file, bytes) in [("same", noise(100, SAME)), ("own", noise(1, OWN))] {
        assert!(fs::read(mnt.join("tool/1").join(file)).unwrap() == bytes, "{file}");
    }
    server.kill();
    assert_eq!(daemon.stop(), Some(0));
    let daemon = node.mount(&mnt, &[]);
    assert!(fs::read(mnt.join("tool/1/same")).unwrap() == noise(100, SAME));
    assert_eq!(daemon.stop(), Some(0));
}
