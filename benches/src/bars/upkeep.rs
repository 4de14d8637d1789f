//! 16 to 18: what keeps a store sound and small: collecting beside readers, verifying all of it, opening it after a crash,
//! and mending it from a peer.

mod collect;
mod crash;
mod repair;
mod verify;

pub(super) use collect::rows as collect;

use super::Bench;
use crate::error::Result;
use crate::harness::Row;

/// 17: full verification.
pub(super) fn verify(bench: &Bench) -> Result<Vec<Row>> {
    verify::rows(bench)
}

/// 18: what a crash and damage cost.
pub(super) fn recovery(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = crash::rows(bench)?;
    rows.extend(repair::rows(bench)?);
    Ok(rows)
}
