//! The daemon reads everything again by itself: it finds what nobody reads, heals it where there are peers, says it where
//! there are none, and goes on where the one before it was.

use std::fs;
use std::path::Path;

use harness::bytes::noise;
use harness::program::until;
use serde_json::Value;

use crate::world::World;

fn world() -> World {
    let world = World::new();
    for version in 1..=3u64 {
        world.file("tree/file", &noise(version, 3 << 20));
        world.good(&["add", "tree", "--name", "app", "--version", &version.to_string()]);
    }
    world
}

fn rot(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0x55);
    fs::write(path, bytes).unwrap();
}

fn scrub(world: &World) -> Value {
    world.json(0, &["status"]).remove(0)["scrub"].take()
}

/// Waits until so many whole passes ended since one that had ended then.
fn until_read(world: &World, than: &Value) {
    until("everything to be read again", || {
        let last = scrub(world)["last"].take();
        !last.is_null() && last != *than
    });
}

const FAST: [&str; 4] = ["--scrub-rate", "1G", "--scrub-every", "0s"];

#[test]
fn rot_is_found_said_and_known_until_it_is_mended() {
    let world = world();
    let whole = world.copy();
    let daemon = world.daemon(&FAST);
    until_read(&world, &Value::Null);
    assert_eq!(scrub(&world)["damage"], Value::Array(Vec::new()));
    rot(&world.packs()[0]);
    until("the damage to be found", || scrub(&world)["lost_chunks"].as_u64() > Some(0));
    let found = scrub(&world);
    let pack = found["damage"][0]["pack"].as_str().unwrap();
    assert!(world.packs()[0].to_str().unwrap().contains(pack), "{found}");
    assert!(world.good(&["status"]).contains("`cairn repair`"));
    assert!(world.log().contains("damage was found by reading everything again"));
    // It lives on, and the next one knows it, with or without a daemon.
    assert_eq!(world.good(&["ls", "--json"]).lines().count(), 3);
    daemon.end();
    assert_eq!(scrub(&world)["lost_chunks"], found["lost_chunks"]);
    assert!(scrub(&world)["rate"].is_null());
    let (peer, url) = whole.serve();
    world.good(&["peers", "add", &url]);
    // The next daemon heals it.
    let daemon = world.daemon(&FAST);
    until("the damage to be healed", || scrub(&world)["lost_chunks"] == 0);
    world.good(&["repair"]);
    until("it to be forgotten", || scrub(&world)["damage"] == Value::Array(Vec::new()));
    daemon.end();
    peer.end();
    world.good(&["verify"]);
}

#[test]
fn metrics_tell_of_it_and_a_rate_of_0_reads_nothing() {
    let world = world();
    rot(&world.packs()[0]);
    let options = ["--listen", "127.0.0.1:0"];
    let daemon = world.daemon(&[&FAST[..], &options].concat());
    until("the damage to be found", || scrub(&world)["lost_chunks"].as_u64() > Some(0));
    let url = world.json(0, &["status"]).remove(0)["serving"]["url"].as_str().unwrap().to_owned();
    let metrics = get(&url, "/metrics");
    assert!(metrics.contains("\ncairn_scrub_damaged 1\n"), "{metrics}");
    assert!(metrics.contains("\ncairn_scrub_lost_chunks 1\n"), "{metrics}");
    daemon.end();
    let world = self::world();
    let daemon = world.daemon(&["--scrub-rate", "0"]);
    assert!(scrub(&world)["rate"].is_null());
    daemon.end();
    assert!(!world.store.join("cache/scrub").exists());
}

#[test]
fn a_slow_pass_goes_on_in_the_next_daemon_beside_commands() {
    let world = world();
    let mut seen = 0;
    for _ in 0..3 {
        let daemon = world.daemon(&["--scrub-rate", "2M"]);
        until("some to be read", || scrub(&world)["bytes"].as_u64() > Some(seen));
        world.good(&["verify", "--fast"]);
        daemon.end();
        seen = scrub(&world)["bytes"].as_u64().unwrap();
    }
    assert!(scrub(&world)["last"].is_null(), "it is far from the end");
    let daemon = world.daemon(&FAST);
    until_read(&world, &Value::Null);
    let last = scrub(&world)["last"].take();
    assert!(last["bytes"].as_u64() > Some(9 << 20), "{last}");
    daemon.end();
}

/// What a server answers.
fn get(url: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let host = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
