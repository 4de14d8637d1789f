//! Constants.

use super::forms::Form;
use super::names::{Names, mix};

/// What the value at `at` of a record is; its code is at 0.
pub(super) fn form(code: u64, at: usize) -> Form {
    match code {
        // The type of those that follow.
        1 if at == 1 => Form::Type,
        // Aggregates.
        7 => Form::Value,
        // Operations of two values.
        10 if at >= 2 => Form::Value,
        // Casts.
        11 if at == 2 => Form::Type,
        11 if at == 3 => Form::Value,
        // Addresses: what they go into, then pairs.
        12 | 20 if at == 1 || at.is_multiple_of(2) => Form::Type,
        12 | 20 => Form::Value,
        24 if at == 1 || at >= 3 && !at.is_multiple_of(2) => Form::Type,
        24 if at >= 4 => Form::Value,
        // Choices.
        13 => Form::Value,
        // Comparisons.
        17 if at == 1 => Form::Type,
        17 if at <= 3 => Form::Value,
        // Addresses of blocks, and stand-ins for functions.
        21 | 27 if at == 1 => Form::Type,
        21 | 27 if at == 2 => Form::Value,
        // Floating point.
        6 => Form::Word,
        _ => Form::Plain,
    }
}

/// A constant's record.
#[derive(Debug)]
pub(super) struct Constant {
    pub(super) code: u64,
    /// Hash of its type.
    pub(super) kind: u64,
    pub(super) values: Vec<u64>,
}

/// Hash of what a constant is, of its code, the hash of its type and its values; `of` has hashes of values.
pub(super) fn hash((code, kind, values): (u64, u64, &[u64]), types: &Names, of: impl Fn(u64) -> u64) -> u64 {
    (1..).zip(values).fold(mix(kind, code), |hash, (at, value)| {
        let value = match form(code, at) {
            Form::Type => types.hash(*value),
            Form::Value => of(*value),
            _ => *value,
        };
        mix(hash, value)
    })
}
