//! The operations of the file system, for whoever speaks to the kernel: plain data in, plain data out, and no mount
//! needed.
//!
//! Directories of artifacts, of generations and of their commands never change; the root, `generations` and the
//! packages' directories do. Those are answered from [`Shown`], which [`Fs::publish`] replaces as a whole: a look-up
//! sees all of one view or all of the next.
//!
//! Nothing here reads what files hold.

mod damaged;
mod fetch;
mod list;
mod path;
mod publish;
mod roots;
mod xattrs;

use std::sync::{Arc, PoisonError};

use cairn_store::id::TreeId;
use cairn_store::{ArtifactId, Error, Name, Platform, ProfileName, Store, View};

pub use self::xattrs::{Xattr, fit};

use self::damaged::Damaged;
use self::roots::Roots;
use self::xattrs::Support;
use crate::attr::{Attr, Capacity, FsStats, Ino, Kind, Lookup};
use crate::damage::Damage;
use crate::dirs::{Dirs, Owner, PORTABLE_MTIME_S, PackedDir};
use crate::errno::Errno;
use crate::files::FileSpec;
use crate::inode::{Being, INO_BITS, Identities, Identity, Inode, Inodes, New, What};
use crate::names::{COOKIE_BITS, Shown, Shows};
use crate::sync::{Mutex, RwLock};

/// Longest name, in bytes.
const NAME_LEN_MAX: usize = 255;
/// Bytes of decoded directories that are kept: of some 30,000 files. The kernel asks for most names once.
const DIRS_BYTES_MAX: usize = 3 << 20;
/// Permission bits of the directories that the mount makes up.
const MADE_UP_MODE: u16 = 0o555;
/// What `statfs` counts in.
const BLOCK_LEN: u32 = 4096;

/// How a file system is to be.
#[derive(Debug, Clone)]
pub struct FsOptions {
    /// The profile whose generations are shown.
    pub profile: ProfileName,
    /// Whose versions are shown under their plain names; this machine's if not given.
    pub platform: Option<Platform>,
    /// The owner of what says nothing of owners.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What inode numbers are derived with: random, and handed on with the mount.
    pub key: [u8; 32],
    /// Whether names in directories that change are not to be kept by the kernel at all, since it cannot be told to
    /// forget them.
    pub dynamic_ttl_zero: bool,
}

/// The lengths of hashes, which tests make short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    pub(crate) ino_bits: u32,
    pub(crate) cookie_bits: u32,
}

impl Default for Widths {
    fn default() -> Self {
        Self { ino_bits: INO_BITS, cookie_bits: COOKIE_BITS }
    }
}

/// A file system.
pub struct Fs {
    /// It may fetch, unlike what `dirs` and `roots` read.
    store: Store,
    owner: Owner,
    dynamic_ttl_zero: bool,
    cookie_bits: u32,
    identities: Identities,
    /// Guards what is shown. Look-ups take it for reading, for as long as it takes to copy the pointer; whoever
    /// publishes holds it from before the kernel is told until the new is shown.
    shown: RwLock<Arc<Shown>>,
    /// Makes publishing one at a time. Comes before `shown`.
    publishing: Mutex<()>,
    inodes: Inodes,
    dirs: Dirs,
    roots: Roots,
    xattrs: Support,
    damaged: Damaged,
}

impl Fs {
    /// A file system that shows what a view names.
    #[must_use]
    pub fn new(store: Store, view: Arc<View>, options: FsOptions) -> Self {
        Self::with_widths(store, view, options, Widths::default())
    }

    pub(crate) fn with_widths(store: Store, view: Arc<View>, options: FsOptions, widths: Widths) -> Self {
        let identities = Identities::new(options.key);
        let platform = options.platform.unwrap_or_else(Platform::current);
        Self {
            owner: Owner { uid: options.uid, gid: options.gid },
            dynamic_ttl_zero: options.dynamic_ttl_zero,
            cookie_bits: widths.cookie_bits,
            shown: RwLock::new(Arc::new(Shown::new(view, options.profile, platform))),
            publishing: Mutex::new(()),
            inodes: Inodes::new(widths.ino_bits),
            dirs: Dirs::new(store.local(), identities.clone(), DIRS_BYTES_MAX),
            roots: Roots::new(store.local()),
            xattrs: Support::default(),
            damaged: Damaged::default(),
            identities,
            store,
        }
    }

    fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn inode(&self, ino: Ino) -> Result<Inode, Errno> {
        self.inodes.get(ino).ok_or(Errno::STALE)
    }

    /// Looks a name up in a directory; if it is there, counts a reference to it.
    ///
    /// # Errors
    /// ENAMETOOLONG, ENOTDIR, ESTALE for an inode that is not known, EIO where the directory cannot be read.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Lookup, Errno> {
        if name.len() > NAME_LEN_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let inode = self.inode(parent)?;
        let cacheable = self.is_cacheable(&inode.what);
        let shows = match &inode.what {
            What::Root => self.shown().in_root(name),
            What::Generations => self.shown().in_generations(name),
            What::Generation(number) => self.shown().in_generation(*number, name),
            What::Bin(number) => {
                let links = self.shown().bin(*number);
                links.and_then(|links| links.find(name).map(|target| Shows::Link(target.to_vec())))
            }
            What::Package { name: package } => {
                package_name(package).and_then(|package| self.shown().in_package(&package, name))
            }
            What::Version { tree, .. } | What::Dir { tree, .. } => {
                return self.lookup_in_tree(parent, tree, name);
            }
            What::Leaf { .. } | What::Link { .. } => return Err(Errno::NOTDIR),
        };
        match shows {
            None => Ok(Lookup::Absent { cacheable: is_immutable(&inode.what) }),
            Some(shows) => {
                let attr = self.enter(parent, &inode.what, name, &shows)?;
                Ok(Lookup::Found { attr, cacheable })
            }
        }
    }

    fn lookup_in_tree(&self, parent: Ino, tree: &TreeId, name: &[u8]) -> Result<Lookup, Errno> {
        let dir = self.dir(parent, tree)?;
        let Some(index) = dir.find(name) else { return Ok(Lookup::Absent { cacheable: true }) };
        let attr = self.enter_record(parent, tree, &dir, index).ok_or(Errno::IO)?;
        Ok(Lookup::Found { attr, cacheable: true })
    }

    /// Counts a reference to an entry of a tree.
    fn enter_record(&self, parent: Ino, within: &TreeId, dir: &PackedDir, index: usize) -> Option<Attr> {
        let record = dir.get(index)?;
        let index = u32::try_from(index).ok()?;
        let tree = record.tree();
        let new = match &tree {
            Some(tree) => New::Dir { within, index, tree },
            None => New::Leaf { within, index },
        };
        let ino = self.inodes.remember(&record.identity(parent, &self.identities), parent, &new);
        Some(record.attr(ino, self.owner))
    }

    /// Counts a reference to what a made-up directory shows.
    fn enter(&self, parent: Ino, within: &What, name: &[u8], shows: &Shows) -> Result<Attr, Errno> {
        let identity = self.identity_of(within, name, shows);
        let remember = |new: New<'_>| self.inodes.remember(&identity, parent, &new);
        Ok(match shows {
            Shows::Generations => self.made_up(remember(New::Generations), None),
            Shows::Generation(number) => self.made_up(remember(New::Generation(*number)), Some(*number)),
            Shows::Bin(number) => self.made_up(remember(New::Bin(*number)), Some(*number)),
            Shows::Package(name) => {
                self.made_up(remember(New::Package { name: name.as_str().as_bytes() }), None)
            }
            Shows::Link(target) => self.link(remember(New::Link { target }), target),
            Shows::Version(artifact) => {
                let root = self.roots.get(artifact).map_err(|error| {
                    let path = [&self.path_of(parent)[..], b"/", name].concat();
                    self.failed(artifact.0, &path, &error)
                })?;
                self.xattrs.met(root.full.is_some());
                root.attr(remember(New::Version { shown: name, tree: &root.tree, artifact }), self.owner)
            }
        })
    }

    fn identity_of(&self, within: &What, name: &[u8], shows: &Shows) -> Identity {
        let package = match within {
            What::Package { name } => &name[..],
            _ => &[],
        };
        self.identities.of(&match shows {
            Shows::Generations => Being::Generations,
            Shows::Generation(number) => Being::Generation(*number),
            Shows::Bin(number) => Being::Bin(*number),
            Shows::Package(name) => Being::Package(name.as_str().as_bytes()),
            Shows::Version(artifact) => Being::Version { package, shown: name, artifact: &artifact.0 },
            Shows::Link(target) => Being::Link(target),
        })
    }

    /// A directory that the mount makes up; a generation's is as old as the generation.
    fn made_up(&self, ino: Ino, number: Option<u64>) -> Attr {
        let shown = number.map(|number| (self.shown(), number));
        let time_ms = shown.and_then(|(shown, number)| Some(shown.generation(number)?.time_ms));
        let mtime = time_ms.map_or((PORTABLE_MTIME_S, 0), |time_ms| {
            let nanoseconds = u32::try_from(time_ms % 1000 * 1_000_000).unwrap_or(0);
            (i64::try_from(time_ms / 1000).unwrap_or(i64::MAX), nanoseconds)
        });
        Attr { ino, kind: Kind::Dir, mode: MADE_UP_MODE, mtime, ..self.blank(ino) }
    }

    fn link(&self, ino: Ino, target: &[u8]) -> Attr {
        Attr { kind: Kind::Symlink, mode: 0o777, size: target.len() as u64, ..self.blank(ino) }
    }

    fn blank(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            kind: Kind::Dir,
            mode: 0,
            size: 0,
            nlink: 1,
            uid: self.owner.uid,
            gid: self.owner.gid,
            mtime: (PORTABLE_MTIME_S, 0),
            rdev: 0,
        }
    }

    /// The kernel drops `count` references to an inode.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.inodes.forget(ino, count);
    }

    /// What `stat` shows of an inode.
    ///
    /// # Errors
    /// ESTALE for an inode that is not known, EIO where the directory that it is in cannot be read.
    pub fn attr(&self, ino: Ino) -> Result<Attr, Errno> {
        let inode = self.inode(ino)?;
        match &inode.what {
            What::Root | What::Generations | What::Package { .. } => Ok(self.made_up(ino, None)),
            What::Generation(number) | What::Bin(number) => Ok(self.made_up(ino, Some(*number))),
            What::Link { target } => Ok(self.link(ino, target)),
            What::Version { artifact, .. } => {
                let root = self.root_of(ino, artifact)?;
                Ok(root.attr(ino, self.owner))
            }
            What::Dir { within, index, .. } | What::Leaf { within, index } => {
                let dir = self.dir(inode.parent, within)?;
                Ok(dir.get(*index as usize).ok_or(Errno::IO)?.attr(ino, self.owner))
            }
        }
    }

    fn root_of(&self, ino: Ino, artifact: &ArtifactId) -> Result<Arc<roots::Root>, Errno> {
        self.roots.get(artifact).map_err(|error| self.failed(artifact.0, &self.path_of(ino), &error))
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// EINVAL if it is none, ESTALE, EIO.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        let inode = self.inode(ino)?;
        match &inode.what {
            What::Link { target } => Ok(target.to_vec()),
            What::Leaf { within, index } => {
                let dir = self.dir(inode.parent, within)?;
                let record = dir.get(*index as usize).ok_or(Errno::IO)?;
                record.target().map(<[u8]>::to_vec).ok_or(Errno::INVAL)
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// What a regular file holds.
    ///
    /// # Errors
    /// EISDIR for a directory, EINVAL for what is neither, ESTALE, EIO.
    pub fn file(&self, ino: Ino) -> Result<FileSpec, Errno> {
        let inode = self.inode(ino)?;
        match &inode.what {
            What::Leaf { within, index } => {
                let dir = self.dir(inode.parent, within)?;
                dir.get(*index as usize).ok_or(Errno::IO)?.file().ok_or(Errno::INVAL)
            }
            What::Link { .. } => Err(Errno::INVAL),
            _ => Err(Errno::ISDIR),
        }
    }

    /// Whether a directory's names never change, so that the kernel may keep listings of it.
    ///
    /// # Errors
    /// ENOTDIR, ESTALE.
    pub fn is_immutable_dir(&self, ino: Ino) -> Result<bool, Errno> {
        match self.inode(ino)?.what {
            What::Leaf { .. } | What::Link { .. } => Err(Errno::NOTDIR),
            what => Ok(is_immutable(&what)),
        }
    }

    /// Whether the kernel may keep names of a directory. A generation's links to packages change where they lead when
    /// refs are replaced, though its names do not.
    fn is_cacheable(&self, parent: &What) -> bool {
        !self.dynamic_ttl_zero || (is_immutable(parent) && !matches!(parent, What::Generation(_)))
    }

    /// What the file system holds.
    #[must_use]
    pub fn statfs(&self) -> Capacity {
        let shown = self.shown();
        let records = shown.view().refs.values();
        let (bytes, files) =
            records.fold((0, 0u64), |(bytes, files), record| (bytes + record.bytes, files + record.files));
        Capacity { bytes, files, block_len: BLOCK_LEN, name_len_max: 255 }
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> FsStats {
        let (directories, directory_bytes) = self.dirs.kept();
        FsStats {
            inodes: self.inodes.len(),
            inode_bytes: self.inodes.bytes(),
            directories,
            directory_bytes,
            damaged: self.damaged.count(),
            xattrs_unsupported: self.xattrs.is_unsupported(),
            xattrs_hidden: self.xattrs.is_hiding(),
        }
    }

    /// The entries of a tree, which is the directory `ino`.
    fn dir(&self, ino: Ino, tree: &TreeId) -> Result<Arc<PackedDir>, Errno> {
        self.dirs.get(tree).map_err(|error| self.failed(tree.0, &self.path_of(ino), &error))
    }

    /// Takes note of what could not be read; says what who asked is told.
    fn failed(&self, id: [u8; 32], path: &[u8], error: &Error) -> Errno {
        self.damaged.note(id, path, error);
        Errno::from(error)
    }

    /// Directories that could not be read, by path, not all if they are many; and how many there are.
    #[must_use]
    pub fn damage(&self) -> (Vec<Damage>, u64) {
        self.damaged.list()
    }
}

fn is_immutable(what: &What) -> bool {
    !matches!(what, What::Root | What::Generations | What::Package { .. })
}

fn package_name(name: &[u8]) -> Option<Name> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod model_tests;
#[cfg(feature = "shuttle")]
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
