//! Builds the directories of an artifact from the entries that the pipeline settles, in the walk's order.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustix::fs::FileType;

use super::source::{Folder, Item};
use crate::artifact::MetadataPolicy;
use crate::error::Result;
use crate::id::TreeId;
use crate::object::ObjectSink;
use crate::tree::{Entry, FullMeta, Node, SYMLINK_MODE, TreeBuilder};

/// Counts of what was met.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Everything below the root.
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) symlinks: u64,
    pub(super) bytes: u64,
    pub(super) chunks: u64,
    pub(super) unchanged_files: u64,
    pub(super) machines: BTreeSet<u16>,
}

/// A directory that is being built.
struct Level {
    folder: Arc<Folder>,
    item: Item,
    builder: TreeBuilder,
}

/// The directories that are open, and what came of those that were left.
pub(super) struct Assembly {
    policy: MetadataPolicy,
    open: Vec<Level>,
    root: Option<(TreeId, Entry)>,
    pub(super) totals: Totals,
}

impl Assembly {
    pub(super) fn new(policy: MetadataPolicy) -> Self {
        Self { policy, open: Vec::new(), root: None, totals: Totals::default() }
    }

    pub(super) fn enter(&mut self, folder: Arc<Folder>, item: Item) {
        self.open.push(Level { folder, item, builder: TreeBuilder::new() });
    }

    /// Adds an entry to the directory entered last. `link` is its hard-link group, 0 for none.
    pub(super) fn insert(
        &mut self,
        folder: &Folder,
        item: &Item,
        node: Node,
        link: u32,
        sink: &mut dyn ObjectSink,
    ) -> Result<()> {
        match &node {
            Node::File { size, content } => {
                self.totals.files += 1;
                self.totals.bytes += size;
                self.totals.chunks += content.chunk_count();
            }
            Node::Symlink { .. } => self.totals.symlinks += 1,
            _ => {}
        }
        self.totals.entries += 1;
        let full = match self.policy {
            MetadataPolicy::Portable => None,
            MetadataPolicy::Full => Some(full_meta(item, folder.attributes(&item.name)?, link)),
        };
        let entry = Entry { name: item.name.clone(), mode: self.mode(item), node, full };
        self.open.last_mut().expect("the walk enters the root first").builder.push(&entry, sink)
    }

    /// Finishes the directory entered last, and adds it to the one around it.
    pub(super) fn leave(&mut self, sink: &mut dyn ObjectSink) -> Result<()> {
        let Level { folder, item, builder } = self.open.pop().expect("the walk leaves what it entered");
        let tree = builder.finish(sink)?;
        self.totals.directories += 1;
        let full = match self.policy {
            MetadataPolicy::Portable => None,
            MetadataPolicy::Full => Some(full_meta(&item, folder.own_attributes()?, 0)),
        };
        let mode = match (self.open.is_empty(), self.policy) {
            // The bits of the folder that a release happened to be unpacked into say nothing about the release.
            (true, MetadataPolicy::Portable) => 0o755,
            _ => self.mode(&item),
        };
        let entry = Entry { name: item.name, mode, node: Node::Dir { tree }, full };
        match self.open.last_mut() {
            Some(level) => {
                self.totals.entries += 1;
                level.builder.push(&entry, sink)
            }
            None => {
                self.root = Some((tree, entry));
                Ok(())
            }
        }
    }

    /// The root and its own entry, once it was left.
    pub(super) fn take_root(&mut self) -> Option<(TreeId, Entry)> {
        self.root.take()
    }

    fn mode(&self, item: &Item) -> u16 {
        match (item.kind, self.policy) {
            (FileType::Symlink, _) => SYMLINK_MODE,
            (_, MetadataPolicy::Portable) => item.mode & 0o777,
            (_, MetadataPolicy::Full) => item.mode,
        }
    }
}

fn full_meta(item: &Item, xattrs: Vec<(Vec<u8>, Vec<u8>)>, link: u32) -> FullMeta {
    let (mtime_s, mtime_ns) = item.stamp.mtime;
    FullMeta { uid: item.uid, gid: item.gid, mtime_s, mtime_ns, link, xattrs: xattrs.into_iter().collect() }
}
