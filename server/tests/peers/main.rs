//! The server as its peers meet it: over real sockets, with TLS and without, politely and not.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, says what it skips, and makes its trees as their owner would"
)]

mod access;
mod http;
mod limits;
mod proxy;
mod publishing;
mod reading;
mod rude;
mod served;
mod snapshots;
mod stopping;
mod streams;
mod tls;
mod told;
