//! Recovery is stopped in its turn, again and again, and still ends well.

use cairn_store::io::Sim;
use harness::seed::Chance;

use crate::history::{Model, SCRIPT, World, check, go_on, length, open, run};

const HISTORIES: u64 = 300;
/// No opening of the small stores here makes more operations.
const OPENING_OPERATIONS: u64 = 60;

#[test]
fn recovery_that_is_interrupted_is_done_again() {
    let world = &World::new();
    let (operations, _) = length(world);
    for seed in 0..HISTORIES {
        let mut chance = Chance::new(seed);
        let sim = Sim::new(seed);
        sim.crash_at_operation(1 + chance.below(operations));
        let (mut model, mut steps) = (Model::default(), &SCRIPT[..]);
        let mut context = format!("history {seed}");
        // The number of operations may differ by a few, with the order in which threads get on: then it ends.
        let _ = run(world, &sim, &mut model, &mut steps, 0, &context);
        sim.crash();
        let mut sim = sim;
        for again in 0..chance.below(4) {
            context += &format!(", interrupted recovery {again}");
            sim = sim.reboot(chance.below(1 << 32));
            check(world, &sim, &model, false, &context);
            sim.crash_at_operation(1 + chance.below(OPENING_OPERATIONS));
            // It may end before it is interrupted.
            let _ = open(&sim);
        }
        let sim = sim.reboot(seed);
        go_on(world, &sim, model, steps, seed, &context);
    }
}
