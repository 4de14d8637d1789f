//! Profiles on a machine that crashes: acknowledged changes are there, others whole or not at all, and no number is
//! given twice.

use std::path::Path;
use std::sync::Arc;

use super::profile_tests::{add, delta};
use super::{Journal, Op};
use crate::Error;
use crate::generation::Profile;
use crate::io::{Io, Sim};
use crate::refs::{ProfileName, View};

const DIR: &str = "/store/journal";
const SEEDS: u64 = 60;
const STEPS: u64 = 16;

fn machine(seed: u64) -> Sim {
    let sim = Sim::new(seed);
    sim.create_dir_all(Path::new("/store")).unwrap();
    sim.settle();
    sim
}

fn profile(view: &View) -> Profile {
    view.profiles.get(&ProfileName::default()).cloned().unwrap_or_default()
}

/// What is done at step `n` to what there is: a generation that is shown at once, mostly.
fn change(found: &Profile, n: u64) -> Vec<Op> {
    let profile = ProfileName::default();
    let old = (found.current != 0).then_some(found.current);
    let oldest = found.generations.keys().next().copied();
    match (n % 5, oldest) {
        (2, Some(number)) if old != Some(number) => {
            vec![Op::SetCurrent { profile, old, number }]
        }
        (3, Some(number)) if found.pins.contains(&number) => vec![Op::Unpin { profile, number }],
        (3, Some(number)) => vec![Op::Pin { profile, number }],
        (4, Some(_)) => {
            let goes = |number: &&u64| **number != found.current && !found.pins.contains(number);
            let gone = found.generations.keys().filter(goes);
            gone.map(|number| Op::RemoveGeneration { profile: profile.clone(), number: *number }).collect()
        }
        _ => {
            let was = found
                .current()
                .and_then(|shown| shown.packages.values().next())
                .map(|package| package.version.to_string());
            let number = found.last + 1;
            let delta = delta(&[("p", was.as_deref(), Some(&format!("{n}.{number}")))]);
            vec![add(number, old, delta), Op::SetCurrent { profile, old, number }]
        }
    }
}

/// What was acknowledged, and what may be there instead of it.
#[derive(Default)]
struct Model {
    acknowledged: Profile,
    attempted: Option<Profile>,
    /// The highest number that anyone was told of.
    told: u64,
}

impl Model {
    fn settle(&mut self, found: Profile, context: &str) {
        let allowed = found == self.acknowledged || self.attempted.as_ref() == Some(&found);
        assert!(allowed, "{context}: {found:?}");
        assert!(found.last >= self.told, "{context}: numbers are given again");
        *self = Self { told: found.last, acknowledged: found, attempted: None };
    }
}

/// Opens and changes until something fails.
fn run(sim: &Sim, model: &mut Model, context: &str) -> Result<(), Error> {
    let mut journal = Journal::open_write(Arc::new(sim.clone()), Path::new(DIR))?.rolling_at(400);
    model.settle(profile(journal.view()), context);
    for n in 0..STEPS {
        let ops = change(&model.acknowledged, n);
        model.attempted = Some(after(journal.view(), &ops));
        journal.append(ops, "w", n)?;
        model.settle(profile(journal.view()), context);
    }
    Ok(())
}

/// The profile as it is with `ops`.
fn after(view: &View, ops: &[Op]) -> Profile {
    let mut view = view.clone();
    for (op, seq) in ops.iter().zip(view.seq + 1..) {
        assert!(super::apply::apply(&mut view, op, seq).is_ok(), "{op:?}");
    }
    profile(&view)
}

#[test]
fn a_crash_at_every_sync_keeps_generations_whole() {
    let sim = machine(0);
    run(&sim, &mut Model::default(), "dry run").unwrap();
    let syncs = sim.syncs();
    assert!(syncs > STEPS + 4, "segments roll: {syncs} syncs");
    for seed in 0..SEEDS {
        for n in 1..=syncs {
            let context = format!("seed {seed}, sync {n}");
            let (sim, mut model) = (machine(seed), Model::default());
            sim.crash_at_sync(n);
            run(&sim, &mut model, &context).unwrap_err();
            let sim = sim.reboot(seed);
            let (view, _) = Journal::open_read(&sim, Path::new(DIR)).unwrap();
            let found = profile(&view);
            assert!(found == model.acknowledged || model.attempted.as_ref() == Some(&found), "{context}");
            run(&sim, &mut model, &context).unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }
}
