//! What a directory holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::id::TreeId;

/// Longest name, in bytes.
pub const NAME_LEN_MAX: usize = 255;
/// Longest target of a symbolic link, in bytes.
pub const SYMLINK_LEN_MAX: usize = 4095;
/// The permission bits of every symbolic link: systems that keep others do not use them.
pub const SYMLINK_MODE: u16 = 0o777;
/// Longest encoded entry, in bytes. Only extended attributes come near.
pub const ENTRY_LEN_MAX: usize = 256 << 10;
/// Longest value of an extended attribute, in bytes.
pub(super) const XATTR_LEN_MAX: usize = 64 << 10;
/// Every bit a mode may have.
pub(super) const MODE_MASK: u16 = 0o7777;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1 to 255 bytes without `/` and NUL; not `.` or `..`.
    pub name: Vec<u8>,
    /// What the name stands for.
    pub node: Node,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
    /// Owner, times and the rest, under the `full` metadata policy.
    pub full: Option<FullMeta>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Length in bytes: what `content` adds up to.
        size: u64,
        /// What it holds.
        content: Content,
    },
    /// A directory.
    Dir {
        /// Its entries.
        tree: TreeId,
    },
    /// A symbolic link; its mode is [`SYMLINK_MODE`].
    Symlink {
        /// 1 to 4,095 bytes without NUL.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    Char {
        /// Device class.
        major: u32,
        /// Device within its class.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Device class.
        major: u32,
        /// Device within its class.
        minor: u32,
    },
}

/// What the `full` metadata policy keeps beyond permission bits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FullMeta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: whole seconds since 1970-01-01T00:00:00Z.
    pub mtime_s: i64,
    /// Modification time: nanoseconds after `mtime_s`, below 10^9.
    pub mtime_ns: u32,
    /// Hard-link group, 0 for none. Groups are numbered from 1 in walk order over the artifact; each member carries
    /// the whole content. Always 0 for directories.
    pub link: u32,
    /// Extended attributes; names of 1 to 255 bytes without NUL, values of up to 64 KiB.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}
