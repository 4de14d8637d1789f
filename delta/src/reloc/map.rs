//! How a new file is predicted from an old one: what both sides of the codec share.

use std::ops::Range;

use super::layout::Layout;
use super::operand::WIDTH_MAX;
use super::shifts::{Run, Shift, Shifts};
use super::space::Space;

/// Bytes of the old file that a literal is compressed behind, at most.
const NEAR_MAX: u64 = 256;

/// How a new file is predicted from an old one.
#[derive(Debug, Clone)]
pub struct Map {
    pub(super) old: Layout,
    pub(super) new_len: u64,
    pub(super) new_space: Space,
    /// How far each of the old file's bases moved.
    pub(super) base_shifts: Vec<u64>,
    /// Ascending and disjoint in the new file.
    pub(super) runs: Vec<Run>,
    pub(super) fixes: Vec<Shift>,
    pub(super) shifts: Shifts,
}

/// A part of the new file as a segment tells it.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// Predicted from a run.
    Run(Run, Range<u64>),
    /// Not predicted.
    Literal(Range<u64>),
}

impl Map {
    /// Bytes of the file that it predicts from.
    pub fn old_len(&self) -> u64 {
        self.old.len
    }

    /// Bytes of the file that it predicts.
    pub fn new_len(&self) -> u64 {
        self.new_len
    }

    /// What decoding these ranges (ascending, disjoint) of the new file reads of the old one: ascending, disjoint.
    pub fn reads(&self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut reads: Vec<Range<u64>> = Vec::new();
        for part in self.parts(ranges) {
            let (run, range) = match part {
                Part::Run(run, range) => (run, range),
                Part::Literal(range) => {
                    reads.push(self.near(&range));
                    continue;
                }
            };
            let old = run.old_of(&range);
            // An operand at an edge is read whole.
            let around = WIDTH_MAX as u64;
            reads.push(old.start.saturating_sub(around)..(old.end + around).min(self.old.len));
            self.old.windows(&old, |region, window| {
                let span = self.old.regions[region].span(window);
                reads.push(u64::from(span.start)..u64::from(span.end));
            });
        }
        reads.retain(|range| range.start < range.end);
        reads.sort_unstable_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in reads {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    /// Where in the old file something like a literal may lie: behind the run before it.
    pub(super) fn near(&self, literal: &Range<u64>) -> Range<u64> {
        let number = self.runs.partition_point(|run| u64::from(run.new) < literal.start);
        let Some(run) = number.checked_sub(1).and_then(|number| self.runs.get(number)) else { return 0..0 };
        let len = (literal.end - literal.start).min(NEAR_MAX).min(self.old.len.saturating_sub(run.old_end()));
        run.old_end()..run.old_end() + len
    }

    /// The ranges cut at the ends of runs, in order.
    pub(super) fn parts(&self, ranges: &[Range<u64>]) -> Vec<Part> {
        let mut parts = Vec::new();
        for range in ranges {
            let mut at = range.start;
            let mut number = self.runs.partition_point(|run| run.new_end() <= at);
            while at < range.end {
                let run = self.runs.get(number).filter(|run| u64::from(run.new) < range.end);
                let Some(run) = run else {
                    parts.push(Part::Literal(at..range.end));
                    break;
                };
                let start = u64::from(run.new).max(at);
                if start > at {
                    parts.push(Part::Literal(at..start));
                }
                at = run.new_end().min(range.end);
                parts.push(Part::Run(*run, start..at));
                number += 1;
            }
        }
        parts
    }
}
