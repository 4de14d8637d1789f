//! What is mounted where, by /proc/self/mountinfo, which tells it without asking who serves a mount.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::attach::{self, failed};
use super::error::MountError;

/// The type of our mounts.
const KIND: &str = "fuse.cairn";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `major:minor` of its device.
    pub(super) device: String,
    pub(super) dir: PathBuf,
    /// The type of its file system.
    pub(super) kind: String,
}

impl Entry {
    pub(super) fn is_cairn(&self) -> bool {
        self.kind == KIND
    }
}

/// Whether a mount of cairn is at this directory that nobody serves any more: each use of it fails with "Transport
/// endpoint is not connected".
#[must_use]
pub fn is_dead(dir: &Path) -> bool {
    let found = resolve(dir).and_then(|dir| dead(&dir));
    matches!(found, Ok(Some(mount)) if mount.is_cairn())
}

/// Unmounts a mount of cairn that nobody serves any more. Files that are open through it stay open.
///
/// # Errors
/// [`MountError::NotMounted`] if there is none, or it is served.
pub fn unmount_dead(dir: &Path) -> Result<(), MountError> {
    let dir = resolve(dir)?;
    match dead(&dir)? {
        Some(mount) if mount.is_cairn() => attach::detach(&dir, true),
        _ => Err(MountError::NotMounted { dir }),
    }
}

/// The directories at which mounts of cairn are seen, dead ones too, each once.
///
/// # Errors
/// The list of mounts cannot be read.
pub fn mounted() -> io::Result<Vec<PathBuf>> {
    let text = read()?;
    let all: Vec<Entry> = parse(&text).collect();
    // Later ones cover earlier ones.
    let is_seen = |place: usize, mount: &Entry| all[place + 1..].iter().all(|later| later.dir != mount.dir);
    let seen = all.iter().enumerate().filter(|(place, mount)| mount.is_cairn() && is_seen(*place, mount));
    Ok(seen.map(|(_, mount)| mount.dir.clone()).collect())
}

/// The path without links, also where a dead mount is at its end.
pub(super) fn resolve(dir: &Path) -> Result<PathBuf, MountError> {
    let resolved = match std::fs::canonicalize(dir) {
        Err(error) if is_disconnected(&error) => {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
            match (dir.parent(), dir.file_name()) {
                (Some(parent), Some(name)) => std::fs::canonicalize(parent).map(|parent| parent.join(name)),
                _ => Err(error),
            }
        }
        resolved => resolved,
    };
    resolved.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => MountError::NotFound { dir: dir.to_owned() },
        io::ErrorKind::NotADirectory => MountError::NotDirectory { dir: dir.to_owned() },
        _ => MountError::Io { action: "look at", dir: dir.to_owned(), source },
    })
}

fn is_disconnected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error())
}

/// The mount at a resolved directory if nobody serves it.
pub(super) fn dead(dir: &Path) -> Result<Option<Entry>, MountError> {
    // The kernel answers `stat` from what it keeps for ever; this it always asks for.
    match rustix::fs::statfs(dir) {
        Err(Errno::NOTCONN) => top(dir),
        _ => Ok(None),
    }
}

/// The mount that is seen at a resolved directory, if one is there.
pub(super) fn top(dir: &Path) -> Result<Option<Entry>, MountError> {
    let text = read().map_err(failed("look at", dir))?;
    // Later ones cover earlier ones.
    Ok(parse(&text).filter(|mount| mount.dir == dir).last())
}

/// Where a device is mounted: at `dir` if it is what is seen there, else wherever that was moved to.
pub(crate) fn place(device: &str, dir: &Path) -> Option<PathBuf> {
    let text = read().ok()?;
    let seen: Vec<Entry> = parse(&text).collect();
    let is_seen = |place: usize| seen[place + 1..].iter().all(|later| later.dir != seen[place].dir);
    let places = (0..seen.len()).filter(|place| seen[*place].device == device && is_seen(*place));
    let mut places: Vec<&Path> = places.map(|place| &*seen[place].dir).collect();
    places.sort_by_key(|place| *place != dir);
    places.first().map(|place| (*place).to_owned())
}

fn read() -> Result<Vec<u8>, Errno> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open("/proc/self/mountinfo", flags, rustix::fs::Mode::empty())?;
    let mut text = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        match rustix::io::read(&file, &mut part) {
            Ok(0) => return Ok(text),
            Ok(read) => text.extend_from_slice(&part[..read]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// `36 35 98:0 /root /mount/point rw,… [optional]… - type source options`; see proc_pid_mountinfo(5).
fn parse(text: &[u8]) -> impl Iterator<Item = Entry> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut words = line.split(|&byte| byte == b' ');
        let device = words.nth(2)?;
        let dir = words.nth(1)?;
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        Some(Entry {
            device: String::from_utf8_lossy(device).into_owned(),
            dir: PathBuf::from(unescape(dir)),
            kind: String::from_utf8_lossy(kind).into_owned(),
        })
    })
}

/// Space, tab, newline and backslash are written there as `\ooo`.
fn unescape(path: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let code = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(plain)
}

/// The text of `major:minor` as the kernel writes it.
pub(super) fn device_name(major: u32, minor: u32) -> String {
    format!("{major}:{minor}")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn entry(device: &str, dir: &[u8], kind: &str) -> Entry {
        Entry { device: device.to_owned(), dir: OsStr::from_bytes(dir).into(), kind: kind.to_owned() }
    }

    #[test]
    fn lines_of_all_shapes() {
        let text = b"25 1 0:23 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
            31 25 0:40 / /opt/my\\040bins\\134\\011x ro,nosuid,nodev shared:2 master:1 - fuse.cairn cairn ro,user_id=0\n\
            32 25 0:41 / /opt/\xff ro - fuse cairn ro\n\
            broken\n";
        let expected = [
            entry("0:23", b"/", "ext4"),
            entry("0:40", b"/opt/my bins\\\tx", "fuse.cairn"),
            entry("0:41", b"/opt/\xff", "fuse"),
        ];
        assert_eq!(parse(text).collect::<Vec<_>>(), expected);
        assert_eq!(parse(text).map(|mount| mount.is_cairn()).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(top(Path::new("/")).unwrap().is_some());
        assert_eq!(top(Path::new("/nonexistent")).unwrap(), None);
    }

    #[test]
    fn a_plain_directory_is_no_dead_mount() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_dead(dir.path()));
        assert!(matches!(unmount_dead(dir.path()), Err(MountError::NotMounted { .. })));
        assert!(matches!(unmount_dead(&dir.path().join("not-there")), Err(MountError::NotFound { .. })));
    }
}
