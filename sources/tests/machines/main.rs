//! Builds on a machine that is reached by a real `ssh`, and in folders.

#![expect(
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "makes files as users have them; a test that fails says so"
)]

#[path = "../../../tests/harness/ssh_server.rs"]
pub mod ssh_server;

mod bring;
mod build;
mod faults;
mod folder;
mod look;
mod wire;
