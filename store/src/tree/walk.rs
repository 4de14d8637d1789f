//! Everything below a directory, depth first.

use super::entries::{Entries, entries};
use super::entry::{Entry, Node};
use crate::error::{Error, Result};
use crate::id::{ChunkId, TreeId};
use crate::object::{ObjectSource, PassOver};

/// Longest path within an artifact, in bytes.
pub const PATH_LEN_MAX: usize = 4096;

/// All entries below a directory with their paths (names joined by `/`, without a leading one): each directory before
/// what it holds, names ascending bytewise within a directory. This is the canonical order.
#[must_use]
pub fn walk<'a>(root: &TreeId, source: &'a dyn ObjectSource) -> Walk<'a> {
    Walk {
        source,
        open: vec![Directory { entries: entries(root, source), path_len: 0, id: *root }],
        path: Vec::new(),
        below: None,
        left: u64::MAX,
        pass_over: None,
    }
}

struct Directory<'a> {
    entries: Entries<'a>,
    /// Bytes of its own path.
    path_len: usize,
    id: TreeId,
}

/// Iterator over everything below a directory. Holds one path of directories; ends after its first error.
///
/// Paths of more than [`PATH_LEN_MAX`] bytes are damage, which bounds the depth. A hostile tree can still name one
/// directory many times and so be exponentially larger than its bytes: [`Walk::with_limit`] bounds that.
pub struct Walk<'a> {
    source: &'a dyn ObjectSource,
    open: Vec<Directory<'a>>,
    /// Path of the last entry.
    path: Vec<u8>,
    /// The directory that was returned last, if it is to be entered next.
    below: Option<TreeId>,
    left: u64,
    pass_over: Option<&'a PassOver<'a>>,
}

impl<'a> Walk<'a> {
    /// More than `entries` entries are damage.
    #[must_use]
    pub fn with_limit(mut self, entries: u64) -> Self {
        self.left = entries;
        self
    }

    /// Passes over the directories, and the nodes of long directories, that `pass_over` says true of: they are not read.
    /// A directory is returned nevertheless. The root is never passed over.
    #[must_use]
    pub fn passing_over(mut self, pass_over: &'a PassOver<'a>) -> Self {
        self.pass_over = Some(pass_over);
        for directory in &mut self.open {
            let root = entries(&directory.id, self.source);
            directory.entries = root.passing_over(pass_over);
        }
        self
    }

    /// Passes over what is in the directory that was returned last.
    pub fn skip_directory(&mut self) {
        self.below = None;
    }

    fn advance(&mut self) -> Result<Option<(Vec<u8>, Entry)>> {
        let pass_over = self.pass_over;
        let below = self.below.take();
        if let Some(id) = below.filter(|id| !pass_over.is_some_and(|pass_over| pass_over(&(*id).into()))) {
            let mut entries = entries(&id, self.source);
            if let Some(pass_over) = pass_over {
                entries = entries.passing_over(pass_over);
            }
            self.open.push(Directory { entries, path_len: self.path.len(), id });
        }
        while let Some(directory) = self.open.last_mut() {
            let Some(entry) = directory.entries.next().transpose()? else {
                self.open.pop();
                continue;
            };
            self.path.truncate(directory.path_len);
            if directory.path_len > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&entry.name);
            let id = directory.id.into();
            if self.path.len() > PATH_LEN_MAX {
                return Err(damaged(id, "a path of more than 4,096 bytes leads through it".to_owned()));
            }
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                damaged(
                    id,
                    format!(
                        "there are more entries than there should be, up to {}",
                        self.path.escape_ascii()
                    ),
                )
            })?;
            if let Node::Dir { tree } = &entry.node {
                self.below = Some(*tree);
            }
            return Ok(Some((self.path.clone(), entry)));
        }
        Ok(None)
    }
}

fn damaged(id: ChunkId, detail: String) -> Error {
    Error::Damaged { what: format!("tree {id}"), chunk: Some(id), pack: None, offset: None, detail }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Vec<u8>, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.open.clear();
            self.below = None;
        }
        next
    }
}
