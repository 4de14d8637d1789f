//! Releases: found, verified and brought, from servers on loopback that play GitHub and bitcoincore.org, and go wrong.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "files of tests; what helps a test fails it by panicking, and one says what it skips"
)]

mod bitcoin;
mod faults;
mod github;
mod limits;
#[path = "../../../tests/harness/release_server.rs"]
pub mod release_server;
mod setup;
mod shared;
mod ways;
