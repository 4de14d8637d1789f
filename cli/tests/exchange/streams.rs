//! The events of a network by the command line: kept, appended and followed, while daemons come, go and are killed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use harness::program::{finish, text};
use serde_json::{Value, json};

use crate::world::{Node, Server, World};

/// A line of `follow --json` that runs.
struct Followed {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Followed {
    fn begin(node: &Node<'_>, arguments: &[&str]) -> Self {
        let mut child = node.command(&[arguments, &["--json"]].concat()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("an event").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn round(&mut self) -> u64 {
        self.next()["round"].as_u64().unwrap()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(node: &Node<'_>, round: u64, more: &[&str]) {
    let mut arguments = vec!["stream", "append", "chain", "--round"];
    let number = round.to_string();
    arguments.push(&number);
    arguments.extend(more);
    let mut child = node.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("event {round}").as_bytes()).unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), node.log());
}

fn hash(payload: &str) -> String {
    cairn_store::EventHash::of(payload.as_bytes()).to_string()
}

#[test]
fn a_store_that_nobody_serves_keeps_events_beside_its_versions() {
    let world = World::new();
    let node = world.origin();
    for round in 7..10 {
        append(&node, round, &["--state-hash", "0xA1b2"]);
    }
    let payload = world.path("payload");
    fs::write(&payload, "event 10").unwrap();
    let line =
        node.json(&["stream", "append", "chain", payload.to_str().unwrap(), "--round", "10"]).remove(0);
    assert_eq!(line, json!({"appended": 1, "next_round": 11}));
    append(&node, 10, &[]);
    let line = node.json(&["stream", "ls"]).remove(0);
    assert_eq!(
        (&line["name"], &line["first_round"], &line["next_round"]),
        (&json!("chain"), &json!(7), &json!(11))
    );
    let lines = node.json(&["stream", "follow", "chain", "--no-follow"]);
    assert_eq!(lines.len(), 4);
    let expected = json!({"round": 8, "hash": hash("event 8"), "state_hash": "a1b2", "bytes": 7});
    assert_eq!(lines[1], expected);
    assert_eq!(lines[3]["state_hash"], Value::Null);
    let heads = node.good(&[
        "stream",
        "follow",
        "chain",
        "--no-follow",
        "--heads",
        "--from-round",
        "9",
        "--count",
        "1",
    ]);
    assert_eq!(heads, format!("9  {}  a1b2  -\n", hash("event 9")));
    let frames =
        node.command(&["stream", "follow", "chain", "--no-follow", "--frames", "--from-round", "10"]);
    let frames = finish({ frames }.spawn().unwrap()).stdout;
    let expected = [
        &48_u32.to_le_bytes()[..],
        &10_u64.to_le_bytes(),
        &cairn_store::EventHash::of(b"event 10").0,
        b"event 10",
    ];
    assert_eq!(frames, expected.concat());
    // What contradicts is refused, and says what would do.
    fs::write(&payload, "another").unwrap();
    let file = payload.to_str().unwrap();
    let other = node.bad(5, &["stream", "append", "chain", file, "--round", "10"]);
    assert!(other.contains("round 10 of stream chain has another event"), "{other}");
    let gap = node.bad(5, &["stream", "append", "chain", file, "--round", "13"]);
    assert!(gap.contains("takes round 11 next") && gap.contains("append round 11 first"), "{gap}");
    let gone = node.bad(3, &["stream", "follow", "chain", "--no-follow", "--from-round", "3"]);
    assert!(gone.contains("keeps rounds from 7 on"), "{gone}");
    node.bad(3, &["stream", "follow", "nothing", "--no-follow"]);
    node.bad(2, &["stream", "follow", "chain"]);
    // Nothing else minds that they are there.
    assert_eq!(node.json(&["verify"])[0]["clean"], true);
    node.good(&["gc"]);
    node.good(&["repair"]);
    node.check(1);
    assert_eq!(node.json(&["stream", "follow", "chain", "--no-follow"]), lines);
}

#[test]
fn events_are_followed_and_appended_at_a_peer() {
    let world = World::new();
    let (node, other) = (world.origin(), world.node("other"));
    let token = node.json(&["token", "create", "--scope", "publish", "--names", "chain"]).remove(0);
    let file = world.path("token");
    fs::write(&file, token["token"].as_str().unwrap()).unwrap();
    let server = node.serve(&[]);
    let access = ["--to", &server.url, "--token-file", file.to_str().unwrap()];
    append(&other, 100, &access);
    let mut followed =
        Followed::begin(&other, &["stream", "follow", "chain", "--from", &server.url, "--from-round", "100"]);
    let mut here = Followed::begin(&node, &["stream", "follow", "chain", "--from-round", "100"]);
    assert_eq!((followed.round(), here.round()), (100, 100));
    for round in 101..104 {
        append(&other, round, &access);
        let line = followed.next();
        assert_eq!((&line["round"], &line["hash"]), (&json!(round), &json!(hash(&format!("event {round}")))));
        assert_eq!(here.round(), round);
    }
    let line = other.json(&["stream", "ls", "--from", &server.url]).remove(0);
    assert_eq!(line["next_round"], 104);
    let from = ["stream", "follow", "chain", "--from", &server.url, "--no-follow"];
    assert_eq!(other.json(&from).len(), 4);
    let refused = other.bad(7, &["stream", "append", "chain", "--round", "104", "--to", &server.url]);
    assert!(refused.contains("token"), "{refused}");
    let gone = other.bad(3, &[&from[..], &["--from-round", "5"]].concat());
    assert!(gone.contains("rounds before 100 are gone"), "{gone}");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_daemon_that_is_killed_has_lost_nothing_that_it_acknowledged() {
    let world = World::new();
    let node = world.origin();
    let mut next = 0;
    for _ in 0..3 {
        let server = node.serve(&[]);
        for _ in 0..5 {
            append(&node, next, &[]);
            next += 1;
        }
        server.kill();
        let lines = node.json(&["stream", "follow", "chain", "--no-follow"]);
        let rounds: Vec<u64> = lines.iter().map(|line| line["round"].as_u64().unwrap()).collect();
        assert_eq!(rounds, (0..next).collect::<Vec<_>>());
    }
}

#[test]
fn what_follows_goes_on_when_another_daemon_takes_over() {
    let world = World::new();
    let (node, other) = (world.origin(), world.node("other"));
    let first = node.serve(&["--grace", "60s"]);
    append(&node, 0, &[]);
    let mut followed =
        Followed::begin(&other, &["stream", "follow", "chain", "--from", &first.url, "--from-round", "0"]);
    let mut here = Followed::begin(&node, &["stream", "follow", "chain", "--from-round", "0"]);
    assert_eq!((followed.round(), here.round()), (0, 0));
    let second: Server = node.begin(&["daemon", "--takeover"], Vec::new());
    assert_eq!(first.ended(), Some(0));
    assert_eq!(second.url, node.status()["serving"]["url"].as_str().unwrap());
    // The one that was a command of the old daemon says where to go on.
    assert!(here.lines.next().is_none());
    assert_eq!(here.child.wait().unwrap().code(), Some(6));
    for round in 1..4 {
        append(&node, round, &[]);
        assert_eq!(followed.round(), round);
    }
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn as_much_is_kept_as_the_daemon_was_told() {
    let world = World::new();
    let node = world.origin();
    let server = node.serve(&["--stream-bytes-max", "200K"]);
    let payload = world.path("payload");
    for round in 0..10 {
        fs::write(&payload, vec![round; 50_000]).unwrap();
        let (round, file) = (round.to_string(), payload.to_str().unwrap());
        node.good(&["stream", "append", "chain", file, "--round", &round]);
    }
    let line = node.json(&["stream", "ls"]).remove(0);
    assert!(
        line["first_round"].as_u64().unwrap() >= 6 && line["bytes"].as_u64().unwrap() <= 205_000,
        "{line}"
    );
    assert_eq!(line["next_round"], 10);
    assert_eq!(server.stop(), Some(0));
}
