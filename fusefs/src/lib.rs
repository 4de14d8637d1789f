//! The mount: every version of every package as a read-only file system, and the generation that is current.

mod attr;
mod damage;
mod deadline;
mod device;
mod dirs;
mod errno;
mod far;
mod files;
mod flip;
mod fs;
mod handle;
mod holds;
mod inode;
mod kernel;
mod linger;
mod materialise;
mod mount;
mod names;
mod pause;
mod prefetch;
pub mod processes;
mod read;
mod session;
mod slow;
mod sync;
pub mod takeover;
#[cfg(test)]
mod testing;
mod timings;
mod working_set;

pub use attr::{Attr, Capacity, DirEntry, FsStats, Ino, Kind, Lookup};
pub use damage::Damage;
pub use errno::Errno;
pub use far::FetchStatus;
pub use files::{CacheOptions, CacheStatus, FileId, FileSpec, Files, ReadError, Ready};
pub use fs::{Fs, FsOptions, Xattr, fit};
pub use inode::{SavedInodes, SavedInodesError};
pub use mount::{Mount, MountError, MountOptions, MountStatus, Passthrough, is_dead, mounted, unmount_dead};
pub use session::End;
pub use timings::{Spread, Timings};
pub use working_set::WorkingSet;
