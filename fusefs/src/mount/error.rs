//! What can go wrong with a mount as a whole.

use std::io;
use std::path::PathBuf;

/// Why there is no mount, or still one. Messages name the directory and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The mount point does not exist.
    #[error("there is no directory {}: create it first", dir.display())]
    NotFound {
        /// The mount point.
        dir: PathBuf,
    },
    /// The mount point is a file.
    #[error("{} is not a directory", dir.display())]
    NotDirectory {
        /// The mount point.
        dir: PathBuf,
    },
    /// A store is mounted there, and served.
    #[error("{} is a mount of cairn already: unmount it first, or choose another directory", dir.display())]
    Mounted {
        /// The mount point.
        dir: PathBuf,
    },
    /// Something else is mounted there, and nobody serves it.
    #[error("a dead mount of {kind} covers {}: unmount it first", dir.display())]
    Covered {
        /// The mount point.
        dir: PathBuf,
        /// The type of the file system, as in /proc/mounts.
        kind: String,
    },
    /// It cannot be unmounted because it is not mounted, or somebody else's mount is.
    #[error("{} is not a mount of cairn", dir.display())]
    NotMounted {
        /// The directory.
        dir: PathBuf,
    },
    /// A process has a file open there, or its working directory.
    #[error("{} is in use", dir.display())]
    Busy {
        /// The mount point.
        dir: PathBuf,
    },
    /// The kernel has no FUSE, or this user may not have it.
    #[error("cannot open /dev/fuse")]
    Device {
        /// Why.
        source: io::Error,
    },
    /// An ordinary user needs `fusermount3`, and it cannot be run.
    #[error("cannot run fusermount3, by which ordinary users mount: it is in the package fuse3")]
    NoHelper {
        /// Why.
        source: io::Error,
    },
    /// `fusermount3` would not.
    #[error("cannot {action} {}: {message}", dir.display())]
    Refused {
        /// What it was asked to do: "mount" or "unmount".
        action: &'static str,
        /// The mount point.
        dir: PathBuf,
        /// Its own words.
        message: String,
    },
    /// A system call failed.
    #[error("cannot {action} {}", dir.display())]
    Io {
        /// What it was to do.
        action: &'static str,
        /// The mount point.
        dir: PathBuf,
        /// Why it did not.
        source: io::Error,
    },
}
