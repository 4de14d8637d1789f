//! How peers did lately: who is asked first, who rests, and after what time an answer is late.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::address::{PeerUrl, Source};

/// How long a peer is left alone whose bytes did not verify.
const LIE_REST: Duration = Duration::from_secs(600);
/// The rest after one failure; each further one doubles it.
const FIRST_REST: Duration = Duration::from_millis(100);
/// The longest rest: so soon is it noticed that a peer is back.
const REST_MAX: Duration = Duration::from_secs(1);
/// An answer of a peer of which nothing is known is late after this.
const LATE_FIRST: Duration = Duration::from_millis(1000);
const LATE_MIN: Duration = Duration::from_millis(250);
/// Answers that take so many times as long as usual are late.
const LATE_FACTOR: u32 = 4;

#[derive(Default)]
pub(super) struct Health {
    /// Guards how each did; a leaf lock.
    peers: Mutex<BTreeMap<PeerUrl, State>>,
}

#[derive(Default)]
struct State {
    failures: u32,
    rests_until: Option<Instant>,
    last_failure: Option<String>,
    /// A moving average of how long an answer takes.
    usual: Option<Duration>,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerUrl, State>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers that can be asked now: those without failures first, the quicker before the slower, and else as given.
    pub(super) fn ready(&self, mut sources: Vec<Source>, now: Instant) -> Vec<Source> {
        let peers = self.lock();
        let state = |source: &Source| peers.get(&source.url);
        sources.retain(|source| {
            state(source).is_none_or(|state| state.rests_until.is_none_or(|until| until <= now))
        });
        sources.sort_by_key(|source| {
            let (failures, usual) = state(source).map_or((0, None), |state| (state.failures, state.usual));
            // Who was not asked yet gets its chance, after those that are known to be quick.
            (failures, usual.unwrap_or(LATE_MIN))
        });
        sources
    }

    /// When the first of those that rest can be asked again.
    pub(super) fn next_ready(&self, now: Instant) -> Duration {
        let peers = self.lock();
        let rests = peers.values().filter_map(|state| state.rests_until?.checked_duration_since(now));
        rests.min().unwrap_or(REST_MAX).clamp(Duration::from_millis(10), REST_MAX)
    }

    /// After what time another peer is asked as well.
    pub(super) fn late_after(&self, url: &PeerUrl) -> Duration {
        let usual = self.lock().get(url).and_then(|state| state.usual);
        usual.map_or(LATE_FIRST, |usual| (usual * LATE_FACTOR).max(LATE_MIN))
    }

    pub(super) fn succeeded(&self, url: &PeerUrl, took: Duration) {
        let mut peers = self.lock();
        let state = peers.entry(url.clone()).or_default();
        (state.failures, state.rests_until) = (0, None);
        state.usual = Some(state.usual.map_or(took, |usual| (usual * 3 + took) / 4));
    }

    pub(super) fn failed(&self, url: &PeerUrl, detail: &str, retry_after: Option<Duration>) {
        let mut peers = self.lock();
        let state = peers.entry(url.clone()).or_default();
        state.failures = state.failures.saturating_add(1);
        let rest = FIRST_REST * 2u32.pow(state.failures.min(8) - 1);
        let rest = retry_after.map_or(rest.min(REST_MAX), |after| after.max(rest));
        state.rests_until = Some(Instant::now() + rest);
        state.last_failure = Some(detail.to_owned());
    }

    pub(super) fn lied(&self, url: &PeerUrl, detail: &str) {
        let mut peers = self.lock();
        let state = peers.entry(url.clone()).or_default();
        state.rests_until = Some(Instant::now() + LIE_REST);
        state.last_failure = Some(detail.to_owned());
    }

    pub(super) fn last_failure(&self, url: &PeerUrl) -> Option<String> {
        self.lock().get(url)?.last_failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_well_is_asked_first_and_who_failed_rests() {
        let source = |name: &str| Source::open(format!("http://{name}").parse().unwrap());
        let all = || vec![source("slow"), source("quick"), source("lies"), source("fails")];
        let (health, now) = (Health::default(), Instant::now());
        health.succeeded(&source("slow").url, Duration::from_secs(2));
        health.succeeded(&source("quick").url, Duration::from_millis(20));
        health.lied(&source("lies").url, "chunk 1 is not what its id says");
        health.failed(&source("fails").url, "away", None);
        let names =
            |sources: Vec<Source>| sources.iter().map(|source| source.url.to_string()).collect::<Vec<_>>();
        assert_eq!(names(health.ready(all(), now)), ["http://quick", "http://slow"]);
        let later = now + 2 * REST_MAX;
        assert_eq!(names(health.ready(all(), later)), ["http://quick", "http://slow", "http://fails"]);
        assert_eq!(health.late_after(&source("quick").url), LATE_MIN);
        assert_eq!(health.last_failure(&source("fails").url).as_deref(), Some("away"));
    }
}
