//! Which processes use files of a mount: those that run one, have one mapped or open, or have their working or root
//! directory in it. It tells who keeps a mount busy, and after a flip who still runs the version before.
//!
//! Everything comes from `/proc`, and nothing here asks the file system itself: a dead mount, or one whose daemon does
//! not answer, is looked at like any other. A process that ends meanwhile is left out; one that belongs to somebody else
//! and cannot be looked into is counted in [`Users::hidden`].
//!
//! Not seen: what a single thread does not share with its process, files on their way through a socket, and mounts on
//! top of this one.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, StatxAttributes, StatxFlags, makedev, openat, readlinkat, statx,
};
use rustix::io::Errno;

/// What the kernel appends to the path of a file that has no name any more.
const GONE: &[u8] = b" (deleted)";
/// `PF_KTHREAD`, of Linux' include/linux/sched.h: a thread of the kernel, which uses no files.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// `/proc/PID/stat` is one line of 52 numbers and a name.
const STAT_BYTES_MAX: u64 = 4096;

/// Processes could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct ProcessesError {
    /// Verb phrase: `open`, `list`.
    pub action: &'static str,
    /// The directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A mount, as the files of processes are held against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    device: u64,
    dir: PathBuf,
    /// Whether all of the device is of the mount, whatever path a process sees it at.
    is_whole: bool,
}

impl MountPoint {
    /// The mount whose files have this `st_dev`, at `dir`: absolute, without symbolic links.
    #[must_use]
    pub fn new(device: u64, dir: PathBuf) -> Self {
        Self { device, dir, is_whole: true }
    }

    /// The mount at `path`, or, where nothing is mounted, just what is below that directory. Does not ask the file
    /// system there.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn at(path: &Path) -> Result<Self, ProcessesError> {
        let failed =
            |errno: Errno| ProcessesError { action: "open", path: path.to_owned(), source: errno.into() };
        let fd = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed)?;
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        // As the kernel names it for every process that uses it.
        let dir = readlinkat(CWD, own, Vec::new()).map_err(failed)?.into_bytes();
        let Seen { device, is_root, .. } = look_at(fd.as_fd(), c"", AtFlags::EMPTY_PATH).map_err(failed)?;
        Ok(Self { device, dir: OsString::from_vec(dir).into(), is_whole: is_root })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What of `path` lies below this directory; empty for the directory itself.
    fn below<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let dir = self.dir.as_os_str().as_bytes();
        let rest = path.strip_prefix(dir.strip_suffix(b"/").unwrap_or(dir))?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
    }

    /// The use that a process makes of the file of which the kernel says `shown`, if it is one of this mount's.
    ///
    /// A mapping counts by its path alone too: with passthrough a kernel may give the device of the file behind it.
    fn recognise(
        &self,
        kind: UseKind,
        shown: &[u8],
        device: Option<u64>,
        ino: Option<u64>,
    ) -> Option<FileUse> {
        let (path, gone) = shown.strip_suffix(GONE).map_or((shown, false), |path| (path, true));
        let below = self.below(path);
        let is_ours = match device {
            Some(device) if device == self.device => self.is_whole || below.is_some(),
            Some(_) => kind == UseKind::Map && below.is_some(),
            None => below.is_some(),
        };
        let path = OsStr::from_bytes(below.unwrap_or(path)).into();
        is_ours.then_some(FileUse { kind, path, gone, ino })
    }
}

/// How a process uses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    /// It is the program that it runs.
    Exe,
    /// It is mapped, as shared libraries are. The program itself is not told again.
    Map,
    /// It has a descriptor of it.
    Open,
    /// It is the working directory.
    Cwd,
    /// It is the root directory.
    Root,
}

impl UseKind {
    /// The word for it: `exe`, `map`, `open`, `cwd`, `root`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exe => "exe",
            Self::Map => "map",
            Self::Open => "open",
            Self::Cwd => "cwd",
            Self::Root => "root",
        }
    }
}

/// One use of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileUse {
    /// What it is to the process.
    pub kind: UseKind,
    /// Its path below the mount point; empty for the mount point itself. Absolute where the process sees the mount at
    /// another place, or it has been detached.
    pub path: PathBuf,
    /// The kernel knows no name of it any more: it was removed, or a flip made it forget. A name that itself ends in
    /// ` (deleted)` looks the same.
    pub gone: bool,
    /// Its inode number, where the kernel tells it.
    pub ino: Option<u64>,
}

/// A process that uses files of the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// What it calls itself, at most 15 bytes.
    pub command: OsString,
    /// Each file and kind once, in order; as many as it may have open and mapped.
    pub uses: Vec<FileUse>,
}

/// Who uses a mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users {
    /// By number.
    pub processes: Vec<Process>,
    /// How many processes could not be looked into, since they are another user's.
    pub hidden: u64,
}

/// Finds every process that uses files of `mount`.
///
/// # Errors
/// `/proc` cannot be listed.
pub fn users(mount: &MountPoint) -> Result<Users, ProcessesError> {
    let failed =
        |action| move |errno: Errno| ProcessesError { action, path: "/proc".into(), source: errno.into() };
    let proc = open_dir(CWD, c"/proc").map_err(failed("open"))?;
    let mut users = Users::default();
    for entry in Dir::read_from(&proc).map_err(failed("list"))? {
        let entry = entry.map_err(failed("list"))?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        // Later names are resolved below this descriptor, so they cannot mean another process that got the number.
        let Ok(folder) = openat(&proc, entry.file_name(), folder_flags() | OFlags::PATH, Mode::empty())
        else {
            continue;
        };
        let mut looked = Looked { mount, folder, uses: BTreeSet::new(), is_denied: false };
        looked.look();
        if looked.is_denied && !looked.is_kernel_thread() {
            users.hidden += 1;
        }
        if !looked.uses.is_empty() {
            users.processes.push(Process { pid, command: looked.command(), uses: looked.uses() });
        }
    }
    users.processes.sort_by_key(|process| process.pid);
    Ok(users)
}

/// One process that is being looked at.
struct Looked<'a> {
    mount: &'a MountPoint,
    /// `/proc/PID`.
    folder: OwnedFd,
    uses: BTreeSet<FileUse>,
    /// Something of it could not be read, and not because it ended.
    is_denied: bool,
}

impl Looked<'_> {
    fn look(&mut self) {
        for (kind, link) in [(UseKind::Exe, c"exe"), (UseKind::Cwd, c"cwd"), (UseKind::Root, c"root")] {
            let found = use_of_link(self.mount, kind, self.folder.as_fd(), link);
            self.take(found);
        }
        if let Some(descriptors) = self.allowed(open_dir(&self.folder, c"fd")) {
            self.look_at_descriptors(&descriptors);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        if let Some(maps) = self.allowed(openat(&self.folder, c"maps", flags, Mode::empty())) {
            self.look_at_maps(maps.into());
        }
    }

    fn look_at_descriptors(&mut self, descriptors: &OwnedFd) {
        let Some(entries) = self.allowed(Dir::read_from(descriptors)) else { return };
        for entry in entries {
            let Some(entry) = self.allowed(entry) else { return };
            if !entry.file_name().to_bytes().starts_with(b".") {
                let found = use_of_link(self.mount, UseKind::Open, descriptors.as_fd(), entry.file_name());
                self.take(found);
            }
        }
    }

    fn look_at_maps(&mut self, maps: File) {
        let mut maps = BufReader::new(maps);
        let mut line = Vec::new();
        loop {
            line.clear();
            match maps.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    self.allowed::<()>(Err(errno));
                    return;
                }
            }
            let Some(mapping) = Mapping::parse(line.strip_suffix(b"\n").unwrap_or(&line)) else { continue };
            let exact = mapping.exact_link().and_then(|link| {
                readlinkat(&self.folder, link, Vec::new()).ok().map(std::ffi::CString::into_bytes)
            });
            let path = exact.unwrap_or_else(|| mapping.path());
            let found = self.mount.recognise(UseKind::Map, &path, Some(mapping.device), None);
            self.uses.extend(found);
        }
    }

    fn take(&mut self, found: Result<Option<FileUse>, Errno>) {
        let found = self.allowed(found).flatten();
        self.uses.extend(found);
    }

    /// The value; none, and a note of it, where it is kept from us.
    fn allowed<T>(&mut self, result: Result<T, Errno>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            // It ended, or closed what it had open.
            Err(Errno::NOENT | Errno::SRCH) => None,
            Err(_) => {
                self.is_denied = true;
                None
            }
        }
    }

    fn is_kernel_thread(&self) -> bool {
        // The name is in parentheses and may hold any byte; what follows the last one are numbers.
        let stat = self.read(c"stat");
        let numbers = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
        let flags = numbers.split(|byte| *byte == b' ').nth(7).and_then(|flags| str::from_utf8(flags).ok());
        flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & KERNEL_THREAD != 0)
    }

    fn command(&self) -> OsString {
        let mut name = self.read(c"comm");
        name.pop_if(|last| *last == b'\n');
        OsString::from_vec(name)
    }

    /// A short file of it, as far as it can be read.
    fn read(&self, name: &CStr) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(file) = openat(&self.folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            // A process that just ended gives an error, and then it has no name.
            let _ = File::from(file).take(STAT_BYTES_MAX).read_to_end(&mut bytes);
        }
        bytes
    }

    fn uses(self) -> Vec<FileUse> {
        let is_exe = |path: &Path| self.uses.iter().any(|one| one.kind == UseKind::Exe && one.path == path);
        let told = self.uses.iter().filter(|one| one.kind != UseKind::Map || !is_exe(&one.path));
        told.cloned().collect()
    }
}

/// What a link of `/proc` is to the mount. Links to what is no file (`pipe:[7]`) are nothing.
fn use_of_link(
    mount: &MountPoint,
    kind: UseKind,
    folder: BorrowedFd<'_>,
    name: &CStr,
) -> Result<Option<FileUse>, Errno> {
    let shown = readlinkat(folder, name, Vec::new())?.into_bytes();
    if !shown.starts_with(b"/") {
        return Ok(None);
    }
    let seen = match look_at(folder, name, AtFlags::empty()) {
        Ok(seen) => Some(seen),
        Err(gone @ (Errno::NOENT | Errno::SRCH)) => return Err(gone),
        Err(_) => None,
    };
    let (device, ino) = seen.map(|seen| (seen.device, seen.ino)).unzip();
    Ok(mount.recognise(kind, &shown, device, ino))
}

/// What the kernel knows of a file by itself.
struct Seen {
    /// Its `st_dev`.
    device: u64,
    ino: u64,
    /// Whether it is the root of a mount.
    is_root: bool,
}

/// Asks for nothing else, so that no file system has to be asked, not even a dead one.
fn look_at(folder: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Seen, Errno> {
    let flags = flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(folder, name, flags, StatxFlags::empty())?;
    let is_root = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok(Seen { device: makedev(found.stx_dev_major, found.stx_dev_minor), ino: found.stx_ino, is_root })
}

fn folder_flags() -> OFlags {
    OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn open_dir(at: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(at, name, folder_flags() | OFlags::RDONLY, Mode::empty())
}

/// A line of `/proc/PID/maps` that names a file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    /// `7f1c8a400000-7f1c8a428000`, as it stands there.
    range: &'a str,
    device: u64,
    /// A newline of the name is `\012` here, and so are these four characters themselves.
    path_escaped: &'a [u8],
}

impl<'a> Mapping<'a> {
    const NEWLINE: &'static [u8] = b"\\012";

    fn parse(line: &'a [u8]) -> Option<Self> {
        // Range, permissions, offset, device, inode, padding, path.
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let range = str::from_utf8(fields.next()?).ok()?;
        let (major, minor) = str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
        let number = |digits| u32::from_str_radix(digits, 16).ok();
        let device = makedev(number(major)?, number(minor)?);
        let path_escaped = fields.nth(1)?.trim_ascii_start();
        path_escaped.starts_with(b"/").then_some(Self { range, device, path_escaped })
    }

    /// The path, where an escaped newline can be only that.
    fn path(&self) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path_escaped.len());
        let mut rest = self.path_escaped;
        while let Some((first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(Self::NEWLINE) {
                path.push(b'\n');
                rest = after;
            } else {
                path.push(*first);
                rest = after;
            }
        }
        path
    }

    /// The link that has the path as it is, below `/proc/PID`, if the line leaves it open.
    fn exact_link(&self) -> Option<String> {
        let is_escaped = self.path_escaped.windows(Self::NEWLINE.len()).any(|part| part == Self::NEWLINE);
        let (start, end) = is_escaped.then_some(self.range)?.split_once('-')?;
        let trim = |address: &'a str| address.trim_start_matches('0');
        Some(format!("map_files/{}-{}", trim(start), trim(end)))
    }
}

#[cfg(test)]
mod tests;
