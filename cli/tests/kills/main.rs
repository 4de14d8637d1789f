//! Daemons that are killed at any moment, in the middle of everything that they do: adds, pulls from one another in both
//! directions, flips, removals, pruning, collections, reads through mounts. After each kill the store is opened again and held against
//! what its clients were told: what was acknowledged is there and every byte of it holds, and what was not is there whole
//! or not at all.
//!
//! `CAIRN_KILLS` says how many rounds are run. Each round's choices come from its number and a seed that is shown.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod load;
mod model;
mod node;

use std::path::Path;
use std::time::{Duration, Instant};

use harness::seed::{Chance, seed};

use crate::load::Load;
use crate::node::{Node, Trees};

/// Rounds that are run where nothing else is said.
const ROUNDS: u64 = 40;
/// How long a load runs before somebody dies, at most, in milliseconds.
const LOAD_MS_MAX: u64 = 320;
/// How long a daemon lives that is killed while it starts, at most, in milliseconds.
const START_MS_MAX: u64 = 60;

#[test]
fn whatever_was_acknowledged_survives_every_kill() {
    if !Path::new("/dev/fuse").exists() || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: kills under load: they take root and /dev/fuse");
        return;
    }
    let rounds = std::env::var("CAIRN_KILLS").map_or(ROUNDS, |told| told.parse().unwrap());
    let seed = seed();
    let dir = tempfile::Builder::new().prefix("cairn-kills-").tempdir().unwrap();
    let trees = Trees::make(&dir.path().join("trees"));
    let mut nodes = [Node::new(dir.path(), "a", &trees), Node::new(dir.path(), "b", &trees)];
    nodes.iter_mut().for_each(Node::start);
    let (begun, mut done, mut kills) = (Instant::now(), load::Done::default(), 0);
    for round in 0..rounds {
        let mut chance = Chance::new(seed.wrapping_add(round));
        let who = match chance.below(5) {
            0 => [true, true],
            1 | 2 => [true, false],
            _ => [false, true],
        };
        let delay = Duration::from_millis(20 + chance.below(LOAD_MS_MAX - 20));
        done += Load::run(&mut nodes, seed.wrapping_add(round), delay, who);
        for (node, _) in nodes.iter_mut().zip(who).filter(|(_, killed)| *killed) {
            kills += 1;
            if chance.below(4) == 0 {
                node.begin();
                std::thread::sleep(Duration::from_millis(chance.below(START_MS_MAX)));
                node.kill();
                kills += 1;
            }
            node.start();
        }
        for (node, killed) in nodes.iter_mut().zip(who) {
            node.check(killed, round);
        }
    }
    for node in &mut nodes {
        node.verify();
        node.stop();
    }
    eprintln!("{rounds} rounds, {kills} kills of a daemon, {done}, in {:.0?}", begun.elapsed());
}
