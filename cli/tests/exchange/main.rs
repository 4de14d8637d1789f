//! Stores that exchange versions: real processes that serve, pull, push and mount, over loopback, with the binary as its
//! user has it.
//!
//! Each test has stores and folders of its own and ports that the system chooses; every wait has a deadline, and what a
//! test mounts is unmounted and what it starts is ended when it ends, however it ends. Those that mount need `/dev/fuse`
//! and root; where they are missing, each says that it is skipped.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod access;
mod healing;

mod interrupted;
mod lazy;
mod pulling;
mod several;
mod stopped;
mod streams;
mod world;
