//! Collections as a user makes them: by `gc`, and by a daemon itself.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod by_command;
mod by_rule;
mod in_use;
mod world;
