//! A plan and its run.

use super::*;

#[test]
fn what_nobody_needs_goes_and_what_is_needed_stays() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    for number in 0..6 {
        trees.add(&writer, number).unwrap();
    }
    assert!(plan(&writer).is_nothing(), "{:?}", plan(&writer));
    for number in [1, 2, 3] {
        writer.remove_ref(&key(number), false).unwrap();
    }
    let left = BTreeSet::from([0, 4, 5]);
    let before = writer.packs().unwrap();
    let plan = plan(&writer);
    assert!(plan.freed_bytes > 60_000 && plan.garbage_chunks > 9, "{plan:?}");
    let collected = writer.collect(&plan, &CollectOptions::default(), &()).unwrap();
    assert!(collected.complete && collected.kept_back.is_empty(), "{collected:?}");
    check(&writer, &left, "by the writer");
    let after = writer.packs().unwrap();
    let bytes = |packs: &[crate::store::PackSummary]| packs.iter().map(|pack| pack.file_bytes).sum::<u64>();
    assert_eq!(bytes(&before) - bytes(&after), collected.freed_bytes - collected.written_bytes);
    // The plan said about what came of it.
    let freed = collected.freed_bytes - collected.written_bytes;
    assert!(freed.abs_diff(plan.freed_bytes) < freed / 10, "{freed} {plan:?}");
    assert!(self::plan(&writer).is_nothing());
    drop(writer);
    let sim = sim.reboot(7);
    check(&Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap(), &left, "after a restart");
    let writer = open(&sim).unwrap();
    for number in left {
        writer.remove_ref(&key(number), false).unwrap();
    }
    collect(&writer);
    assert!(writer.packs().unwrap().is_empty());
    assert!(crate::io::Io::names(&sim, &Path::new(STORE).join("packs")).unwrap().is_empty());
    trees.add(&writer, 3).unwrap();
    check(&writer, &BTreeSet::from([3]), "added again");
}

#[test]
fn a_pack_of_which_little_is_needed_is_written_again() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    // Its packs have what all share.
    trees.add(&writer, 0).unwrap();
    trees.add(&writer, 1).unwrap();
    writer.remove_ref(&key(0), false).unwrap();
    let plan = plan(&writer);
    let verdicts: Vec<&Verdict> = plan.packs.iter().map(|pack| &pack.verdict).collect();
    assert!(verdicts.contains(&&Verdict::Rewrite), "{plan:?}");
    let collected = collect(&writer);
    assert!(!collected.rewritten.is_empty() && !collected.made.is_empty(), "{collected:?}");
    check(&writer, &BTreeSet::from([1]), "written again");
    let all = CollectOptions { live_ratio: 1.0, ..CollectOptions::default() };
    assert!(writer.plan_collection(&all, &()).unwrap().is_nothing());
}

#[test]
fn many_small_packs_become_few() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    for number in 0..12 {
        trees.add(&writer, number).unwrap();
    }
    assert!(writer.packs().unwrap().len() >= 24);
    let collected = collect(&writer);
    assert_eq!(collected.made.len(), 2, "{collected:?}");
    assert_eq!(writer.packs().unwrap().len(), 2);
    check(&writer, &(0..12).collect(), "merged");
    assert!(plan(&writer).is_nothing());
}
