//! What a client may take.

use std::time::Duration;

/// Bounds of what clients may take of the server. All of them hold for each connection, `jobs` and `connections` for all.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Commands that run at a time. More wait, as long as their request says.
    pub jobs: usize,
    /// Connections at a time. More wait in the socket's backlog.
    pub connections: usize,
    /// Bytes of a request's first line. A command line of Linux has 2 MiB at most.
    pub request_bytes_max: usize,
    /// How long a client may take for the head of a request, and again for the first line of its body; as long as it
    /// likes where there is none.
    pub request_time_max: Option<Duration>,
    /// How often an answer shows that it is alive, by which a client that is gone is noticed.
    pub alive_every: Option<Duration>,
}

impl Limits {
    /// For a router that is called by its own process: one command, and no timers.
    #[must_use]
    pub fn in_process() -> Self {
        Self { jobs: 1, connections: 1, request_time_max: None, alive_every: None, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 16,
            connections: 64,
            request_bytes_max: 8 << 20,
            request_time_max: Some(Duration::from_secs(10)),
            alive_every: Some(Duration::from_secs(1)),
        }
    }
}
