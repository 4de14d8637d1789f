//! A daemon that is killed or told to stop, and what becomes of its mounts and of those who use them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use harness::program::{finish, text, until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::world::{Echo, Sleeper, World, contents};

const DISCONNECTED: i32 = 107;

impl World {
    /// Kills the daemon as if the machine had run out of memory.
    fn kill(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::KILL);
        assert_eq!(daemon.ended(), None);
        assert!(UnixStream::connect(self.path("store/daemon.sock")).is_err());
    }
}

#[test]
fn what_is_open_and_what_runs_goes_on_when_the_daemon_is_killed() {
    let Some(mut world) = World::mounted("a daemon that is killed") else { return };
    let held = File::open(world.at("current/tool/large")).unwrap();
    let mut echo = Echo::start(&world.at("current/tool/bin/tool"));
    echo.check();
    world.kill();
    let mut bytes = vec![0; contents(1).1.len()];
    held.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == contents(1).1, "the kernel reads it by itself");
    echo.check();
    let gone = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(DISCONNECTED));
    };
    gone(fs::read_dir(&world.mnt).map(drop));
    gone(File::open(world.at("tool/2/large")).map(drop));
    gone(Command::new(world.at("tool/2/bin/tool")).status().map(drop));
    // Without a daemon commands work on the store itself.
    assert_eq!(world.state(&world.mnt).as_deref(), Some("dead"));
    assert_eq!(world.status()["daemon"], Value::Null);
    assert!(world.good(&["status"]).contains("none runs"));
    let line = world.json(&["ps"]).into_iter().find(|line| line["pid"] == json!(echo.pid())).unwrap();
    assert_eq!((&line["command"], &line["current"]), (&json!("tool"), &Value::Null), "{line}");
    world.good(&["use", "tool@2"]);
    // Over the dead mount, as it is.
    let mnt = world.mnt.to_str().unwrap().to_owned();
    world.good(&["mount", &mnt]);
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "2");
    assert_eq!(world.state(&world.mnt).as_deref(), Some("mounted"));
    bytes.fill(0);
    held.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == contents(1).1, "also with another mount in the place of its own");
    echo.check();
    world.good(&["umount", &mnt]);
    assert!(fs::read_dir(&world.mnt).unwrap().next().is_none());
}

#[test]
fn a_dead_mount_is_unmounted_with_and_without_a_daemon() {
    let Some(mut world) = World::mounted("unmounting a dead mount") else { return };
    let mnt = world.mnt.to_str().unwrap().to_owned();
    world.kill();
    world.good(&["umount", &mnt]);
    assert!(fs::read_dir(&world.mnt).unwrap().next().is_none());
    world.bad(3, &["umount", &mnt]);
    world.daemon = Some(world.start(&["--mount", &mnt]));
    world.kill();
    // Another daemon, which has nothing to do with it.
    world.daemon = Some(world.start(&[]));
    assert_eq!(world.state(&world.mnt).as_deref(), Some("dead"));
    world.good(&["umount", &mnt]);
    assert!(fs::read_dir(&world.mnt).unwrap().next().is_none());
}

#[test]
fn a_daemon_that_comes_back_serves_its_mount_again() {
    let Some(mut world) = World::mounted("a daemon that comes back") else { return };
    let mnt = world.mnt.to_str().unwrap().to_owned();
    for round in 0..3 {
        world.kill();
        // `--takeover` finds nobody to take over from.
        let again: &[&str] = if round == 1 { &["--takeover", "--mount", &mnt] } else { &["--mount", &mnt] };
        world.daemon = Some(world.start(again));
        assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
    }
}

#[test]
fn a_daemon_that_hangs_stalls_neither_status_nor_ps() {
    let Some(world) = World::mounted("a daemon that hangs") else { return };
    let mut echo = Echo::start(&world.at("current/tool/bin/tool"));
    echo.check();
    let (other, tree) = (world.path("other"), world.path("tree-1"));
    let (other, tree) = (other.to_str().unwrap(), tree.to_str().unwrap());
    world.good(&["--store", other, "add", tree, "--name", "x", "--version", "1"]);
    let daemon = world.daemon.as_ref().unwrap();
    daemon.stop();
    let said = world.good(&["--store", other, "status"]);
    let used = world.json(&["--store", other, "ps"]);
    daemon.signal(Signal::CONT);
    let of_echo = |line: &Value| line["pid"] == json!(echo.pid());
    let line = used.into_iter().find(of_echo).unwrap();
    assert_eq!((&line["version"], &line["current"]), (&json!("1"), &Value::Null), "{line}");
    let line = world.json(&["--store", other, "ps"]).into_iter().find(of_echo).unwrap();
    assert_eq!(line["current"], true, "{line}");
    assert!(said.contains(&format!("{}: hangs", world.mnt.display())), "{said}");
    let said = world.good(&["--store", other, "status"]);
    assert!(said.contains(&format!("{}: another's", world.mnt.display())), "{said}");
}

#[test]
fn a_mount_that_nobody_can_reach_hides_no_user_of_another() {
    let Some(mut world) = World::mounted("ps with a mount that cannot be reached") else { return };
    let echo = Echo::start(&world.at("current/tool/bin/tool"));
    let covered = world.place("covered");
    let hidden = world.place("covered/mnt");
    world.good(&["mount", hidden.to_str().unwrap()]);
    let over = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&covered).status().unwrap();
    assert!(over.success());
    let told = finish(world.command(&["ps", "--json"]).spawn().unwrap());
    let uncovered = Command::new("umount").arg(&covered).status().unwrap();
    assert!(uncovered.success());
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(text(&told.stderr).contains(hidden.to_str().unwrap()), "{}", text(&told.stderr));
    let lines = text(&told.stdout);
    assert!(lines.contains(&format!("\"pid\":{},", echo.pid())), "{lines}");
}

#[test]
fn a_mount_in_use_stays_and_is_told_of_by_name() {
    let Some(world) = World::mounted("unmounting what is in use") else { return };
    let mnt = world.mnt.to_str().unwrap().to_owned();
    let mut echo = Echo::start(&world.at("current/tool/bin/tool"));
    let inside = Sleeper::start(Command::new("sleep").arg("600").current_dir(world.at("tool/2")));
    let held = File::open(world.at("tool/1/small")).unwrap();
    let said = world.bad(5, &["umount", &mnt]);
    for who in [
        format!("{} (tool: exe tool/1/bin/tool)", echo.pid()),
        format!("{} (sleep: cwd tool/2)", inside.pid()),
        format!("{} (", std::process::id()),
        "open tool/1/small".to_owned(),
    ] {
        assert!(said.contains(&who), "{who} is not in: {said}");
    }
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1", "it is as it was");
    world.good(&["umount", &mnt, "--lazy"]);
    assert!(fs::read_dir(&world.mnt).unwrap().next().is_none());
    // Who uses it goes on.
    echo.check();
    let mut bytes = vec![0; contents(1).0.len()];
    held.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == contents(1).0);
    assert_eq!(world.state(&world.mnt).as_deref(), Some("detached"));
    // With the last of them it ends.
    drop((inside, held, echo));
    until("the mount to end", || {
        world.status()["mounts"].as_array().unwrap().iter().all(|one| one["path"] != mnt.as_str())
    });
}

#[test]
fn a_daemon_that_is_told_to_stop_ends_its_commands_and_mounts() {
    let Some(mut world) = World::mounted("SIGTERM") else { return };
    // A command that has begun may end.
    let mut adding = world.command(&["add", "-", "--file-name", "f", "--name", "late", "--version", "1"]);
    let mut adding = adding.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = adding.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"begun").unwrap();
    until("the command to run", || world.is_busy());
    let daemon = world.daemon.take().unwrap();
    daemon.signal(Signal::TERM);
    until("it to take no more commands", || !world.path("store/daemon.sock").exists());
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1", "mounts end last");
    std::io::Write::write_all(&mut input, b" and ended").unwrap();
    drop(input);
    let added = finish(adding);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert_eq!(daemon.ended(), Some(0));
    assert!(fs::read_dir(&world.mnt).unwrap().next().is_none(), "nothing stays mounted");
    assert_eq!(world.good(&["cat", "late@1:f"]), "begun and ended");
    assert!(!world.path("store/takeover.sock").exists());
}

#[test]
fn a_daemon_of_a_mount_that_could_not_be_made_ends_after_the_commands_that_use_it() {
    let Some(world) = World::new("a daemon with nothing to do") else { return };
    let daemon = world.start(&["--auto"]);
    let mut adding = world.command(&["add", "-", "--file-name", "f", "--name", "slow", "--version", "1"]);
    let mut adding = adding.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = adding.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"begun").unwrap();
    until("the command to run", || world.is_busy());
    world.bad(3, &["mount", "nowhere"]);
    assert!(world.is_busy(), "whoever uses it goes on");
    std::io::Write::write_all(&mut input, b" and ended").unwrap();
    drop(input);
    let added = finish(adding);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert_eq!(daemon.ended(), Some(0));
    assert_eq!(world.good(&["cat", "slow@1:f"]), "begun and ended");
}

#[test]
fn a_daemon_that_is_told_to_stop_while_its_mount_is_in_use_leaves_its_place() {
    let Some(mut world) = World::mounted("SIGTERM while in use") else { return };
    let mut echo = Echo::start(&world.at("current/tool/bin/tool"));
    let held = File::open(world.at("tool/1/large")).unwrap();
    let root = File::open(&world.mnt).unwrap();
    let daemon = world.daemon.take().unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(), Some(0));
    let flags = rustix::fs::OFlags::RDONLY;
    let opened = rustix::fs::openat(&root, "tool/2/small", flags, rustix::fs::Mode::empty());
    assert_eq!(opened.unwrap_err().raw_os_error(), DISCONNECTED);
    assert!(world.log().contains("it is in use; it goes from its place now"), "{}", world.log());
    assert!(fs::read_dir(&world.mnt).unwrap().next().is_none());
    echo.check();
    let mut bytes = vec![0; contents(1).1.len()];
    held.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == contents(1).1);
    // The place is free for the next.
    let mnt = world.mnt.to_str().unwrap().to_owned();
    world.daemon = Some(world.start(&["--mount", &mnt]));
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
}

#[test]
fn a_daemon_may_have_as_many_files_open_as_the_system_lets_it() {
    let Some(world) = World::new("the limit of open files") else { return };
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64; exec \"$0\" daemon", env!("CARGO_BIN_EXE_cairn")]);
    command.env("CAIRN_STORE", world.path("store")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut daemon = crate::world::Daemon { child: command.spawn().unwrap() };
    let mut said = String::new();
    std::io::Read::read_to_string(&mut daemon.child.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "ready\n");
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    assert_ne!(numbers[0], "64");
}
