//! What the operations of a file system give out: plain data, nothing of any library's.

use std::borrow::Cow;

/// An inode's number. The kernel knows an inode by it from a look-up until it forgets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The mount's root.
    pub const ROOT: Self = Self(1);
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device; the mount's `nodev` keeps it from being opened.
    Char,
    /// A block device.
    Block,
}

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u16,
    /// Bytes of a file or of a link's target; 0 for everything else.
    pub size: u64,
    /// 1 for directories, which is how btrfs says that it does not count subdirectories: tools that trust a count of 2
    /// or more would not look for any. 2 for the members of a hard-link group, whose number artifacts do not tell.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// The device, as the kernel encodes it (`new_encode_dev`).
    pub rdev: u32,
}

/// The answer to a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It is there, and one more reference to it is counted.
    Found {
        /// What it is.
        attr: Attr,
        /// Whether the kernel may keep the name.
        cacheable: bool,
    },
    /// It is not there.
    Absent {
        /// Whether the kernel may keep this, too.
        cacheable: bool,
    },
}

/// A name in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// From where to go on after it.
    pub cookie: u64,
    /// Its name.
    pub name: Cow<'a, [u8]>,
    /// Its inode.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// In listings with attributes: its attributes, and a reference to it is counted. `.`, `..` and what would take
    /// reading an artifact have none; the kernel looks those up when it needs them.
    pub attr: Option<Attr>,
    /// Whether the kernel may keep the name.
    pub cacheable: bool,
}

/// What `statfs` shows. Nothing is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of all files of the artifacts that refs name.
    pub bytes: u64,
    /// Files of these artifacts.
    pub files: u64,
    /// Bytes of a block.
    pub block_len: u32,
    /// Longest name, in bytes.
    pub name_len_max: u32,
}

/// Figures about a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FsStats {
    /// Inodes that the kernel knows, without the root.
    pub inodes: u64,
    /// Bytes that the table of inodes takes, by the capacity of what holds them.
    pub inode_bytes: u64,
    /// Decoded directories that are kept.
    pub directories: u64,
    /// Bytes of these.
    pub directory_bytes: u64,
    /// Look-ups and listings that failed because what a directory is made of is damaged or absent.
    pub damaged: u64,
    /// Whether extended attributes are answered as unsupported.
    pub xattrs_unsupported: bool,
    /// Whether an artifact with extended attributes is shown since that was decided: they stay hidden until the next
    /// mount.
    pub xattrs_hidden: bool,
}
