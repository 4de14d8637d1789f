//! Development builds out of a local folder, which need no server: what is added, when, and what is shown.

use std::process::Command;

use crate::world::World;

const CONFIG: &str = "
[packages.app]
binaries = [\"app\", \"app-cli\"]
channel = \"edge\"
dir = { path = \"build/{binary}\" }

[packages.tool]
binaries = [\"tool\"]
dir = { path = \"tools/tool\" }
";

fn world() -> World {
    let world = World::new(CONFIG);
    world.program("build/app", b"#!/bin/sh\necho app 1\n");
    world.program("build/app-cli", b"#!/bin/sh\necho cli 1\n");
    world.program("build/local_app", b"never wanted");
    world.program("tools/tool", b"#!/bin/sh\necho tool 1\n");
    world
}

#[test]
fn a_build_is_added_once_and_named_after_its_bytes() {
    let world = world();
    let first = world.object(&["sync", "app"]);
    assert_eq!((&first["status"], &first["strategy"]), (&"added".into(), &"dir".into()));
    let version = first["version"].as_str().unwrap().to_owned();
    assert!(version.starts_with("dev-"), "{version}");
    assert_eq!(world.cat(&format!("app@{version}"), "app-cli"), b"#!/bin/sh\necho cli 1\n");
    // Only what counts is kept.
    let files = world.good(&["show", "app@edge", "--files"]).out;
    assert!(files.contains("bin/app-cli") && !files.contains("local_app"), "{files}");
    let again = world.object(&["sync", "app"]);
    assert_eq!((&again["status"], &again["version"]), (&"current".into(), &first["version"]));
    assert_eq!(again["artifact"], first["artifact"]);
    world.program("build/app", b"#!/bin/sh\necho app 2\n");
    let second = world.object(&["sync", "app"]);
    assert_eq!(second["status"], "added");
    assert_ne!(second["version"], first["version"]);
    assert_eq!(world.cat("app@edge", "app"), b"#!/bin/sh\necho app 2\n");
    // Back to the bytes that are here: nothing is added, and the channel goes back too.
    world.program("build/app", b"#!/bin/sh\necho app 1\n");
    assert_eq!(world.object(&["sync", "app"])["status"], "current");
    assert_eq!(world.cat("app@edge", "app"), b"#!/bin/sh\necho app 1\n");
    assert_eq!(world.names("cache/sources/staged"), [""; 0]);
}

#[test]
fn all_packages_become_one_generation() {
    let world = world();
    let rows = world.rows(&["sync", "--use"]);
    let generations: Vec<_> = rows.iter().map(|row| row["generation"].as_u64().unwrap()).collect();
    assert_eq!(generations, [1, 1]);
    world.program("tools/tool", b"#!/bin/sh\necho tool 2\n");
    let rows = world.rows(&["sync", "--use"]);
    assert_eq!((&rows[0]["status"], &rows[1]["status"]), (&"current".into(), &"added".into()));
    assert_eq!(rows[0]["generation"], 2);
    // Nothing is new: the generation stays.
    assert_eq!(world.rows(&["sync", "--use"])[0]["generation"], 2);
}

#[test]
fn one_that_fails_does_not_keep_the_others() {
    let world = world();
    std::fs::remove_file(world.path("build/app-cli")).unwrap();
    let ran = world.run(&["sync", "--use", "--json"]);
    ran.refused(3, &["app: ", "app-cli"]);
    let rows = ran.rows();
    assert_eq!((&rows[0]["status"], &rows[1]["status"]), (&"failed".into(), &"added".into()));
    assert_eq!((&rows[0]["generation"], &rows[1]["generation"]), (&serde_json::Value::Null, &1.into()));
    // All or nothing: the program that is there did not come alone.
    world.run(&["show", "app@edge"]).refused(3, &["app"]);
    let table = world.run(&["sync"]).out;
    assert!(table.contains("FAILED") && table.contains("already current"), "{table}");
}

#[test]
fn nothing_changes_in_a_dry_run() {
    let world = world();
    let row = world.object(&["sync", "app", "--dry-run", "--use"]);
    assert_eq!((&row["status"], &row["generation"]), (&"planned".into(), &serde_json::Value::Null));
    assert!(row["plan"][0].as_str().unwrap().contains("app"), "{row}");
    assert!(!world.path("store/journal").exists());
}

#[test]
fn the_provenance_says_the_commit_and_that_it_is_a_development_build() {
    let world = world();
    let git = |arguments: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .current_dir(world.path("build"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let row = world.object(&["sync", "app"]);
    assert_eq!(row["facts"]["commit"].as_str(), Some(commit.as_str()));
    assert_eq!(row["facts"]["tree"], "clean");
    assert_eq!(row["facts"]["development"], "true");
    assert!(row["version"].as_str().unwrap().starts_with(&format!("dev-{}-", &commit[..10])), "{row}");
    world.program("build/app", b"changed");
    assert_eq!(world.object(&["sync", "app"])["facts"]["tree"], "changed");
}

#[test]
fn a_named_version_is_never_silently_other_bytes() {
    let world = world();
    world.good(&["sync", "tool", "--version", "1.0"]);
    world.program("tools/tool", b"other bytes");
    world.run(&["sync", "tool", "--version", "1.0"]).refused(5, &["tool", "--replace"]);
    assert_eq!(world.cat("tool@1.0", "tool"), b"#!/bin/sh\necho tool 1\n");
    assert_eq!(world.object(&["sync", "tool", "--version", "1.0", "--replace"])["status"], "added");
    assert_eq!(world.cat("tool@1.0", "tool"), b"other bytes");
}

#[test]
fn the_file_is_found_above_and_by_its_variable() {
    let world = world();
    let mut below = world.command(&["sync", "tool"], &[]);
    std::fs::create_dir_all(world.path("a/b")).unwrap();
    below.current_dir(world.path("a/b"));
    assert!(harness::program::finish(below.spawn().unwrap()).status.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let config = world.path("cairn.toml");
    let mut by_variable = world.command(&["sync", "app"], &[("CAIRN_CONFIG", config.to_str().unwrap())]);
    by_variable.current_dir(elsewhere.path());
    assert!(harness::program::finish(by_variable.spawn().unwrap()).status.success());
}

#[test]
fn a_daemon_that_has_the_store_adds_what_is_synced() {
    let world = world();
    world.good(&["sync", "tool"]);
    let mut daemon = world.command(&["daemon", "--listen", "off"], &[]);
    let mut daemon =
        daemon.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    harness::program::until("the daemon", || world.path("store/daemon.sock").exists());
    let rows = world.run(&["sync", "--use", "--json"]);
    let _ = daemon.kill();
    let _ = daemon.wait();
    assert_eq!(rows.code, 0, "{}", rows.err);
    assert_eq!(rows.rows()[0]["status"], "added");
}
