//! An import on a machine that crashes and fails: every artifact that is named is there with all of it, what was
//! acknowledged stays, and the next import goes on from what was kept.

use std::path::Path;

use cairn_store::archive::{ArchiveReader, ArchiveRequest, ImportOptions, Imported};
use cairn_store::io::{Fault, Sim};
use cairn_store::{RefKey, Result, Store};
use harness::bytes::noise;
use harness::plan::{Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, read_file, verify, with_threads, writer, writer_on};

const STORE: &str = "/srv/store";
/// Ways in which the machine comes up, for each crash.
const REBOOTS: u64 = 3;

/// An archive of two versions, from a store on a machine that does not fail.
struct World {
    keys: Vec<RefKey>,
    long: Vec<u8>,
    archive: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::in_memory();
        let from = writer(&scratch.join("from"));
        let long = noise(99, 300_000);
        let mut keys = Vec::new();
        for version in ["1.0", "1.1"] {
            let source = scratch.join(version);
            let small = (0..30u64).map(|n| (n.to_string().into_bytes(), Plan::Bytes(noise(n, 700))));
            let rest = [
                (b"long".to_vec(), Plan::Bytes(long.clone())),
                (b"version".to_vec(), Plan::Bytes(version.repeat(90).into_bytes())),
            ];
            make(&source, &small.chain(rest).collect::<Folder>());
            keys.push(add(&from, &source, &with_threads(1, options("app", version))).key);
        }
        from.origin().unwrap();
        let specs = ["app@1.0", "app@1.1"].map(|spec| spec.parse().unwrap()).to_vec();
        let request =
            ArchiveRequest { specs, platform: Some(keys[0].platform.clone()), ..ArchiveRequest::default() };
        let plan = from.plan_archive(&request, &()).unwrap();
        let mut archive = Vec::new();
        from.write_archive(&plan, &mut archive, Path::new("archive"), &()).unwrap();
        Self { keys, long, archive }
    }

    fn import(&self, sim: &Sim) -> Result<Imported> {
        let to = writer_on(sim.clone(), Path::new(STORE))?;
        let mut bytes = &self.archive[..];
        let reader = ArchiveReader::open(&mut bytes, Path::new("archive"))?;
        to.import_archive(reader, &ImportOptions::default(), &())
    }

    /// What has to hold whenever the machine comes up. Gives how many are named.
    fn check(&self, sim: &Sim, context: &str) -> usize {
        let Ok(store) = Store::open_with(std::sync::Arc::new(sim.clone()), Path::new(STORE)) else {
            return 0;
        };
        let view = store.view().unwrap_or_else(|error| panic!("{context}: {error}"));
        let report = verify(&store);
        assert!(report.is_clean(), "{context}: {:?} {:?}", report.damage, report.affected);
        assert!(view.partial.is_empty(), "{context}");
        for (key, record) in &view.refs {
            assert!(self.keys.contains(key), "{context}: {key}");
            assert!(store.missing(&record.artifact, &()).unwrap().is_nothing(), "{context}: {key}");
            assert_eq!(read_file(&store, &record.artifact, b"long").unwrap(), self.long, "{context}: {key}");
        }
        view.refs.len()
    }

    fn go_on(&self, sim: &Sim, context: &str) {
        self.import(sim).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(self.check(sim, context), 2, "{context}");
    }
}

#[test]
fn an_import_that_is_stopped_at_any_sync_names_nothing_that_is_not_here() {
    let world = World::new();
    let sim = Sim::new(0);
    world.import(&sim).unwrap();
    assert_eq!(world.check(&sim, "dry run"), 2);
    let syncs = sim.syncs();
    assert!(syncs > 8, "{syncs}");
    for n in 1..=syncs {
        for seed in 0..REBOOTS {
            let context = format!("sync {n}, seed {seed}");
            let sim = Sim::new(seed);
            sim.crash_at_sync(n);
            let acknowledged = world.import(&sim).is_ok();
            let sim = sim.reboot(seed);
            let there = world.check(&sim, &context);
            assert!(there == 2 || !acknowledged, "{context}");
            world.go_on(&sim, &context);
        }
    }
}

#[test]
fn an_import_whose_operations_fail_names_nothing_that_is_not_here() {
    let world = World::new();
    let sim = Sim::new(0);
    world.import(&sim).unwrap();
    for at in 1..=sim.operations() {
        for fault in [Fault::Io, Fault::NoSpace] {
            let context = format!("{fault:?} at operation {at}");
            let sim = Sim::new(at);
            sim.fail_at(at, fault);
            let acknowledged = world.import(&sim).is_ok();
            sim.heal();
            let sim = sim.reboot(at);
            let there = world.check(&sim, &context);
            assert!(there == 2 || !acknowledged, "{context}");
            world.go_on(&sim, &context);
        }
    }
}

#[test]
fn an_import_onto_a_disk_that_is_full_goes_on_when_there_is_room() {
    let world = World::new();
    let sim = Sim::new(0);
    world.import(&sim).unwrap();
    let (all, mut went_on) = (sim.operations(), 0);
    for at in 1..=all {
        let context = format!("full from operation {at} on");
        let sim = Sim::new(at);
        sim.full_from(at);
        let failed = world.import(&sim);
        sim.heal();
        assert!(failed.is_err() || world.check(&sim, &context) == 2, "{context}");
        // The same process, with its machine still up.
        let before = world.check(&sim, &context);
        let imported = world.import(&sim).unwrap_or_else(|error| panic!("{context}: {error}"));
        went_on += u64::from(before == 1 || imported.artifacts[0].new.chunks == 0);
        assert_eq!(world.check(&sim, &context), 2, "{context}");
    }
    assert!(went_on > 0, "what was kept is not brought again");
}
