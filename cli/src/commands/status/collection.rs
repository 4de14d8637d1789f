//! What `status` says of the collections that the daemon makes by itself.

use std::time::Duration;

use serde::Serialize;

use crate::daemon::LastCollection;
use crate::text;

/// The JSON form: the last one, if there was one.
#[derive(Serialize)]
pub(super) struct Collection {
    ended_ms_ago: Option<u64>,
    took_ms: Option<u64>,
    /// Generations and versions that went by the rule.
    retired: Option<usize>,
    freed_bytes: Option<u64>,
    failure: Option<String>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Collection {
    pub(super) fn of(last: Option<&LastCollection>) -> Self {
        Self {
            ended_ms_ago: last.map(|last| millis(last.at.elapsed())),
            took_ms: last.map(|last| millis(last.took)),
            retired: last.map(|last| last.retired),
            freed_bytes: last.and_then(|last| last.result.as_ref().ok().copied()),
            failure: last.and_then(|last| last.result.as_ref().err().cloned()),
        }
    }
}

/// The same for people.
pub(super) fn told(last: Option<&LastCollection>) -> String {
    let Some(last) = last else { return "by rule, none so far".to_owned() };
    let (ago, took) = (text::duration(last.at.elapsed()), text::duration(last.took));
    match &last.result {
        Ok(freed) => format!("{ago} ago, freed {} in {took}", text::size(*freed)),
        Err(failure) => format!("{ago} ago, failed: {}", text::path(failure.as_bytes())),
    }
}
