//! One directory: its entries in order, and single names.

use super::entry::{Entry, Node};
use super::node::TreeNode;
use crate::cursor::Defect;
use crate::error::Result;
use crate::id::TreeId;
use crate::object::{ObjectSource, PassOver};

/// The entries of a directory, ascending by name.
#[must_use]
pub fn entries<'a>(root: &TreeId, source: &'a dyn ObjectSource) -> Entries<'a> {
    entries_from(root, &[], source)
}

/// Like [`entries`], beginning with the first name that is not below `name`. Reads one node per level to get there.
#[must_use]
pub fn entries_from<'a>(root: &TreeId, name: &[u8], source: &'a dyn ObjectSource) -> Entries<'a> {
    let (path, last) = (Vec::new(), Vec::new());
    Entries { root: Some(*root), source, path, skip_to: name.to_vec(), pass_over: None, last }
}

/// The entry of this name in a directory.
///
/// # Errors
/// [`Error::Damaged`](crate::Error::Damaged) when a node on the way is not canonical; whatever the source returns.
pub fn find(root: &TreeId, name: &[u8], source: &dyn ObjectSource) -> Result<Option<Entry>> {
    let mut node = TreeNode::read_root(root, source)?;
    while !node.is_leaf() {
        let level = node.level();
        node.skip_children_before(name)?;
        node = match node.next_child()? {
            Some(child) if child.first <= name => TreeNode::read_child(&child, level, source)?,
            _ => return Ok(None),
        };
    }
    while let Some(entry) = node.next_entry()? {
        if entry.name >= name {
            return Ok((entry.name == name).then(|| entry.to_entry()));
        }
    }
    Ok(None)
}

/// The entry at a path of names separated by single `/`. Links are not followed. The empty path, which would be the
/// root itself, has no entry.
///
/// # Errors
/// As [`find`].
pub fn lookup(root: &TreeId, path: &[u8], source: &dyn ObjectSource) -> Result<Option<Entry>> {
    let mut directory = *root;
    let mut names = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let Some(entry) = find(&directory, name, source)? else { return Ok(None) };
        match (names.peek(), &entry.node) {
            (None, _) => return Ok(Some(entry)),
            (Some(_), Node::Dir { tree }) => directory = *tree,
            (Some(_), _) => return Ok(None),
        }
    }
    Ok(None)
}

/// Iterator over a directory's entries. Holds one path of nodes; ends after its first error.
pub struct Entries<'a> {
    /// The root, until it is read.
    root: Option<TreeId>,
    source: &'a dyn ObjectSource,
    /// From the root to a leaf.
    path: Vec<TreeNode>,
    /// Names below this one are passed over. Empty once one was not.
    skip_to: Vec<u8>,
    /// Nodes below the root that are passed over with all that is below them.
    pass_over: Option<&'a PassOver<'a>>,
    /// The last name of the last leaf that was read to its end.
    last: Vec<u8>,
}

impl<'a> Entries<'a> {
    /// Passes over the nodes below the root that `pass_over` says true of, unread, with all entries below them.
    #[must_use]
    pub fn passing_over(mut self, pass_over: &'a PassOver<'a>) -> Self {
        self.pass_over = Some(pass_over);
        self
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        if let Some(root) = self.root.take() {
            let mut root = TreeNode::read_root(&root, self.source)?;
            self.seek(&mut root)?;
            self.path.push(root);
        }
        while let Some(node) = self.path.last_mut() {
            let level = node.level();
            if level > 0 {
                let Some(child) = node.next_child()? else {
                    self.path.pop();
                    continue;
                };
                if child.first <= &*self.last {
                    let id = child.id;
                    return Err(Defect::new("begins before what comes before it").of("tree", &id));
                }
                if self.pass_over.is_some_and(|pass_over| pass_over(&child.id)) {
                    continue;
                }
                let mut below = TreeNode::read_child(&child, level, self.source)?;
                self.seek(&mut below)?;
                self.path.push(below);
                continue;
            }
            let Some(entry) = node.next_entry()? else {
                self.last.clear();
                self.last.extend_from_slice(node.last_name());
                self.path.pop();
                continue;
            };
            // Comparing with an empty slice costs more than all else here (a masked load at a null page).
            if self.skip_to.is_empty() || entry.name >= &*self.skip_to {
                self.skip_to.clear();
                return Ok(Some(entry.to_entry()));
            }
        }
        Ok(None)
    }

    fn seek(&self, node: &mut TreeNode) -> Result<()> {
        if node.is_leaf() || self.skip_to.is_empty() {
            return Ok(());
        }
        node.skip_children_before(&self.skip_to)
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.path.clear();
        }
        next
    }
}
