//! The mount: every version of every package as a read-only file system, and the generation that is current.

pub mod processes;
