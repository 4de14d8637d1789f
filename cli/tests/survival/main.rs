//! What a mount survives: another program in the daemon's place, the daemon's death, a mount point that goes, a full
//! disk, users without rights. All with real processes.
//!
//! Each test has a store and folders of its own; every wait has a deadline, and what a test mounts is unmounted and what
//! it starts is ended when it ends, however it ends. They need `/dev/fuse` and, but for those of other users, root; where
//! something is missing, each says that it is skipped.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod bad_disk;
mod full;
mod killed;
mod other_user;
mod takeover;
mod vanishing;
mod world;
