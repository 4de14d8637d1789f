//! A pull on a machine that crashes and fails: a name is there with all of it, or not at all, and the next pull goes on
//! from what was kept.

use std::path::Path;

use cairn_store::io::{Fault, Sim};
use cairn_store::{ArtifactId, PulledOptions, RefKey, Result, Store, Writer};
use cairn_trust::Envelope;
use harness::bytes::noise;
use harness::neighbour::{send_all, statements};
use harness::plan::{Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, options, read_file, verify, with_threads, writer, writer_on};

const STORE: &str = "/srv/store";
/// Ways in which the machine comes up, for each crash.
const REBOOTS: u64 = 4;

/// What is pulled, from a store on a machine that does not fail.
struct World {
    _scratch: Scratch,
    from: Writer,
    key: RefKey,
    artifact: ArtifactId,
    statements: Vec<Envelope>,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::in_memory();
        let (from, source) = (writer(&scratch.join("from")), scratch.join("source"));
        let small = (0..40u64).map(|n| (n.to_string().into_bytes(), Plan::Bytes(noise(n, 900))));
        let long = (b"long".to_vec(), Plan::Bytes(noise(99, 400_000)));
        make(&source, &small.chain([long]).collect::<Folder>());
        let added = add(&from, &source, &with_threads(1, options("app", "1.0")));
        let statements = statements(&from, &added.key);
        Self { _scratch: scratch, from, key: added.key, artifact: added.artifact, statements }
    }

    /// Pulls; with its files, or only what leads to them and then the rest.
    fn pull(&self, sim: &Sim, partial: bool) -> Result<()> {
        let to = writer_on(sim.clone(), Path::new(STORE))?;
        let objects = self.from.lacking_objects(None, &self.artifact, &())?.chunks;
        let data = self.from.lacking_chunks(None, &self.artifact, &())?.chunks;
        send_all(&self.from, &to, &objects)?;
        let mut options = PulledOptions { partial, ..PulledOptions::default() };
        if partial {
            to.publish_pulled(&self.artifact, &self.statements, &options)?;
            options.partial = false;
        }
        send_all(&self.from, &to, &data)?;
        to.publish_pulled(&self.artifact, &self.statements, &options)?;
        Ok(())
    }

    /// What has to hold whenever the machine comes up.
    fn check(&self, sim: &Sim, partial: bool, context: &str) -> bool {
        let Ok(store) = Store::open_with(std::sync::Arc::new(sim.clone()), Path::new(STORE)) else {
            return false;
        };
        let view = store.view().unwrap_or_else(|error| panic!("{context}: {error}"));
        let report = verify(&store);
        assert!(report.is_clean(), "{context}: {:?} {:?}", report.damage, report.affected);
        let Some(record) = view.refs.get(&self.key) else {
            assert!(view.witnessed.names() == 0 && view.partial.is_empty(), "{context}");
            return false;
        };
        assert_eq!(record.artifact, self.artifact, "{context}");
        assert_eq!(view.statement_of(&self.key).as_ref(), self.statements.first(), "{context}");
        let missing = store.missing(&self.artifact, &()).unwrap();
        if view.partial.contains(&self.artifact) {
            assert!(partial && missing.objects == 0, "{context}");
            return false;
        }
        assert!(missing.is_nothing(), "{context}: {missing:?}");
        assert_eq!(read_file(&store, &self.artifact, b"long").unwrap(), noise(99, 400_000), "{context}");
        true
    }

    /// The next pull succeeds.
    fn go_on(&self, sim: &Sim, partial: bool, context: &str) {
        self.pull(sim, partial).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(self.check(sim, partial, context), "{context}");
    }
}

#[test]
fn a_pull_that_is_stopped_at_any_sync_names_nothing_that_is_not_here() {
    let world = World::new();
    for partial in [false, true] {
        let sim = Sim::new(0);
        world.pull(&sim, partial).unwrap();
        assert!(world.check(&sim, partial, "dry run"));
        let syncs = sim.syncs();
        assert!(syncs > 8, "{syncs}");
        for n in 1..=syncs {
            for seed in 0..REBOOTS {
                let context = format!("partial {partial}, sync {n}, seed {seed}");
                let sim = Sim::new(seed);
                sim.crash_at_sync(n);
                let acknowledged = world.pull(&sim, partial).is_ok();
                let sim = sim.reboot(seed);
                let there = world.check(&sim, partial, &context);
                assert!(there || !acknowledged, "{context}");
                world.go_on(&sim, partial, &context);
            }
        }
    }
}

#[test]
fn a_pull_whose_operations_fail_names_nothing_that_is_not_here() {
    let world = World::new();
    for partial in [false, true] {
        let sim = Sim::new(0);
        world.pull(&sim, partial).unwrap();
        for at in 1..=sim.operations() {
            for fault in [Fault::Io, Fault::NoSpace] {
                let context = format!("partial {partial}, {fault:?} at operation {at}");
                let sim = Sim::new(at);
                sim.fail_at(at, fault);
                let acknowledged = world.pull(&sim, partial).is_ok();
                sim.heal();
                let sim = sim.reboot(at);
                let there = world.check(&sim, partial, &context);
                assert!(there || !acknowledged, "{context}");
                world.go_on(&sim, partial, &context);
            }
        }
    }
}
