//! What `status` says of the snapshots that the daemon takes by itself.

use std::time::Duration;

use cairn_store::Name;
use serde::Serialize;

use crate::daemon::SnapshotsOf;
use crate::output::Table;
use crate::text;

/// The JSON form, for each name that the configuration tells of.
#[derive(Serialize)]
pub(super) struct SnapshotsLine {
    name: String,
    when: String,
    running: bool,
    round: Option<u64>,
    ended_ms_ago: Option<u64>,
    took_ms: Option<u64>,
    frozen_ms: Option<u64>,
    new_bytes: Option<u64>,
    failure: Option<String>,
    failures: u64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl SnapshotsLine {
    pub(super) fn of((name, of): &(Name, SnapshotsOf)) -> Self {
        let last = of.last.as_ref();
        Self {
            name: name.to_string(),
            when: of.when.to_string(),
            running: of.is_running,
            round: last.map(|last| last.round),
            ended_ms_ago: last.map(|last| millis(last.at.elapsed())),
            took_ms: last.map(|last| millis(last.took)),
            frozen_ms: last.and_then(|last| last.frozen).map(millis),
            new_bytes: last.map(|last| last.new_bytes),
            failure: of.failure.as_ref().map(|failure| failure.why.clone()),
            failures: of.failure.as_ref().map_or(0, |failure| failure.times),
        }
    }
}

/// The same for people.
pub(super) fn tell(facts: &mut Table, snapshots: &[(Name, SnapshotsOf)]) {
    for (name, of) in snapshots {
        let last = of.last.as_ref().map_or_else(
            || "none so far".to_owned(),
            |last| {
                let (ago, took) = (text::duration(last.at.elapsed()), text::duration(last.took));
                format!("round {} {ago} ago in {took}", last.round)
            },
        );
        let running = if of.is_running { ", one is being taken" } else { "" };
        facts.fact("snapshots", format!("{name} {}: {last}{running}", of.when));
        if let Some(failure) = &of.failure {
            let (ago, times) = (text::duration(failure.at.elapsed()), text::count(failure.times, "failure"));
            let why = text::path(failure.why.as_bytes());
            facts.fact("snapshots", format!("{name}: {times} since, the last {ago} ago: {why}"));
        }
    }
}
