//! The journal on a machine that crashes and fails: what was acknowledged is there, and a group is there whole or not
//! at all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::tests::{key, record};
use super::{Journal, Op, log};
use crate::Error;
use crate::id::ArtifactId;
use crate::io::{Fault, Sim};
use crate::refs::{RefKey, View};

const DIR: &str = "/store/journal";
const SEEDS: u64 = 300;
const GROUPS: u64 = 14;

type Refs = BTreeMap<RefKey, ArtifactId>;

fn refs(view: &View) -> Refs {
    view.refs.iter().map(|(key, record)| (key.clone(), record.artifact)).collect()
}

/// What was acknowledged, and the group whose fate is not known.
#[derive(Clone, Default)]
struct Model {
    acknowledged: Refs,
    attempted: Option<Refs>,
}

impl Model {
    fn allows(&self, found: &Refs) -> bool {
        *found == self.acknowledged || self.attempted.as_ref() == Some(found)
    }

    /// A writer that opened has seen what there is, and it is durable from then on.
    fn opened(&mut self, view: &View, context: &str) {
        let found = refs(view);
        assert!(self.allows(&found), "{context}: found {found:?}");
        *self = Self { acknowledged: found, attempted: None };
    }
}

fn machine(seed: u64) -> Sim {
    use crate::io::Io;
    let sim = Sim::new(seed);
    sim.create_dir_all(Path::new("/store")).unwrap();
    sim.settle();
    sim
}

fn open(sim: &Sim) -> Result<Journal, Error> {
    Ok(Journal::open_write(Arc::new(sim.clone()), Path::new(DIR))?.rolling_at(600))
}

/// Two refs that change together: made, replaced or removed, as `n` says.
fn group(now: &Refs, n: u64) -> (Vec<Op>, Refs) {
    let mut after = now.clone();
    let mut ops = Vec::new();
    for name in ["left", "right"] {
        let key = key(name, &format!("{}.0", n % 5));
        let old = now.get(&key).copied();
        match old {
            Some(old) if n.is_multiple_of(3) => {
                after.remove(&key);
                ops.push(Op::RemoveRef { key, old });
            }
            _ => {
                let artifact = ArtifactId::of(format!("{name} {n}").as_bytes());
                after.insert(key.clone(), artifact);
                ops.push(Op::SetRef { key, old, record: record(artifact) });
            }
        }
    }
    (ops, after)
}

/// Opens and appends until something fails.
fn run(sim: &Sim, model: &mut Model, context: &str) -> Result<(), Error> {
    run_for(GROUPS, sim, model, context)
}

fn run_for(groups: u64, sim: &Sim, model: &mut Model, context: &str) -> Result<(), Error> {
    let mut journal = open(sim)?;
    model.opened(journal.view(), context);
    for n in 0..groups {
        let (ops, after) = group(&model.acknowledged, n);
        model.attempted = Some(after.clone());
        if let Err(error) = journal.append(ops, "w@h", n) {
            assert_eq!(refs(journal.view()), model.acknowledged, "{context}");
            if matches!(error, Error::Full { .. }) {
                // Nothing happened, and it goes on.
                model.attempted = None;
                check(sim, model, context);
                return Err(error);
            }
            let (ops, _) = group(&model.acknowledged, n);
            let again = journal.append(ops, "w@h", n);
            assert!(matches!(again, Err(Error::Poisoned { .. })), "{context}: {again:?}");
            return Err(error);
        }
        *model = Model { acknowledged: after, attempted: None };
        assert_eq!(refs(journal.view()), model.acknowledged);
    }
    Ok(())
}

/// What anyone sees is whole, and the log can be read to its end and leads to the same.
fn check(sim: &Sim, model: &Model, context: &str) {
    let (view, _) =
        Journal::open_read(sim, Path::new(DIR)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(model.allows(&refs(&view)), "{context}: found {view:?}");
    let mut told = Refs::new();
    for record in log(Arc::new(sim.clone()), Path::new(DIR)).unwrap() {
        match record.unwrap_or_else(|error| panic!("{context}: {error}")).op {
            Op::SetRef { key, record, .. } => drop(told.insert(key, record.artifact)),
            Op::RemoveRef { key, .. } => drop(told.remove(&key)),
            _ => {}
        }
    }
    assert_eq!(told, refs(&view), "{context}");
}

/// Reboots, crashes in recovery as often as `seed` says, and goes on writing.
fn recover(sim: Sim, mut model: Model, seed: u64, context: &str) {
    let mut sim = sim.reboot(seed);
    check(&sim, &model, context);
    for crash in 0..seed % 4 {
        sim.crash_at_operation(1 + (seed / 4 + crash * 3) % 12);
        match open(&sim) {
            Ok(journal) => model.opened(journal.view(), context),
            Err(error) => assert!(sim.crashed(), "{context}: {error}"),
        }
        sim = sim.reboot(seed ^ (crash + 1) << 32);
        check(&sim, &model, context);
    }
    sim.heal();
    run(&sim, &mut model, context).unwrap_or_else(|error| panic!("{context}: {error}"));
    let sim = sim.reboot(seed);
    assert!(model.attempted.is_none());
    check(&sim, &model, context);
}

/// The syncs and the operations of a run in which nothing fails.
fn dry_run() -> (u64, u64) {
    let sim = machine(0);
    let before = sim.operations();
    run(&sim, &mut Model::default(), "dry run").unwrap();
    (sim.syncs(), sim.operations() - before)
}

#[test]
fn a_crash_at_every_sync_loses_nothing_acknowledged() {
    let (syncs, _) = dry_run();
    assert!(syncs > GROUPS + 4, "the run rolls segments: {syncs} syncs");
    for seed in 0..SEEDS {
        for n in 1..=syncs {
            let context = format!("seed {seed}, sync {n}");
            let (sim, mut model) = (machine(seed), Model::default());
            sim.crash_at_sync(n);
            run(&sim, &mut model, &context).unwrap_err();
            recover(sim, model, seed, &context);
        }
    }
}

#[test]
fn a_crash_at_every_operation_loses_nothing_acknowledged() {
    let (_, operations) = dry_run();
    for seed in 0..SEEDS / 6 {
        for n in 1..=operations {
            let context = format!("seed {seed}, operation {n}");
            let (sim, mut model) = (machine(seed), Model::default());
            sim.crash_at_operation(n);
            run(&sim, &mut model, &context).unwrap_err();
            recover(sim, model, seed, &context);
        }
    }
}

#[test]
fn a_failure_of_every_operation_loses_nothing_acknowledged() {
    let (_, operations) = dry_run();
    for seed in 0..SEEDS / 3 {
        for n in 1..=operations {
            let fault = if seed % 2 == 0 { Fault::Io } else { Fault::NoSpace };
            let context = format!("seed {seed}, operation {n}, {fault:?}");
            let (sim, mut model) = (machine(seed), Model::default());
            sim.fail_at(n, fault);
            if run(&sim, &mut model, &context).is_ok() {
                continue;
            }
            check(&sim, &model, &context);
            // The machine stays up: the next writer meets what the system believes to be written.
            if seed % 3 != 0 {
                let again = run_for(seed % 5, &sim, &mut model, &context);
                again.unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            recover(sim, model, seed, &context);
        }
    }
}

#[test]
fn a_full_disk_leaves_the_journal_as_it_was() {
    let (_, operations) = dry_run();
    for n in 1..=operations {
        let context = format!("full from operation {n}");
        let (sim, mut model) = (machine(n), Model::default());
        sim.full_from(n);
        if run(&sim, &mut model, &context).is_ok() {
            continue;
        }
        check(&sim, &model, &context);
        sim.heal();
        run(&sim, &mut model, &context).unwrap_or_else(|error| panic!("{context}: {error}"));
        recover(sim, model, n, &context);
    }
}
