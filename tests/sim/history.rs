//! A history: steps, and what goes wrong meanwhile; how it is made from a seed, run, and shortened when it fails.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use cairn_store::io::Fault;
use harness::seed::Chance;

use crate::machine::Machine;
use crate::steps::Step;
use crate::tally::Tally;
use crate::world::World;

/// Steps of a history, at most.
const STEPS_MAX: u64 = 22;
/// Steps that fail before whoever takes them gives up.
const PATIENCE: u32 = 3;
/// How often a shorter history is run to see whether it fails too: threads do not repeat exactly.
const TRIES: u32 = 3;

/// What is to happen.
#[derive(Debug, Clone)]
pub(crate) struct History {
    seed: u64,
    steps: Vec<Step>,
    chapters: Vec<Chapter>,
}

/// Some steps in a row under one misfortune.
#[derive(Debug, Clone)]
struct Chapter {
    steps: u64,
    trouble: Trouble,
    /// Whether the power fails at its end in any case; with what the machine comes up.
    reboot: Option<u64>,
    /// In which operation each attempt to recover is stopped, and with what the machine comes up then.
    recoveries: Vec<(u64, u64)>,
    /// Whether somebody else writes after it.
    reopens: bool,
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    None,
    CrashAtOperation(u64),
    CrashAtSync(u64),
    Fails(u64, Fault),
    /// Two operations, so many from one another.
    FailTwice(u64, u64, Fault),
    FullFrom(u64),
    /// The disk has so many bytes left.
    Left(u64),
}

impl Chapter {
    fn by(chance: &mut Chance) -> Self {
        let range = [12, 60, 250][usize::try_from(chance.below(3)).unwrap_or(0)];
        let at = 1 + chance.below(range);
        let fault = if chance.below(2) == 0 { Fault::Io } else { Fault::NoSpace };
        let trouble = match chance.below(14) {
            0 => Trouble::None,
            1..5 => Trouble::CrashAtOperation(at),
            5..7 => Trouble::CrashAtSync(1 + chance.below(20)),
            7..9 => Trouble::Fails(at, fault),
            9 => Trouble::FailTwice(at, 1 + chance.below(12), fault),
            10..12 => Trouble::Left(chance.below(12) * chance.below(12) * 512),
            _ => Trouble::FullFrom(at),
        };
        let recovery = |chance: &mut Chance| (1 + chance.below(45), chance.below(1 << 32));
        let recoveries = (0..chance.below(6).saturating_sub(2)).map(|_| recovery(chance)).collect();
        Self {
            steps: 2 + chance.below(6),
            trouble,
            reboot: Some(chance.below(1 << 32)).filter(|seed| seed % 3 == 0),
            recoveries,
            reopens: chance.below(2) == 0,
        }
    }
}

impl History {
    /// The one that belongs to a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut steps = Vec::new();
        if chance.below(4) == 0 {
            steps.extend(Step::releases(&mut chance));
        }
        for _ in 0..4 + chance.below(STEPS_MAX - 3) {
            steps.push(Step::by(&mut chance));
        }
        let chapters = (0..1 + chance.below(4)).map(|_| Chapter::by(&mut chance)).collect();
        Self { seed, steps, chapters }
    }

    /// Runs it, and says what did not hold.
    pub(crate) fn run(&self, world: &World) -> Result<Tally, String> {
        quietly(|| self.run_or_panic(world))
    }

    fn run_or_panic(&self, world: &World) -> Tally {
        let mut machine = Machine::new(world, self.seed);
        let mut left = &self.steps[..];
        for chapter in &self.chapters {
            left = chapter.run(&mut machine, left);
        }
        // From here on all is well.
        machine.close();
        for step in left {
            let taken = machine.take(*step);
            taken.unwrap_or_else(|error| assert!(machine.may_fail(&error), "{step:?}: {error:?}"));
        }
        machine.check();
        machine.reboot(self.seed);
        machine.check();
        machine.end().unwrap_or_else(|error| panic!("{error:?}"));
        machine.tally.histories = 1;
        machine.tally
    }

    /// A shorter one that fails too, and how it does.
    pub(crate) fn shortened(self, world: &World, failure: String) -> (Self, String) {
        let (mut shortest, mut failure) = (self, failure);
        loop {
            let found = shortest.shorter().into_iter().find_map(|shorter| {
                let failed = (0..TRIES).find_map(|_| shorter.run(world).err());
                failed.map(|failed| (shorter, failed))
            });
            match found {
                Some(shorter) => (shortest, failure) = shorter,
                None => return (shortest, failure),
            }
        }
    }

    /// It without one of its parts, each in turn.
    fn shorter(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for place in 0..self.chapters.len() {
            let mut shorter = self.clone();
            shorter.chapters.remove(place);
            all.push(shorter);
        }
        for place in (0..self.steps.len()).rev() {
            let mut shorter = self.clone();
            shorter.steps.remove(place);
            all.push(shorter.clone());
            // The step was in one of the chapters: those after it still begin where they did.
            let mut before = 0;
            for chapter in 0..shorter.chapters.len() {
                before += usize::try_from(shorter.chapters[chapter].steps).unwrap_or(usize::MAX);
                if place < before {
                    shorter.chapters[chapter].steps -= 1;
                    all.push(shorter);
                    break;
                }
            }
        }
        for place in 0..self.chapters.len() {
            for recovery in 0..self.chapters[place].recoveries.len() {
                let mut shorter = self.clone();
                shorter.chapters[place].recoveries.remove(recovery);
                all.push(shorter);
            }
        }
        all
    }
}

impl Chapter {
    /// Takes some steps, and gives those that are left.
    fn run<'s>(&self, machine: &mut Machine<'_>, steps: &'s [Step]) -> &'s [Step] {
        self.plan(machine);
        let (mut left, mut patience) = (steps, PATIENCE);
        for _ in 0..self.steps {
            let Some((step, rest)) = left.split_first() else { break };
            left = rest;
            if let Err(error) = machine.take(*step) {
                assert!(machine.may_fail(&error), "{step:?}: {error:?}");
                machine.tally.failed += 1;
                patience -= 1;
            }
            if machine.sim.crashed() || patience == 0 {
                break;
            }
        }
        machine.tally.faults += machine.sim.failures();
        let has_crashed = machine.sim.crashed();
        machine.sim.heal();
        if has_crashed || self.reboot.is_some() {
            machine.tally.crashes += u64::from(has_crashed);
            machine.reboot(self.reboot.unwrap_or(self.steps));
            machine.check();
            for (at, seed) in &self.recoveries {
                machine.sim.crash_at_operation(*at);
                // It may end before it is stopped.
                let _ = machine.open();
                let was_stopped = u64::from(machine.sim.crashed());
                machine.tally.crashes += was_stopped;
                machine.tally.in_recovery += was_stopped;
                machine.reboot(*seed);
                machine.check();
            }
        } else {
            machine.check();
            // Whoever met a failure may not go on.
            if self.reopens || patience < PATIENCE || machine.sim.failures() > 0 {
                machine.close();
            }
        }
        left
    }

    fn plan(&self, machine: &Machine<'_>) {
        let sim = &machine.sim;
        match self.trouble {
            Trouble::None => {}
            Trouble::CrashAtOperation(at) => sim.crash_at_operation(at),
            Trouble::CrashAtSync(at) => sim.crash_at_sync(at),
            Trouble::Fails(at, fault) => sim.fail_at(at, fault),
            Trouble::FailTwice(at, distance, fault) => {
                sim.fail_at(at, fault);
                sim.fail_at(at + distance, fault);
            }
            Trouble::FullFrom(at) => sim.full_from(at),
            Trouble::Left(bytes) => sim.set_capacity(Some(sim.used() + bytes)),
        }
    }
}

thread_local! {
    /// Whether what this thread says when it panics is wanted.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Lets threads that run histories panic in silence: what they say is told once, when the history was shortened.
pub(crate) fn keep_quiet() {
    let loud = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            loud(info);
        }
    }));
}

fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    QUIET.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    ended.map_err(|said| match said.downcast::<String>() {
        Ok(text) => *text,
        Err(said) => said.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned()),
    })
}
