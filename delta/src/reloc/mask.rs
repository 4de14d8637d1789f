//! Bytes without what moving changes: two builds of one function look alike once their operands say what they lead to, and
//! not where that lies.

use super::operand::{Kind, Operand};
use super::space::Space;
use super::survey::word;

/// Bytes at a target that an operand is told by.
const SEEN: usize = 24;
/// Stands for what is not in the file.
const UNSEEN: u64 = 0x5bd1_e995;

/// The file with all operands zero.
pub(super) fn blank(file: &[u8], operands: &[Operand]) -> Vec<u8> {
    let mut blank = file.to_vec();
    for operand in operands {
        let at = operand.at as usize;
        if let Some(field) = blank.get_mut(at..at + operand.kind.width()) {
            operand.kind.write(field, 0);
        }
    }
    blank
}

/// The file with a hash of what it leads to in place of each operand.
pub(super) fn hashed(file: &[u8], space: &Space, operands: &[Operand]) -> Vec<u8> {
    let blank = blank(file, operands);
    let mut hashed = blank.clone();
    for operand in operands {
        let at = operand.at as usize;
        let told = operand.leads() && !matches!(operand.kind, Kind::Behind | Kind::Span | Kind::Narrow);
        if let Some(field) = hashed.get_mut(at..at + operand.kind.width()).filter(|_| told) {
            operand.kind.write(field, seen(&blank, space, operand.target) & 0xffff_ffff);
        }
    }
    hashed
}

fn seen(blank: &[u8], space: &Space, target: u64) -> u64 {
    let at = space.at_of(target).and_then(|at| usize::try_from(at).ok());
    let Some(at) = at.filter(|at| at + SEEN <= blank.len()) else { return UNSEEN };
    let mut hash = 0u64;
    for part in (at..at + SEEN).step_by(8) {
        hash = (hash ^ word(blank, part)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 31;
    }
    hash
}
