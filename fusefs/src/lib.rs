//! The mount: every version of every package as a read-only file system, and the generation that is current.

mod attr;
mod dirs;
mod errno;
mod file;
mod fs;
mod inode;
mod names;
#[cfg(test)]
mod testing;

pub use attr::{Attr, Capacity, DirEntry, FsStats, Ino, Kind, Lookup};
pub use errno::Errno;
pub use file::FileSpec;
pub use fs::{Fs, FsOptions, Xattr, fit};
