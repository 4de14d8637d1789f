//! What peers may take of a server, and the state that holds them to it. Every bound can be set; each has a status that
//! says which it was.
//!
//! A client is a token, or an address where there is none: an IPv4 address, or the /64 network of an IPv6 one.

pub(crate) mod bucket;
pub(crate) mod clients;

use std::time::Duration;

/// Bounds of what peers may take.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerLimits {
    /// Connections at a time. When all are taken, the one that has been idle longest makes room for a new one.
    pub connections: usize,
    /// Requests that are being answered, at a time; more are refused with 503.
    pub requests: usize,
    /// The same of one client; more are refused with 429.
    pub requests_per_client: usize,
    /// Requests of one client in a second, on average; more are refused with 429.
    pub rate_per_client: f64,
    /// How many of them may come at once.
    pub burst_per_client: u32,
    /// Transfers at a time: requests whose answers or bodies are long. More are refused with 503.
    pub transfers: usize,
    /// The same of one client; more are refused with 429.
    pub transfers_per_client: usize,
    /// Uploads at a time, which cost memory and computing; more are refused with 503.
    pub uploads: usize,
    /// Streams of events that are followed at a time; more are refused with 503.
    pub streams: usize,
    /// The same of one client; more are refused with 429.
    pub streams_per_client: usize,
    /// Bytes per second of all transfers together, each way.
    pub bandwidth: Option<u64>,
    /// Bytes per second of one client's transfers, each way.
    pub bandwidth_per_client: Option<u64>,
    /// Bytes of a request's head; more are refused with 431.
    pub head_bytes_max: usize,
    /// Bytes of a list of ids; more are refused with 413.
    pub ids_bytes_max: usize,
    /// Bytes of a ref that is put; more are refused with 413.
    pub ref_bytes_max: usize,
    /// Bytes of events that are appended in one request; more are refused with 413.
    pub events_bytes_max: usize,
    /// Bytes of an upload; more are refused with 413.
    pub upload_bytes_max: u64,
    /// Bytes of request bodies in memory at a time.
    pub bodies_bytes_max: usize,
    /// Bytes of answers that were prepared and have not left, of all transfers together, about.
    pub answers_bytes_max: usize,
    /// How long a client may take to connect (with TLS), and for the head of a request.
    pub head_time_max: Duration,
    /// How long a connection may be without a request.
    pub idle_time_max: Duration,
    /// How long an answer may take to begin; then it is refused with 503.
    pub request_time_max: Duration,
    /// A client that takes or sends less than `stall_bytes_min` in this time, and is waited for, is cut off: 408 where
    /// it has no answer yet.
    pub stall_time_max: Duration,
    /// Bytes in `stall_time_max`.
    pub stall_bytes_min: u64,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            connections: 8192,
            requests: 2048,
            requests_per_client: 512,
            rate_per_client: 200.0,
            burst_per_client: 1000,
            transfers: 512,
            transfers_per_client: 256,
            uploads: 16,
            streams: 1024,
            streams_per_client: 256,
            bandwidth: None,
            bandwidth_per_client: None,
            head_bytes_max: 32 << 10,
            ids_bytes_max: cairn_net::wire::IDS_MAX * 32,
            ref_bytes_max: 128 << 10,
            events_bytes_max: 32 << 20,
            upload_bytes_max: 1 << 40,
            bodies_bytes_max: 64 << 20,
            answers_bytes_max: 64 << 20,
            head_time_max: Duration::from_secs(10),
            idle_time_max: Duration::from_secs(60),
            request_time_max: Duration::from_secs(60),
            stall_time_max: Duration::from_secs(30),
            stall_bytes_min: 16 << 10,
        }
    }
}
