//! What the command tells in terms of newer versions, what it says, and what it leaves alone.

use harness::program::{finish, text, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::world::World;

#[test]
fn older_versions_take_less_and_read_as_before() {
    let world = World::of_builds(5);
    let full = world.packed();
    let plan = world.json(&["optimise", "--dry-run"]);
    assert_eq!((&plan["dry_run"], &plan["done"]), (&json!(true), &Value::Null));
    assert_eq!(plan["versions"].as_array().unwrap().len(), 4, "{plan}");
    assert_eq!(plan["stay"][0]["why"], json!(["newest"]), "{plan}");
    let said = world.good(&["optimise", "--dry-run"]);
    assert!(said.contains("would tell 4 versions") && said.contains("1 newest of their package"), "{said}");
    assert_eq!((world.packed(), world.told()), (full, 0), "a dry run");

    let report = world.json(&["optimise"]);
    let done = &report["done"];
    assert_eq!(
        (&done["complete"], &done["stopped"], &done["versions"]),
        (&json!(true), &Value::Null, &json!(4))
    );
    assert!(done["codecs"]["prefix"]["blocks"].as_u64().unwrap() > 0, "{report}");
    assert!(done["bytes_after"].as_u64().unwrap() * 10 < done["bytes_before"].as_u64().unwrap(), "{report}");
    assert!(world.packed() * 4 < full, "{report}");
    let told = world.codec("prefix");
    assert_eq!(told["plain_bytes"], done["codecs"]["prefix"]["plain_bytes"]);
    assert!(told["stored_bytes"].as_u64().unwrap() * 10 < told["plain_bytes"].as_u64().unwrap(), "{told}");
    assert!(world.good(&["stats"]).contains("prefix: "));
    world.check_builds(1..=5);
    world.verify();

    let again = world.good(&["optimise"]);
    assert!(again.contains("nothing is to be told") && again.contains("4 told already"), "{again}");
    // All others stand on the newest: what they stand on stays, since they would take more without.
    world.good(&["rm", "tool@5"]);
    for _ in 0..3 {
        world.good(&["gc"]);
        world.check_builds(1..=4);
        world.verify();
    }
    assert!(world.told() > 0 && world.packed() * 2 < full);
    // What is shown becomes plain again.
    world.good(&["use", "tool@2"]);
    let plan = world.json(&["optimise", "--dry-run"]);
    assert!(plan["unfolded_chunks"].as_u64().unwrap() > 0, "{plan}");
    let said = world.good(&["optimise"]);
    assert!(said.contains("plain again"), "{said}");
    world.check_builds(1..=4);
    world.add_build(6);
    world.good(&["optimise", "--effort", "fast"]);
    world.check_builds([1, 2, 3, 4, 6]);
    world.verify();
}

#[test]
fn what_is_in_use_stays_plain() {
    let world = World::of_builds(5);
    world.good(&["tag", "tool@2", "stable"]);
    world.good(&["use", "tool@1"]);
    world.good(&["use", "tool@3"]);
    world.good(&["pin", "1"]);
    let plan = world.json(&["optimise", "--dry-run"]);
    let why: Vec<&Value> = plan["stay"].as_array().unwrap().iter().map(|stay| &stay["why"]).collect();
    assert_eq!(
        why,
        [&json!(["generation"]), &json!(["channel"]), &json!(["generation"]), &json!(["newest"])]
    );
    assert!(plan["versions"][0]["version"].as_str().unwrap().starts_with("tool@4"), "{plan}");
    assert!(plan["versions"][0]["base"].as_str().unwrap().starts_with("tool@5"), "{plan}");
    assert_eq!(world.json(&["optimise"])["done"]["versions"], 1);
    world.check_builds(1..=5);
}

#[test]
fn it_stops_in_order_and_goes_on_another_time() {
    let world = World::of_builds(4);
    let full = world.packed();
    let stopped = world.json(&["optimise", "--max-time", "0s"]);
    assert_eq!((&stopped["done"]["complete"], &stopped["done"]["stopped"]), (&json!(false), &json!("time")));
    assert!(world.good(&["optimise", "--max-time", "0s"]).contains("`cairn optimise` goes on"));
    assert_eq!(world.packed(), full);
    // At this rate it takes a quarter of a minute.
    let mut command = world.command(&["optimise", "--rate", "256K", "--json"]);
    let running = command.spawn().unwrap();
    let is_writing = || {
        let packs = std::fs::read_dir(world.path("store/packs")).unwrap();
        packs.into_iter().any(|pack| pack.unwrap().file_name().to_string_lossy().ends_with(".open"))
    };
    until("it to write", is_writing);
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    let output = finish(running);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!(report["done"]["stopped"], "interrupted", "{report}");
    assert!(!is_writing(), "it leaves nothing behind");
    world.verify();
    world.check_builds(1..=4);
    assert_eq!(world.json(&["optimise"])["done"]["complete"], true);
    assert!(world.packed() * 3 < full);
    world.check_builds(1..=4);
}

#[test]
fn it_says_what_is_wrong_and_when_there_is_nothing_to_do() {
    let world = World::empty();
    world.bad(3, &["optimise"]);
    world.add_build(1);
    let said = world.good(&["optimise"]);
    assert!(said.starts_with("nothing is to be told in terms of other versions"), "{said}");
    assert!(said.contains("as they are: 1 version: 1 newest"), "{said}");
    assert_eq!(world.json(&["optimise"])["done"]["complete"], true);
    for wrong in [["--effort", "most"], ["--rate", "0"], ["--max-time", "soon"], ["--explain", "tool@1"]] {
        world.bad(2, &[&["optimise"], &wrong[..]].concat());
    }
    // What has nothing in common is tried, and stays.
    world.release("1");
    world.release("2");
    world.good(&["add", "app-1", "--name", "app", "--version", "1"]);
    world.good(&["add", "app-2", "--name", "app", "--version", "2"]);
    let full = world.packed();
    assert!(world.good(&["optimise"]).starts_with("nothing was told anew: 1 version"));
    assert_eq!(world.packed(), full);
}

#[test]
fn what_others_stand_on_is_theirs_too() {
    let world = World::of_builds(2);
    let unique = |version: &str| {
        let listed = world.good(&["ls", "--json"]);
        let mut lines = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| line["version"] == version).unwrap()["unique_bytes"].as_u64().unwrap()
    };
    let before = unique("2");
    let packs = |world: &World| {
        let packs = world.json(&["gc", "--dry-run"])["packs"].as_array().unwrap().clone();
        let data = packs.into_iter().filter(|pack| pack["metadata"] == false);
        data.map(|pack| pack["pack"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    world.good(&["optimise"]);
    assert!(before > 500_000 && unique("2") * 2 < before, "{before}, then {}", unique("2"));
    // The newer version goes: the older one keeps what it stands on until it is written anew.
    let newer = packs(&world).into_iter().find(|pack| {
        let report = world.json(&["gc", "--explain", pack]);
        report["keepers"].as_array().unwrap().iter().any(|keeper| keeper["standing"].as_u64().unwrap() > 0)
    });
    let newer = newer.expect("a pack on which something stands");
    world.good(&["rm", "tool@2"]);
    let said = world.good(&["gc", "--explain", &newer]);
    assert!(said.contains("told in terms of that, in bin/tool") && said.contains("tool@1"), "{said}");
    for _ in 0..3 {
        world.good(&["gc"]);
    }
    world.bad(3, &["gc", "--explain", &newer]);
    world.check_builds([1]);
}
