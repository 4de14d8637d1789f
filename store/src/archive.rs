//! Archives: whole artifacts as one file, for machines that no network joins.
//!
//! An archive is a header, what is stated of each artifact in it, each artifact's frames as they travel between peers, and
//! an end with counts and a hash over everything: so a file that was cut or changed is told from a whole one. It is read
//! and written front to back, through a pipe too, a frame at a time. docs/format.md has every byte.
//!
//! Roles: `format` is the layout; `plan` finds out what goes in and writes it; `read` takes an archive apart, every frame
//! verified; `import` puts one into a store.
//!
//! Invariants:
//! - a reader allocates no more than what has come justifies, and believes nothing that it did not hash;
//! - nothing is named before the end of the archive was reached and held, and everything is here and durable.
//!
//! No file is opened here: whoever calls brings the stream.

mod format;
mod import;
mod plan;
mod read;
#[cfg(test)]
mod tests;

pub use format::{ArchiveTotals, MAGIC};
pub use import::{ImportOptions, Imported, ImportedArtifact};
pub use plan::{ArchivePlan, ArchiveRequest};
pub use read::{ArchivePart, ArchiveReader, Archived, Base};
