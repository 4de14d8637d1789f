//! The bytes of an entry. [`EntryRef`] reads one without allocating; encoding runs through the same checks, so that
//! nothing is written which a reader would refuse.

use super::entry::{
    ENTRY_LEN_MAX, Entry, FullMeta, MODE_MASK, NAME_LEN_MAX, Node, SYMLINK_LEN_MAX, SYMLINK_MODE,
    XATTR_LEN_MAX,
};
use crate::content::{CHUNK_REF_LEN, ChunkRef, Content, FILE_BYTES_MAX, INLINE_BYTES_MAX, INLINE_CHUNKS_MAX};
use crate::cursor::{Cursor, Defect};
use crate::id::{ChunkId, ContentId, TreeId};

const FILE_INLINE: u8 = 0;
const FILE_CHUNKS: u8 = 1;
const FILE_LONG: u8 = 2;
const DIR: u8 = 3;
const SYMLINK: u8 = 4;
const FIFO: u8 = 5;
const CHAR: u8 = 6;
const BLOCK: u8 = 7;
/// Set in an entry's kind when [`FullMeta`] follows.
const HAS_FULL: u8 = 0x80;

/// An entry as it lies in a leaf.
#[derive(Debug, Clone)]
pub(super) struct EntryRef<'a> {
    pub(super) name: &'a [u8],
    mode: u16,
    body: BodyRef<'a>,
    full: Option<FullRef<'a>>,
}

#[derive(Debug, Clone)]
enum BodyRef<'a> {
    Inline(&'a [u8]),
    /// Encoded chunk references.
    Chunks {
        size: u64,
        list: &'a [u8],
    },
    Long {
        size: u64,
        chunks: u64,
        root: ChunkId,
    },
    Dir(ChunkId),
    Symlink(&'a [u8]),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
}

#[derive(Debug, Clone)]
struct FullRef<'a> {
    uid: u32,
    gid: u32,
    mtime_s: i64,
    mtime_ns: u32,
    link: u32,
    /// Encoded and checked attributes.
    xattrs: &'a [u8],
}

fn check_name(name: &[u8]) -> Result<(), Defect> {
    match name {
        b"" => Err(Defect::new("an empty name")),
        b"." | b".." => Err(Defect::new("a name that is . or ..")),
        name if name.len() > NAME_LEN_MAX => Err(Defect::new("a name of more than 255 bytes")),
        name if name.iter().any(|byte| matches!(byte, b'/' | 0)) => {
            Err(Defect::new("a name with / or NUL in it"))
        }
        _ => Ok(()),
    }
}

pub(super) fn take_name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Defect> {
    let len = cursor.u8()?;
    let name = cursor.take(len.into())?;
    check_name(name)?;
    Ok(name)
}

fn check_size(size: u64) -> Result<(), Defect> {
    if size > FILE_BYTES_MAX { Err(Defect::new(format!("a file of {size} bytes"))) } else { Ok(()) }
}

fn take_chunks<'a>(cursor: &mut Cursor<'a>) -> Result<BodyRef<'a>, Defect> {
    let count = usize::from(cursor.u8()?);
    if count == 0 || count > INLINE_CHUNKS_MAX {
        return Err(Defect::new(format!("{count} chunks in an entry")));
    }
    let list = cursor.take(count * CHUNK_REF_LEN)?;
    let mut entries = Cursor::new(list);
    let (mut size, mut previous) = (0u64, None);
    for _ in 0..count {
        let chunk = ChunkRef::decode(&mut entries)?;
        chunk.check(previous.as_ref())?;
        size += u64::from(chunk.len);
        previous = Some(chunk);
    }
    if size <= INLINE_BYTES_MAX as u64 {
        return Err(Defect::new(format!("chunks for a file of {size} bytes")));
    }
    Ok(BodyRef::Chunks { size, list })
}

fn take_body<'a>(kind: u8, cursor: &mut Cursor<'a>) -> Result<BodyRef<'a>, Defect> {
    Ok(match kind {
        FILE_INLINE => {
            let len = usize::from(cursor.u8()?);
            if len > INLINE_BYTES_MAX {
                return Err(Defect::new(format!("{len} bytes in an entry")));
            }
            BodyRef::Inline(cursor.take(len)?)
        }
        FILE_CHUNKS => take_chunks(cursor)?,
        FILE_LONG => {
            let (size, chunks) = (cursor.u64()?, cursor.u64()?);
            check_size(size)?;
            if chunks <= INLINE_CHUNKS_MAX as u64 || chunks > size {
                return Err(Defect::new(format!("a list of {chunks} chunks for {size} bytes")));
            }
            BodyRef::Long { size, chunks, root: cursor.id()? }
        }
        DIR => BodyRef::Dir(cursor.id()?),
        SYMLINK => {
            let len = usize::from(cursor.u16()?);
            let target = cursor.take(len)?;
            if target.is_empty() || len > SYMLINK_LEN_MAX || target.contains(&0) {
                return Err(Defect::new("a link target that is empty, too long or holds NUL"));
            }
            BodyRef::Symlink(target)
        }
        FIFO => BodyRef::Fifo,
        CHAR => BodyRef::Char(cursor.u32()?, cursor.u32()?),
        BLOCK => BodyRef::Block(cursor.u32()?, cursor.u32()?),
        other => return Err(Defect::new(format!("an entry of kind {other}"))),
    })
}

/// The next attribute of a run of encoded ones.
fn take_xattr<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), Defect> {
    let name_len = cursor.u8()?;
    let name = cursor.take(name_len.into())?;
    let value_len = cursor.u32()? as usize;
    if value_len > XATTR_LEN_MAX {
        return Err(Defect::new("an attribute of more than 64 KiB"));
    }
    Ok((name, cursor.take(value_len)?))
}

fn take_full<'a>(cursor: &mut Cursor<'a>, bytes: &'a [u8]) -> Result<FullRef<'a>, Defect> {
    let (uid, gid) = (cursor.u32()?, cursor.u32()?);
    let (mtime_s, mtime_ns, link) = (cursor.i64()?, cursor.u32()?, cursor.u32()?);
    if mtime_ns >= 1_000_000_000 {
        return Err(Defect::new("a second of 10^9 nanoseconds"));
    }
    let count = cursor.u16()?;
    let start = cursor.position();
    let mut previous: &[u8] = &[];
    for _ in 0..count {
        let (name, _) = take_xattr(cursor)?;
        if name <= previous || name.contains(&0) {
            return Err(Defect::new("attributes that do not ascend by name, or hold NUL"));
        }
        previous = name;
    }
    Ok(FullRef { uid, gid, mtime_s, mtime_ns, link, xattrs: &bytes[start..cursor.position()] })
}

impl<'a> EntryRef<'a> {
    /// The object that the entry leads to: a directory, or a long list of chunks.
    pub(super) fn object(&self) -> Option<ChunkId> {
        match self.body {
            BodyRef::Dir(id) | BodyRef::Long { root: id, .. } => Some(id),
            _ => None,
        }
    }

    /// The chunks that the entry itself names.
    pub(super) fn chunks(&self) -> impl Iterator<Item = ChunkRef> {
        let list = match &self.body {
            BodyRef::Chunks { list, .. } => ChunkRef::decode_list(list),
            _ => Vec::new(),
        };
        list.into_iter()
    }

    /// Takes the entry at `at` in `bytes` and returns it with the position behind it.
    pub(super) fn decode(bytes: &'a [u8], at: usize) -> Result<(Self, usize), Defect> {
        let mut cursor = Cursor::starting_at(bytes, at);
        let name = take_name(&mut cursor)?;
        let kind = cursor.u8()?;
        let mode = cursor.u16()?;
        if mode & !MODE_MASK != 0 {
            return Err(Defect::new(format!("mode {mode:o}")));
        }
        let body = take_body(kind & !HAS_FULL, &mut cursor)?;
        if mode != SYMLINK_MODE && matches!(body, BodyRef::Symlink(_)) {
            return Err(Defect::new("a symbolic link whose mode is not 0777"));
        }
        let full = match kind & HAS_FULL {
            0 => None,
            _ => Some(take_full(&mut cursor, bytes)?),
        };
        if matches!((&body, &full), (BodyRef::Dir(_), Some(full)) if full.link != 0) {
            return Err(Defect::new("a hard-linked directory"));
        }
        if cursor.position() - at > ENTRY_LEN_MAX {
            return Err(Defect::new("an entry of more than 256 KiB"));
        }
        Ok((Self { name, mode, body, full }, cursor.position()))
    }

    pub(super) fn to_entry(&self) -> Entry {
        let node = match &self.body {
            BodyRef::Inline(bytes) => {
                Node::File { size: bytes.len() as u64, content: Content::Inline(bytes.to_vec()) }
            }
            BodyRef::Chunks { size, list } => {
                let chunks = ChunkRef::decode_list(list);
                Node::File { size: *size, content: Content::Chunks(chunks) }
            }
            BodyRef::Long { size, chunks, root } => Node::File {
                size: *size,
                content: Content::Long { root: ContentId(root.0), chunks: *chunks },
            },
            BodyRef::Dir(tree) => Node::Dir { tree: TreeId(tree.0) },
            BodyRef::Symlink(target) => Node::Symlink { target: target.to_vec() },
            BodyRef::Fifo => Node::Fifo,
            BodyRef::Char(major, minor) => Node::Char { major: *major, minor: *minor },
            BodyRef::Block(major, minor) => Node::Block { major: *major, minor: *minor },
        };
        let full = self.full.as_ref().map(FullRef::to_meta);
        Entry { name: self.name.to_vec(), node, mode: self.mode, full }
    }
}

impl FullRef<'_> {
    fn to_meta(&self) -> FullMeta {
        let Self { uid, gid, mtime_s, mtime_ns, link, .. } = *self;
        let mut meta = FullMeta { uid, gid, mtime_s, mtime_ns, link, ..FullMeta::default() };
        let mut cursor = Cursor::new(self.xattrs);
        while cursor.left() > 0
            && let Ok((name, value)) = take_xattr(&mut cursor)
        {
            meta.xattrs.insert(name.to_vec(), value.to_vec());
        }
        meta
    }
}

fn length<T: TryFrom<usize>>(len: usize, what: &'static str) -> Result<T, Defect> {
    T::try_from(len).map_err(|_| Defect::new(format!("{what} past its limit: {len}")))
}

fn put_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_full(full: &FullMeta, out: &mut Vec<u8>) -> Result<(), Defect> {
    put_u32(full.uid, out);
    put_u32(full.gid, out);
    out.extend_from_slice(&full.mtime_s.to_le_bytes());
    put_u32(full.mtime_ns, out);
    put_u32(full.link, out);
    out.extend_from_slice(&length::<u16>(full.xattrs.len(), "extended attributes")?.to_le_bytes());
    for (name, value) in &full.xattrs {
        out.push(length(name.len(), "length of an attribute's name")?);
        out.extend_from_slice(name);
        put_u32(length(value.len(), "length of an attribute")?, out);
        out.extend_from_slice(value);
    }
    Ok(())
}

/// Whether a reader would take this metadata, wherever it is encoded.
pub(crate) fn check_full(full: &FullMeta) -> Result<(), Defect> {
    let mut bytes = Vec::new();
    put_full(full, &mut bytes)?;
    if bytes.len() > ENTRY_LEN_MAX {
        return Err(Defect::new("more than 256 KiB of attributes"));
    }
    take_full(&mut Cursor::new(&bytes), &bytes).map(drop)
}

fn put_content(content: &Content, size: u64, out: &mut Vec<u8>) -> Result<(), Defect> {
    match content {
        Content::Inline(bytes) => {
            out.push(length(bytes.len(), "inline bytes")?);
            out.extend_from_slice(bytes);
        }
        Content::Chunks(list) => {
            out.push(length(list.len(), "inline chunks")?);
            list.iter().for_each(|chunk| chunk.encode(out));
        }
        Content::Long { root, chunks } => {
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(&chunks.to_le_bytes());
            out.extend_from_slice(&root.0);
        }
    }
    Ok(())
}

fn put_body(node: &Node, out: &mut Vec<u8>) -> Result<(), Defect> {
    match node {
        Node::File { size, content } => put_content(content, *size, out)?,
        Node::Dir { tree } => out.extend_from_slice(&tree.0),
        Node::Symlink { target } => {
            out.extend_from_slice(&length::<u16>(target.len(), "length of a link target")?.to_le_bytes());
            out.extend_from_slice(target);
        }
        Node::Fifo => {}
        Node::Char { major, minor } | Node::Block { major, minor } => {
            put_u32(*major, out);
            put_u32(*minor, out);
        }
    }
    Ok(())
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

/// Appends an entry to a leaf; leaves `out` as it was when a reader would refuse it.
pub(super) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) -> Result<(), Defect> {
    let start = out.len();
    let encoded = put_entry(entry, out).and_then(|()| {
        let (read, _) = EntryRef::decode(out, start)?;
        let size = match &read.body {
            BodyRef::Inline(bytes) => Some(bytes.len() as u64),
            BodyRef::Chunks { size, .. } | BodyRef::Long { size, .. } => Some(*size),
            _ => None,
        };
        match (&entry.node, size) {
            (Node::File { size: said, .. }, Some(size)) if *said != size => {
                Err(Defect::new(format!("a content of {size} bytes for a file of {said}")))
            }
            _ => Ok(()),
        }
    });
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn put_entry(entry: &Entry, out: &mut Vec<u8>) -> Result<(), Defect> {
    out.push(length(entry.name.len(), "length of a name")?);
    out.extend_from_slice(&entry.name);
    out.push(kind_of(&entry.node) | if entry.full.is_some() { HAS_FULL } else { 0 });
    out.extend_from_slice(&entry.mode.to_le_bytes());
    put_body(&entry.node, out)?;
    entry.full.as_ref().map_or(Ok(()), |full| put_full(full, out))
}
