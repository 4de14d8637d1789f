//! Answers in the kernel's terms.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyDirectoryPlus, ReplyEntry,
    ReplyOpen, ReplyXattr,
};

use super::Core;
use crate::attr::{Attr, DirEntry, Ino, Kind, Lookup};
use crate::device::reply_passthrough;
use crate::fs::Xattr;
use crate::handle::Way;

/// Longer than any machine runs.
pub(super) const FOREVER: Duration = Duration::from_secs(1 << 40);
const NEVER: Duration = Duration::ZERO;
const BLOCK_LEN: u32 = 4096;
/// What a handle says of how its file is open.
const BACKING: FileHandle = FileHandle(1);
pub(super) const CACHED: FileHandle = FileHandle(2);

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    let (seconds, nanoseconds) = attr.mtime;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let time = time.and_then(|time| time.checked_add(Duration::from_nanos(nanoseconds.into())));
    let time = time.unwrap_or(UNIX_EPOCH);
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_LEN,
        flags: 0,
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

/// What stands for an inode of which nothing but this is known.
pub(super) fn bare_attr(ino: Ino, kind: Kind) -> FileAttr {
    file_attr(&Attr { ino, kind, mode: 0o555, size: 0, nlink: 1, uid: 0, gid: 0, mtime: (0, 0), rdev: 0 })
}

pub(super) fn time_to_live(cacheable: bool) -> &'static Duration {
    if cacheable { &FOREVER } else { &NEVER }
}

pub(super) fn answer_lookup(reply: ReplyEntry, found: Result<Lookup, fuser::Errno>) {
    match found {
        Ok(Lookup::Found { attr, cacheable }) => {
            reply.entry_with_ttls(&FOREVER, time_to_live(cacheable), &file_attr(&attr), Generation(0));
        }
        // Inode 0 is a name that is not there, and stays so.
        Ok(Lookup::Absent { cacheable: true }) => {
            reply.entry(&FOREVER, &bare_attr(Ino(0), Kind::File), Generation(0));
        }
        Ok(Lookup::Absent { cacheable: false }) => reply.error(fuser::Errno::ENOENT),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn answer_open(reply: ReplyOpen, way: Result<Way, fuser::Errno>) {
    let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
    match way {
        Ok(Way::Backing(file)) => reply_passthrough(reply, BACKING, FopenFlags::FOPEN_NOFLUSH, file),
        Ok(Way::Cached) => reply.opened(CACHED, flags),
        Err(errno) => reply.error(errno),
    }
}

pub(super) fn answer_xattr(reply: ReplyXattr, value: Result<Xattr, fuser::Errno>) {
    match value {
        Ok(Xattr::Size(len)) => reply.size(len),
        Ok(Xattr::Bytes(bytes)) => reply.data(&bytes),
        Err(errno) => reply.error(errno),
    }
}

/// Adds a name with its attributes to a listing; true if there was no room.
pub(super) fn add_plus(
    core: &Core,
    parent: INodeNo,
    entry: &DirEntry<'_>,
    reply: &mut ReplyDirectoryPlus,
) -> bool {
    let name = OsStr::from_bytes(&entry.name);
    let is_dots = matches!(&entry.name[..], b"." | b"..");
    // fuser cannot give a name without attributes but with an inode's number, and programs skip names of number 0: what
    // has no attributes yet is looked up. The kernel takes no references by `.` and `..`.
    let found = match entry.attr {
        None if !is_dots => core.fs.lookup(Ino(parent.0), &entry.name).ok(),
        _ => None,
    };
    let attr = match (entry.attr, found) {
        (Some(attr), _) | (None, Some(Lookup::Found { attr, .. })) => Some(attr),
        _ => None,
    };
    // What cannot be read is listed all the same, and asked for again, with the error, by whoever uses it.
    let (to_live, attr_shown) = match &attr {
        Some(attr) => (time_to_live(entry.cacheable), file_attr(attr)),
        None => (&NEVER, bare_attr(entry.ino, entry.kind)),
    };
    let ino = INodeNo(attr_shown.ino.0);
    let full = reply.add(ino, entry.cookie, name, to_live, &attr_shown, Generation(0));
    if let (true, Some(Lookup::Found { attr, .. })) = (full, found) {
        core.fs.forget(attr.ino, 1);
    }
    full
}
