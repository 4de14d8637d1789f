//! Snapshots of state directories as a user takes them: by command and by a daemon itself, with real commands of his, of
//! a real database, killed in the middle, and compared between nodes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its states as their owner would"
)]

mod by_command;
mod by_schedule;
mod databases;
mod diverged;
mod frozen;
mod world;
