//! Mount points that go, or are taken by somebody else.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use harness::program::{text, until};
use serde_json::json;

use crate::world::{World, contents};

/// A store whose daemon serves two mounts, the second at `path`.
fn two(test: &str, path: &str) -> Option<(World, std::path::PathBuf)> {
    let mut world = World::new(test)?;
    let other = world.place(path);
    let (mnt, dir) = (world.mnt.to_str().unwrap().to_owned(), other.to_str().unwrap().to_owned());
    world.daemon = Some(world.start(&["--mount", &mnt, "--mount", &dir]));
    Some((world, other))
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
}

fn version(dir: &Path) -> String {
    fs::read_to_string(dir.join("current/tool/version")).unwrap()
}

/// The daemon's other mount goes on, and so do flips; and a mount can be made where the lost one was.
fn assert_all_is_well(world: &World, other: &Path) {
    world.good(&["use", "tool@2"]);
    assert_eq!(version(&world.mnt), "2");
    assert_eq!(world.state(&world.mnt).as_deref(), Some("mounted"));
    fs::create_dir_all(other).unwrap();
    world.good(&["mount", other.to_str().unwrap()]);
    assert_eq!(version(other), "2");
    world.good(&["umount", other.to_str().unwrap()]);
}

#[test]
fn a_mount_that_somebody_else_unmounts_is_gone_and_others_go_on() {
    let Some((world, other)) = two("umount by somebody else", "other") else { return };
    run("umount", &[other.to_str().unwrap()]);
    until("the daemon to notice", || world.state(&other).is_none());
    assert!(world.log().contains("somebody else unmounted it"), "{}", world.log());
    assert_all_is_well(&world, &other);
}

#[test]
fn a_mount_that_somebody_else_detaches_lives_as_long_as_it_is_used() {
    let Some((world, other)) = two("a lazy umount by somebody else", "other") else { return };
    let mut held = File::open(other.join("tool/1/large")).unwrap();
    run("umount", &["--lazy", other.to_str().unwrap()]);
    assert_eq!(world.state(&other).as_deref(), Some("detached"));
    world.bad(3, &["umount", other.to_str().unwrap()]);
    let mut bytes = Vec::new();
    held.read_to_end(&mut bytes).unwrap();
    assert!(bytes == contents(1).1);
    drop(held);
    until("the daemon to notice", || world.state(&other).is_none());
    assert_all_is_well(&world, &other);
}

#[test]
fn a_mount_whose_parent_is_renamed_moves_with_it() {
    let Some((mut world, other)) = two("a renamed parent", "parent/other") else { return };
    // A mount point itself cannot be removed or renamed.
    let busy = Some(rustix::io::Errno::BUSY.raw_os_error());
    assert_eq!(fs::remove_dir(&other).unwrap_err().raw_os_error(), busy);
    let elsewhere = world.path("parent/elsewhere");
    assert_eq!(fs::rename(&other, &elsewhere).unwrap_err().raw_os_error(), busy);
    fs::rename(world.path("parent"), world.path("renamed")).unwrap();
    let moved = world.place("renamed/other");
    assert_eq!(version(&moved), "1");
    assert_eq!(world.state(&other).as_deref(), Some("moved"));
    assert_eq!(world.state(&moved), None, "it is told of once");
    let status = world.status();
    let line = status["mounts"].as_array().unwrap().iter().find(|line| line["state"] == "moved").unwrap();
    assert_eq!(line["moved_to"]["path"], json!(moved));
    assert!(world.good(&["status"]).contains(&format!("moved to {}", moved.display())));
    world.good(&["use", "tool@2"]);
    assert_eq!(version(&moved), "2");
    // The place that it was made at is free.
    fs::create_dir_all(&other).unwrap();
    world.bad(3, &["umount", other.to_str().unwrap()]);
    world.exchange();
    assert_eq!(world.state(&other).as_deref(), Some("moved"));
    world.good(&["umount", moved.to_str().unwrap()]);
    until("it to end", || world.state(&other).is_none());
    assert_eq!(fs::read_dir(&moved).unwrap().count(), 0);
    assert_all_is_well(&world, &other);
}

#[test]
fn a_mount_whose_file_system_is_unmounted_below_it_ends() {
    let Some(mut world) = World::new("a tmpfs that goes") else { return };
    let below = world.place("below");
    let (mnt, below_text) = (world.mnt.to_str().unwrap().to_owned(), below.to_str().unwrap().to_owned());
    run("mount", &["-t", "tmpfs", "cairn-test", &below_text]);
    let other = below.join("other");
    fs::create_dir(&other).unwrap();
    world.daemon = Some(world.start(&["--mount", &mnt, "--mount", other.to_str().unwrap()]));
    let held = File::open(other.join("tool/1/large")).unwrap();
    run("umount", &["--lazy", &below_text]);
    assert_eq!(world.state(&other).as_deref(), Some("detached"));
    drop(held);
    until("the daemon to notice", || world.state(&other).is_none());
    assert!(world.log().contains("or its mount point vanished"), "{}", world.log());
    assert_all_is_well(&world, &other);
}
