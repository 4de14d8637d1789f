//! The mount: every version of every package as a read-only file system, and the generation that is current.

mod damage;
mod files;
mod materialise;
mod prefetch;
pub mod processes;
mod read;
#[cfg(test)]
mod testing;

pub use damage::Damage;
pub use files::{CacheOptions, CacheStatus, FileId, FileSpec, Files, ReadError, Ready};
mod device;
mod mount;
mod pause;
mod session;
mod slow;
