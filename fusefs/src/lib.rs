//! The mount: every version of every package as a read-only file system, and the generation that is current.

mod damage;
mod device;
mod files;
mod flip;
mod handle;
mod kernel;
mod materialise;
mod mount;
mod pause;
mod prefetch;
pub mod processes;
mod read;
mod session;
mod slow;
#[cfg(test)]
mod testing;

pub use damage::Damage;
pub use device::exit_now;
pub use files::{CacheOptions, CacheStatus, FileId, FileSpec, Files, ReadError, Ready};
pub use mount::{Mount, MountError, MountOptions, MountStatus, Passthrough, is_dead, unmount_dead};
pub use session::End;
