//! Releases of one program, one after the other.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use super::subfolders;
use crate::error::{Error, Result};
use crate::harness::walk;
use crate::options::Options;

/// The packages of `benches/corpus-debian` that have a bar; what else is there is measured when it is named.
const DEBIAN: &str = "deb";
/// Of the states, the second has 1 % of its rows changed; the later ones have more.
const STATES: usize = 2;
const ELF: &[u8] = b"\x7fELF";

pub(crate) struct Stream {
    /// Oldest first.
    releases: Vec<PathBuf>,
}

/// One release and the next.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) old: PathBuf,
    pub(crate) new: PathBuf,
}

impl Stream {
    /// Of uv, esbuild, state, or of a package in the corpus's `deb/`.
    pub(crate) fn named(options: &Options, name: &'static str) -> Result<Stream> {
        let plain = options.corpus.join(name);
        let folder = if plain.is_dir() { plain } else { options.corpus.join(DEBIAN).join(name) };
        if !folder.is_dir() {
            return Err(Error::NoCorpus { name, path: folder });
        }
        let mut releases = subfolders(&folder)?;
        releases.sort_by(|one, other| by_version(one, other));
        if name == "state" {
            releases.truncate(STATES);
        }
        Ok(Stream { releases })
    }

    /// Oldest first.
    pub(crate) fn releases(&self) -> &[PathBuf] {
        &self.releases
    }

    pub(crate) fn pairs(&self) -> Vec<Pair> {
        let pair = |pair: &[PathBuf]| Pair { old: pair[0].clone(), new: pair[1].clone() };
        self.releases.windows(2).map(pair).collect()
    }

    /// The last release and the one before.
    pub(crate) fn last_pair(&self) -> Result<Pair> {
        self.pairs().pop().ok_or_else(|| Error::Unsuitable("one release has no next one".into()))
    }
}

impl Pair {
    /// The largest file of the new release, and the one of that name in the old one.
    pub(crate) fn largest_file(&self) -> Result<Pair> {
        let new = largest(&self.new, |_| true)?;
        let name = new.file_name().map(ToOwned::to_owned);
        let old = largest(&self.old, |path| path.file_name() == name.as_deref())?;
        Ok(Pair { old, new })
    }
}

impl Pair {
    /// The executables and libraries of both, put into `folder`.
    pub(crate) fn programs(&self, folder: &Path) -> Result<Pair> {
        let copied = |from: &Path, name: &str| {
            let to = folder.join(name);
            walk(from, &mut |path, _| {
                let bytes = fs::read(path).map_err(Error::io("read", path))?;
                if bytes.starts_with(ELF) {
                    let to = to.join(path.strip_prefix(from).unwrap_or(path));
                    fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(Error::io("make", &to))?;
                    fs::write(&to, bytes).map_err(Error::io("write", &to))?;
                }
                Ok(())
            })?;
            Ok(to)
        };
        Ok(Pair { old: copied(&self.old, "1")?, new: copied(&self.new, "2")? })
    }
}

fn largest(root: &Path, wanted: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let mut largest: Option<(u64, PathBuf)> = None;
    walk(root, &mut |path, metadata| {
        if wanted(path) {
            largest = largest.take().max(Some((metadata.len(), path.to_owned())));
        }
        Ok(())
    })?;
    largest.map(|(_, path)| path).ok_or_else(|| Error::Unsuitable(format!("no file in {}", root.display())))
}

/// Digits by their number, all else by its bytes: 0.9 is before 0.10.
fn by_version(one: &Path, other: &Path) -> Ordering {
    let parts = |path: &Path| parts(&path.file_name().unwrap_or_default().to_string_lossy());
    parts(one).cmp(&parts(other))
}

/// Runs of digits with their number, and what is between them with 0.
fn parts(name: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<String> = Vec::new();
    let mut in_digits = None;
    for character in name.chars() {
        let is_digit = character.is_ascii_digit();
        match parts.last_mut().filter(|_| in_digits == Some(is_digit)) {
            Some(part) => part.push(character),
            None => parts.push(character.to_string()),
        }
        in_digits = Some(is_digit);
    }
    parts.into_iter().map(|part| (part.parse().unwrap_or(0), part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        let order = |one: &str, other: &str| by_version(Path::new(one), Path::new(other));
        assert_eq!(order("a/0.27.9", "b/0.27.10"), Ordering::Less);
        assert_eq!(order("2.36-9+deb12u14", "2.36-9+deb12u7"), Ordering::Greater);
        assert_eq!(order("3.0.20-1~deb12u2", "3.0.20-1~deb12u2"), Ordering::Equal);
    }
}
