//! `cairn fetch` from a server that is a process of its own: what travels, what is replaced and when, and what stays as it
//! was when anything fails.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its files as their owner would"
)]

mod failing;
mod fetching;
mod world;
