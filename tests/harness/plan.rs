//! Trees that do not exist yet: made up by hand or by chance, then put on a disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};

use crate::bytes::{noise, periodic, text};

/// Lengths at which something changes, and their neighbours: inline bytes, the three bounds of chunks, small files.
pub const EDGES: [usize; 24] = [
    0,
    1,
    2,
    127,
    128,
    129,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    16_383,
    16_384,
    16_385,
    65_535,
    65_536,
    65_537,
    131_071,
    131_072,
    131_073,
    (256 << 10) - 1,
    256 << 10,
    (256 << 10) + 1,
];

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// What does not compress.
    Noise(u64),
    /// What compresses.
    Text(u64),
    /// Zeros that were written.
    Zeros,
    /// Zeros that never were, with a little noise at the end.
    Sparse(u64),
    /// What repeats with this period.
    Periodic(u64, usize),
}

/// A file, a directory or something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// A file of so many bytes, with these permission bits.
    File(Fill, usize, u32),
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A directory, with these permission bits.
    Dir(Folder, u32),
    /// A symbolic link.
    Link(Vec<u8>),
}

/// What is in a directory, by name.
pub type Folder = BTreeMap<Vec<u8>, Plan>;

impl Fill {
    /// The bytes themselves.
    #[must_use]
    pub fn bytes(self, len: usize) -> Vec<u8> {
        match self {
            Self::Noise(seed) => noise(seed, len),
            Self::Text(seed) => text(seed, len),
            Self::Zeros => vec![0; len],
            Self::Periodic(seed, period) => periodic(seed, period, len),
            Self::Sparse(seed) => {
                let tail = len.min(100);
                [vec![0; len - tail], noise(seed, tail)].concat()
            }
        }
    }

    fn write(self, path: &Path, len: usize) {
        if let Self::Sparse(seed) = self {
            let tail = len.min(100);
            let file = File::create(path).expect("a new file");
            file.set_len(len as u64).expect("a long file");
            file.write_all_at(&noise(seed, tail), (len - tail) as u64).expect("a written file");
        } else {
            fs::write(path, self.bytes(len)).expect("a written file");
        }
    }
}

/// Makes `folder` at `path`, which does not exist yet.
///
/// # Panics
/// If it cannot be made.
pub fn make(path: &Path, folder: &Folder) {
    fs::create_dir(path).expect("a new folder");
    // In no special order: the order in which a directory was made must not matter.
    for (name, plan) in folder.iter().rev() {
        make_one(&path.join(OsStr::from_bytes(name)), plan);
    }
}

fn make_one(path: &Path, plan: &Plan) {
    let permit = |mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("its owner may");
    match plan {
        Plan::File(fill, len, mode) => {
            fill.write(path, *len);
            permit(*mode);
        }
        Plan::Bytes(bytes) => {
            fs::write(path, bytes).expect("a written file");
            permit(0o644);
        }
        Plan::Dir(below, mode) => {
            make(path, below);
            permit(*mode);
        }
        Plan::Link(target) => symlink(OsStr::from_bytes(target), path).expect("a new link"),
    }
}

/// Sets when something was last changed, links not followed.
///
/// # Panics
/// If it cannot be set.
pub fn date(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("its owner may");
}

/// Sets an extended attribute.
///
/// # Panics
/// If it cannot be set.
pub fn label(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).expect("a file system with attributes");
}

/// Makes a named pipe, or, as root, a device.
///
/// # Panics
/// If it cannot be made.
pub fn special(path: &Path, kind: FileType, major: u32, minor: u32) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), rustix::fs::makedev(major, minor))
        .expect("a new device");
}

/// Everything below `root`, directories before what they hold.
///
/// # Panics
/// If it cannot be listed.
#[must_use]
pub fn all_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let mut entries: Vec<_> =
            fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        left.extend(
            entries.iter().filter(|path| path.symlink_metadata().is_ok_and(|stat| stat.is_dir())).cloned(),
        );
        found.extend(entries);
    }
    found
}

fn any_fill() -> impl Strategy<Value = Fill> {
    prop_oneof![
        4 => (0..6u64).prop_map(Fill::Noise),
        2 => (0..6u64).prop_map(Fill::Text),
        1 => Just(Fill::Zeros),
        1 => (0..6u64).prop_map(Fill::Sparse),
        1 => (0..6u64, select(vec![1, 3, 512, 4096, 10_000])).prop_map(|(seed, period)| Fill::Periodic(seed, period)),
    ]
}

fn any_len() -> impl Strategy<Value = usize> {
    prop_oneof![3 => select(EDGES.to_vec()), 2 => 0..300usize, 2 => 0..=(64usize << 10) + 1]
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![3 => 1..=255u8, 2 => b'a'..=b'f'].prop_filter("no separator", |byte| *byte != b'/');
    let name = prop_oneof![6 => vec(byte.clone(), 1..6), 1 => vec(byte, 255)];
    name.prop_filter("a name of its own", |name| name != b"." && name != b"..")
}

fn any_mode() -> impl Strategy<Value = u32> {
    prop_oneof![3 => select(vec![0o644, 0o755, 0o600, 0o4755, 0o2644, 0o400, 0o000]), 1 => 0..=0o7777u32]
}

/// A target that dangles, loops, or is there.
fn any_target() -> impl Strategy<Value = Vec<u8>> {
    let odd = select(vec![&b"."[..], b"..", b"../..", b"/", b"nowhere/at/all", b"\xff\xfe", b"loop"]);
    prop_oneof![4 => odd.prop_map(<[u8]>::to_vec), 1 => vec(1..=255u8, 1..1000)]
}

/// Trees by chance: few entries, all kinds of them.
pub fn any_folder() -> impl Strategy<Value = Folder> {
    let leaf = prop_oneof![
        6 => (any_fill(), any_len(), any_mode()).prop_map(|(fill, len, mode)| Plan::File(fill, len, mode)),
        1 => any_target().prop_map(Plan::Link),
    ];
    let plan = leaf.prop_recursive(4, 24, 6, |inner| {
        // Whoever makes the tree has to be able to fill it.
        let mode = select(vec![0o755, 0o700, 0o775, 0o1777, 0o2755]);
        (btree_map(any_name(), inner, 0..6), mode).prop_map(|(folder, mode)| Plan::Dir(folder, mode))
    });
    btree_map(any_name(), plan, 0..8)
}
