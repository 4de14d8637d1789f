//! Whatever fails: what was there stays, nothing is left beside it, and the exit code says which it was.

use std::fs;

use harness::program::text;

use crate::world::World;

/// The exit code and the kind of a fetch that fails into `out/tool`, which stays as it was.
fn fails(world: &World, program: &str, more: &[&str]) -> (i32, String) {
    let output = world.fetch(program, "out/tool", more);
    let told = text(&output.stderr);
    assert_eq!(fs::read(world.path("out/tool")).unwrap(), b"what was there", "{told}");
    assert_eq!(world.names("out"), ["tool"], "{told}");
    let kind = told.split("\"kind\":\"").nth(1).and_then(|rest| rest.split('"').next());
    (output.status.code().unwrap(), kind.unwrap_or_default().to_owned())
}

#[test]
fn what_was_there_stays_as_it_was() {
    let mut world = World::new();
    fs::create_dir(world.path("out")).unwrap();
    fs::write(world.path("out/tool"), b"what was there").unwrap();
    world.publish("tool-1.0.0-linux-x86_64", b"what comes");
    let platform = ["--platform", "linux/x86_64"];
    let with = |more: &[&'static str]| [&platform[..], more].concat();
    let zeros = "0".repeat(64);
    let expected = (4, "damaged".to_owned());
    assert_eq!(fails(&world, "tool", &["--platform", "linux/x86_64", "--sha256", &zeros]), expected);
    let expected = (3, "not_found".to_owned());
    assert_eq!(fails(&world, "tool@9.9.9", &platform), expected);
    assert_eq!(fails(&world, "tool@stable", &platform), expected);
    assert_eq!(fails(&world, "other", &platform), expected);
    assert_eq!(fails(&world, "tool", &["--platform", "windows/x86"]), expected);
    let expected = (2, "usage".to_owned());
    assert_eq!(fails(&world, "../tool", &platform), expected);
    assert_eq!(fails(&world, "tool", &with(&["--mode", "999"])), expected);
    assert_eq!(fails(&world, "tool", &with(&["--sha256", "abc"])), expected);
    let output = world.fetch("tool", "out", &platform);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    world.end();
    assert_eq!(fails(&world, "tool", &platform), (6, "unavailable".to_owned()));
}

#[test]
fn the_wanted_bytes_are_current_whoever_brought_them() {
    let mut world = World::new();
    fs::create_dir(world.path("out")).unwrap();
    world.publish("tool-1.0.0-linux-x86_64", b"the bytes");
    fs::write(world.path("out/tool"), b"the bytes").unwrap();
    let report = world.good("tool", "out/tool", &["--platform", "linux/x86_64"]);
    // Its permissions were others.
    assert!(report.has("\"changed\":true") && report.number("wire_bytes") == 0, "{}", report.0);
    let report = world.good("tool", "out/tool", &["--platform", "linux/x86_64"]);
    assert!(report.has("\"changed\":false"), "{}", report.0);
    world.end();
}
