//! The references: tools that everybody has, each doing the part of the job that cannot be saved.

use std::path::{Path, PathBuf};

use crate::harness::Line;

pub(crate) const ZSTD: &str = "`zstd -3 -T2`";
pub(crate) const B3SUM: &str = "`b3sum --num-threads 1`";
pub(crate) const FIND: &str = "`find -type f -printf %T@`";
pub(crate) const CP: &str = "`cp -r`";
pub(crate) const GIT: &str = "`git --version`";

/// Compresses a file: what storing new data takes at least.
pub(crate) fn zstd(from: &Path, to: &Path) -> Line {
    Line::new("zstd").args(["-3", "-T2", "-q", "-f"]).arg(from).arg("-o").arg(to)
}

/// Hashes files, named relative to `tree`: what reading and recognising data takes at least.
pub(crate) fn b3sum(tree: &Path, files: &[PathBuf]) -> Line {
    b3sum_on(1, tree, files)
}

/// The same on so many cores.
pub(crate) fn b3sum_on(threads: usize, tree: &Path, files: &[PathBuf]) -> Line {
    Line::new("b3sum").args(["--num-threads", &threads.to_string()]).args(files).folder(tree)
}

/// Looks at every file of a tree: what seeing that nothing changed takes at least.
pub(crate) fn find(tree: &Path) -> Line {
    Line::new("find").arg(tree).args(["-type", "f", "-printf", "%T@\\n"])
}

/// Copies a tree into an empty folder: what restoring takes.
pub(crate) fn cp(tree: &Path, into: &Path) -> Line {
    Line::new("cp").arg("-r").arg(tree).arg(into.join("tree"))
}

/// A native program that starts, says one line, and ends.
pub(crate) fn git_version() -> Line {
    Line::new("git").arg("--version")
}

/// How each reference says its version.
pub(crate) fn versions() -> [(&'static str, Line); 5] {
    [
        ("zstd", Line::new("zstd").arg("--version")),
        ("b3sum", Line::new("b3sum").arg("--version")),
        ("find", Line::new("find").arg("--version")),
        ("cp", Line::new("cp").arg("--version")),
        ("git", git_version()),
    ]
}
