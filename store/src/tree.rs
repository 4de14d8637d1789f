//! Directories: entries in ascending order of their names' bytes, encoded as a tree of nodes whose root's id is the
//! [`TreeId`](crate::TreeId). Equal directories have equal ids, and a changed entry rewrites one node per level.
//!
//! Invariants:
//! - one value has one encoding, and readers refuse every other;
//! - where a leaf ends depends on names alone (CRC32C), higher up on child ids, and on the nodes' length; builders
//!   agree on it so that equal directories share nodes, readers do not check it;
//! - nothing here follows symbolic links, opens files or knows what a path on this machine is.
//!
//! Nodes are checked as they are read. Iterating over a whole directory establishes all invariants; [`find`] and
//! [`lookup`] only those of the nodes that they touch. docs/format.md has the bytes.

mod builder;
mod encoding;
mod entries;
mod entry;
mod node;
mod walk;

pub use builder::TreeBuilder;
pub use entries::{Entries, entries, entries_from, find, lookup};
pub use entry::{ENTRY_LEN_MAX, Entry, FullMeta, NAME_LEN_MAX, Node, SYMLINK_LEN_MAX, SYMLINK_MODE};
pub use walk::{PATH_LEN_MAX, Walk, walk};

pub(crate) use encoding::check_full;

/// What nodes begin with.
pub(crate) const NODE_MAGIC: [u8; 4] = node::MAGIC;

/// The objects that a node of a directory names.
pub(crate) fn references(
    id: &crate::ChunkId,
    source: &dyn crate::ObjectSource,
) -> crate::Result<Vec<crate::ChunkId>> {
    node::TreeNode::references(id, source)
}

/// The objects and chunks that a node of a directory names.
pub(crate) fn below(
    id: &crate::ChunkId,
    source: &dyn crate::ObjectSource,
    object: &mut dyn FnMut(crate::ChunkId),
    chunk: &mut dyn FnMut(crate::ChunkId),
) -> crate::Result<()> {
    node::TreeNode::below(id, source, object, chunk)
}

#[cfg(test)]
mod tests;
