//! Commands that a daemon carries out: what they print and how they end is what it is without one, who may ask, and what
//! happens while a daemon ends or cannot write any more.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its trees as their owner would"
)]

mod callers;
mod damage;
mod ending;
mod same;
mod world;
