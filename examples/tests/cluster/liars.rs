//! Peers that say what is not so: of the state's hash, of its round, of what they have, and against each other.

use std::fs;

use serde_json::{Value, json};

use crate::joins::{go_on, network};
use crate::proxy::{Proxy, Way};
use crate::world::{Daemon, Join, Node, World};

/// A second daemon whose snapshot of the node is told with a false round or a false hash.
fn lying_daemon(world: &World, store: &str, node: &Node, round: u64, hash: Option<&str>) -> Daemon {
    let daemon = world.serve(store);
    let copy = world.path(&format!("{store}-copy"));
    fs::create_dir(&copy).unwrap();
    let at = node.ask("freeze 60000").unwrap();
    fs::copy(node.dir.join("kv.redb"), copy.join("kv.redb")).unwrap();
    node.ask("thaw").unwrap();
    let (own_round, own_hash) = at.split_once(' ').unwrap();
    let round = (own_round.parse::<u64>().unwrap() + round).to_string();
    let hash = hash.unwrap_or(own_hash);
    let copy = copy.to_str().unwrap();
    world.good(store, &["snapshot", "create", "kv", copy, "--round", &round, "--state-hash", hash]);
    daemon
}

/// A change of every snapshot that is listed.
fn of_each_snapshot(change: impl Fn(&mut Value) + Clone + 'static) -> Way {
    Way::Json(Box::new(move |message| {
        for snapshot in message["snapshots"].as_array_mut().into_iter().flatten() {
            change(snapshot);
        }
        if let Some(snapshot) = message.get_mut("snapshot") {
            change(snapshot);
        }
    }))
}

fn is_of_snapshots(request: &str) -> bool {
    request.starts_with("GET /v1/snapshots/kv")
}

/// Whoever has only the liar to ask gets nothing; whoever has an honest peer too gets the state, from that.
fn alone_and_with_an_honest_one(world: &World, honest: &Daemon, liar: &str, node: &str) {
    let alone = format!("{node}-alone");
    let said = world
        .join(&alone, &[liar], &["--retries", "1", "--snapshot-wait", "2s", "--timeout", "50s"])
        .refused();
    assert!(said.contains("error"), "{said}");
    assert!(!world.path(&alone).exists(), "what nobody vouches for is in place");
    world.join(node, &[liar, &honest.url], &["--retries", "5", "--snapshot-wait", "2s"]).joined();
}

#[test]
fn a_false_hash_of_the_state() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    let liar = lying_daemon(&world, "liar", &bootstrap, 0, Some(&"ab".repeat(32)));
    // It has the true stream, so only its snapshot is false.
    let front = front(daemon.address(), liar.address());
    go_on(&world, &bootstrap, 10);
    alone_and_with_an_honest_one(&world, &daemon, &front.url, "kv2");
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

/// A peer with the stream of one daemon and everything else of another: streams are asked of the first.
fn front(streams: &str, rest: &str) -> Proxy {
    let [streams, rest] = [streams, rest].map(|address| address.parse().unwrap());
    Proxy::to_either(move |request| if request.contains("/v1/streams") { streams } else { rest })
}

#[test]
fn a_false_round() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    let liar = lying_daemon(&world, "liar", &bootstrap, 3, None);
    let front = front(daemon.address(), liar.address());
    go_on(&world, &bootstrap, 10);
    alone_and_with_an_honest_one(&world, &daemon, &front.url, "kv2");
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

#[test]
fn what_is_said_of_a_snapshot_is_not_what_it_says_of_itself() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 10);
    type Change = fn(&mut Value);
    // Of one artifact that peers say different hashes of nobody knows which is true: see `peers_that_disagree`.
    let changes: [(&str, Change); 2] = [
        ("round", |snapshot| snapshot["round"] = json!(snapshot["round"].as_u64().unwrap() + 5)),
        ("artifact", |snapshot| snapshot["artifact"] = json!("0".repeat(64))),
    ];
    let mut joined = Vec::new();
    for (what, change) in changes {
        let proxy = Proxy::to(daemon.address(), move |request| {
            if is_of_snapshots(request) { of_each_snapshot(change) } else { Way::Pass }
        });
        let node = format!("kv-{what}");
        alone_and_with_an_honest_one(&world, &daemon, &proxy.url, &node);
        joined.push(node);
    }
    let joined: Vec<_> = joined.iter().map(String::as_str).collect();
    world.all_are_equal(&daemon, vec![bootstrap], &joined);
}

#[test]
fn chunks_are_withheld() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 10);
    let proxy = Proxy::to(daemon.address(), |request| {
        if request.contains("part=chunks") || request.contains("/v1/chunks") {
            Way::Status(404)
        } else {
            Way::Pass
        }
    });
    alone_and_with_an_honest_one(&world, &daemon, &proxy.url, "kv2");
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}

#[test]
fn peers_that_disagree() {
    let (world, daemon, bootstrap) = network();
    world.snapshot("a", &bootstrap, &[]);
    go_on(&world, &bootstrap, 10);
    let [first, second] = [(); 2].map(|()| {
        Proxy::to(daemon.address(), |request| {
            let lie = |snapshot: &mut Value| snapshot["state_hash"] = json!("cd".repeat(32));
            if is_of_snapshots(request) { of_each_snapshot(lie) } else { Way::Pass }
        })
    });
    // One against one: nobody is believed.
    let join = world.join("kv-tie", &[&daemon.url, &first.url], &["--retries", "0", "--snapshot-wait", "2s"]);
    let said = join.refused();
    assert!(said.contains("disagree"), "{said}");
    assert!(!world.path("kv-tie").exists());
    // Two against one, and two have to agree.
    let honest = Proxy::to(daemon.address(), |_| Way::Pass);
    let from = [&*first.url, &*daemon.url, &*honest.url];
    let said = world.join("kv2", &from, &["--agree", "2"]).joined();
    assert_eq!(Join::line(&said, "chosen")["peers"], 2, "{said:?}");
    // Two liars agree with each other; what they agree on is not what the state is.
    let from = [&*first.url, &*second.url];
    world.join("kv-two", &from, &["--agree", "2", "--retries", "0", "--timeout", "30s"]).refused();
    assert!(!world.path("kv-two").exists());
    world.all_are_equal(&daemon, vec![bootstrap], &["kv2"]);
}
