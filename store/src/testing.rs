//! Small trees for the tests of what reads trees.

use std::collections::BTreeMap;

use crate::artifact::{Artifact, ArtifactKind, Chunking, MetadataPolicy, RootMeta};
use crate::content::{ChunkRef, Content, ContentBuilder};
use crate::id::{ChunkId, TreeId};
use crate::object::MemoryObjects;
use crate::tree::{Entry, Node, SYMLINK_MODE, TreeBuilder};

fn entry(node: Node, mode: u16) -> Entry {
    Entry { name: Vec::new(), node, mode, full: None }
}

/// A file that holds `bytes`, inline.
pub(crate) fn file(bytes: &[u8]) -> Entry {
    let content = Content::Inline(bytes.to_vec());
    entry(Node::File { size: bytes.len() as u64, content }, 0o644)
}

/// A file of chunks of 1,000 bytes each, whose ids are made up of these numbers; 0 is a hole.
pub(crate) fn chunked(objects: &mut MemoryObjects, numbers: impl IntoIterator<Item = u32>) -> Entry {
    let (mut builder, mut size) = (ContentBuilder::new(), 0);
    for number in numbers {
        let chunk = match number {
            0 => ChunkRef::hole(1000),
            _ => ChunkRef { id: chunk(number), len: 1000 },
        };
        builder.push(chunk, objects).unwrap();
        size += 1000;
    }
    entry(Node::File { size, content: builder.finish(objects).unwrap() }, 0o644)
}

/// The id of a made-up chunk.
pub(crate) fn chunk(number: u32) -> ChunkId {
    ChunkId::of(&number.to_le_bytes())
}

/// A directory.
pub(crate) fn dir(tree: TreeId) -> Entry {
    entry(Node::Dir { tree }, 0o755)
}

/// A symbolic link.
pub(crate) fn symlink(target: &str) -> Entry {
    entry(Node::Symlink { target: target.into() }, SYMLINK_MODE)
}

/// An artifact of this tree.
pub(crate) fn artifact(root: TreeId, entries: u64) -> Artifact {
    Artifact {
        kind: ArtifactKind::Package,
        name: "name".parse().unwrap(),
        version: "1".parse().unwrap(),
        platform: "any/any".parse().unwrap(),
        policy: MetadataPolicy::Portable,
        chunking: Chunking { min: 1, avg: 1, max: 1, paged: false },
        root,
        root_meta: RootMeta { mode: 0o755, full: None },
        entries,
        files: 0,
        bytes: 0,
        chunks: 0,
        provenance: BTreeMap::new(),
    }
}

/// A directory's tree; names ascend.
pub(crate) fn tree(objects: &mut MemoryObjects, entries: &[(&str, Entry)]) -> TreeId {
    let mut builder = TreeBuilder::new();
    for (name, entry) in entries {
        builder.push(&Entry { name: name.as_bytes().to_vec(), ..entry.clone() }, objects).unwrap();
    }
    builder.finish(objects).unwrap()
}
