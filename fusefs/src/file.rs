//! Which bytes a file holds.

use cairn_store::Content;

/// A regular file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// What it holds.
    pub content: Content,
    /// How many bytes that is.
    pub size: u64,
}
