//! What a server counts, in the text form that Prometheus reads (version 0.0.4).
//!
//! Label values come from fixed sets (routes, methods, statuses, names of limits), so that no client can make more rows.

mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use self::text::Text;

/// Upper bounds of the histogram of answer times, in seconds.
const SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

/// The counters of a server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) transfers: AtomicU64,
    pub(crate) transfers_cut: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_closed: Labelled,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) chunks_kept: AtomicU64,
    pub(crate) events_appended: AtomicU64,
    pub(crate) events_sent: AtomicU64,
    pub(crate) limits_hit: Labelled,
    pub(crate) refused_tokens: AtomicU64,
    pub(crate) enumerations: Labelled,
    /// What was asked for as a delta in terms of what is held.
    pub(crate) deltas: Labelled,
    /// Guards the counts by route, method and status. A leaf lock.
    requests: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
    /// Guards the times by route. A leaf lock.
    times: Mutex<BTreeMap<String, Times>>,
}

/// Counts by one label.
#[derive(Debug, Default)]
pub(crate) struct Labelled(
    /// Guards the counts. A leaf lock.
    Mutex<BTreeMap<&'static str, u64>>,
);

impl Labelled {
    pub(crate) fn add(&self, label: &'static str) {
        *lock(&self.0).entry(label).or_default() += 1;
    }

    pub(crate) fn get(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.0).clone()
    }
}

#[derive(Debug, Clone, Default)]
struct Times {
    /// How many took at most so long, each bound by itself.
    counts: [u64; SECONDS.len()],
    all: u64,
    sum: Duration,
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// A request was answered to the end.
    pub(crate) fn answered(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        *lock(&self.requests).entry((route.to_owned(), method, status)).or_default() += 1;
        let mut times = lock(&self.times);
        let times = times.entry(route.to_owned()).or_default();
        for (count, bound) in times.counts.iter_mut().zip(SECONDS) {
            *count += u64::from(took.as_secs_f64() <= bound);
        }
        times.all += 1;
        times.sum += took;
    }

    /// All of it, as text.
    pub(crate) fn write(&self, text: &mut Text) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        text.family("cairn_http_requests_total", "counter", "Requests answered.");
        for ((route, method, status), count) in &*lock(&self.requests) {
            let status = status.to_string();
            let labels = [("route", route.as_str()), ("method", method), ("status", &status)];
            text.row("cairn_http_requests_total", &labels, *count as f64);
        }
        text.family("cairn_http_request_seconds", "histogram", "Time until an answer had left.");
        for (route, times) in &*lock(&self.times) {
            for (count, bound) in times.counts.iter().zip(SECONDS) {
                let labels = [("route", route.as_str()), ("le", &bound.to_string())];
                text.row("cairn_http_request_seconds_bucket", &labels, *count as f64);
            }
            let labels = [("route", route.as_str()), ("le", "+Inf")];
            text.row("cairn_http_request_seconds_bucket", &labels, times.all as f64);
            text.row("cairn_http_request_seconds_sum", &labels[..1], times.sum.as_secs_f64());
            text.row("cairn_http_request_seconds_count", &labels[..1], times.all as f64);
        }
        text.one(
            "cairn_http_sent_bytes_total",
            "counter",
            "Bytes of answers' bodies.",
            get(&self.sent_bytes),
        );
        let received = get(&self.received_bytes);
        text.one("cairn_http_received_bytes_total", "counter", "Bytes of requests' bodies.", received);
        text.one("cairn_transfers_total", "counter", "Transfers begun.", get(&self.transfers));
        let cut = get(&self.transfers_cut);
        text.one("cairn_transfers_cut_total", "counter", "Transfers that ended before they were whole.", cut);
        text.one("cairn_frames_sent_total", "counter", "Block frames sent.", get(&self.frames_sent));
        let kept = get(&self.chunks_kept);
        text.one("cairn_chunks_kept_total", "counter", "Chunks and objects that uploads brought.", kept);
        let appended = get(&self.events_appended);
        text.one("cairn_events_appended_total", "counter", "Events that were appended.", appended);
        let sent = get(&self.events_sent);
        text.one("cairn_events_sent_total", "counter", "Events and heads of them sent.", sent);
        let connections = get(&self.connections);
        text.one("cairn_connections_total", "counter", "Connections accepted.", connections);
        let refused = get(&self.refused_tokens);
        text.one("cairn_tokens_refused_total", "counter", "Requests with a token that is not good.", refused);
        for (name, label, help, counts) in [
            (
                "cairn_connections_closed_total",
                "why",
                "Connections that the server closed.",
                &self.connections_closed,
            ),
            ("cairn_limits_hit_total", "limit", "Requests refused or cut off by a limit.", &self.limits_hit),
            ("cairn_enumerations_total", "how", "Comparisons of two artifacts.", &self.enumerations),
            (
                "cairn_deltas_total",
                "how",
                "Answers to who asked for a delta in terms of what he has.",
                &self.deltas,
            ),
        ] {
            text.family(name, "counter", help);
            for (value, count) in counts.get() {
                text.row(name, &[(label, value)], count as f64);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are sound after a panic elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
