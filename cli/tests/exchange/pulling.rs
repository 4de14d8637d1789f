//! What is pulled and pushed between two stores, and how that is told.

use std::fs;

use harness::bytes::noise;

use crate::world::{OWN, SAME, World};

#[test]
fn a_second_version_costs_what_is_new_in_it() {
    let world = World::new();
    let origin = world.origin();
    let server = origin.serve(&[]);
    let node = world.node("node");
    let lines = node.json(&["pull", "tool@1", "--from", &server.url]);
    let [plan, pulled] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((plan["type"].as_str(), pulled["type"].as_str()), (Some("plan"), Some("pulled")));
    assert_eq!(plan["saved_bytes"], 0);
    assert!(plan["plain_bytes"].as_u64().unwrap() >= (SAME + OWN) as u64);
    assert_eq!(pulled["artifact"], origin.json(&["show", "tool@1"])[0]["artifact"]);
    assert_eq!((&pulled["partial"], &pulled["unchanged"]), (&false.into(), &false.into()));
    node.check(1);
    // The same program and the large file are here already.
    let text = node.good(&["pull", "tool@2", "--from", &server.url]);
    let parts =
        ["tool@2 for ", "  from         http://", "  to transfer  ", "  saved        ", "pulled tool@2"];
    parts.iter().for_each(|part| assert!(text.contains(part), "{part}: {text}"));
    node.check(2);
    let plan = &node.json(&["pull", "tool@2", "--from", &server.url])[0];
    assert_eq!((&plan["chunks"], &plan["stored_bytes"]), (&0.into(), &0.into()));
    let unchanged = &node.json(&["pull", "tool@2", "--from", &server.url])[1];
    assert_eq!((&unchanged["unchanged"], &unchanged["chunks"]), (&true.into(), &0.into()));
}

#[test]
fn a_dry_run_names_what_would_come_and_brings_no_file() {
    let world = World::new();
    let server = world.origin().serve(&[]);
    let node = world.node("node");
    let lines = node.json(&["pull", "tool@1", "--from", &server.url, "--dry-run"]);
    let [plan] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(plan["dry_run"], true);
    assert!(plan["stored_bytes"].as_u64().unwrap() > SAME as u64);
    assert!(!node.has("tool@1"));
    assert!(node.pack_bytes() < 100_000, "{}", node.pack_bytes());
    let text = node.good(&["pull", "tool@1", "--from", &server.url, "--dry-run", "-q"]);
    assert!(text.contains("to transfer"), "{text}");
}

#[test]
fn with_peers_pull_and_use_just_work() {
    let world = World::new();
    let origin = world.origin();
    let server = origin.serve(&[]);
    let node = world.node("node");
    let refused = node.bad(3, &["use", "tool@1"]);
    assert!(refused.contains("there is no store"), "{refused}");
    node.good(&["peers", "add", &server.url]);
    let refused = node.bad(3, &["use", "tool@9"]);
    assert!(refused.contains("tool@9") && refused.contains(&server.url), "{refused}");
    // A channel is what the peer says that it is.
    let used = node.json(&["use", "tool@stable"]).remove(0);
    assert_eq!((&used["from"], &used["to"]), (&serde_json::Value::Null, &1.into()));
    assert_eq!(used["pulled"][0]["channel"], "stable");
    assert_eq!(used["changes"][0]["to"]["version"], "1");
    let used = node.good(&["use", "tool@2"]);
    assert!(used.contains("to transfer") && used.contains("1 -> 2"), "{used}");
    // What is here is not asked for, also when nobody answers.
    server.kill();
    let used = node.json(&["use", "tool@1"]).remove(0);
    assert_eq!((&used["to"], used.get("pulled")), (&3.into(), None));
    node.check(1);
    node.check(2);
    let peers = node.json(&["peers", "ls"]);
    assert!(peers[0]["bytes_per_s"].as_u64().unwrap() > 0, "{peers:?}");
}

#[test]
fn what_is_pulled_to_a_profile_is_shown_there() {
    let world = World::new();
    let server = world.origin().serve(&[]);
    let node = world.node("node");
    let pull = ["pull", "tool@stable", "--from", &server.url, "--to-profile", "canary"];
    let lines = node.json(&pull);
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[2]["profile"], &lines[2]["to"]), (&"canary".into(), &1.into()));
    assert_eq!(node.json(&["ls"])[0]["channels"][0], "stable");
}

#[test]
fn a_version_travels_on_under_the_name_that_it_got_first() {
    let world = World::new();
    let origin = world.origin();
    let middle = world.node("middle");
    {
        let server = origin.serve(&[]);
        middle.good(&["pull", "tool@1", "--from", &server.url]);
    }
    let server = middle.serve(&[]);
    let last = world.node("last");
    last.good(&["pull", "tool@1", "--from", &server.url]);
    last.check(1);
    let log = last.json(&["log"]);
    let of_origin = origin.json(&["log"]).into_iter().find(|line| line["op"] == "set_origin").unwrap();
    let witness = log.iter().find(|line| line["op"] == "set_witness").unwrap();
    assert_eq!(witness["origin"], of_origin["origin"]);
}

#[test]
fn a_push_sends_what_the_other_side_lacks() {
    let world = World::new();
    let origin = world.origin();
    let mirror = world.node("mirror");
    let server = mirror.serve(&[]);
    let token = mirror.good(&["token", "create", "--scope", "publish", "-q"]);
    let token_file = world.path("token");
    fs::write(&token_file, &token).unwrap();
    let push = |spec: &str| {
        let file = token_file.to_str().unwrap();
        origin.json(&["push", spec, "--to", &server.url, "--token-file", file]).remove(0)
    };
    let first = push("tool@1");
    assert_eq!((&first["created"], &first["version"]), (&true.into(), &"1".into()));
    assert!(first["sent_bytes"].as_u64().unwrap() > SAME as u64);
    let second = push("tool@2");
    let (sent, own) = (second["sent_bytes"].as_u64().unwrap(), OWN as u64);
    assert!((own..own * 2).contains(&sent), "{second}");
    let again = push("tool@2");
    assert_eq!((&again["created"], &again["sent_chunks"]), (&false.into(), &0.into()));
    mirror.check(1);
    mirror.check(2);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(mirror.good(&["cat", "tool@2:own"]).len(), String::from_utf8_lossy(&noise(2, OWN)).len());
}

#[test]
fn a_name_that_is_something_else_here_is_a_conflict() {
    let world = World::new();
    let origin = world.origin();
    let server = origin.serve(&[]);
    let node = world.node("node");
    let own = world.path("own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("x"), "mine").unwrap();
    node.good(&["add", "own", "--name", "tool", "--version", "1", "--platform", "linux/x86_64"]);
    let platform = &origin.json(&["show", "tool@1"])[0]["platform"];
    assert_eq!(platform, "linux/x86_64");
    let refused = node.bad(5, &["pull", "tool@1", "--from", &server.url]);
    assert!(refused.contains("other content") && refused.contains("--replace"), "{refused}");
    assert_eq!(node.good(&["cat", "tool@1:x"]), "mine");
    let replaced = node.json(&["pull", "tool@1", "--from", &server.url, "--replace"]);
    assert!(replaced[1]["replaced"].is_string(), "{replaced:?}");
    node.check(1);
}
