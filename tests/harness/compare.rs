//! Whether two trees of files are the same, to the last bit that a metadata policy keeps.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cairn_store::MetadataPolicy;
use rustix::fs::{lgetxattr, llistxattr};

/// What restored files of the portable policy are dated: 1980-01-01T00:00:00Z.
const PORTABLE_MTIME: (i64, i64) = (315_532_800, 0);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    File { len: u64, hash: blake3::Hash },
    Dir,
    Symlink(Vec<u8>),
    Fifo,
    Device { block: bool, number: u64 },
    Socket,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in order, that is the same file.
    same_as: Option<Vec<u8>>,
}

/// A tree as it was found. The root has an empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<Vec<u8>, Seen>);

impl Snapshot {
    /// Reads a tree whole.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let mut seen = BTreeMap::new();
        let mut left = vec![Vec::new()];
        while let Some(path) = left.pop() {
            let full = if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(&path)) };
            let found = look(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
            if found.0.kind == Kind::Dir {
                for entry in std::fs::read_dir(&full).expect("a folder") {
                    let name = entry.expect("an entry").file_name();
                    let above = if path.is_empty() { Vec::new() } else { [&path[..], b"/"].concat() };
                    left.push([&above, name.as_bytes()].concat());
                }
            }
            seen.insert(path, found);
        }
        let mut first: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        let linked = seen.into_iter().map(|(path, (mut found, inode))| {
            if matches!(found.kind, Kind::File { .. }) {
                found.same_as = Some(first.entry(inode).or_insert_with(|| path.clone()).clone());
            }
            (path, found)
        });
        Self(linked.collect())
    }

    /// Number of files, directories and so on, the root among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: the root is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, whenever it was made and whoever owns it.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        for seen in self.0.values_mut() {
            seen.mtime = (0, 0);
            seen.owner = (0, 0);
        }
        self
    }

    /// What of `restored` is not as it was in this tree, given what the policy keeps; one line each.
    #[must_use]
    pub fn differences(&self, restored: &Self, policy: MetadataPolicy) -> Vec<String> {
        let mut lines = Vec::new();
        for path in self.0.keys().chain(restored.0.keys().filter(|path| !self.0.contains_key(*path))) {
            let line = match (self.0.get(path), restored.0.get(path)) {
                (Some(_), None) => Some("is missing".to_owned()),
                (None, Some(_)) => Some("is too many".to_owned()),
                (Some(wanted), Some(found)) => {
                    let wanted = wanted.as_kept(path, policy);
                    let found = found.as_found(policy);
                    (wanted != found).then(|| format!("is {found:?} and not {wanted:?}"))
                }
                (None, None) => None,
            };
            lines.extend(line.map(|line| format!("{:?} {line}", path.escape_ascii().to_string())));
        }
        lines
    }

    /// Compares a restored tree with this one.
    ///
    /// # Panics
    /// If it is not the same, with the first differences.
    pub fn assert_restored(&self, restored: &Path, policy: MetadataPolicy) {
        let lines = self.differences(&Self::of(restored), policy);
        assert!(
            lines.is_empty(),
            "{} differences, the first:\n{}",
            lines.len(),
            lines[..lines.len().min(10)].join("\n")
        );
    }
}

impl Seen {
    fn as_kept(&self, path: &[u8], policy: MetadataPolicy) -> Self {
        let mut kept = self.clone();
        if policy == MetadataPolicy::Portable {
            kept.mode = match kept.kind {
                Kind::Symlink(_) => 0o777,
                _ if path.is_empty() => 0o755,
                _ => kept.mode & 0o777,
            };
            kept.owner = (0, 0);
            kept.mtime = PORTABLE_MTIME;
            kept.attributes.clear();
            kept.same_as = None;
        }
        kept
    }

    fn as_found(&self, policy: MetadataPolicy) -> Self {
        match policy {
            MetadataPolicy::Full => self.clone(),
            MetadataPolicy::Portable => {
                Self { owner: (0, 0), attributes: BTreeMap::new(), same_as: None, ..self.clone() }
            }
        }
    }
}

fn look(path: &Path) -> std::io::Result<(Seen, (u64, u64))> {
    let stat = path.symlink_metadata()?;
    let file_type = stat.file_type();
    let kind = if file_type.is_file() {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(path)?)?;
        Kind::File { len: stat.len(), hash: hasher.finalize() }
    } else if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        Kind::Symlink(path.read_link()?.into_os_string().as_bytes().to_vec())
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        Kind::Socket
    } else {
        Kind::Device { block: file_type.is_block_device(), number: stat.rdev() }
    };
    let seen = Seen {
        kind,
        mode: stat.mode() & 0o7777,
        owner: (stat.uid(), stat.gid()),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        attributes: attributes(path)?,
        same_as: None,
    };
    Ok((seen, (stat.dev(), stat.ino())))
}

fn attributes(path: &Path) -> std::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut buffer = vec![0; 64 << 10];
    let len = match llistxattr(path, &mut buffer[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let names: Vec<Vec<u8>> =
        buffer[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let value = |name: Vec<u8>| {
        let mut buffer = vec![0; 64 << 10];
        let len = lgetxattr(path, &name[..], &mut buffer[..])?;
        buffer.truncate(len);
        Ok((name, buffer))
    };
    names.into_iter().map(value).collect()
}
