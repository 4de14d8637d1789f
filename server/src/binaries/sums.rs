//! Checksums of earlier runs, in a small file: what has not changed since is not hashed again. It is derived: without it,
//! or if it cannot be understood, everything is hashed.

use std::collections::BTreeMap;
use std::path::Path;

use cairn_store::io::{Io, Os};
use serde::{Deserialize, Serialize};

use super::folder::Stamp;

/// Which form the file has.
const FORM: u32 = 1;
/// Bytes of the file that are read, at most: it has some 300 a file.
const BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    #[serde(flatten)]
    stamp: Stamp,
    sha256: String,
}

/// The checksums of files by their names, and what the files were then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    form: u32,
    files: BTreeMap<String, Sum>,
}

impl Sums {
    /// What an earlier run left.
    pub(super) fn load(path: &Path) -> Self {
        let read = || {
            let file = Os.open(path).ok()?;
            let bytes = (file.len().ok()? <= BYTES_MAX).then(|| Os.read(path).ok())??;
            let sums: Self = serde_json::from_slice(&bytes).ok()?;
            let is_hex =
                |sum: &Sum| sum.sha256.len() == 64 && sum.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            (sums.form == FORM && sums.files.values().all(is_hex)).then_some(sums)
        };
        read().unwrap_or_default()
    }

    /// What a file's checksum was when it had this stamp.
    pub(super) fn recall(&self, file: &str, stamp: &Stamp) -> Option<&str> {
        self.files.get(file).filter(|sum| sum.stamp == *stamp).map(|sum| sum.sha256.as_str())
    }

    pub(super) fn of<'a>(registered: impl Iterator<Item = (&'a str, Stamp, &'a str)>) -> Self {
        let sum = |(file, stamp, sha256): (&str, Stamp, &str)| {
            (file.to_owned(), Sum { stamp, sha256: sha256.to_owned() })
        };
        Self { form: FORM, files: registered.map(sum).collect() }
    }

    /// Leaves it for the next run. Failing costs time at the next start only.
    pub(super) fn save(&self, path: &Path) {
        let written = serde_json::to_vec(self)
            .map_err(std::io::Error::from)
            .and_then(|bytes| Os.create_dir_all(path.parent().unwrap_or(Path::new("."))).map(|()| bytes))
            .and_then(|bytes| Os.write_atomic(path, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "checksums are not kept; they are computed anew each time");
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a test")]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_recalled_for_the_same_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/sums.json");
        assert_eq!(Sums::load(&path), Sums::default());
        let stamp = Stamp { inode: 1, size: 2, mtime_ns: 3, ctime_ns: 4 };
        let checksum = "ab".repeat(32);
        let sums = Sums::of([("file", stamp, &*checksum)].into_iter());
        sums.save(&path);
        let loaded = Sums::load(&path);
        assert_eq!(loaded, sums);
        assert_eq!(loaded.recall("file", &stamp), Some(&*checksum));
        assert_eq!(loaded.recall("other", &stamp), None);
        for other in [
            Stamp { inode: 9, ..stamp },
            Stamp { size: 9, ..stamp },
            Stamp { mtime_ns: 9, ..stamp },
            Stamp { ctime_ns: 9, ..stamp },
        ] {
            assert_eq!(loaded.recall("file", &other), None);
        }
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in [
            "",
            "{",
            "[]",
            &good[..good.len() / 2],
            &good.replace("\"form\":1", "\"form\":2"),
            &good.replace("abab", "zz"),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Sums::load(&path), Sums::default(), "{bad}");
        }
    }
}
