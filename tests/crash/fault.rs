//! Every operation of a script fails once, and the disk fills up at any of them.

use cairn_store::io::{Fault, Sim};

use crate::history::{Model, SCRIPT, World, check, go_on, length, run};

/// Runs a script on a machine where something fails, lets the same writer try again once, and then either opens the
/// store again on the machine as it is or pulls the plug first.
fn run_with_faults(world: &World, sim: Sim, reboot: Option<u64>, context: &str) {
    let (mut model, mut steps) = (Model::default(), &SCRIPT[..]);
    // A failure that nobody noticed is one of a file that is derived.
    let _ = run(world, &sim, &mut model, &mut steps, 1, context);
    sim.heal();
    let (sim, context) = match reboot {
        Some(seed) => (sim.reboot(seed), format!("{context}, reboot {seed}")),
        None => (sim, context.to_owned()),
    };
    check(world, &sim, &model, false, &context);
    go_on(world, &sim, model, steps, reboot.unwrap_or(0), &context);
}

#[test]
fn an_operation_that_fails_loses_nothing_that_was_acknowledged() {
    let world = &World::new();
    let (operations, _) = length(world);
    for at in 1..=operations {
        for fault in [Fault::Io, Fault::NoSpace] {
            for reboot in [None, Some(at)] {
                let sim = Sim::new(at);
                sim.fail_at(at, fault);
                run_with_faults(world, sim, reboot, &format!("{fault:?} at operation {at}"));
            }
        }
    }
}

#[test]
fn two_operations_that_fail_in_a_row_lose_nothing_that_was_acknowledged() {
    let world = &World::new();
    let (operations, _) = length(world);
    for at in 1..=operations {
        for distance in [1, 3] {
            let sim = Sim::new(at);
            sim.fail_at(at, Fault::Io);
            sim.fail_at(at + distance, Fault::Io);
            run_with_faults(world, sim, Some(at), &format!("EIO at operations {at} and {}", at + distance));
        }
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_that_was_acknowledged() {
    let world = &World::new();
    let (operations, _) = length(world);
    for at in 1..=operations {
        for reboot in [None, Some(at)] {
            let sim = Sim::new(at);
            sim.full_from(at);
            run_with_faults(world, sim, reboot, &format!("a full disk from operation {at} on"));
        }
    }
}
