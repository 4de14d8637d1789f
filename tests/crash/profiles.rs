//! Calls that change profiles, stopped at every sync and failing at every operation: a profile is as it was before a
//! call or as it is after it, never between, and what was acknowledged is there.
//!
//! What has to be there after each call is what a run without faults has made: every other run may only be somewhere
//! along that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cairn_store::io::{Fault, Sim};
use cairn_store::{ArtifactId, ProfileName, RefKey, Result, Store, UseOptions, View, Writer};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::seed::Chance;
use harness::stores::{add, options, with_threads, writer_on};

const STORE: &str = "/srv/store";
/// Ways in which the machine comes up, for each crash.
const REBOOTS: u64 = 12;
const HISTORIES: u64 = 300;
/// No opening of the store here makes more operations.
const OPENING_OPERATIONS: u64 = 40;

/// The releases: package, version, the command that it offers.
const RELEASES: [(&str, &str, &str); 4] =
    [("app", "1", "app"), ("app", "2", "app"), ("tool", "1", "tool"), ("other", "1", "app")];

/// One call.
#[derive(Debug, Clone, Copy)]
enum Call {
    /// Sets releases, by their place above, removes packages and prefers some, if a generation is current.
    Use {
        profile: &'static str,
        set: &'static [usize],
        remove: &'static [&'static str],
        prefer: &'static [&'static str],
        if_current: Option<u64>,
    },
    Switch(u64),
    Rollback(Option<u64>),
    Pin(u64),
    Unpin(u64),
    Prune {
        keep: usize,
    },
    /// Closes the writer and opens another.
    Reopen,
}

use Call::{Pin, Prune, Reopen, Rollback, Switch, Unpin, Use};

const fn set(profile: &'static str, set: &'static [usize]) -> Call {
    Use { profile, set, remove: &[], prefer: &[], if_current: None }
}

/// What every test runs, if nothing stops it.
const SCRIPT: [Call; 18] = [
    set("default", &[0, 2]),
    set("default", &[1]),
    set("canary", &[1, 2]),
    Pin(1),
    Reopen,
    Use { profile: "default", set: &[3], remove: &["tool"], prefer: &["other"], if_current: Some(2) },
    Rollback(None),
    Switch(3),
    Rollback(Some(1)),
    set("default", &[1, 2]),
    Use { profile: "default", set: &[], remove: &["app"], prefer: &[], if_current: None },
    Unpin(1),
    Pin(2),
    Prune { keep: 1 },
    Reopen,
    Rollback(None),
    Prune { keep: 0 },
    set("default", &[0]),
];

impl Call {
    /// Whether taking it twice is the same as taking it once.
    fn is_repeatable(self) -> bool {
        !matches!(self, Rollback(None) | Use { remove: [_, ..], .. } | Use { if_current: Some(_), .. })
    }
}

/// A generation: its parent, its packages, which are preferred.
type Generation = (Option<u64>, Vec<(String, ArtifactId)>, Vec<String>);

/// A profile, without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Profile {
    current: u64,
    last: u64,
    pins: Vec<u64>,
    generations: BTreeMap<u64, Generation>,
}

/// All profiles.
type State = BTreeMap<String, Profile>;

fn state(view: &View) -> State {
    let generation = |found: &cairn_store::Generation| {
        let packages = found.packages.iter();
        let packages =
            packages.map(|(name, package)| (format!("{name}@{}", package.version), package.artifact));
        (found.parent, packages.collect(), found.preferred.iter().map(ToString::to_string).collect())
    };
    let profile = |found: &cairn_store::Profile| Profile {
        current: found.current,
        last: found.last,
        pins: found.pins.iter().copied().collect(),
        generations: found.generations.iter().map(|(number, found)| (*number, generation(found))).collect(),
    };
    view.profiles.iter().map(|(name, found)| (name.to_string(), profile(found))).collect()
}

/// A machine whose store has the releases, all of it durable, and what the script makes of it.
struct World {
    machine: Sim,
    releases: Vec<(RefKey, ArtifactId)>,
    /// What is there before the first call, and after each.
    states: Vec<State>,
    operations: u64,
    syncs: u64,
}

impl World {
    fn new() -> Self {
        let (machine, scratch) = (Sim::new(0), Scratch::in_memory());
        let writer = writer_on(machine.clone(), Path::new(STORE)).unwrap();
        let release = |(package, version, command): &(&str, &str, &str)| {
            let source = scratch.join(format!("{package}-{version}"));
            let seed = package.len() as u64 * 10 + version.len() as u64;
            let program = Plan::File(Fill::Noise(seed), 3000, 0o755);
            let bin = Plan::Dir(Folder::from([(command.as_bytes().to_vec(), program)]), 0o755);
            make(&source, &Folder::from([(b"bin".to_vec(), bin)]));
            let ingested = add(&writer, &source, &with_threads(1, options(package, version)));
            (ingested.key, ingested.artifact)
        };
        let releases = RELEASES.iter().map(release).collect();
        drop(writer);
        machine.settle();
        let mut world = Self { machine, releases, states: Vec::new(), operations: 0, syncs: 0 };
        let sim = world.start(0);
        let mut writer = open(&sim).unwrap();
        world.states.push(state(&writer.names()));
        for call in SCRIPT {
            world.take(&mut writer, &sim, call).unwrap();
            world.states.push(state(&writer.names()));
        }
        (world.operations, world.syncs) = (sim.operations(), sim.syncs());
        world
    }

    /// A machine of its own where nothing has happened yet.
    fn start(&self, seed: u64) -> Sim {
        self.machine.reboot(seed)
    }

    fn take(&self, writer: &mut Writer, sim: &Sim, call: Call) -> Result<()> {
        let profile = ProfileName::default();
        match call {
            Use { profile, set, remove, prefer, if_current } => {
                let names = |of: &[&str]| of.iter().map(|name| name.parse().unwrap()).collect();
                let options = UseOptions {
                    profile: profile.parse().unwrap(),
                    set: set.iter().map(|place| self.releases[*place].clone()).collect(),
                    remove: names(remove),
                    prefer: names(prefer),
                    if_current,
                    platform: Some("linux/x86_64".parse().unwrap()),
                    allow_partial: false,
                };
                drop(writer.use_packages(&options)?);
            }
            Switch(to) => drop(writer.switch(&profile, to, None)?),
            Rollback(to) => drop(writer.rollback(&profile, to)?),
            Pin(number) => drop(writer.pin(&profile, number)?),
            Unpin(number) => drop(writer.unpin(&profile, number)?),
            Prune { keep } => drop(writer.prune(&writer.plan_prune(&profile, keep)?)?),
            Reopen => *writer = open(sim)?,
        }
        Ok(())
    }
}

fn open(sim: &Sim) -> Result<Writer> {
    writer_on(sim.clone(), Path::new(STORE))
}

/// How far a history has come: how many calls were acknowledged.
#[derive(Debug, Clone, Copy, Default)]
struct Done(usize);

impl World {
    /// What is found is what was acknowledged, or what the call would have made whose end was not seen: then it is done.
    fn settle(&self, found: &State, done: &mut Done, context: &str) {
        if *found == self.states[done.0] {
            return;
        }
        let call = SCRIPT.get(done.0);
        assert!(self.states.get(done.0 + 1) == Some(found), "{context}: {call:?} came between: {found:?}");
        // What can be repeated is, as by a user who does not know.
        if !call.is_some_and(|call| call.is_repeatable()) {
            done.0 += 1;
        }
    }

    /// Makes the calls that are left until one fails, or `patience` of them have: those are made again by the same
    /// writer.
    fn run(&self, sim: &Sim, done: &mut Done, patience: u32, context: &str) -> Result<()> {
        let mut patience = patience;
        let mut writer = open(sim)?;
        self.settle(&state(&writer.names()), done, context);
        while let Some(call) = SCRIPT.get(done.0) {
            let before = state(&writer.names());
            let taken = self.take(&mut writer, sim, *call);
            let after = state(&writer.names());
            match taken {
                Ok(()) => {
                    assert!(after == self.states[done.0 + 1], "{context}: {call:?} made {after:?}");
                    done.0 += 1;
                }
                Err(error) => {
                    assert!(after == before, "{context}: {call:?} failed and shows {after:?}");
                    if patience == 0 {
                        return Err(error);
                    }
                    patience -= 1;
                }
            }
        }
        Ok(())
    }

    /// Whoever opens the store to read finds a state that is allowed, and every package of it whole.
    fn check(&self, sim: &Sim, done: Done, context: &str) {
        let store = Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap();
        let view = store.view().unwrap_or_else(|error| panic!("{context}: {error}"));
        self.settle(&state(&view), &mut { done }, context);
        for artifact in view.artifacts() {
            let missing = store.missing(&artifact, &()).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(missing.is_nothing(), "{context}: {missing}");
        }
    }

    /// The machine works again: the rest of the script is done, and one more crash takes nothing away.
    fn go_on(&self, sim: &Sim, mut done: Done, seed: u64, context: &str) {
        sim.heal();
        self.run(sim, &mut done, 0, context).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let later = sim.reboot(seed);
        self.check(&later, done, &format!("{context}, and after one more crash"));
        let writer = open(&later).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        assert!(state(&writer.names()) == self.states[SCRIPT.len()], "{context}");
    }

    /// Makes the calls on a machine where something fails, twice where the writer lives on, and goes on after that, or
    /// after the plug was pulled.
    fn run_with_faults(&self, sim: &Sim, reboot: Option<u64>, context: &str) {
        let mut done = Done::default();
        // A failure that nobody noticed is one of a file that is derived.
        let _ = self.run(sim, &mut done, 1, context);
        sim.heal();
        let sim = reboot.map_or_else(|| sim.clone(), |seed| sim.reboot(seed));
        let context = format!("{context}, reboot {reboot:?}");
        self.check(&sim, done, &context);
        self.go_on(&sim, done, reboot.unwrap_or(0), &context);
    }
}

#[test]
fn a_crash_at_every_sync_leaves_a_profile_before_or_after_each_call() {
    let world = World::new();
    assert!(world.syncs > 12, "each change is synced: {}", world.syncs);
    for sync in 1..=world.syncs {
        for reboot in 0..REBOOTS {
            let context = format!("sync {sync} of {}, reboot {reboot}", world.syncs);
            let (sim, mut done) = (world.start(sync), Done::default());
            sim.crash_at_sync(sync);
            assert!(world.run(&sim, &mut done, 0, &context).is_err(), "{context}: nothing stopped it");
            let sim = sim.reboot(reboot);
            world.check(&sim, done, &context);
            world.go_on(&sim, done, reboot, &context);
        }
    }
}

#[test]
fn a_call_that_fails_changes_nothing_and_can_be_repeated() {
    let world = World::new();
    for at in 1..=world.operations {
        for fault in [Fault::Io, Fault::NoSpace] {
            for reboot in [None, Some(at)] {
                let sim = world.start(at);
                sim.fail_at(at, fault);
                world.run_with_faults(&sim, reboot, &format!("{fault:?} at operation {at}"));
            }
        }
    }
}

#[test]
fn two_failures_in_a_row_leave_a_profile_before_or_after_each_call() {
    let world = World::new();
    for at in 1..=world.operations {
        for distance in [1, 2, 4] {
            let sim = world.start(at);
            sim.fail_at(at, Fault::Io);
            sim.fail_at(at + distance, Fault::Io);
            world.run_with_faults(&sim, Some(at), &format!("EIO at operations {at} and {}", at + distance));
        }
    }
}

#[test]
fn a_disk_that_fills_up_leaves_a_profile_before_or_after_each_call() {
    let world = World::new();
    for at in 1..=world.operations {
        for reboot in [None, Some(at)] {
            let sim = world.start(at);
            sim.full_from(at);
            world.run_with_faults(&sim, reboot, &format!("a full disk from operation {at} on"));
        }
    }
}

#[test]
fn recovery_of_profiles_that_is_interrupted_is_done_again() {
    let world = World::new();
    for seed in 0..HISTORIES {
        let mut chance = Chance::new(seed);
        let (mut sim, mut done) = (world.start(seed), Done::default());
        let mut context = format!("history {seed}");
        sim.crash_at_operation(1 + chance.below(world.operations));
        // The number of operations may differ by a few, with the order in which threads get on: then it ends.
        let _ = world.run(&sim, &mut done, 0, &context);
        sim.crash();
        for again in 0..chance.below(4) {
            context += &format!(", interrupted recovery {again}");
            sim = sim.reboot(chance.below(1 << 32));
            world.check(&sim, done, &context);
            sim.crash_at_operation(1 + chance.below(OPENING_OPERATIONS));
            // It may end before it is interrupted.
            let _ = open(&sim);
        }
        world.go_on(&sim.reboot(seed), done, seed, &context);
    }
}
