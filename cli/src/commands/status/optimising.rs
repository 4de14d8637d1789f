//! What `status` says of older versions that the daemon tells in terms of newer ones by itself.

use std::time::Duration;

use serde::Serialize;

use crate::daemon::LastOptimising;
use crate::text;

/// The JSON form: the last time that there was something to do, if there was one.
#[derive(Serialize)]
pub(super) struct Optimising {
    ended_ms_ago: Option<u64>,
    took_ms: Option<u64>,
    versions: Option<u64>,
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
    freed_bytes: Option<u64>,
    written_bytes: Option<u64>,
    complete: Option<bool>,
    failure: Option<String>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Optimising {
    pub(super) fn of(last: Option<&LastOptimising>) -> Self {
        let done = last.and_then(|last| last.result.as_ref().ok());
        Self {
            ended_ms_ago: last.map(|last| millis(last.at.elapsed())),
            took_ms: last.map(|last| millis(last.took)),
            versions: done.map(|done| done.versions),
            bytes_before: done.map(|done| done.bytes_before),
            bytes_after: done.map(|done| done.bytes_after()),
            freed_bytes: done.map(|done| done.freed_bytes),
            written_bytes: done.map(|done| done.written_bytes),
            complete: done.map(|done| done.complete),
            failure: last.and_then(|last| last.result.as_ref().err().cloned()),
        }
    }
}

/// The same for people.
pub(super) fn told(last: Option<&LastOptimising>) -> String {
    let Some(last) = last else {
        return "nothing was to be told in terms of newer versions so far".to_owned();
    };
    let (ago, took) = (text::duration(last.at.elapsed()), text::duration(last.took));
    match &last.result {
        Ok(done) => {
            let (before, after) = (text::size(done.bytes_before), text::size(done.bytes_after()));
            let more = if done.complete { "" } else { "; it goes on" };
            format!(
                "{ago} ago, {}: {before} -> {after} in {took}{more}",
                text::count(done.versions, "version")
            )
        }
        Err(failure) => format!("{ago} ago, failed: {}", text::path(failure.as_bytes())),
    }
}
