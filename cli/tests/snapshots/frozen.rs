//! Whoever is frozen is thawed, whatever becomes of the process that froze him.

use std::fs::{self, File};
use std::io::Read;

use harness::program::{finish, until};

use crate::world::World;

/// Commands that note what they do, and a round command that says so and then waits to be let go.
struct Stuck {
    freeze: String,
    thaw: String,
    round: String,
    here: String,
    go: String,
}

impl Stuck {
    fn new(world: &World) -> Self {
        let (here, go) = (world.fifo("here"), world.fifo("go"));
        let round = format!("echo here > {here}; cat {go} > /dev/null; echo 1");
        Self { freeze: world.note("freeze"), thaw: world.note("thaw"), round, here, go }
    }

    /// Returns when it is frozen, and waits.
    fn wait(&self) {
        let mut said = String::new();
        File::open(&self.here).unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "here\n");
    }

    fn arguments(&self) -> Vec<&str> {
        let Self { freeze, thaw, round, .. } = self;
        let create = ["snapshot", "create", "state", "live"];
        [&create[..], &["--freeze", freeze, "--thaw", thaw, "--round-cmd", round]].concat()
    }

    /// Lets the command end that outlived whoever ran it.
    fn let_go(&self) {
        drop(File::options().write(true).open(&self.go).unwrap());
    }
}

#[test]
fn the_next_snapshot_thaws_what_a_killed_command_left_frozen() {
    let world = World::new();
    let stuck = Stuck::new(&world);
    let mut child = world.command(&stuck.arguments()).spawn().unwrap();
    stuck.wait();
    child.kill().unwrap();
    child.wait().unwrap();
    stuck.let_go();
    assert_eq!(world.log(), ["freeze"]);
    assert_eq!(fs::read_dir(world.path("store/frozen")).unwrap().count(), 1);
    // Of another name, and with commands of its own.
    world.good(&["snapshot", "create", "other", "live", "--round", "7"]);
    assert_eq!(world.log(), ["freeze", "thaw"]);
    assert_eq!(fs::read_dir(world.path("store/frozen")).unwrap().count(), 0);
    world.good(&["snapshot", "create", "other", "live", "--round", "8"]);
    assert_eq!(world.log(), ["freeze", "thaw"]);
}

#[test]
fn the_next_daemon_thaws_what_a_killed_one_left_frozen() {
    let world = World::new();
    let stuck = Stuck::new(&world);
    let daemon = world.daemon(&[]);
    let client = world.command(&stuck.arguments()).spawn().unwrap();
    stuck.wait();
    daemon.kill();
    stuck.let_go();
    assert!(!finish(client).status.success());
    assert_eq!(world.log(), ["freeze"]);
    let _daemon = world.daemon(&[]);
    until("it to be thawed", || world.log() == ["freeze", "thaw"]);
    until("that to be noted", || fs::read_dir(world.path("store/frozen")).unwrap().count() == 0);
}

#[test]
fn a_daemon_that_ends_thaws_first() {
    let world = World::new();
    let stuck = Stuck::new(&world);
    let quoted = |text: &str| format!("{text:?}");
    world.configure(&format!(
        "every = \"10ms\"\nround_cmd = {}\nfreeze = {}\nthaw = {}",
        quoted(&stuck.round),
        quoted(&stuck.freeze),
        quoted(&stuck.thaw)
    ));
    let daemon = world.daemon(&[]);
    stuck.wait();
    assert_eq!(world.log(), ["freeze"]);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(world.log(), ["freeze", "thaw"]);
    assert_eq!(fs::read_dir(world.path("store/frozen")).unwrap().count(), 0);
}

#[test]
fn ctrl_c_thaws() {
    let world = World::new();
    let stuck = Stuck::new(&world);
    let child = world.command(&stuck.arguments()).spawn().unwrap();
    stuck.wait();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(finish(child).status.code(), Some(130));
    assert_eq!(world.log(), ["freeze", "thaw"]);
}
