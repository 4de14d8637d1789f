//! A copy of a store with one bit flipped, and what still reads of it.

#![expect(clippy::disallowed_methods, reason = "what is damaged here is a copy, and damaged on purpose")]

use std::fs;
use std::os::unix::fs::FileExt;
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

impl Reads {
    fn refuse(&mut self, error: cairn_store::Error) {
        self.refused += 1;
        self.first_refusal.get_or_insert(error);
    }
}

/// Copies the store to `to` and flips a bit amid the frames of the copy's largest pack, of files' bytes if there is one.
pub(super) fn copy_and_flip(store: &Store, to: &Path) -> anyhow::Result<Flipped> {
    copy(store.path(), to).with_context(|| format!("cannot copy {}", store.path().display()))?;
    let packs = store.packs()?;
    let victim = packs.iter().max_by_key(|pack| (!pack.metadata, pack.file_bytes));
    let victim = victim.context("the store has no pack")?;
    let pack = to.join("packs").join(format!("{}.pack", victim.id));
    let offset = victim.stored_bytes / 2;
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

/// Reads every file of an artifact to its end.
pub(super) fn read_all(store: &Store, id: &ArtifactId) -> Reads {
    let mut reads = Reads::default();
    if let Err(error) = read_tree(store, id, &mut reads) {
        reads.refuse(error);
    }
    reads
}

fn read_tree(store: &Store, id: &ArtifactId, reads: &mut Reads) -> Result<(), cairn_store::Error> {
    let mut window = vec![0; 1 << 20];
    for entry in store.artifact(id)?.walk(store) {
        let (path, entry) = entry?;
        if !matches!(entry.node, Node::File { .. }) {
            continue;
        }
        match read(store, id, &path, &mut window) {
            Ok(()) => reads.readable += 1,
            Err(error) => reads.refuse(error),
        }
    }
    Ok(())
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
