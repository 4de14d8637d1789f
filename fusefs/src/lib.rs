//! The mount: every version of every package as a read-only file system, and the generation that is current.

mod device;
mod mount;
mod pause;
mod session;
mod slow;
