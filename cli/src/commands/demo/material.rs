//! What the demo publishes: two given folders, or two releases made of executables of this machine.

#![expect(clippy::disallowed_methods, reason = "the demo's own files are not a store's")]

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::scratch::Scratch;
use crate::text;

/// About as many bytes go into a release.
const RELEASE_BYTES: u64 = 32 << 20;
/// Executables of these sizes are taken.
const SIZES: std::ops::RangeInclusive<u64> = (32 << 10)..=(8 << 20);
/// This program is taken too unless it is longer: a debug build can be.
const SELF_BYTES_MAX: u64 = 64 << 20;
/// One in so many executables is left out of the second release, and as many come new.
const EXCHANGED: usize = 10;
/// So many executables are edited.
const EDITED: usize = 3;
/// So many bytes are inserted in the middle of each.
const INSERTED_BYTES: usize = 1000;
/// Where executables are, besides $PATH.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];

/// The command that says which release it is of.
pub(super) const SAYS_RELEASE: &str = "demo-release";
/// This program in a release.
pub(super) const OWN: &str = "cairn";

/// A folder to be published, and what it honestly is.
pub(super) struct Release {
    pub(super) folder: PathBuf,
    pub(super) description: String,
}

/// The folders that the user gave.
pub(super) fn given(folders: Vec<PathBuf>) -> anyhow::Result<Vec<Release>> {
    ensure!(folders.len() == 2, "a demo has two releases");
    let release = |folder: PathBuf| {
        ensure!(folder.is_dir(), "{} is not a folder", folder.display());
        Ok(Release { description: folder.display().to_string(), folder })
    };
    folders.into_iter().map(release).collect()
}

/// Two releases made of this machine's executables.
pub(super) fn gather(scratch: &Scratch) -> anyhow::Result<Vec<Release>> {
    let pool = choose(find());
    let own = env::current_exe().ok().filter(|path| path.metadata().is_ok_and(|m| m.len() <= SELF_BYTES_MAX));
    ensure!(own.is_some() || !pool.is_empty(), "no executables were found; give two folders with --from");

    let exchanged = pool.len() / EXCHANGED;
    let (first, fresh) = pool.split_at(pool.len() - exchanged);
    let mut largest: Vec<&(String, PathBuf, u64)> = first.iter().collect();
    largest.sort_by_key(|(name, _, len)| (std::cmp::Reverse(*len), name));
    let edited: HashSet<&str> = largest.iter().take(EDITED).map(|(name, ..)| name.as_str()).collect();
    let left_out: HashSet<&str> = first
        .iter()
        .map(|(name, ..)| name.as_str())
        .filter(|name| !edited.contains(name))
        .step_by(EXCHANGED)
        .take(exchanged)
        .collect();

    let folders = [scratch.path().join("release-1"), scratch.path().join("release-2")];
    for folder in &folders {
        fs::create_dir_all(folder.join("bin"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let put =
        |release: usize, name: &str, bytes: &[u8]| write(&folders[release].join("bin").join(name), bytes);
    let (mut count, mut total) = (0, 0);
    for (name, path, _) in first {
        scratch.stop_if_asked()?;
        // It may have gone since it was found.
        let Ok(bytes) = fs::read(path) else { continue };
        count += 1;
        total += bytes.len() as u64;
        put(0, name, &bytes)?;
        if edited.contains(name.as_str()) {
            put(1, name, &edit(&bytes))?;
        } else if !left_out.contains(name.as_str()) {
            put(1, name, &bytes)?;
        }
    }
    for (name, path, _) in fresh {
        scratch.stop_if_asked()?;
        if let Ok(bytes) = fs::read(path) {
            put(1, name, &bytes)?;
        }
    }
    for (release, number) in [(0, 1), (1, 2)] {
        put(release, SAYS_RELEASE, format!("#!/bin/sh\necho release {number} of the demo\n").as_bytes())?;
    }
    let own = own.and_then(|path| fs::read(path).ok());
    if let Some(bytes) = &own {
        total += bytes.len() as u64;
        put(0, "cairn", bytes)?;
        // Where there is nothing else to edit, this is.
        put(1, "cairn", &if edited.is_empty() { edit(bytes) } else { bytes.clone() })?;
    }
    let with_own = if own.is_some() { ", and this program itself" } else { "" };
    let executables = text::count(count, "executable");
    let one = format!("{executables} of this machine{with_own}: {}.", text::size(total));
    let mut names: Vec<&str> = edited.into_iter().collect();
    names.sort_unstable();
    let edited = if names.is_empty() { "cairn".to_owned() } else { names.join(", ") };
    let two = format!(
        "the same, but {} left out, {} others new, and {INSERTED_BYTES} bytes inserted in the middle of {edited}. These \
         would not run; they show what an edit costs that moves everything behind it.",
        left_out.len(),
        fresh.len(),
    );
    let [first, second] = folders;
    Ok(vec![Release { folder: first, description: one }, Release { folder: second, description: two }])
}

/// Executables by name: file name, path, length.
fn find() -> Vec<(String, PathBuf, u64)> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let folders = FOLDERS.into_iter().map(PathBuf::from).chain(env::split_paths(&on_path));
    let mut files = HashSet::new();
    let mut found = BTreeMap::new();
    for folder in folders {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let (path, Ok(name)) = (entry.path(), entry.file_name().into_string()) else { continue };
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let fits = metadata.is_file() && metadata.mode() & 0o111 != 0 && SIZES.contains(&metadata.len());
            // Links and folders that are links lead to the same file again.
            if fits && name != "cairn" && files.insert((metadata.dev(), metadata.ino())) && is_elf(&path) {
                found.entry(name).or_insert((path, metadata.len()));
            }
        }
    }
    found.into_iter().map(|(name, (path, len))| (name, path, len)).collect()
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

/// Of all that were found, about [`RELEASE_BYTES`], evenly over the names.
fn choose(found: Vec<(String, PathBuf, u64)>) -> Vec<(String, PathBuf, u64)> {
    let total: u64 = found.iter().map(|(.., len)| len).sum();
    let step = usize::try_from(total.div_ceil(RELEASE_BYTES)).unwrap_or(usize::MAX).max(1);
    let mut left = RELEASE_BYTES;
    let fits = |(.., len): &(String, PathBuf, u64)| {
        let fits = *len <= left;
        left -= if fits { *len } else { 0 };
        fits
    };
    found.into_iter().step_by(step).filter(fits).collect()
}

/// The bytes with some of their own inserted in the middle.
fn edit(bytes: &[u8]) -> Vec<u8> {
    let (before, after) = bytes.split_at(bytes.len() / 2);
    let inserted = &bytes[..INSERTED_BYTES.min(bytes.len())];
    [before, inserted, after].concat()
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_spread_and_bounded() {
        let found = |n: u64, len: u64| (0..n).map(|i| (format!("{i:03}"), PathBuf::new(), len)).collect();
        assert_eq!(choose(found(5, 1 << 20)).len(), 5);
        let chosen = choose(found(200, 1 << 20));
        assert!((20..=32).contains(&chosen.len()), "{}", chosen.len());
        assert!(chosen.last().is_some_and(|(name, ..)| name.as_str() > "150"));
        assert!(choose(Vec::new()).is_empty());
    }

    #[test]
    fn an_edit_moves_what_is_behind_it() {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let edited = edit(&bytes);
        assert_eq!(edited.len(), 11_000);
        assert_eq!(edited[..5000], bytes[..5000]);
        assert_eq!(edited[6000..], bytes[5000..]);
    }

    #[test]
    fn this_machine_has_material() {
        let scratch = Scratch::new(Box::new(|| false)).unwrap();
        let releases = gather(&scratch).unwrap();
        for release in releases {
            assert!(fs::read_dir(release.folder.join("bin")).unwrap().count() > 0, "{}", release.description);
        }
    }
}
