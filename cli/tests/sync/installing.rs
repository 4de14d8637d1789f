//! `cairn install`, `cairn init` and links: programs in a folder, and what was there before.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use crate::world::{Ran, World};

fn world() -> World {
    let world = World::new(
        "[packages.app]\nbinaries = [\"app\", \"app-cli\"]\ndir = { path = \"build/{binary}\" }\n",
    );
    fs::create_dir(world.path("bin")).unwrap();
    for version in ["1", "2", "3"] {
        world.program("build/app", format!("#!/bin/sh\necho app {version}\n").as_bytes());
        world.program("build/app-cli", b"#!/bin/sh\necho cli\n");
        world.good(&["sync", "app", "--version", version]);
    }
    world
}

fn run(world: &World) -> String {
    let output = std::process::Command::new(world.path("bin/app")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_version_is_installed_replaced_and_put_back() {
    let world = world();
    let first = world.object(&["install", "app@1", "--to", "bin"]);
    assert_eq!((&first["version"], &first["changed"]), (&"1".into(), &true.into()));
    assert_eq!(run(&world), "app 1");
    assert_eq!(fs::metadata(world.path("bin/app")).unwrap().mode() & 0o7777, 0o755);
    let before = fs::metadata(world.path("bin/app-cli")).unwrap().ino();
    let second = world.object(&["install", "app@2", "--to", "bin"]);
    assert_eq!(second["previous"], "1");
    assert_eq!(run(&world), "app 2");
    // What is the same is left alone.
    assert_eq!(fs::metadata(world.path("bin/app-cli")).unwrap().ino(), before);
    let again = world.object(&["install", "app@2", "--to", "bin"]);
    assert_eq!((&again["changed"], &again["previous"]), (&false.into(), &"1".into()));
    let back = world.object(&["install", "app", "--to", "bin", "--rollback"]);
    assert_eq!((&back["version"], &back["previous"]), (&"1".into(), &"2".into()));
    assert_eq!(run(&world), "app 1");
    world.good(&["install", "app", "--to", "bin", "--rollback"]);
    assert_eq!(run(&world), "app 2");
    assert_eq!(world.names("bin"), [".cairn", "app", "app-cli"]);
}

#[test]
fn what_was_not_there_goes_again() {
    let world = world();
    world.program("bin/app", b"#!/bin/sh\necho mine\n");
    world.good(&["install", "app@1", "--to", "bin", "--binary", "app"]);
    assert_eq!(world.names("bin"), [".cairn", "app"]);
    // The rest of the same version, later: both are taken back together.
    world.good(&["install", "app@1", "--to", "bin"]);
    world.good(&["install", "app", "--to", "bin", "--rollback"]);
    assert_eq!(run(&world), "mine");
    assert_eq!(world.names("bin"), [".cairn", "app"]);
    assert_eq!(world.names("bin/.cairn/app").iter().filter(|name| name.starts_with("before-")).count(), 1);
}

#[test]
fn a_program_that_runs_is_not_in_the_way() {
    let world = world();
    fs::copy("/bin/sleep", world.path("build/app")).unwrap();
    world.good(&["sync", "app", "--version", "4"]);
    world.good(&["install", "app@4", "--to", "bin"]);
    let mut running =
        std::process::Command::new(world.path("bin/app")).arg("60").stdin(Stdio::null()).spawn().unwrap();
    let installed = world.run(&["install", "app@1", "--to", "bin"]);
    let is_running = running.try_wait().unwrap().is_none();
    let _ = running.kill();
    let _ = running.wait();
    assert_eq!(installed.code, 0, "{}", installed.err);
    assert!(is_running);
    assert_eq!(run(&world), "app 1");
}

#[test]
fn what_is_shown_is_meant_where_no_version_is_named() {
    let world = world();
    world.run(&["install", "app", "--to", "bin"]).refused(2, &["app@1, app@2, app@3"]);
    world.good(&["use", "app@3"]);
    assert_eq!(world.object(&["install", "app", "--to", "bin"])["version"], "3");
}

#[test]
fn what_cannot_be_is_refused_and_leaves_all_as_it_was() {
    let world = world();
    world.run(&["install", "app@1", "--to", "nowhere"]).refused(2, &["nowhere"]);
    world.run(&["install", "app@9", "--to", "bin"]).refused(3, &["app@9"]);
    world.run(&["install", "app@1", "--to", "bin", "--binary", "ap"]).refused(2, &["ap", "app, app-cli"]);
    world.run(&["install", "app", "--to", "bin", "--rollback"]).refused(2, &["nothing was kept"]);
    fs::create_dir(world.path("bin/app-cli")).unwrap();
    world.run(&["install", "app@1", "--to", "bin"]).refused(1, &["app-cli"]);
    assert_eq!(world.names("bin"), [".cairn", "app-cli"]);
}

#[test]
fn what_was_put_back_in_part_is_put_back_wholly_by_the_next() {
    let world = world();
    world.good(&["install", "app@1", "--to", "bin"]);
    world.good(&["install", "app@2", "--to", "bin"]);
    // As a kill in the middle of putting back leaves it: the record says it, and nothing has happened yet.
    let path = world.path("bin/.cairn/app/record.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["putting_back"] = record["before"].clone();
    record["now"] = record["before"]["version"].clone();
    fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    world.good(&["install", "app@1", "--to", "bin"]);
    assert_eq!(run(&world), "app 1");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(record["putting_back"].is_null());
    // A record that leads out of the folder is not followed.
    let mut bad = record;
    bad["before"] = serde_json::json!({ "folder": "../../x", "version": null, "programs": {} });
    fs::write(&path, serde_json::to_vec(&bad).unwrap()).unwrap();
    world.run(&["install", "app", "--to", "bin", "--rollback"]).refused(1, &["not used"]);
}

#[test]
fn what_was_cut_off_is_completed_or_taken_back() {
    let world = world();
    let path = world.path("bin/.cairn/app/record.json");
    // As a kill between the record and the last program leaves it: version 2 has begun, and only one of its programs is there.
    let cut_off = || {
        world.good(&["install", "app@1", "--to", "bin"]);
        let kept = world.path("bin/.cairn/app/before-cut");
        fs::create_dir(&kept).unwrap();
        fs::hard_link(world.path("bin/app"), kept.join("app")).unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let artifact = world.object(&["show", "app@2"])["artifact"].clone();
        record["begun"] = serde_json::json!({
            "version": { "version": "2", "artifact": artifact },
            "kept": { "folder": "before-cut", "version": record["now"], "programs": { "app": true, "gone": false } },
        });
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        fs::write(world.path("bin/gone"), "of version 2").unwrap();
        fs::create_dir(world.path("bin/.cairn/app/new-left")).unwrap();
    };
    cut_off();
    let taken_back = world.object(&["install", "app", "--to", "bin", "--rollback"]);
    assert_eq!(taken_back["version"], "1");
    assert_eq!((run(&world).as_str(), world.path("bin/gone").exists()), ("app 1", false));
    cut_off();
    assert_eq!(world.object(&["install", "app@2", "--to", "bin"])["version"], "2");
    assert_eq!(run(&world), "app 2");
    world.good(&["install", "app", "--to", "bin", "--rollback"]);
    assert_eq!((run(&world).as_str(), world.path("bin/gone").exists()), ("app 1", false));
    cut_off();
    assert_eq!(world.object(&["install", "app@3", "--to", "bin"])["previous"], "1");
    assert!(!world.path("bin/gone").exists() && !world.path("bin/.cairn/app/new-left").exists());
    world.good(&["install", "app", "--to", "bin", "--rollback"]);
    assert_eq!(run(&world), "app 1");
}

#[test]
fn links_are_the_scripts_that_they_replace() {
    let world = world();
    world.program("build/app", b"#!/bin/sh\necho linked\n");
    fs::create_dir(world.path("links")).unwrap();
    world.good(&["init", "--shims", "links"]);
    world.good(&["init", "--shims", "links"]);
    assert_eq!(world.names("links"), ["sync-app-bins"]);
    let link = world.path("links/sync-app-bins");
    let mut command = world.command_of(&link, &["--json"], &[("APP_VERSION", "7")]);
    let ran = Ran::of(&harness::program::finish(command.spawn().unwrap()));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let row = &ran.rows()[0];
    assert_eq!((&row["version"], &row["generation"]), (&"7".into(), &1.into()));
    world.write("links2/sync-app-bins", b"somebody else's");
    world.run(&["init", "--shims", "links2"]).refused(2, &["sync-app-bins"]);
}

#[test]
fn the_file_to_begin_with_is_written_once() {
    let world = World::new("");
    world.run(&["init"]).refused(2, &["--force"]);
    world.good(&["init", "--force"]);
    let written = fs::read_to_string(world.path("cairn.toml")).unwrap();
    assert!(written.contains("[packages.bitcoin.release]") && written.contains("[packages.app.vm]"));
    world.good(&["init", "--to", "other.toml"]);
    assert_eq!(fs::metadata(world.path("other.toml")).unwrap().permissions().mode() & 0o777, 0o644);
    world.run(&["sync"]).refused(2, &["never guessed"]);
}
