//! A disk that fails under a daemon, and one that answers late.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use harness::faults::{Call, Fate, Faults};
use harness::program::{finish, text, until};

use crate::world::{Daemon, World, contents};

/// How long what does not need the disk may take while that hangs, at most.
const SOON: Duration = Duration::from_secs(5);

/// A mounted store whose daemon's disk can fail. The whole files that the kernel would read by itself are not made.
fn world(test: &str) -> Option<(World, Faults)> {
    let mut world = World::new(test)?;
    let faults = match Faults::make(&world.path("")) {
        Ok(faults) => faults,
        Err(error) => {
            eprintln!("SKIPPED: {test}: {error}");
            return None;
        }
    };
    world.daemon = Some(start(&world, &faults));
    Some((world, faults))
}

fn start(world: &World, faults: &Faults) -> Daemon {
    let log = File::options().create(true).append(true).open(world.path("log")).unwrap();
    let mut command = world.command(&["daemon", "--mount", world.mnt.to_str().unwrap()]);
    faults.apply(&mut command);
    let mut daemon = Daemon { child: command.stderr(log).spawn().unwrap() };
    assert!(daemon.is_ready(), "{}", world.log());
    daemon
}

/// Ends the daemon and starts another.
fn restart(world: &mut World, faults: &Faults) {
    let daemon = world.daemon.take().unwrap();
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.ended(), Some(0));
    world.daemon = Some(start(world, faults));
}

fn is_small(world: &World, version: u64) -> std::io::Result<bool> {
    fs::read(world.at(&format!("tool/{version}/small"))).map(|bytes| bytes == contents(version).0)
}

fn verify(world: &World) {
    let verified = finish(world.command(&["verify"]).spawn().unwrap());
    assert!(verified.status.success(), "{}", text(&verified.stdout));
}

#[test]
fn reads_that_the_disk_refuses_fail_and_are_good_again_when_it_is() {
    let Some((world, faults)) = world("a disk that cannot be read") else { return };
    assert!(is_small(&world, 1).unwrap());
    fs::metadata(world.at("tool/2/small")).unwrap();
    faults.plan(Call::Read, Fate::Io, "/packs/");
    let refused = fs::read(world.at("tool/2/small")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    assert!(is_small(&world, 1).unwrap(), "what is in memory is read");
    world.good(&["switch", "1"]);
    assert!(world.status()["daemon"].is_object());
    faults.heal();
    assert!(is_small(&world, 2).unwrap(), "it did not need another process");
    // What it could not read meanwhile it reads again, after a while.
    until("all to be found again", || finish(world.command(&["verify"]).spawn().unwrap()).status.success());
}

#[test]
fn a_pack_that_cannot_be_written_is_one_add_that_fails() {
    let Some((world, faults)) = world("a disk that takes no packs") else { return };
    let tree = world.path("tree-2");
    fs::write(tree.join("new"), harness::bytes::noise(77, 300_000)).unwrap();
    let add = ["add", tree.to_str().unwrap(), "--name", "tool", "--version", "3"];
    for fate in [Fate::Io, Fate::NoSpace] {
        for call in [Call::Write, Call::Sync] {
            faults.plan(call, fate, "/packs/");
            let said = world.bad(1, &add);
            let why = if fate == Fate::Io { "nput/output error" } else { "o space left" };
            assert!(said.contains(why), "{said}");
            assert!(is_small(&world, 1).unwrap() && !world.at("tool/3").exists());
            faults.heal();
        }
    }
    world.good(&add);
    assert!(fs::read(world.at("tool/3/new")).unwrap() == harness::bytes::noise(77, 300_000));
    verify(&world);
}

#[test]
fn a_journal_that_cannot_be_synced_ends_changes_and_not_reads() {
    let Some((mut world, faults)) = world("a journal that cannot be synced") else { return };
    world.good(&["tag", "tool@1", "stable"]);
    faults.plan(Call::Sync, Fate::Io, "/journal/");
    world.bad(1, &["tag", "tool@2", "next"]);
    faults.heal();
    // Whether it is on the disk nobody knows: nothing is tried as if it had not happened.
    let said = world.bad(1, &["use", "tool@2"]);
    assert!(said.contains("journal"), "{said}");
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
    assert!(is_small(&world, 2).unwrap());
    restart(&mut world, &faults);
    let tagged = world.json(&["ls", "tool@1"]).remove(0);
    assert_eq!(tagged["channels"][0], "stable", "it was acknowledged: {tagged}");
    world.good(&["use", "tool@2"]);
    assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "2");
    verify(&world);
}

#[test]
fn who_waits_for_a_disk_that_hangs_keeps_nobody_else_waiting() {
    let Some((world, faults)) = world("a disk that hangs") else { return };
    assert!(is_small(&world, 1).unwrap());
    let held = File::open(world.at("tool/1/small")).unwrap();
    fs::metadata(world.at("tool/2/small")).unwrap();
    faults.plan(Call::Read, Fate::Stalls, "/packs/");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| is_small(&world, 2).unwrap());
        let begun = Instant::now();
        let mut part = vec![0; 4096];
        held.read_exact_at(&mut part, 8192).unwrap();
        assert!(part == contents(1).0[8192..12288]);
        assert_eq!(fs::read_to_string(world.at("current/tool/version")).unwrap(), "1");
        world.good(&["switch", "1"]);
        assert!(world.status()["daemon"].is_object());
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert!(!waiting.is_finished());
        faults.heal();
        assert!(waiting.join().unwrap());
    });
    verify(&world);
}
