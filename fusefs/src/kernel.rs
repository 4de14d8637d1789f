//! What the kernel asks, answered by `fs` (names) and `handle` (open files): translation and nothing else.
//!
//! Every answer is given inside the [gate](crate::pause). What takes long is done by the [pool](crate::slow), outside.
//! A handler that panics answers EIO, and the mount lives on.
//!
//! Everything the kernel may keep it keeps for ever: what an inode is never changes, and names that do are made stale
//! all at once (see `flip`).

mod answer;
mod far;
mod serve;

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, IoctlFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::attr::Ino;
use crate::deadline::Deadlines;
use crate::device::{Device, Handshake};
use crate::errno::Errno;
use crate::files::Files;
use crate::fs::{Fs, fit};
use crate::handle::{Opening, Opens};
use crate::linger::Linger;
use crate::pause::Gate;
use crate::slow::{Length, Pool};
use crate::working_set::{Names, Origin};
use answer::{CACHED, FOREVER, add_plus, answer_lookup, answer_open, file_attr, file_type};
use serve::{guarded, open_slowly, read_slowly, with_buffer};

/// Bytes of the greatest read, and of the read-ahead that a connection begins with.
const READ_BYTES_MAX: u32 = 1 << 20;
/// Reads ahead and the like that may wait for an answer at a time.
const BACKGROUND_MAX: u16 = 128;
/// Bytes that the reading thread copies itself; more would keep others waiting.
const COPIED_AT_ONCE_MAX: u32 = 128 << 10;
const READ_ONLY: fuser::Errno = fuser::Errno::EROFS;

/// One mount, for whoever answers for it.
pub(crate) struct Core {
    pub(crate) fs: Fs,
    pub(crate) files: Arc<Files>,
    pub(crate) opens: Opens,
    pub(crate) gate: Gate,
    pub(crate) device: Arc<Device>,
    pub(crate) pool: Pool,
    pub(crate) deadlines: Deadlines,
    pub(crate) linger: Linger,
}

impl Names for Core {
    fn origin(&self, ino: Ino) -> Option<Origin> {
        self.fs.origin(ino)
    }
}

/// The adapter. It begins without a mount: what the kernel can do is known only after the handshake, and decides how the
/// mount is made.
#[derive(Clone, Default)]
pub(crate) struct Kernel {
    core: Arc<OnceLock<Arc<Core>>>,
    handshake: Arc<OnceLock<Handshake>>,
    stack_depth: Option<u32>,
}

impl Kernel {
    /// If the kernel is to read backing files by itself, with how many file systems they make one on another.
    pub(crate) fn new(stack_depth: Option<u32>) -> Self {
        Self { stack_depth, ..Self::default() }
    }

    /// What answers, once there is something.
    pub(crate) fn core(&self) -> Option<Arc<Core>> {
        self.core.get().cloned()
    }

    /// What the kernel said, after the handshake.
    pub(crate) fn handshake(&self) -> Option<Handshake> {
        self.handshake.get().copied()
    }

    /// Whether the kernel is to read backing files by itself.
    pub(crate) fn wants_passthrough(&self) -> bool {
        self.stack_depth.is_some()
    }

    /// Whatever the kernel says, it is taken for one that says this.
    #[cfg(test)]
    pub(crate) fn pretend(&self, handshake: Handshake) {
        self.handshake.set(handshake).unwrap();
    }

    /// From here on there is something to answer with. Before the first request, and once.
    pub(crate) fn begin(&self, core: Arc<Core>) {
        // A second one would be a programmer's error without consequence: the first stays.
        let _ = self.core.set(core);
    }
}

impl Filesystem for Kernel {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let capabilities = config.capabilities();
        let abi = config.kernel_abi();
        let _ = self.handshake.set(Handshake { abi: (abi.0, abi.1), capabilities: capabilities.bits() });
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_CACHE_SYMLINKS
            // What a file holds never changes: nothing but its last use invalidates its pages.
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_HAS_RESEND;
        if self.stack_depth.is_some() {
            wanted |= InitFlags::FUSE_PASSTHROUGH;
        }
        // None is refused: the kernel offers them all. The same holds for the values below.
        let _ = config.add_capabilities(wanted & capabilities);
        let _ = config.set_max_stack_depth(self.stack_depth.unwrap_or(0));
        let _ = config.set_max_write(READ_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.serve(request, parent, Some(name), move |core, name| {
            let run = || core.fs.lookup(Ino(parent.0), name.unwrap_or_default().as_bytes());
            core.answer("lookup", parent, run, |found| answer_lookup(reply, found));
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        // It has no answer, and takes no reading.
        let Some(core) = self.core.get() else { return };
        let run = || {
            core.fs.forget(Ino(ino.0), count);
            Ok(())
        };
        core.answer("forget", ino, run, |_| ());
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let run = move |core: &Arc<Core>| core.fs.attr(Ino(ino.0));
        self.handle(request, "getattr", ino, run, |attr| match attr {
            Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr)),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let run = move |core: &Arc<Core>| core.fs.readlink(Ino(ino.0));
        self.handle(request, "readlink", ino, run, |target| match target {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(READ_ONLY);
        }
        self.serve(request, ino, None, move |core, _| {
            let file = {
                let _inside = core.gate.pass();
                let open = || core.opens.open(Ino(ino.0), || core.fs.file(Ino(ino.0)));
                match guarded("open", ino, open) {
                    Ok(Opening::Opened(way)) => return answer_open(reply, Ok(way)),
                    Ok(Opening::Wait(file)) => file,
                    Err(errno) => return answer_open(reply, Err(errno)),
                }
            };
            let job = Arc::clone(core);
            core.pool.run(Length::Long, move || open_slowly(&job, ino, &file, reply));
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(core) = self.core.get() else { return reply.error(fuser::Errno::EIO) };
        core.linger.came(request.pid());
        with_buffer(|buffer| {
            let run = || {
                let file = core.opens.file(Ino(ino.0)).ok_or(Errno::STALE)?;
                file.touched.note(offset, size);
                let there =
                    size <= COPIED_AT_ONCE_MAX && core.files.try_read(&file.spec, offset, size, buffer);
                Ok(if there { Ok(buffer) } else { Err(file) })
            };
            core.answer("read", ino, run, |read| match read {
                Ok(Ok(buffer)) => reply.data(buffer),
                Ok(Err(file)) => {
                    let job = Arc::clone(core);
                    let read = move || read_slowly(&job, ino, file, offset, size, reply);
                    core.pool.run(Length::Short, read);
                }
                Err(errno) => reply.error(errno),
            });
        });
        core.linger.answered(core.device.as_fd());
    }

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let Some(core) = self.core.get() else { return reply.error(fuser::Errno::EIO) };
        core.linger.came(request.pid());
        let run = || {
            core.opens.release(Ino(ino.0));
            Ok(())
        };
        core.answer("release", ino, run, |_| reply.ok());
        core.linger.answered(core.device.as_fd());
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let run = move |core: &Arc<Core>| core.fs.is_immutable_dir(Ino(ino.0));
        self.handle(request, "opendir", ino, run, |immutable| match immutable {
            Ok(true) => {
                reply.opened(CACHED, FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
            }
            Ok(false) => reply.opened(CACHED, FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, request: &Request, ino: INodeNo, _: FileHandle, from: u64, mut reply: ReplyDirectory) {
        self.serve(request, ino, Some(OsStr::new("")), move |core, _| {
            let _inside = core.gate.pass();
            let listed = guarded("readdir", ino, || {
                core.fs.readdir(Ino(ino.0), from, false, &mut |entry| {
                    let name = OsStr::from_bytes(&entry.name);
                    reply.add(INodeNo(entry.ino.0), entry.cookie, file_type(entry.kind), name)
                })
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        from: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.serve(request, ino, Some(OsStr::new("")), move |core, _| {
            let _inside = core.gate.pass();
            let listed = guarded("readdirplus", ino, || {
                core.fs.readdir(Ino(ino.0), from, true, &mut |entry| add_plus(core, ino, &entry, &mut reply))
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let run = |core: &Arc<Core>| Ok(core.fs.statfs());
        self.handle(request, "statfs", ino, run, |capacity| match capacity {
            Ok(all) => {
                let blocks = all.bytes.div_ceil(all.block_len.into());
                reply.statfs(blocks, 0, 0, all.files, 0, all.block_len, all.name_len_max, all.block_len);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned();
        let run = move |core: &Arc<Core>| fit(core.fs.xattr(Ino(ino.0), name.as_bytes())?, size);
        self.xattr(request, "getxattr", ino, run, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let run = move |core: &Arc<Core>| fit(core.fs.xattrs(Ino(ino.0))?, size);
        self.xattr(request, "listxattr", ino, run, reply);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        // The kernel then takes every file as one run of data, and asks no more.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    // The mount is read-only, and the kernel says so by itself; what follows is for a mount that somebody has made
    // writable since.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(READ_ONLY);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(READ_ONLY);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(READ_ONLY);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(READ_ONLY);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(READ_ONLY);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(READ_ONLY);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(READ_ONLY);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(READ_ONLY);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(READ_ONLY);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(READ_ONLY);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(READ_ONLY);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(READ_ONLY);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(READ_ONLY);
    }
}
