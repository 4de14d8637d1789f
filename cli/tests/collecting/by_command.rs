//! What the command frees, what it says, and what it leaves alone.

use std::fs;
use std::io::Read;

use harness::bytes::noise;
use harness::program::{finish, text};
use serde_json::{Value, json};

use crate::world::{OWN_BYTES, World};

const OWN: u64 = OWN_BYTES as u64;

#[test]
fn what_nothing_names_goes_and_the_rest_stays() {
    let world = World::new();
    assert_eq!(world.json(&["gc"])["done"]["freed_bytes"], 0);
    let full = world.packed();
    world.good(&["rm", "app@1"]);
    let plan = world.json(&["gc", "--dry-run"]);
    assert!(plan["planned_bytes"].as_u64().unwrap() > OWN, "{plan}");
    assert_eq!((&plan["done"], &plan["dry_run"]), (&Value::Null, &json!(true)));
    assert_eq!(world.packed(), full, "a dry run");
    assert!(world.good(&["gc", "--dry-run"]).contains("would free"));
    let done = world.json(&["gc"]);
    assert_eq!(done["done"]["complete"], true);
    assert!(world.packed() + OWN < full, "{done}");
    world.verify();
    for version in ["2", "3"] {
        let out = format!("out-{version}");
        world.good(&["export", &format!("app@{version}"), &out]);
        assert_eq!(fs::read(world.path(&out).join("bin/data")).unwrap(), World::data(version));
    }
    assert!(world.good(&["gc"]).starts_with("nothing was freed"));
    // What went can come again.
    world.good(&["add", "app-1", "--name", "app", "--version", "1"]);
    world.verify();
}

#[test]
fn it_says_what_keeps_a_thing() {
    let world = World::new();
    world.good(&["use", "app@1"]);
    world.good(&["use", "app@2"]);
    world.good(&["pin", "1"]);
    let said = world.good(&["gc", "--explain", "app@1"]);
    assert!(said.contains("version app@1"), "{said}");
    assert!(said.contains("generation 1 of default, which is pinned: package app"), "{said}");
    let said = world.good(&["gc", "--explain", "app@3"]);
    assert!(said.contains("channel app@stable"), "{said}");
    let artifact = world.json(&["show", "app@1"])["artifact"].as_str().unwrap().to_owned();
    world.good(&["rm", "app@1"]);
    let report = world.json(&["gc", "--explain", &artifact]);
    assert_eq!((&report["kept"], &report["kind"]), (&json!(true), &json!("artifact")));
    assert_eq!(report["keepers"][0]["reasons"][0]["kind"], "generation");
    world.good(&["unpin", "1"]);
    world.good(&["prune", "--keep", "1"]);
    assert!(world.good(&["gc", "--explain", &artifact]).starts_with("nothing keeps"));
    world.good(&["gc"]);
    world.bad(3, &["gc", "--explain", &artifact]);
    world.bad(3, &["gc", "--explain", "app@1"]);
    world.bad(2, &["gc", "--explain", "not/a spec"]);
}

#[test]
fn packs_and_chunks_are_explained_too() {
    let world = World::new();
    let plan = world.json(&["gc", "--dry-run"]);
    let packs = plan["packs"].as_array().unwrap();
    let data = packs.iter().find(|pack| pack["metadata"] == false).unwrap()["pack"].as_str().unwrap();
    let report = world.json(&["gc", "--explain", data]);
    assert_eq!(report["kind"], "pack");
    let keeper = &report["keepers"][0];
    assert_eq!(keeper["path"], "bin/data");
    assert!(keeper["chunks"].as_u64().unwrap() > 5, "{report}");
    assert_eq!(keeper["reasons"][0]["kind"], "version");
    let said = world.good(&["gc", "--explain", data]);
    assert!(said.contains("in bin/data, which is kept by"), "{said}");
    let chunk = blake3_of_first_chunk(&world);
    assert_eq!(world.json(&["gc", "--explain", &chunk])["kind"], "chunk");
}

/// A chunk that is there, by what `diff` says of two versions.
fn blake3_of_first_chunk(world: &World) -> String {
    let report = world.json(&["gc", "--dry-run"]);
    let metadata = report["packs"].as_array().unwrap().iter().find(|pack| pack["metadata"] == true).unwrap();
    let path = world.path(&format!("store/packs/{}.pack", metadata["pack"].as_str().unwrap()));
    // The first row of the first frame's chunk table: docs/format.md.
    let bytes = fs::read(path).unwrap();
    bytes[16 + 24..16 + 24 + 32].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn it_stops_when_its_time_is_over_and_goes_on_another_time() {
    let world = World::new();
    world.good(&["rm", "app@1"]);
    world.good(&["rm", "app@2"]);
    let stopped = world.json(&["gc", "--max-time", "0s"]);
    assert_eq!(stopped["done"]["complete"], false, "{stopped}");
    world.verify();
    let done = world.json(&["gc"]);
    assert_eq!(done["done"]["complete"], true);
    assert!(world.packed() < 2 * OWN);
    world.verify();
}

#[test]
fn old_generations_and_versions_go_first_where_that_is_wanted() {
    let world = World::new();
    for version in ["1", "2"] {
        world.good(&["use", &format!("app@{version}")]);
    }
    let plan = world.json(&["gc", "--dry-run", "--keep-generations", "1", "--keep-versions", "0s"]);
    assert_eq!(plan["generations"][0]["generations"], json!([1]));
    assert_eq!(plan["versions"].as_array().unwrap().len(), 1, "{plan}");
    assert!(world.good(&["ls"]).contains("app"));
    let done = world.json(&["gc", "--keep-generations", "1", "--keep-versions", "0s"]);
    assert_eq!(done["versions"].as_array().unwrap().len(), 1);
    let left = world.good(&["ls", "--json"]);
    assert_eq!(left.lines().count(), 2, "{left}");
    assert!(world.packed() < 3 * OWN);
    world.verify();
}

#[test]
fn who_reads_without_a_daemon_reads_to_the_end() {
    let world = World::new();
    // More than is on its way in pipes and buffers.
    let great = noise(7, 48 << 20);
    fs::create_dir(world.path("great")).unwrap();
    fs::write(world.path("great/data"), &great).unwrap();
    world.good(&["add", "great", "--name", "great", "--version", "1"]);
    let artifact = world.json(&["show", "great@1"])["artifact"].as_str().unwrap().to_owned();
    let mut reader = world.command(&["cat", "great@1:data"]).spawn().unwrap();
    let mut out = reader.stdout.take().unwrap();
    let mut read = vec![0; 1000];
    out.read_exact(&mut read).unwrap();
    // The pipe is full, and the reader waits.
    world.good(&["rm", "great@1"]);
    let report = world.json(&["gc", "--explain", &artifact]);
    let by = report["keepers"][0]["reasons"][0]["by"].as_str().unwrap();
    assert!(by.contains(&reader.id().to_string()) && by.contains("cat great@1:data"), "{report}");
    world.good(&["gc"]);
    out.read_to_end(&mut read).unwrap();
    assert!(read == great);
    let output = finish(reader);
    assert!(output.status.success(), "{}", text(&output.stderr));
    world.good(&["gc"]);
    assert!(world.packed() < 4 * OWN);
}
