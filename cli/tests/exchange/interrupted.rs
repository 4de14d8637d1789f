//! Transfers that are cut off: at either end, by force or on request, at several moments.

use std::process::Child;

use harness::program::{finish, text, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{Node, SAME, World};

/// What a server sends in a second: slow enough that a pull can be met in the middle.
const SLOW: &str = "1M";

/// Waits until so much of what is pulled is on disk; says whether the pull still runs.
fn until_pulled(node: &Node<'_>, child: &mut Child, bytes: u64) -> bool {
    let mut runs = true;
    until("a part to be pulled", || {
        runs = child.try_wait().unwrap().is_none();
        !runs || node.pack_bytes() > bytes
    });
    runs
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_was() {
    let world = World::new();
    let origin = world.origin();
    let server = origin.serve(&["--bandwidth", SLOW]);
    let node = world.node("node");
    let mut kills = 0;
    for part in 1..=4 {
        let before = node.pack_bytes();
        let mut child = node.command(&["pull", "tool@1", "--from", &server.url]).spawn().unwrap();
        if until_pulled(&node, &mut child, before.max(part * SAME as u64 / 6)) {
            signal(&child, Signal::KILL);
            kills += 1;
        }
        finish(child);
        assert!(part > 2 || !node.has("tool@1"), "it is visible and not whole");
    }
    assert!(kills >= 2, "it was killed {kills} times");
    let lines = node.json(&["pull", "tool@1", "--from", &server.url]);
    let (left, whole) = (&lines[0]["plain_bytes"], SAME as u64);
    assert!(left.as_u64().unwrap() < whole, "most of it came already: {left}");
    node.check(1);
}

#[test]
fn a_pull_that_is_stopped_keeps_what_came_and_says_so() {
    let world = World::new();
    let server = world.origin().serve(&["--bandwidth", SLOW]);
    let node = world.node("node");
    let mut child = node.command(&["pull", "tool@1", "--from", &server.url]).spawn().unwrap();
    assert!(until_pulled(&node, &mut child, SAME as u64 / 4));
    signal(&child, Signal::INT);
    let output = finish(child);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("what came is kept"), "{said}");
    assert!(!node.has("tool@1"));
    let plan = &node.json(&["pull", "tool@1", "--from", &server.url])[0];
    assert!(plan["saved_bytes"].as_u64().unwrap() > SAME as u64 / 8, "{plan}");
    node.check(1);
}

#[test]
fn a_pull_in_a_daemon_is_stopped_with_its_command() {
    let world = World::new();
    let server = world.origin().serve(&["--bandwidth", SLOW]);
    let node = world.node("node");
    let daemon = node.begin(&["daemon"], Vec::new());
    let mut child = node.command(&["pull", "tool@1", "--from", &server.url]).spawn().unwrap();
    assert!(until_pulled(&node, &mut child, SAME as u64 / 4));
    signal(&child, Signal::INT);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    // A daemon that is killed in the middle leaves what came, too.
    let mut child = node.command(&["pull", "tool@1", "--from", &server.url]).spawn().unwrap();
    assert!(until_pulled(&node, &mut child, SAME as u64 / 2));
    daemon.kill();
    assert_eq!(finish(child).status.code(), Some(1));
    let daemon = node.begin(&["daemon"], Vec::new());
    let plan = &node.json(&["pull", "tool@1", "--from", &server.url])[0];
    assert!(plan["saved_bytes"].as_u64().unwrap() > SAME as u64 / 4, "{plan}");
    node.check(1);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_server_that_is_killed_is_unavailable_and_its_successor_goes_on() {
    let world = World::new();
    let origin = world.origin();
    let mut server = origin.serve(&["--bandwidth", SLOW]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let node = world.node("node");
    for part in 1..=2 {
        let before = node.pack_bytes();
        let mut child = node.command(&["pull", "tool@1", "--from", &server.url]).spawn().unwrap();
        assert!(until_pulled(&node, &mut child, before.max(part * SAME as u64 / 6)));
        server.kill();
        let output = finish(child);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{said}");
        assert!(said.contains(&address) && said.contains("what came is kept"), "{said}");
        assert!(!node.has("tool@1"));
        server = origin.serve_at(&address, &["--bandwidth", SLOW]);
    }
    let plan = &node.json(&["pull", "tool@1", "--from", &server.url])[0];
    assert!(plan["saved_bytes"].as_u64().unwrap() > SAME as u64 / 8, "{plan}");
    node.check(1);
}

#[test]
fn a_server_that_is_told_to_stop_ends_what_it_began() {
    let world = World::new();
    let server = world.origin().serve(&["--bandwidth", "2M", "--grace", "50s"]);
    let node = world.node("node");
    let mut child = node.command(&["pull", "tool@1", "--from", &server.url]).spawn().unwrap();
    assert!(until_pulled(&node, &mut child, SAME as u64 / 4));
    assert_eq!(server.stop(), Some(0));
    let output = finish(child);
    assert!(output.status.success(), "{}", text(&output.stderr));
    node.check(1);
}

#[test]
fn a_push_that_is_cut_off_goes_on_where_it_was() {
    let world = World::new();
    let origin = world.origin();
    let mirror = world.node("mirror");
    let mut server = mirror.serve(&["--bandwidth", SLOW]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let token = mirror.good(&["token", "create", "--scope", "publish", "-q"]);
    let push = |url: &str| {
        let mut command = origin.command(&["push", "tool@1", "--to", url, "--json"]);
        command.env("CAIRN_TOKEN", token.trim()).spawn().unwrap()
    };
    // First the one who sends goes, then the one who receives.
    let mut child = push(&server.url);
    assert!(until_pulled(&mirror, &mut child, SAME as u64 / 4));
    signal(&child, Signal::KILL);
    finish(child);
    let mut child = push(&server.url);
    assert!(until_pulled(&mirror, &mut child, SAME as u64 / 2));
    server.kill();
    assert_eq!(finish(child).status.code(), Some(6));
    assert!(!mirror.has("tool@1"));
    server = mirror.serve_at(&address, &[]);
    let output = finish(push(&server.url));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["sent_bytes"].as_u64().unwrap() < SAME as u64, "{report}");
    mirror.check(1);
}
