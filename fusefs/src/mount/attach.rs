//! How a FUSE connection comes to a directory and goes from it again: by the kernel's own calls as root, through
//! `fusermount3` as anybody else.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use super::error::MountError;
use super::table;

const HELPER: &str = "fusermount3";
/// What mounts of cairn are called in /proc/mounts, where their type is `fuse.cairn`.
pub(super) const SOURCE: &str = "cairn";
/// How long somebody who only looks at a mount may use it, and how often it is tried meanwhile.
const LOOK_MAX: Duration = Duration::from_millis(100);
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// More of what the helper says is not kept.
const MESSAGE_BYTES_MAX: u64 = 1000;

/// A connection that waits for its session.
pub(super) struct Attached {
    /// What the session reads.
    pub(super) device: OwnedFd,
    /// The mount itself while no path leads to it. None if it is in its place already.
    pub(super) detached: Option<OwnedFd>,
}

/// Whether mounting is the kernel's business alone here.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Opens a connection and mounts it, for all users or only for this one; as root not yet in its place.
pub(super) fn attach(dir: &Path, allow_other: bool) -> Result<Attached, MountError> {
    if !is_root() {
        return Ok(Attached { device: by_helper(dir, allow_other)?, detached: None });
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, Mode::empty())
        .map_err(|errno| MountError::Device { source: errno.into() })?;
    let detached = by_kernel(&device, allow_other).map_err(failed("mount", dir))?;
    Ok(Attached { device, detached: Some(detached) })
}

fn by_kernel(device: &OwnedFd, allow_other: bool) -> Result<OwnedFd, Errno> {
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", SOURCE)?;
    fsconfig_set_string(context, "subtype", SOURCE)?;
    fsconfig_set_string(context, "fd", device.as_raw_fd().to_string())?;
    fsconfig_set_string(context, "rootmode", "40000")?;
    fsconfig_set_string(context, "user_id", rustix::process::geteuid().as_raw().to_string())?;
    fsconfig_set_string(context, "group_id", rustix::process::getegid().as_raw().to_string())?;
    fsconfig_set_flag(context, "default_permissions")?;
    fsconfig_set_flag(context, "ro")?;
    if allow_other {
        fsconfig_set_flag(context, "allow_other")?;
    }
    fsconfig_create(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOATIME;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts a mount in its place, at once and whole.
pub(super) fn place(detached: BorrowedFd<'_>, dir: &Path) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(detached, "", CWD, dir, flags).map_err(failed("mount", dir))
}

/// `fusermount3` mounts, and sends the device over the socket that it is given as standard input.
fn by_helper(dir: &Path, allow_other: bool) -> Result<OwnedFd, MountError> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(failed("mount", dir))?;
    let mut options = format!("ro,nosuid,nodev,default_permissions,fsname={SOURCE},subtype={SOURCE}");
    if allow_other {
        options.push_str(",allow_other");
    }
    let mut command = Command::new(HELPER);
    command.env("_FUSE_COMMFD", "0").stdin(theirs).arg("-o").arg(options).arg("--").arg(dir);
    run(command, "mount", dir)?;
    receive(&ours).map_err(failed("mount", dir))
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [rustix::io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut messages = ancillary.drain();
    let device = messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    device.ok_or(Errno::BADMSG)
}

/// Unmounts the topmost mount at a directory; lazily means that whoever uses it may go on. Who only looks at it, as df(1)
/// does, uses it for a moment: it is in use if it is so for longer.
pub(super) fn detach(dir: &Path, lazy: bool) -> Result<(), MountError> {
    let begun = Instant::now();
    loop {
        match detach_now(dir, lazy) {
            Err(MountError::Busy { .. }) if begun.elapsed() < LOOK_MAX => std::thread::sleep(LOOK_PAUSE),
            detached => return detached,
        }
    }
}

fn detach_now(dir: &Path, lazy: bool) -> Result<(), MountError> {
    if !is_root() {
        let mut command = Command::new(HELPER);
        command.stdin(Stdio::null()).arg("-u");
        if lazy {
            command.arg("-z");
        }
        command.arg("--").arg(dir);
        return run(command, "unmount", dir);
    }
    let lazily = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(dir, UnmountFlags::NOFOLLOW | lazily) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(MountError::Busy { dir: dir.to_owned() }),
        Err(Errno::INVAL | Errno::NOENT) => Err(MountError::NotMounted { dir: dir.to_owned() }),
        Err(errno) => Err(failed("unmount", dir)(errno)),
    }
}

fn run(mut command: Command, action: &'static str, dir: &Path) -> Result<(), MountError> {
    command.env("LC_ALL", "C").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| MountError::NoHelper { source })?;
    // The command holds its end of the socket: with that open, a helper that died would be waited for.
    drop(command);
    let mut message = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What cannot be read is not told.
        let _ = stderr.take(MESSAGE_BYTES_MAX).read_to_end(&mut message);
    }
    let status = child.wait().map_err(|source| MountError::Io { action, dir: dir.to_owned(), source })?;
    if status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&message).trim().to_owned();
    if message.contains("Device or resource busy") {
        return Err(MountError::Busy { dir: dir.to_owned() });
    }
    Err(MountError::Refused { action, dir: dir.to_owned(), message })
}

/// The directory with all links resolved, ready to be mounted on: nothing of cairn's lives there, and what is dead is
/// gone.
///
/// # Errors
/// Everything that the caller can do something about, by name.
pub(super) fn prepare(dir: &Path) -> Result<std::path::PathBuf, MountError> {
    let dir = table::resolve(dir)?;
    // A daemon that died twice left two.
    while let Some(dead) = table::dead(&dir)? {
        if !dead.is_cairn() {
            return Err(MountError::Covered { dir, kind: dead.kind });
        }
        tracing::warn!(dir = %dir.display(), "nobody serves the mount that is there: it is replaced");
        detach(&dir, true)?;
    }
    if table::top(&dir)?.is_some_and(|mount| mount.is_cairn()) {
        return Err(MountError::Mounted { dir });
    }
    let stat = rustix::fs::stat(&dir).map_err(failed("mount", &dir))?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(MountError::NotDirectory { dir });
    }
    Ok(dir)
}

pub(super) fn failed(action: &'static str, dir: &Path) -> impl Fn(Errno) -> MountError {
    move |errno| MountError::Io { action, dir: dir.to_owned(), source: errno.into() }
}
