//! The simulated disk: what is visible now, what is durable, and what is between. Knows no faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::random::Random;
use crate::io::Listed;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// What space is given out by.
const BLOCK: usize = 4096;
/// No simulated file is longer.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

type Names = BTreeMap<PathBuf, Node>;

/// A change to names that is not durable yet.
#[derive(Clone)]
enum Naming {
    Add(PathBuf, Node),
    Move(PathBuf, PathBuf, Node),
    Remove(PathBuf, Node),
}

impl Naming {
    fn is_in(&self, dir: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(dir);
        match self {
            Self::Add(path, _) | Self::Remove(path, _) => within(path),
            Self::Move(from, to, _) => within(from) || within(to),
        }
    }

    fn apply(self, names: &mut Names) {
        let mut leave = |path: &PathBuf, node| {
            if names.get(path) == Some(&node) {
                names.remove(path);
            }
        };
        match self {
            Self::Add(path, node) => drop(names.insert(path, node)),
            Self::Remove(path, node) => leave(&path, node),
            Self::Move(from, to, node) => {
                leave(&from, node);
                names.insert(to, node);
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    durable: Names,
    /// In the order in which they were made.
    pending: Vec<Naming>,
    /// Bytes that it holds, if there is a bound.
    capacity: Option<u64>,
}

/// A file's bytes.
#[derive(Clone, Default)]
pub(super) struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes from its beginning for which there is room, if more than it has, and those of them that are durable.
    room: usize,
    durable_room: usize,
    /// In the order in which they were made.
    pending: Vec<Change>,
}

/// A change to bytes that is not durable yet.
#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
    Allocate(usize),
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

impl Disk {
    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) => self.dir(parent),
            None => Err(Errno::EXIST.into()),
        }
    }

    fn dir(&self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            _ if is_root(path) => Ok(()),
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(Errno::NOTDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(Errno::ISDIR.into()),
            None => Err(Errno::NOENT.into()),
        }
    }

    /// The file that an open handle is for. Files without a name stay.
    pub(super) fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.entry(inode).or_default()
    }

    fn change(&mut self, naming: Naming) {
        naming.clone().apply(&mut self.names);
        self.pending.push(naming);
    }

    pub(super) fn is_limited(&self) -> bool {
        self.capacity.is_some()
    }

    pub(super) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    pub(super) fn used(&self) -> u64 {
        let files = self.names.values().filter_map(|node| match node {
            Node::File(inode) => self.inodes.get(inode),
            Node::Dir => None,
        });
        files.map(|inode| (inode.blocks() * BLOCK) as u64).sum()
    }

    /// Blocks that are not used.
    fn free(&self) -> usize {
        let free = self.capacity.map(|capacity| capacity.saturating_sub(self.used()) / BLOCK as u64);
        free.and_then(|blocks| usize::try_from(blocks).ok()).unwrap_or(usize::MAX)
    }

    /// How many of `len` bytes from `offset` on there is room for.
    pub(super) fn fitting(&self, inode: u64, offset: u64, len: usize) -> usize {
        if self.capacity.is_none() {
            return len;
        }
        let blocks = self.inodes.get(&inode).map_or(0, Inode::blocks).saturating_add(self.free());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        blocks.saturating_mul(BLOCK).saturating_sub(start).min(len)
    }

    pub(super) fn allocate(&mut self, inode: u64, offset: u64, len: u64) -> io::Result<()> {
        let (start, len) = (checked_len(offset)?, checked_len(len)?);
        let fits = self.fitting(inode, offset, len);
        self.inode(inode).allocate(start + fits);
        if fits < len { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64) -> io::Result<()> {
        if self.fitting(inode, 0, checked_len(len)?) as u64 != len {
            return Err(Errno::NOSPC.into());
        }
        self.inode(inode).set_len(len)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.parent_exists(path)?;
        if self.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        if self.free() == 0 {
            return Err(Errno::NOSPC.into());
        }
        let inode = self.inodes.last_key_value().map_or(0, |(last, _)| last + 1);
        self.inodes.insert(inode, Inode::default());
        self.change(Naming::Add(path.to_owned(), Node::File(inode)));
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        // The store renames files alone.
        let node = Node::File(self.file(from)?);
        self.parent_exists(to)?;
        match self.names.get(to) {
            Some(Node::Dir) => Err(Errno::ISDIR.into()),
            Some(there) if *there == node => Ok(()),
            _ => {
                self.change(Naming::Move(from.to_owned(), to.to_owned(), node));
                Ok(())
            }
        }
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let node = Node::File(self.file(path)?);
        self.change(Naming::Remove(path.to_owned(), node));
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        if self.dir(path).is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent)?;
        }
        if self.names.contains_key(path) {
            return Err(Errno::EXIST.into());
        }
        if self.free() == 0 {
            return Err(Errno::NOSPC.into());
        }
        self.change(Naming::Add(path.to_owned(), Node::Dir));
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        self.dir(path)?;
        let mut listed = Vec::new();
        for (name, node) in self.names.iter().filter(|(name, _)| name.parent() == Some(path)) {
            let Some(name) = name.file_name().and_then(|name| name.to_str()) else { continue };
            let len = match node {
                Node::Dir => 0,
                Node::File(inode) => self.inodes.get(inode).map_or(0, |inode| inode.now.len() as u64),
            };
            listed.push(Listed { name: name.to_owned(), len, is_dir: *node == Node::Dir });
        }
        Ok(listed)
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.dir(path)?;
        let (within, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| change.is_in(path));
        self.pending = rest;
        for naming in within {
            if let Naming::Move(from, _, node) = &naming {
                // Between directories: a file does not come back under the name that it had before.
                let had =
                    |earlier: &Naming| matches!(earlier, Naming::Add(at, what) if at == from && what == node);
                self.pending.retain(|earlier| !had(earlier));
            }
            naming.apply(&mut self.durable);
        }
        Ok(())
    }

    /// Changes bits of a byte that is there, whether it is durable or not.
    pub(super) fn rot(&mut self, path: &Path, byte: usize, bits: u8) {
        let Ok(inode) = self.file(path) else { return };
        let inode = self.inode(inode);
        for bytes in [&mut inode.now, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= bits;
            }
        }
    }

    pub(super) fn settle(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.names);
        self.inodes.values_mut().for_each(Inode::sync);
    }

    /// The disk that a crash leaves.
    pub(super) fn after_crash(&self, random: &mut Random) -> Self {
        let mut names = self.durable.clone();
        let mut keep = Keep::choose(random);
        for naming in self.pending.iter().filter(|_| keep.one(random)) {
            naming.clone().apply(&mut names);
        }
        let dirs: BTreeSet<PathBuf> =
            names.iter().filter(|(_, node)| **node == Node::Dir).map(|(path, _)| path.clone()).collect();
        let reachable = |path: &Path| {
            path.ancestors().skip(1).all(|dir| dirs.contains(dir) || is_root(dir) || dir == Path::new(""))
        };
        names.retain(|path, _| reachable(path));
        let inodes = names
            .values()
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Dir => None,
            })
            .map(|inode| {
                (inode, self.inodes.get(&inode).map(|file| file.after_crash(random)).unwrap_or_default())
            })
            .collect();
        Self { inodes, durable: names.clone(), names, pending: Vec::new(), capacity: self.capacity }
    }
}

/// What a crash keeps of the pending changes of one kind. The clear cases come often enough to be met in a short test.
#[derive(Clone, Copy)]
enum Keep {
    All,
    None,
    Each,
}

impl Keep {
    fn choose(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::All,
            1 => Self::None,
            _ => Self::Each,
        }
    }

    fn one(&mut self, random: &mut Random) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Each => random.coin(),
        }
    }
}

impl Inode {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    fn blocks(&self) -> usize {
        self.now.len().max(self.room).div_ceil(BLOCK)
    }

    fn allocate(&mut self, end: usize) {
        self.room = self.room.max(end);
        self.pending.push(Change::Allocate(end));
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match self.now.get(start..start.saturating_add(buf.len())) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None if buf.is_empty() => Ok(()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = checked_len(offset)?;
        checked_len(offset.saturating_add(bytes.len() as u64))?;
        put(&mut self.now, start, bytes);
        self.pending.push(Change::Write(start, bytes.to_vec()));
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = checked_len(len)?;
        self.now.resize(len, 0);
        self.room = len;
        self.pending.push(Change::SetLen(len));
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable, &mut self.durable_room);
        }
    }

    /// What a failed sync does: of the bytes some reach the disk, and the rest are no longer on their way. Lengths are
    /// the file system's own records, and stay on theirs.
    pub(super) fn sync_in_part(&mut self, random: &mut Random) {
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write(..) => change.apply_in_part(&mut self.durable, &mut self.durable_room, random),
                Change::SetLen(_) | Change::Allocate(_) => self.pending.push(change),
            }
        }
    }

    fn after_crash(&self, random: &mut Random) -> Self {
        let (mut bytes, mut room) = (self.durable.clone(), self.durable_room);
        let keep = Keep::choose(random);
        for change in &self.pending {
            match keep {
                Keep::All => change.clone().apply(&mut bytes, &mut room),
                Keep::None => {}
                Keep::Each => change.clone().apply_in_part(&mut bytes, &mut room, random),
            }
        }
        Self { now: bytes.clone(), durable: bytes, room, durable_room: room, pending: Vec::new() }
    }
}

fn checked_len(len: u64) -> io::Result<usize> {
    usize::try_from(len).ok().filter(|_| len <= FILE_BYTES_MAX).ok_or_else(|| Errno::FBIG.into())
}

fn put(file: &mut Vec<u8>, start: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = start + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[start..end].copy_from_slice(bytes);
}

impl Change {
    fn apply(self, file: &mut Vec<u8>, room: &mut usize) {
        match self {
            Self::Write(start, bytes) => put(file, start, &bytes),
            Self::SetLen(len) => {
                file.resize(len, 0);
                *room = len;
            }
            Self::Allocate(end) => *room = end.max(*room),
        }
    }

    fn apply_in_part(self, file: &mut Vec<u8>, room: &mut usize, random: &mut Random) {
        let part = random.below(5);
        match self {
            _ if part == 0 => {}
            _ if part == 1 => self.apply(file, room),
            Self::SetLen(_) | Self::Allocate(_) => {
                if random.coin() {
                    self.apply(file, room);
                }
            }
            Self::Write(start, bytes) => {
                let end = start + bytes.len();
                let longer = part != 2;
                if longer && file.len() < end {
                    file.resize(end, 0);
                }
                if part == 4 {
                    let mut at = start;
                    while at < end {
                        let next = end.min((at / SECTOR + 1) * SECTOR);
                        if random.coin() {
                            put(file, at, &bytes[at - start..next - start]);
                        }
                        at = next;
                    }
                } else {
                    put(file, start, &bytes[..random.below(bytes.len() + 1)]);
                }
            }
        }
    }
}
