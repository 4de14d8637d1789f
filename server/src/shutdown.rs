//! How a server stops: no new jobs, then time for those that run, then they are asked to stop.

use std::time::Duration;

use crate::run::Jobs;

/// Lets no more jobs begin and waits until none runs: as long as `grace` for them to end by themselves, then as long as
/// `last` for them to stop in order. Says whether all have ended.
pub async fn drain(jobs: &Jobs, grace: Duration, last: Duration) -> bool {
    jobs.close();
    if tokio::time::timeout(grace, jobs.idle()).await.is_ok() {
        return true;
    }
    tracing::warn!(jobs = jobs.count(), "commands are still running, and are cancelled");
    jobs.cancel_all();
    tokio::time::timeout(last, jobs.idle()).await.is_ok()
}
