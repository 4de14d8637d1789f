//! Two folders held against each other without the store's help: kinds, permission bits, links' targets, all bytes. The
//! folders' own permission bits are left out: a portable artifact does not keep its root's.

#![expect(clippy::disallowed_methods, reason = "the demo's own files are not a store's")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// What was compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Compares two folders; the first difference is an error that names it.
pub(super) fn compare(left: &Path, right: &Path) -> anyhow::Result<Compared> {
    let mut compared = Compared::default();
    let roots = (left, right);
    let mut pairs = vec![(left.to_owned(), right.to_owned())];
    while let Some((left, right)) = pairs.pop() {
        let (of_left, of_right) = (status(&left)?, status(&right)?);
        let differs = || format!("{} and {} differ", left.display(), right.display());
        ensure!(of_left.file_type() == of_right.file_type(), "{} in kind", differs());
        if of_left.is_symlink() {
            ensure!(fs::read_link(&left)? == fs::read_link(&right)?, "{} in their targets", differs());
            continue;
        }
        let is_root = left == roots.0;
        let modes = [&of_left, &of_right].map(|status| status.permissions().mode() & 0o777);
        ensure!(is_root || modes[0] == modes[1], "{} in mode: {:04o}, {:04o}", differs(), modes[0], modes[1]);
        if of_left.is_dir() {
            let (names, other) = (names(&left)?, names(&right)?);
            if let Some(name) =
                names.keys().chain(other.keys()).find(|n| !names.contains_key(*n) || !other.contains_key(*n))
            {
                bail!("{}: only one has {}", differs(), name.display());
            }
            pairs.extend(names.into_keys().map(|name| (left.join(&name), right.join(&name))));
        } else {
            ensure!(is_same_file(&left, &right).with_context(differs)?, "{} in their bytes", differs());
            compared.files += 1;
            compared.bytes += of_left.len();
        }
    }
    Ok(compared)
}

fn status(path: &Path) -> anyhow::Result<Metadata> {
    fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))
}

fn names(folder: &Path) -> anyhow::Result<BTreeMap<OsString, ()>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.map(|entry| entry.map(|entry| (entry.file_name(), ()))).collect::<Result<_, _>>()?)
}

fn is_same_file(left: &Path, right: &Path) -> io::Result<bool> {
    const WINDOW_BYTES: u64 = 1 << 20;
    let (mut left, mut right) = (fs::File::open(left)?, fs::File::open(right)?);
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    loop {
        of_left.clear();
        of_right.clear();
        left.by_ref().take(WINDOW_BYTES).read_to_end(&mut of_left)?;
        right.by_ref().take(WINDOW_BYTES).read_to_end(&mut of_right)?;
        if of_left != of_right {
            return Ok(false);
        }
        if of_left.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_kind_of_difference_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        type Change = fn(&Path);
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let make = |root: &Path| {
            fs::create_dir_all(root.join("d")).unwrap();
            fs::write(root.join("d/f"), b"bytes").unwrap();
            symlink("d/f", root.join("l")).unwrap();
        };
        make(&a);
        make(&b);
        assert_eq!(compare(&a, &b).unwrap(), Compared { files: 1, bytes: 5 });
        let changes: [(&str, Change); 5] = [
            ("bytes", |b| fs::write(b.join("d/f"), b"bytez").unwrap()),
            ("mode", |b| fs::set_permissions(b.join("d/f"), PermissionsExt::from_mode(0o600)).unwrap()),
            ("only one has", |b| fs::write(b.join("d/g"), b"").unwrap()),
            ("kind", |b| {
                fs::remove_file(b.join("l")).unwrap();
                fs::write(b.join("l"), b"d/f").unwrap();
            }),
            ("target", |b| {
                fs::remove_file(b.join("l")).unwrap();
                symlink("elsewhere", b.join("l")).unwrap();
            }),
        ];
        for (word, change) in changes {
            fs::remove_dir_all(&b).unwrap();
            make(&b);
            change(&b);
            let error = compare(&a, &b).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}
