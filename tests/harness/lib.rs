//! What the areas of tests share: trees to add, folders that clean up after themselves, an exact comparison of trees,
//! mounts, programs that are run, and a user who may do less.
//!
//! Nothing here tests anything; a failed expectation of the harness itself panics with what it was about.

pub mod bytes;
pub mod compare;
pub mod faults;
pub mod mount;
pub mod neighbour;
pub mod plan;
pub mod program;
pub mod release_server;
pub mod scratch;
pub mod seed;
pub mod ssh_server;
pub mod stores;
pub mod user;
pub mod watch;
