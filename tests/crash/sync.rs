//! The world stops in every sync of a script, and comes up again in many ways.

use cairn_store::io::Sim;

use crate::history::{Model, SCRIPT, World, check, go_on, length, run};

/// Ways in which the machine comes up, for each sync.
const REBOOTS: u64 = 16;

#[test]
fn a_crash_at_every_sync_loses_nothing_that_was_acknowledged() {
    let world = &World::new();
    let (_, syncs) = length(world);
    for sync in 1..=syncs {
        for reboot in 0..REBOOTS {
            let context = format!("sync {sync} of {syncs}, reboot {reboot}");
            let sim = Sim::new(sync);
            sim.crash_at_sync(sync);
            let (mut model, mut steps) = (Model::default(), &SCRIPT[..]);
            assert!(
                run(world, &sim, &mut model, &mut steps, 0, &context).is_err(),
                "{context}: nothing stopped it"
            );
            let sim = sim.reboot(reboot);
            check(world, &sim, &model, false, &context);
            go_on(world, &sim, model, steps, reboot, &context);
        }
    }
}
