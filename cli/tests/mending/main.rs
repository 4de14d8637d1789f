//! What the binary does on a bad day: a disk without a free byte, damage that is found, mended, or said to stay.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod full;
mod repair;
mod scrub;
mod world;
