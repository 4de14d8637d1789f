//! What differs between two trees, and what moving from one to the other transfers.
//!
//! Both trees are walked together in canonical order. Directories with equal ids are passed over unread, so the time is
//! that of the directories on the way to what changed.

mod ranges;
mod transfer;

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::artifact::Artifact;
use crate::error::{Error, Result};
use crate::id::TreeId;
use crate::object::ObjectSource;
use crate::tree::{Entries, Entry, Node, PATH_LEN_MAX, entries};

pub use ranges::{FileSide, ranges};
pub use transfer::{FileTransfer, Transfer};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl EntryKind {
    /// What `node` is.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        match node {
            Node::File { .. } => Self::File,
            Node::Dir { .. } => Self::Directory,
            Node::Symlink { .. } => Self::Symlink,
            Node::Fifo => Self::Fifo,
            Node::Char { .. } => Self::CharDevice,
            Node::Block { .. } => Self::BlockDevice,
        }
    }
}

/// A path that the two trees do not agree on. At least one side is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Names joined by `/`.
    pub path: Vec<u8>,
    /// What the first tree has there.
    pub before: Option<Entry>,
    /// What the second tree has there.
    pub after: Option<Entry>,
}

impl Difference {
    /// Whether what the entry holds differs: a file's bytes, a link's target, the kind. Otherwise its mode or other
    /// metadata do. What is in a directory is not the directory's own: each entry below is a difference by itself.
    #[must_use]
    pub fn is_content(&self) -> bool {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => !is_alike(&before.node, &after.node),
            _ => true,
        }
    }
}

/// Whether two nodes are the same, contents of directories apart.
fn is_alike(before: &Node, after: &Node) -> bool {
    matches!((before, after), (Node::Dir { .. }, Node::Dir { .. })) || before == after
}

/// The differences between two artifacts' trees, as [`diff`] gives them. If the roots themselves differ in their
/// metadata, that comes first, with an empty path. More entries than the two artifacts say they have are damage.
#[must_use]
pub fn diff_artifacts<'a>(before: &Artifact, after: &Artifact, source: &'a dyn ObjectSource) -> Diff<'a> {
    let mut diff = diff(&before.root, &after.root, source);
    diff.left = before.entries.saturating_add(after.entries);
    if before.root_meta != after.root_meta {
        let root = |artifact: &Artifact| Entry {
            name: Vec::new(),
            node: Node::Dir { tree: artifact.root },
            mode: artifact.root_meta.mode,
            full: artifact.root_meta.full.clone(),
        };
        let (before, after) = (Some(root(before)), Some(root(after)));
        diff.root = Some(Difference { path: Vec::new(), before, after });
    }
    diff
}

/// The differences between two trees, in canonical order: an added or removed directory comes before each entry that
/// is in it.
#[must_use]
pub fn diff<'a>(before: &TreeId, after: &TreeId, source: &'a dyn ObjectSource) -> Diff<'a> {
    let mut diff = Diff { source, root: None, open: Vec::new(), path: Vec::new(), left: u64::MAX };
    if before != after {
        diff.open(Some(*before), Some(*after));
    }
    diff
}

/// One directory that is being compared; a side is empty where the directory is not.
struct Pair<'a> {
    before: Option<Peekable<Entries<'a>>>,
    after: Option<Peekable<Entries<'a>>>,
    /// Bytes of the directory's own path.
    path_len: usize,
}

/// Iterator over the differences between two trees. Holds one path of directories; ends after its first error.
pub struct Diff<'a> {
    source: &'a dyn ObjectSource,
    /// What the roots themselves differ in, until it is returned.
    root: Option<Difference>,
    open: Vec<Pair<'a>>,
    /// Path of the directory that is open innermost, then of the last difference.
    path: Vec<u8>,
    /// Entries that may still come.
    left: u64,
}

impl Diff<'_> {
    fn open(&mut self, before: Option<TreeId>, after: Option<TreeId>) {
        let entries = |tree: TreeId| entries(&tree, self.source).peekable();
        let pair = Pair { before: before.map(entries), after: after.map(entries), path_len: self.path.len() };
        self.open.push(pair);
    }

    fn advance(&mut self) -> Result<Option<Difference>> {
        if let Some(root) = self.root.take() {
            return Ok(Some(root));
        }
        while let Some(pair) = self.open.last_mut() {
            let (before, after) = pair.next()?;
            let Some(name) = before.as_ref().or(after.as_ref()).map(|entry| &entry.name) else {
                self.open.pop();
                continue;
            };
            self.path.truncate(pair.path_len);
            if pair.path_len > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            if self.path.len() > PATH_LEN_MAX {
                return Err(Error::damaged("tree", "a path of more than 4,096 bytes"));
            }
            self.left = self
                .left
                .checked_sub(u64::from(before.is_some()) + u64::from(after.is_some()))
                .ok_or_else(|| Error::damaged("tree", "it has more entries than its artifact says"))?;
            if before == after {
                continue;
            }
            match (directory(before.as_ref()), directory(after.as_ref())) {
                (None, None) => {}
                (before, after) if before == after => {}
                (before, after) => self.open(before, after),
            }
            let is_own = match (&before, &after) {
                (Some(before), Some(after)) => {
                    !is_alike(&before.node, &after.node)
                        || before.mode != after.mode
                        || before.full != after.full
                }
                _ => true,
            };
            if is_own {
                return Ok(Some(Difference { path: self.path.clone(), before, after }));
            }
        }
        Ok(None)
    }
}

fn directory(entry: Option<&Entry>) -> Option<TreeId> {
    match entry?.node {
        Node::Dir { tree } => Some(tree),
        _ => None,
    }
}

impl Pair<'_> {
    /// The next name on either side, with what each has there; nothing on both at the end.
    fn next(&mut self) -> Result<(Option<Entry>, Option<Entry>)> {
        let order = match (peek(&mut self.before), peek(&mut self.after)) {
            (Some(Ok(before)), Some(Ok(after))) => before.name.cmp(&after.name),
            // An error comes out before anything that stands behind it.
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (_, Some(_)) => Ordering::Greater,
            (None, None) => return Ok((None, None)),
        };
        let before = if order.is_le() { take(&mut self.before)? } else { None };
        let after = if order.is_ge() { take(&mut self.after)? } else { None };
        Ok((before, after))
    }
}

fn peek<'p, 'a>(side: &'p mut Option<Peekable<Entries<'a>>>) -> Option<&'p Result<Entry>> {
    side.as_mut()?.peek()
}

fn take(side: &mut Option<Peekable<Entries<'_>>>) -> Result<Option<Entry>> {
    side.as_mut().and_then(Iterator::next).transpose()
}

impl Iterator for Diff<'_> {
    type Item = Result<Difference>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.open.clear();
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::MemoryObjects;
    use crate::testing::{artifact, dir, file, symlink, tree};

    fn differences(objects: &MemoryObjects, before: &TreeId, after: &TreeId) -> Vec<String> {
        diff(before, after, objects)
            .map(|difference| {
                let difference = difference.unwrap();
                let sign = match (&difference.before, &difference.after) {
                    (None, _) => '+',
                    (_, None) => '-',
                    _ if difference.is_content() => '~',
                    _ => 'm',
                };
                format!("{sign}{}", String::from_utf8_lossy(&difference.path))
            })
            .collect()
    }

    #[test]
    fn differences_come_in_canonical_order_and_say_what_changed() {
        let mut objects = MemoryObjects::new();
        let same = tree(&mut objects, &[("deep", file(b"same"))]);
        let inner_a = tree(&mut objects, &[("x", file(b"1")), ("y", file(b"2"))]);
        let inner_b = tree(&mut objects, &[("x", file(b"1")), ("y", file(b"3")), ("z", symlink("x"))]);
        let gone = tree(&mut objects, &[("f", file(b"f"))]);
        let a = tree(
            &mut objects,
            &[
                ("a", file(b"a")),
                ("becomes", file(b"a file")),
                ("gone", dir(gone)),
                ("inner", dir(inner_a)),
                ("same", dir(same)),
            ],
        );
        let mut executable = file(b"a");
        executable.mode = 0o755;
        let b = tree(
            &mut objects,
            &[
                ("a", executable),
                ("becomes", dir(gone)),
                ("inner", dir(inner_b)),
                ("new", file(b"n")),
                ("same", dir(same)),
            ],
        );
        let expected = ["ma", "~becomes", "+becomes/f", "-gone", "-gone/f", "~inner/y", "+inner/z", "+new"];
        assert_eq!(differences(&objects, &a, &b), expected);
        assert_eq!(differences(&objects, &b, &b), [""; 0]);
    }

    #[test]
    fn roots_differ_by_themselves_and_entries_are_bounded() {
        let mut objects = MemoryObjects::new();
        let a = tree(&mut objects, &[("a", file(b"1"))]);
        let b = tree(&mut objects, &[("a", file(b"2"))]);
        let (a, mut b) = (artifact(a, 1), artifact(b, 1));
        let paths = |a: &Artifact, b: &Artifact| -> Result<Vec<Vec<u8>>> {
            diff_artifacts(a, b, &objects).map(|difference| Ok(difference?.path)).collect()
        };
        assert_eq!(paths(&a, &b).unwrap(), [b"a"]);
        b.root_meta.mode = 0o700;
        assert_eq!(paths(&a, &b).unwrap(), [b"".as_slice(), b"a"]);
        b.entries = 0;
        assert!(matches!(paths(&a, &b), Err(Error::Damaged { .. })));
    }

    #[test]
    fn equal_directories_are_not_read() {
        let mut objects = MemoryObjects::new();
        let same = tree(&mut objects, &[("deep", file(b"same"))]);
        let a = tree(&mut objects, &[("a", file(b"1")), ("same", dir(same))]);
        let b = tree(&mut objects, &[("a", file(b"2")), ("same", dir(same))]);
        assert!(objects.remove(&same.into()));
        assert_eq!(differences(&objects, &a, &b), ["~a"]);
    }

    #[test]
    fn damage_ends_the_comparison_with_its_error() {
        let mut objects = MemoryObjects::new();
        let inner = tree(&mut objects, &[("x", file(b"1"))]);
        let a = tree(&mut objects, &[("inner", dir(inner))]);
        let b = tree(&mut objects, &[("zzz", file(b"1"))]);
        objects.remove(&inner.into());
        let mut all = diff(&a, &b, &objects);
        assert!(all.next().unwrap().is_ok());
        assert!(matches!(all.next(), Some(Err(Error::Absent { .. }))));
        assert!(all.next().is_none());
    }
}
