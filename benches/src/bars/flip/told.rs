//! What the daemon says of its flips: how long the kernel's part of one took, and from when a request was accepted until
//! everybody saw what it changed, its entry in the journal synced.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::harness::{Limit, Row, Unit};
use crate::tools::Repo;

/// Median and 99th of 100 of the kernel's part.
const LIMITS: [Limit; 2] = [Limit::AtMost(2e-6), Limit::AtMost(15e-6)];

/// The names of the rows.
pub(super) struct Told([&'static str; 4]);

/// Nothing else goes on.
pub(super) const ALONE: Told = Told([
    "kernel part of a flip, median",
    "kernel part of a flip, p99",
    "from accepted to visible, median",
    "from accepted to visible, p99",
]);

/// Four readers take all processor time that they get.
pub(super) const BESIDE_READERS: Told = Told([
    "kernel part of a flip beside readers, median",
    "kernel part of a flip beside readers, p99",
    "from accepted to visible beside readers, median",
    "from accepted to visible beside readers, p99",
]);

/// Of the last flips of the mount at `dir`, and the last changes of all profiles.
pub(super) fn rows(ground: &Ground, repo: &Repo, dir: &Path, told: Told) -> Result<[Row; 4]> {
    let (_, printed) = ground.cairn().status(repo).run_reading()?;
    let wrong = |what: &str| Error::Wrong { program: "cairn".into(), what: format!("status: {what}") };
    let status: Value = serde_json::from_str(&printed).map_err(|error| wrong(&error.to_string()))?;
    let mount = status["mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|mount| mount["path"].as_str().is_some_and(|path| Path::new(path) == dir));
    let flips = &mount.ok_or_else(|| wrong("the mount is missing"))?["flips"];
    let seconds = |spread: &Value, field: &str| -> Result<Vec<f64>> {
        let nanoseconds = spread[field].as_f64().ok_or_else(|| wrong(&format!("{field} is missing")))?;
        Ok(vec![nanoseconds / 1e9])
    };
    let changes = &status["daemon"]["changes"];
    let figures = [
        seconds(flips, "p50_ns"),
        seconds(flips, "p99_ns"),
        seconds(changes, "p50_ns"),
        seconds(changes, "p99_ns"),
    ];
    let [p50, p99] = LIMITS;
    let mut limits = [p50, p99, Limit::None, Limit::None].into_iter();
    let mut names = told.0.into_iter();
    Ok(figures.map(|figure| {
        let (name, limit) = (names.next().unwrap_or_default(), limits.next().unwrap_or(Limit::None));
        super::row(name, Unit::Seconds, limit, figure)
    }))
}
