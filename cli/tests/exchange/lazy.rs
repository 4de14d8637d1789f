//! Versions that are used before they are whole.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::bytes::noise;
use harness::program::until;

use crate::world::{Node, OWN, SAME, Server, World, can_mount};

/// How long a read waits for peers here.
const FETCH_MAX: [&str; 2] = ["--fetch-max", "2s"];

fn mounted(node: &Node<'_>, mnt: &Path, arguments: &[&str]) -> Server {
    node.mount(mnt, &[&FETCH_MAX[..], arguments].concat())
}

fn partial(node: &Node<'_>) -> usize {
    node.status()["partial"].as_array().unwrap().len()
}

#[test]
fn a_version_runs_before_it_is_here_and_is_completed_behind() {
    if !can_mount("lazy use") {
        return;
    }
    let world = World::new();
    let server = world.origin().serve(&[]);
    let (node, mnt) = (world.node("node"), world.path("mnt"));
    node.good(&["peers", "add", &server.url]);
    let daemon = mounted(&node, &mnt, &["--no-complete"]);
    let used = node.good(&["use", "tool@1", "--lazy"]);
    assert!(used.contains("when it is read"), "{used}");
    let before = node.pack_bytes();
    assert!(before < 200_000, "{before}");
    let own = Command::new(mnt.join("bin/tool")).arg(mnt.join("current/tool/own")).output().unwrap();
    assert!(own.stdout == noise(1, OWN));
    let status = node.status();
    assert_eq!(status["partial"][0]["refs"][0], "tool@1 for linux/x86_64", "{status}");
    // What nobody has read is not here.
    assert!(node.pack_bytes() < (OWN + SAME) as u64, "{}", node.pack_bytes());
    assert_eq!(daemon.stop(), Some(0));
    // The next daemon brings the rest by itself.
    let daemon = mounted(&node, &mnt, &[]);
    until("the rest to be here", || partial(&node) == 0);
    server.kill();
    assert!(fs::read(mnt.join("current/tool/same")).unwrap() == noise(100, SAME));
    node.check(1);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_read_fails_in_time_when_nobody_answers_and_succeeds_again_when_somebody_does() {
    if !can_mount("a lazy mount without its server") {
        return;
    }
    let world = World::new();
    let origin = world.origin();
    let server = origin.serve(&[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let (node, mnt) = (world.node("node"), world.path("mnt"));
    node.good(&["peers", "add", &server.url]);
    let daemon = mounted(&node, &mnt, &["--lazy", "--no-complete"]);
    // The mount's profile is lazy by itself.
    node.good(&["use", "tool@1"]);
    assert_eq!(partial(&node), 1);
    assert_eq!(node.status()["mounts"][0]["lazy"], true);
    server.kill();
    let file = mnt.join("current/tool/own");
    let error = fs::read(&file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    // What needs no file's bytes is not held up by any of it.
    assert_eq!(fs::metadata(&file).unwrap().len(), OWN as u64);
    let server = origin.serve_at(&address, &[]);
    until("the file to be read", || fs::read(&file).is_ok_and(|bytes| bytes == noise(1, OWN)));
    drop(server);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_daemon_that_is_taken_over_goes_on_to_read_and_to_complete() {
    if !can_mount("a takeover of a lazy mount") {
        return;
    }
    let world = World::new();
    let server = world.origin().serve(&["--bandwidth", "2M"]);
    let (node, mnt) = (world.node("node"), world.path("mnt"));
    node.good(&["peers", "add", &server.url]);
    let daemon = node.mount(&mnt, &["--lazy", "--no-complete"]);
    node.good(&["use", "tool@1"]);
    let (file, url) = (mnt.join("current/tool/same"), server.url.clone());
    std::thread::scope(|scope| {
        let read = scope.spawn(|| fs::read(&file).unwrap() == noise(100, SAME));
        let next = node.begin(&["daemon", "--takeover"], vec![mnt.clone()]);
        assert_eq!(daemon.ended(), Some(0));
        assert!(read.join().unwrap());
        assert_eq!(node.status()["mounts"][0]["lazy"], true, "{url}");
        assert_eq!(next.stop(), Some(0));
    });
}

#[test]
fn use_waits_for_as_much_as_is_required() {
    let world = World::new();
    let server = world.origin().serve(&[]);
    let node = world.node("node");
    node.good(&["peers", "add", &server.url]);
    node.good(&["use", "tool@1", "--require", "lazy"]);
    assert_eq!(partial(&node), 1);
    assert_eq!(node.json(&["ls"])[0]["partial"], true);
    // Without a daemon nothing comes by itself; who wants all of it has it brought.
    node.good(&["use", "tool@1"]);
    assert_eq!(partial(&node), 0);
    node.check(1);
    node.good(&["pull", "tool@2", "--lazy"]);
    assert_eq!(partial(&node), 1);
    // A read brings what it needs, without a daemon too.
    let printed = node.command(&["cat", "tool@2:own"]).output().unwrap();
    assert!(printed.stdout == noise(2, OWN), "{}", String::from_utf8_lossy(&printed.stderr));
    node.good(&["pull", "tool@2"]);
    assert_eq!(partial(&node), 0);
    node.check(2);
    let wrong = node.bad(2, &["use", "tool@1", "--lazy", "--require", "full"]);
    assert!(wrong.contains("--require"), "{wrong}");
}

#[test]
fn what_was_read_before_comes_first() {
    if !can_mount("a working set") {
        return;
    }
    let world = World::new();
    let server = world.origin().serve(&[]);
    let (node, mnt) = (world.node("node"), world.path("mnt"));
    node.good(&["peers", "add", &server.url]);
    let daemon = mounted(&node, &mnt, &["--no-complete"]);
    node.good(&["use", "tool@1"]);
    assert!(fs::read(mnt.join("current/tool/own")).unwrap() == noise(1, OWN));
    node.good(&["use", "tool@2", "--require", "working-set"]);
    assert_eq!(partial(&node), 1);
    server.kill();
    assert!(fs::read(mnt.join("current/tool/own")).unwrap() == noise(2, OWN));
    assert_eq!(daemon.stop(), Some(0));
}
