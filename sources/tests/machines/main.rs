//! Builds on a machine that is reached by a real `ssh`, and in folders.

#[path = "../../../tests/harness/ssh_server.rs"]
mod ssh_server;

mod bring;
mod build;
mod faults;
mod folder;
mod look;
mod wire;
