//! Collections as a user makes them: by `gc`, and by a daemon itself; and older versions told in terms of newer ones, which
//! has their turn.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod builds;
mod by_command;
mod by_rule;
mod in_use;
mod optimising;
mod optimising_by_rule;
mod world;
