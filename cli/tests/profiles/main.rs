//! Profiles as a script or a person meets them: generations, and mounts that show them.
//!
//! Each test has a store of its own in a temporary folder; every wait has a deadline, and what a test mounts is unmounted
//! when it ends, however it ends.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod generations;
mod mounts;
mod world;
