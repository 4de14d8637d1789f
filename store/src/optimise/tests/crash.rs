//! Telling versions anew and collecting, on a machine that crashes at every sync and operation, and fails at every call.
//! What is named is there, whole, whatever happens; what stopped is begun anew and comes to its end.

use super::*;
use crate::io::Fault;

#[derive(Debug, Clone, Copy)]
enum Step {
    Optimise,
    Collect,
    Add(u64),
    Remove(u64),
    Reopen,
}

use Step::{Add, Collect, Optimise, Remove, Reopen};

const BYTES: usize = 60_000;
const ADDED: u64 = 4;
/// Versions are told in terms of one that is then told itself, and of some that go.
const SCRIPT: [Step; 10] =
    [Optimise, Add(4), Optimise, Remove(2), Collect, Reopen, Add(2), Remove(4), Optimise, Collect];
const LEFT: [u64; 4] = [0, 1, 2, 3];

#[derive(Debug, Clone, Default)]
struct Model {
    named: BTreeSet<u64>,
    /// What is named if the change was made whose end was not seen.
    attempted: Option<BTreeSet<u64>>,
}

impl Model {
    fn settle(&mut self, store: &Store, context: &str) -> Result<()> {
        let view = store.view()?;
        let named: BTreeSet<u64> =
            view.refs.keys().map(|key| key.version.as_str().parse().unwrap()).collect();
        let is_allowed = named == self.named || self.attempted.as_ref() == Some(&named);
        assert!(is_allowed, "{context}: {named:?} {self:?}");
        *self = Self { named, attempted: None };
        Ok(())
    }

    fn change(&mut self, number: u64, is_named: bool, change: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.named.contains(&number) == is_named {
            return Ok(());
        }
        let mut after = self.named.clone();
        if is_named {
            after.insert(number)
        } else {
            after.remove(&number)
        };
        self.attempted = Some(after.clone());
        change()?;
        *self = Self { named: after, attempted: None };
        Ok(())
    }
}

fn run(sim: &Sim, builds: &Builds, model: &mut Model, context: &str) -> Result<()> {
    let mut writer = open(sim)?;
    model.settle(&writer, context)?;
    for step in SCRIPT {
        match step {
            Add(number) => model.change(number, true, || builds.add(&writer, number).map(drop))?,
            Remove(number) => {
                model.change(number, false, || writer.remove_ref(&key(number), true).map(drop))?
            }
            Optimise => _ = optimise(&writer)?,
            Collect => _ = collect(&writer)?,
            Reopen => {
                drop(writer);
                writer = open(sim)?;
            }
        }
    }
    Ok(())
}

fn start(builds: &Builds) -> (Sim, Model) {
    let sim = Sim::new(0);
    let writer = open(&sim).unwrap();
    (0..ADDED).for_each(|number| _ = builds.add(&writer, number).unwrap());
    drop(writer);
    sim.settle();
    (sim, Model { named: (0..ADDED).collect(), attempted: None })
}

/// The machine is well again: nothing is lost, and the script comes to its end.
fn go_on(sim: &Sim, builds: &Builds, mut model: Model, context: &str) {
    sim.heal();
    let reader = read_only(sim);
    model.settle(&reader, context).unwrap_or_else(|error| panic!("{context}: {error}"));
    builds.check(&reader, &model.named, context);
    run(sim, builds, &mut model, context).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    let writer = open(sim).unwrap();
    let left = LEFT.into_iter().collect();
    for _ in 0..3 {
        assert!(optimise(&writer).unwrap().complete);
        assert!(collect(&writer).unwrap().complete);
        builds.check(&writer, &left, context);
    }
    drop(writer);
    let packs = sim.names(&Path::new(STORE).join("packs")).unwrap();
    assert!(packs.iter().all(|name| name.ends_with(".pack")), "{context}: {packs:?}");
    builds.check(&reader, &left, &format!("{context}, a reader who was there all the time"));
    let again = Store::open_with(Arc::new(sim.reboot(1)), Path::new(STORE)).unwrap();
    builds.check(&again, &left, &format!("{context}, and after one more crash"));
}

fn length(builds: &Builds) -> (u64, u64) {
    let (sim, mut model) = start(builds);
    let (operations, syncs) = (sim.operations(), sim.syncs());
    run(&sim, builds, &mut model, "in peace").unwrap();
    assert_eq!(model.named, LEFT.into_iter().collect());
    assert!(told(&read_only(&sim), 0).contains(&true));
    (sim.operations() - operations, sim.syncs() - syncs)
}

/// Every so many of the operations are tried, or all of them with `CAIRN_ALL=1`.
fn stride(every: usize) -> usize {
    if std::env::var_os("CAIRN_ALL").is_some() { 1 } else { every }
}

#[test]
fn a_crash_at_every_sync_loses_nothing() {
    let builds = Builds::new(BYTES);
    let (_, syncs) = length(&builds);
    assert!(syncs > 20, "{syncs}");
    for sync in 1..=syncs {
        for reboot in 0..2 {
            let context = format!("sync {sync} of {syncs}, reboot {reboot}");
            let (sim, mut model) = start(&builds);
            sim.crash_at_sync(sync);
            let done = run(&sim, &builds, &mut model, &context);
            assert!(done.is_err() || sim.crashed(), "{context}");
            go_on(&sim.reboot(reboot), &builds, model, &context);
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    let builds = Builds::new(BYTES);
    let (operations, _) = length(&builds);
    for at in (1..=operations).step_by(stride(13)) {
        let context = format!("operation {at} of {operations}");
        let (sim, mut model) = start(&builds);
        sim.crash_at_operation(at);
        let _ = run(&sim, &builds, &mut model, &context);
        go_on(&sim.reboot(at), &builds, model, &context);
    }
}

#[test]
fn a_call_that_fails_loses_nothing() {
    let builds = Builds::new(BYTES);
    let (operations, _) = length(&builds);
    for at in (1..=operations).step_by(stride(13)) {
        for (fault, reboots) in [(Fault::Io, at % 2 == 0), (Fault::NoSpace, at % 3 == 0)] {
            let context = format!("{fault:?} at operation {at} of {operations}, reboot {reboots}");
            let (sim, mut model) = start(&builds);
            sim.fail_at(at, fault);
            let _ = run(&sim, &builds, &mut model, &context);
            sim.heal();
            let sim = if reboots { sim.reboot(at) } else { sim };
            go_on(&sim, &builds, model, &context);
        }
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing() {
    let builds = Builds::new(BYTES);
    let (operations, _) = length(&builds);
    for at in (1..=operations).step_by(stride(17)) {
        let context = format!("a full disk from operation {at} of {operations} on");
        let (sim, mut model) = start(&builds);
        sim.full_from(at);
        let _ = run(&sim, &builds, &mut model, &context);
        go_on(&sim, &builds, model, &context);
    }
}
