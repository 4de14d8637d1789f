//! A collection that drops, writes again and merges, on a machine that crashes at every sync and every operation, and
//! fails at every call. What is named is there, whole, whatever happens; what stopped is begun anew and comes to its end.

use super::*;
use crate::io::Fault;

#[derive(Debug, Clone, Copy)]
enum Step {
    Collect,
    Add(u64),
    Remove(u64),
    Reopen,
}

use Step::{Add, Collect, Remove, Reopen};

/// What was there before: enough small packs for a merge, some of which nobody needs.
const ADDED: u64 = 10;
const REMOVED: [u64; 4] = [1, 2, 3, 6];
/// Content that went comes back, into packs of the same names.
const SCRIPT: [Step; 9] =
    [Collect, Add(2), Remove(0), Remove(2), Collect, Reopen, Add(2), Remove(8), Collect];
const LEFT: [u64; 5] = [2, 4, 5, 7, 9];

#[derive(Debug, Clone, Default)]
struct Model {
    named: BTreeSet<u64>,
    /// What is named if the change was made whose end was not seen.
    attempted: Option<BTreeSet<u64>>,
}

impl Model {
    /// Takes over what the store says, if that is allowed.
    fn settle(&mut self, store: &Store, context: &str) -> Result<()> {
        let view = store.view()?;
        let named: BTreeSet<u64> =
            view.refs.keys().map(|key| key.version.as_str().parse().unwrap()).collect();
        assert!(
            named == self.named || self.attempted.as_ref() == Some(&named),
            "{context}: {named:?} {self:?}"
        );
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

fn run(sim: &Sim, trees: &Trees, model: &mut Model, context: &str) -> Result<()> {
    let mut writer = open(sim)?;
    model.settle(&writer, context)?;
    for step in SCRIPT {
        match step {
            Add(number) => model.change(number, true, || trees.add(&writer, number).map(drop))?,
            Remove(number) => {
                model.change(number, false, || writer.remove_ref(&key(number), true).map(drop))?
            }
            Collect => {
                let plan = writer.plan_collection(&CollectOptions::default(), &())?;
                writer.collect(&plan, &CollectOptions::default(), &())?;
            }
            Reopen => {
                drop(writer);
                writer = open(sim)?;
            }
        }
    }
    Ok(())
}

fn start(trees: &Trees) -> (Sim, Model) {
    let sim = Sim::new(0);
    let writer = open(&sim).unwrap();
    (0..ADDED).for_each(|number| _ = trees.add(&writer, number).unwrap());
    REMOVED.iter().for_each(|number| _ = writer.remove_ref(&key(*number), false).unwrap());
    drop(writer);
    sim.settle();
    let named = (0..ADDED).filter(|number| !REMOVED.contains(number)).collect();
    (sim, Model { named, attempted: None })
}

/// The machine is well again: nothing is lost, and the script comes to its end.
fn go_on(sim: &Sim, trees: &Trees, mut model: Model, context: &str) {
    sim.heal();
    let reader = Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap();
    model.settle(&reader, context).unwrap_or_else(|error| panic!("{context}: {error}"));
    check(&reader, &model.named, context);
    run(sim, trees, &mut model, context).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    let writer = open(sim).unwrap();
    collect(&writer);
    check(&writer, &LEFT.into_iter().collect(), context);
    assert!(plan(&writer).is_nothing(), "{context}: {:?}", plan(&writer));
    drop(writer);
    let packs = sim.names(&Path::new(STORE).join("packs")).unwrap();
    assert!(packs.iter().all(|name| name.ends_with(".pack")), "{context}: {packs:?}");
    check(&reader, &LEFT.into_iter().collect(), &format!("{context}, a reader who was there all the time"));
    let again = Store::open_with(Arc::new(sim.reboot(1)), Path::new(STORE)).unwrap();
    check(&again, &LEFT.into_iter().collect(), &format!("{context}, and after one more crash"));
}

fn length(trees: &Trees) -> (u64, u64) {
    let (sim, mut model) = start(trees);
    let (operations, syncs) = (sim.operations(), sim.syncs());
    run(&sim, trees, &mut model, "in peace").unwrap();
    assert_eq!(model.named, LEFT.into_iter().collect());
    (sim.operations() - operations, sim.syncs() - syncs)
}

/// Every so many of the operations are tried, or all of them with `CAIRN_ALL=1`.
fn stride(every: usize) -> usize {
    if std::env::var_os("CAIRN_ALL").is_some() { 1 } else { every }
}

#[test]
fn a_crash_at_every_sync_loses_nothing() {
    let trees = Trees::new();
    let (_, syncs) = length(&trees);
    assert!(syncs > 20, "{syncs}");
    for sync in 1..=syncs {
        for reboot in 0..3 {
            let context = format!("sync {sync} of {syncs}, reboot {reboot}");
            let (sim, mut model) = start(&trees);
            sim.crash_at_sync(sync);
            let done = run(&sim, &trees, &mut model, &context);
            assert!(done.is_err() || sim.crashed(), "{context}");
            go_on(&sim.reboot(reboot), &trees, model, &context);
        }
    }
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    let trees = Trees::new();
    let (operations, _) = length(&trees);
    for at in (1..=operations).step_by(stride(7)) {
        let context = format!("operation {at} of {operations}");
        let (sim, mut model) = start(&trees);
        sim.crash_at_operation(at);
        let _ = run(&sim, &trees, &mut model, &context);
        go_on(&sim.reboot(at), &trees, model, &context);
    }
}

#[test]
fn a_call_that_fails_loses_nothing() {
    let trees = Trees::new();
    let (operations, _) = length(&trees);
    for at in (1..=operations).step_by(stride(7)) {
        for (fault, reboots) in [(Fault::Io, at % 2 == 0), (Fault::NoSpace, at % 3 == 0)] {
            let context = format!("{fault:?} at operation {at} of {operations}, reboot {reboots}");
            let (sim, mut model) = start(&trees);
            sim.fail_at(at, fault);
            let _ = run(&sim, &trees, &mut model, &context);
            sim.heal();
            let sim = if reboots { sim.reboot(at) } else { sim };
            go_on(&sim, &trees, model, &context);
        }
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing() {
    let trees = Trees::new();
    let (operations, _) = length(&trees);
    for at in (1..=operations).step_by(stride(11)) {
        let context = format!("a full disk from operation {at} of {operations} on");
        let (sim, mut model) = start(&trees);
        sim.full_from(at);
        let _ = run(&sim, &trees, &mut model, &context);
        go_on(&sim, &trees, model, &context);
    }
}

/// A pack that cannot be written is no damage of the one that is copied to it: what others had put there is lost with it.
#[test]
fn no_call_of_a_rewrite_that_fails_loses_what_is_in_memory_only() {
    let trees = Trees::new();
    let begin = || {
        let sim = Sim::new(0);
        let writer = open(&sim).unwrap();
        (0..12).for_each(|number| _ = trees.add(&writer, number).unwrap());
        (0..6).for_each(|number| _ = writer.remove_ref(&key(2 * number), false).unwrap());
        let plan = plan(&writer);
        (sim, writer, plan)
    };
    let left: BTreeSet<u64> = (0..6).map(|number| 2 * number + 1).collect();
    let (sim, writer, plan) = begin();
    let before = sim.operations();
    writer.collect(&plan, &CollectOptions::default(), &()).unwrap();
    for at in 1..=sim.operations() - before {
        let (sim, writer, plan) = begin();
        sim.fail_at(at, Fault::Io);
        let _ = writer.collect(&plan, &CollectOptions::default(), &());
        sim.heal();
        check(&writer, &left, &format!("the writer after operation {at}"));
        check(
            &Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap(),
            &left,
            &format!("operation {at}"),
        );
        collect(&open(&sim).unwrap());
        check(&writer, &left, &format!("operation {at}, later"));
    }
}
