//! A copy of a store with one bit flipped, and what still reads of it.

#![expect(clippy::disallowed_methods, reason = "what is damaged here is a copy, and damaged on purpose")]

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cairn_store::{ArtifactId, Node, Store};

/// Where the bit is.
pub(super) struct Flipped {
    pub(super) pack: PathBuf,
    pub(super) offset: u64,
}

/// What still reads.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) readable: u64,
    pub(super) refused: u64,
    pub(super) first_refusal: Option<cairn_store::Error>,
}

/// Copies the store at `from` and flips a bit in the middle of the copy's largest pack.
pub(super) fn copy_and_flip(from: &Path, to: &Path) -> anyhow::Result<Flipped> {
    copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    let pack = largest(&to.join("packs"))?.context("the store has no pack")?;
    let offset = pack.metadata()?.size() / 2;
    let file = fs::File::options().read(true).write(true).open(&pack)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[byte[0] ^ 1], offset)?;
    Ok(Flipped { pack, offset })
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn largest(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut found: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let len = entry.metadata()?.len();
        if found.as_ref().is_none_or(|(most, _)| len > *most) {
            found = Some((len, entry.path()));
        }
    }
    Ok(found.map(|(_, path)| path))
}

/// Reads every file of an artifact to its end.
pub(super) fn read_all(store: &Store, id: &ArtifactId) -> anyhow::Result<Reads> {
    let mut reads = Reads::default();
    let mut window = vec![0; 1 << 20];
    for entry in store.artifact(id)?.walk(store) {
        let (path, entry) = entry?;
        if !matches!(entry.node, Node::File { .. }) {
            continue;
        }
        match read(store, id, &path, &mut window) {
            Ok(()) => reads.readable += 1,
            Err(error) => {
                reads.refused += 1;
                reads.first_refusal.get_or_insert(error);
            }
        }
    }
    Ok(reads)
}

fn read(store: &Store, id: &ArtifactId, path: &[u8], window: &mut [u8]) -> Result<(), cairn_store::Error> {
    let mut file = store.open_file(id, path)?;
    let mut offset = 0;
    loop {
        match file.read_at(offset, window)? {
            0 => return Ok(()),
            read => offset += read as u64,
        }
    }
}
