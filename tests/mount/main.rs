//! Real mounts: what processes see through them, before, during and after a flip, and when something is wrong.
//!
//! They need root and `/dev/fuse`; where these are missing, each test says that it is skipped. Nothing stays mounted,
//! also when a test fails.

mod bad_disk;
mod damage;
mod lazy;
mod limits;
mod load;
mod metadata;
mod mounted;
mod semantics;
mod tree;
