//! `cairn sync`, `cairn install`, `cairn init` and the links under the names of old scripts, as their users run them: real
//! processes, a local server that plays GitHub and bitcoincore.org, a real sshd. What docs/sources.md says of each old habit
//! is tried here.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and makes its files as their owner would"
)]

mod folders;
mod installing;
mod machines;
mod misuse;
mod releasing;
mod world;
