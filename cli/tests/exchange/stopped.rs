//! Peers that hang in the middle of a transfer (SIGSTOP) and go on later, or not.

use std::time::Duration;

use harness::program::{finish, text, until};
use rustix::process::Signal;

use crate::world::{SAME, World};

/// What each server sends in a second: slow enough that a pull can be met in the middle.
const SLOW: &str = "1M";
/// How long it hangs.
const HANGS: Duration = Duration::from_secs(3);

#[test]
fn a_peer_that_hangs_leaves_its_part_to_the_other() {
    let world = World::new();
    let one = world.origin();
    let mut copying = std::process::Command::new("cp");
    let copied = copying.arg("-a").args([world.path("origin"), world.path("twin")]).status();
    assert!(copied.unwrap().success());
    let (first, second) =
        (one.serve(&["--bandwidth", SLOW]), world.node("twin").serve(&["--bandwidth", SLOW]));
    let node = world.node("node");
    let arguments = ["pull", "tool@1", "--from", &first.url, "--from", &second.url];
    let child = node.command(&arguments).spawn().unwrap();
    until("a part to be pulled", || node.pack_bytes() > SAME as u64 / 4);
    second.signal(Signal::STOP);
    let output = finish(child);
    assert!(output.status.success(), "{}", text(&output.stderr));
    second.signal(Signal::CONT);
    node.check(1);
    // It is as good as before.
    first.kill();
    node.good(&["pull", "tool@2", "--from", &second.url]);
    node.check(2);
}

#[test]
fn a_pull_waits_for_the_only_peer_while_that_hangs_for_a_moment() {
    let world = World::new();
    let server = world.origin().serve(&["--bandwidth", SLOW]);
    let node = world.node("node");
    let mut child = node.command(&["pull", "tool@1", "--from", &server.url]).spawn().unwrap();
    until("a part to be pulled", || node.pack_bytes() > SAME as u64 / 4);
    server.signal(Signal::STOP);
    std::thread::sleep(HANGS);
    assert!(child.try_wait().unwrap().is_none(), "it does not give up at once");
    server.signal(Signal::CONT);
    let output = finish(child);
    assert!(output.status.success(), "{}", text(&output.stderr));
    node.check(1);
}
