//! A directory in one run of memory: records in the order of their names, and where each begins.
//!
//! A record holds all that an entry says, and the identity that a file or a link has from what it holds, so that
//! listing a directory with attributes hashes nothing twice. Only this module knows the bytes; they never leave the
//! process.

use cairn_store::content::{ChunkRef, Content};
use cairn_store::id::{ChunkId, ContentId, TreeId};
use cairn_store::tree::{Entry, FullMeta, Node};

use crate::attr::{Attr, Ino, Kind};
use crate::files::FileSpec;
use crate::inode::{Being, Identities, Identity};

/// When files of the `portable` policy were last changed: the date that restoring gives them, 1980-01-01T00:00:00Z.
pub(crate) const PORTABLE_MTIME_S: i64 = 315_532_800;

const FILE_INLINE: u8 = 0;
const FILE_CHUNKS: u8 = 1;
const FILE_LONG: u8 = 2;
const DIR: u8 = 3;
const SYMLINK: u8 = 4;
const FIFO: u8 = 5;
const CHAR: u8 = 6;
const BLOCK: u8 = 7;
/// Set in a kind when metadata of the `full` policy follow.
const HAS_FULL: u8 = 0x80;
/// Set in a kind when the identity follows that it has from what it holds.
const HAS_IDENTITY: u8 = 0x40;
/// A chunk reference: id and length.
const CHUNK_LEN: usize = 36;
/// Room that a packer keeps for its next directory, in bytes.
const ROOM_MAX: usize = 1 << 20;
/// Owner, group, seconds, nanoseconds, link group.
const FULL_LEN: usize = 24;

/// Who owns what says nothing of owners.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A directory whose entries take more bytes than are counted here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooLong;

/// A directory, decoded.
pub(crate) struct PackedDir {
    records: Box<[u8]>,
    /// Where each record begins, ascending by name.
    starts: Box<[u32]>,
}

/// Packs entries, which come in the order of their names.
#[derive(Default)]
pub(crate) struct Packer {
    records: Vec<u8>,
    starts: Vec<u32>,
}

impl Packer {
    pub(crate) fn push(&mut self, entry: &Entry, identities: &Identities) -> Result<(), TooLong> {
        let out = &mut self.records;
        self.starts.push(u32::try_from(out.len()).map_err(|_| TooLong)?);
        out.push(u8::try_from(entry.name.len()).map_err(|_| TooLong)?);
        out.extend_from_slice(&entry.name);
        let full = entry.full.as_ref();
        let kind = kind_of(&entry.node);
        let holds = match entry.node {
            Node::File { .. } | Node::Symlink { .. } => true,
            Node::Dir { .. } => false,
            // Opening a pipe by one path must not find who opened another, unless they are one by a hard link.
            Node::Fifo | Node::Char { .. } | Node::Block { .. } => full.is_some_and(|full| full.link != 0),
        };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(kind | flag(full.is_some(), HAS_FULL) | flag(holds, HAS_IDENTITY));
        out.extend_from_slice(&entry.mode.to_le_bytes());
        let identity_at = out.len();
        if holds {
            out.extend_from_slice(&[0; 16]);
        }
        let body_at = out.len();
        put_body(&entry.node, out);
        if holds {
            let mut body = vec![kind];
            body.extend_from_slice(&out[body_at..]);
            let being = Being::Holding { body: &body, mode: entry.mode, full };
            let Identity { home, check } = identities.of(&being);
            out[identity_at..identity_at + 8].copy_from_slice(&home.to_le_bytes());
            out[identity_at + 8..body_at].copy_from_slice(&check.to_le_bytes());
        }
        if let Some(full) = full {
            put_full(full, out).ok_or(TooLong)?;
        }
        Ok(())
    }

    /// The directory, in no more memory than it takes. The packer is empty again, with the room that it has.
    pub(crate) fn finish(&mut self) -> PackedDir {
        let dir =
            PackedDir { records: self.records.as_slice().into(), starts: self.starts.as_slice().into() };
        self.clear();
        dir
    }

    /// Forgets what was packed.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.starts.clear();
        self.records.shrink_to(ROOM_MAX);
        self.starts.shrink_to(ROOM_MAX / 16);
    }
}

fn kind_of(node: &Node) -> u8 {
    match node {
        Node::File { content: Content::Inline(_), .. } => FILE_INLINE,
        Node::File { content: Content::Chunks(_), .. } => FILE_CHUNKS,
        Node::File { content: Content::Long { .. }, .. } => FILE_LONG,
        Node::Dir { .. } => DIR,
        Node::Symlink { .. } => SYMLINK,
        Node::Fifo => FIFO,
        Node::Char { .. } => CHAR,
        Node::Block { .. } => BLOCK,
    }
}

fn put_body(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::File { size, content } => {
            out.extend_from_slice(&size.to_le_bytes());
            match content {
                Content::Inline(bytes) => out.extend_from_slice(bytes),
                Content::Chunks(list) => {
                    out.extend_from_slice(&(list.len() as u64).to_le_bytes());
                    for chunk in list {
                        out.extend_from_slice(&chunk.id.0);
                        out.extend_from_slice(&chunk.len.to_le_bytes());
                    }
                }
                Content::Long { root, chunks } => {
                    out.extend_from_slice(&chunks.to_le_bytes());
                    out.extend_from_slice(&root.0);
                }
            }
        }
        Node::Dir { tree } => out.extend_from_slice(&tree.0),
        Node::Symlink { target } => {
            out.extend_from_slice(&(target.len() as u64).to_le_bytes());
            out.extend_from_slice(target);
        }
        Node::Fifo => {}
        Node::Char { major, minor } | Node::Block { major, minor } => {
            out.extend_from_slice(&major.to_le_bytes());
            out.extend_from_slice(&minor.to_le_bytes());
        }
    }
}

/// `None` for what no entry can hold.
fn put_full(full: &FullMeta, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&full.uid.to_le_bytes());
    out.extend_from_slice(&full.gid.to_le_bytes());
    out.extend_from_slice(&full.mtime_s.to_le_bytes());
    out.extend_from_slice(&full.mtime_ns.to_le_bytes());
    out.extend_from_slice(&full.link.to_le_bytes());
    for (name, value) in &full.xattrs {
        out.push(u8::try_from(name.len()).ok()?);
        out.extend_from_slice(name);
        out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
        out.extend_from_slice(value);
    }
    Some(())
}

impl PackedDir {
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.records.len() + self.starts.len() * size_of::<u32>() + size_of::<Self>()
    }

    /// The entry at a place.
    pub(crate) fn get(&self, index: usize) -> Option<Record<'_>> {
        let end = self.starts.get(index + 1).map_or(self.records.len(), |next| *next as usize);
        Some(Record::parse(&self.records[*self.starts.get(index)? as usize..end]))
    }

    /// The place of a name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.starts.binary_search_by(|start| self.name_at(*start as usize).cmp(name)).ok()
    }

    fn name_at(&self, start: usize) -> &[u8] {
        let len = usize::from(self.records[start]);
        &self.records[start + 1..start + 1 + len]
    }
}

/// An entry of a packed directory.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) name: &'a [u8],
    kind: u8,
    mode: u16,
    identity: Option<Identity>,
    /// Size of a file.
    size: u64,
    /// The rest of what it holds.
    body: &'a [u8],
    /// The fixed part of the `full` metadata, then the attributes; empty without.
    full: &'a [u8],
}

/// Takes the first bytes off.
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> &'a [u8; N] {
    let (first, after) = rest.split_first_chunk().expect("records are whole: they are made here");
    *rest = after;
    first
}

fn take_u64(rest: &mut &[u8]) -> u64 {
    u64::from_le_bytes(*take(rest))
}

fn take_u32(rest: &mut &[u8]) -> u32 {
    u32::from_le_bytes(*take(rest))
}

fn take_run<'a>(rest: &mut &'a [u8], len: u64) -> &'a [u8] {
    let len = usize::try_from(len).expect("it lies in memory");
    let (first, after) = rest.split_at(len);
    *rest = after;
    first
}

impl<'a> Record<'a> {
    fn parse(mut rest: &'a [u8]) -> Self {
        let [name_len] = *take(&mut rest);
        let name = take_run(&mut rest, name_len.into());
        let [kind] = *take(&mut rest);
        let mode = u16::from_le_bytes(*take(&mut rest));
        let has_full = kind & HAS_FULL != 0;
        let identity = (kind & HAS_IDENTITY != 0)
            .then(|| Identity { home: take_u64(&mut rest), check: take_u64(&mut rest) });
        let kind = kind & !(HAS_FULL | HAS_IDENTITY);
        let mut size = 0;
        let body_len = match kind {
            FILE_INLINE => {
                size = take_u64(&mut rest);
                size
            }
            FILE_CHUNKS => {
                size = take_u64(&mut rest);
                take_u64(&mut rest) * CHUNK_LEN as u64
            }
            FILE_LONG => {
                size = take_u64(&mut rest);
                40
            }
            DIR => 32,
            SYMLINK => {
                size = take_u64(&mut rest);
                size
            }
            FIFO => 0,
            _ => 8,
        };
        let body = take_run(&mut rest, body_len);
        let full = if has_full { rest } else { &[] };
        Self { name, kind, mode, identity, size, body, full }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.kind {
            DIR => Kind::Dir,
            SYMLINK => Kind::Symlink,
            FIFO => Kind::Fifo,
            CHAR => Kind::Char,
            BLOCK => Kind::Block,
            _ => Kind::File,
        }
    }

    /// The identity of what is here, in the directory `parent`.
    pub(crate) fn identity(&self, parent: Ino, identities: &Identities) -> Identity {
        self.identity.unwrap_or_else(|| identities.of(&Being::Place { parent: parent.0, name: self.name }))
    }

    /// A directory's own tree.
    pub(crate) fn tree(&self) -> Option<TreeId> {
        let mut rest = self.body;
        (self.kind == DIR).then(|| TreeId(*take(&mut rest)))
    }

    /// Where a symbolic link leads.
    pub(crate) fn target(&self) -> Option<&'a [u8]> {
        (self.kind == SYMLINK).then_some(self.body)
    }

    /// What a file holds.
    pub(crate) fn file(&self) -> Option<FileSpec> {
        let mut rest = self.body;
        let content = match self.kind {
            FILE_INLINE => Content::Inline(rest.to_vec()),
            FILE_CHUNKS => {
                let mut list = Vec::with_capacity(rest.len() / CHUNK_LEN);
                while !rest.is_empty() {
                    list.push(ChunkRef { id: ChunkId(*take(&mut rest)), len: take_u32(&mut rest) });
                }
                Content::Chunks(list)
            }
            FILE_LONG => Content::Long { chunks: take_u64(&mut rest), root: ContentId(*take(&mut rest)) },
            _ => return None,
        };
        Some(FileSpec { content, size: self.size })
    }

    pub(crate) fn attr(&self, ino: Ino, owner: Owner) -> Attr {
        let rdev = match self.kind {
            CHAR | BLOCK => {
                let mut rest = self.body;
                let (major, minor) = (take_u32(&mut rest), take_u32(&mut rest));
                (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
            }
            _ => 0,
        };
        let mut attr = Attr {
            ino,
            kind: self.kind(),
            mode: self.mode,
            size: self.size,
            nlink: 1,
            uid: owner.uid,
            gid: owner.gid,
            mtime: (PORTABLE_MTIME_S, 0),
            rdev,
        };
        let mut full = self.full;
        if !full.is_empty() {
            attr.uid = take_u32(&mut full);
            attr.gid = take_u32(&mut full);
            attr.mtime = (i64::from_le_bytes(*take(&mut full)), take_u32(&mut full));
            attr.nlink = if take_u32(&mut full) == 0 { 1 } else { 2 };
        }
        attr
    }

    /// Extended attributes, ascending by name.
    pub(crate) fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.full.get(FULL_LEN..).unwrap_or_default();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let [name_len] = *take(&mut rest);
            let name = take_run(&mut rest, name_len.into());
            let value_len = take_u32(&mut rest);
            Some((name, take_run(&mut rest, value_len.into())))
        })
    }
}
