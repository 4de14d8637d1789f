//! Fixes: where the operands of the new file show that a target moved otherwise than the runs suggest.

use super::operand::Operand;
use super::shifts::{Run, Shift, Shifts};

/// A fix has to be right for so many more operands than what it replaces.
const GAIN_MIN: usize = 2;

/// What the operands that lead to one old address say.
#[derive(Debug, Clone, Copy)]
struct Tally {
    target: u64,
    current: u64,
    current_votes: usize,
    best: u64,
    best_votes: usize,
}

/// The fixes that pay, ascending and disjoint.
pub(super) fn fixes(runs: &[Run], old: &[Operand], new: &[Operand], shifts: &Shifts) -> Vec<Shift> {
    let tallies = tallies(votes(runs, old, new), shifts);
    let mut fixes: Vec<Shift> = Vec::new();
    let mut number = 0;
    while let Some(first) = tallies.get(number) {
        number += 1;
        if first.best == first.current {
            continue;
        }
        let shift = first.best;
        let (mut gain, mut last, mut next) = (first.best_votes - first.current_votes, first.target, number);
        while let Some(tally) = tallies.get(next) {
            if tally.best != shift && (tally.current != shift || tally.best_votes > tally.current_votes) {
                break;
            }
            next += 1;
            if tally.current != shift {
                gain += tally.best_votes - tally.current_votes;
                last = tally.target;
                number = next;
            }
        }
        if gain >= GAIN_MIN {
            fixes.push(Shift { first: first.target, last, shift });
        }
    }
    fixes
}

/// For each pair of operands at the same place of a run: the old target and how far the new one lies from it. Ascending.
fn votes(runs: &[Run], old: &[Operand], new: &[Operand]) -> Vec<(u64, u64)> {
    let mut votes = Vec::new();
    for run in runs {
        let first = old.partition_point(|operand| operand.at < run.old);
        let mut candidate = new.partition_point(|operand| operand.at < run.new);
        for operand in &old[first..] {
            if u64::from(operand.at) + operand.kind.width() as u64 > run.old_end() {
                break;
            }
            let at = operand.at - run.old + run.new;
            while new.get(candidate).is_some_and(|other| other.at < at) {
                candidate += 1;
            }
            if let Some(other) = new
                .get(candidate)
                .filter(|other| other.at == at && other.kind == operand.kind && operand.leads())
            {
                votes.push((operand.target, other.target.wrapping_sub(operand.target)));
            }
        }
    }
    votes.sort_unstable();
    votes
}

fn tallies(votes: Vec<(u64, u64)>, shifts: &Shifts) -> Vec<Tally> {
    let mut tallies: Vec<Tally> = Vec::new();
    for same in votes.chunk_by(|a, b| a == b) {
        let ((target, shift), count) = (same[0], same.len());
        if tallies.last().is_none_or(|tally| tally.target != target) {
            let current = shifts.of(target);
            tallies.push(Tally { target, current, current_votes: 0, best: current, best_votes: 0 });
        }
        let Some(tally) = tallies.last_mut() else { continue };
        if shift == tally.current {
            tally.current_votes = count;
        }
        if count > tally.best_votes || count == tally.best_votes && shift == tally.current {
            (tally.best, tally.best_votes) = (shift, count);
        }
    }
    tallies
}
