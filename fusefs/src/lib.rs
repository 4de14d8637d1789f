//! The mount: every version of every package as a read-only file system, and the generation that is current.

mod attr;
mod damage;
#[allow(
    dead_code,
    reason = "a part of it serves the handover of a mount to another process, which is not built yet"
)]
mod device;
mod dirs;
mod errno;
mod files;
mod flip;
mod fs;
#[allow(
    dead_code,
    reason = "a part of it serves the handover of a mount to another process, which is not built yet"
)]
mod handle;
mod inode;
mod kernel;
mod materialise;
mod mount;
mod names;
#[allow(
    dead_code,
    reason = "a part of it serves the handover of a mount to another process, which is not built yet"
)]
mod pause;
mod prefetch;
pub mod processes;
mod read;
#[allow(
    dead_code,
    reason = "a part of it serves the handover of a mount to another process, which is not built yet"
)]
mod session;
mod slow;
pub mod takeover;
#[cfg(test)]
mod testing;

pub use attr::{Attr, Capacity, DirEntry, FsStats, Ino, Kind, Lookup};
pub use damage::Damage;
pub use errno::Errno;
pub use files::{CacheOptions, CacheStatus, FileId, FileSpec, Files, ReadError, Ready};
pub use fs::{Fs, FsOptions, Xattr, fit};
pub use inode::{SavedInodes, SavedInodesError};
pub use mount::{Mount, MountError, MountOptions, MountStatus, Passthrough, is_dead, unmount_dead};
pub use session::End;
