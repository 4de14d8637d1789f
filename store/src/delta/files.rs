//! Whole files of either artifact, and which of them may be predicted from others.

use cairn_delta::Effort;
use cairn_delta::reloc::{self, Limits, Map};

use super::gap::{Gap, NewFile, OldFile};
use super::old::read_into;
use crate::error::{Error, Result};
use crate::read::FileReader;
use crate::store::Store;

/// A file shorter than this gets no map of its own.
pub(super) const MAPPED_MIN: u64 = 8 << 10;
/// The first bytes of an executable.
pub(super) const ELF: &[u8] = b"\x7fELF";

/// The first bytes of a file, as many as `ELF` has; zeros where it has fewer.
pub(super) fn magic(store: &Store, file: &NewFile) -> Result<[u8; ELF.len()]> {
    let mut magic = [0; ELF.len()];
    FileReader::new(store.clone(), file.content.clone(), file.size).read_at(0, &mut magic)?;
    Ok(magic)
}

pub(super) fn old_bytes(store: &Store, gap: &Gap, old: &OldFile) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(old.size).unwrap_or(0)];
    read_into(store, gap, old, 0, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn new_bytes(store: &Store, new: &NewFile) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(new.size).unwrap_or(0)];
    let mut reader = FileReader::new(store.clone(), new.content.clone(), new.size);
    if reader.read_at(0, &mut bytes)? == bytes.len() {
        return Ok(bytes);
    }
    Err(Error::damaged("a file's list of chunks", "it ends before the file does"))
}

/// How a file is predicted from another, if it can be.
pub(super) fn map(
    store: &Store,
    gap: &Gap,
    (old, new): (&OldFile, &NewFile),
    effort: Effort,
    file_max: u64,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Map>> {
    let new = new_bytes(store, new)?;
    let old = old_bytes(store, gap, old)?;
    Ok(reloc::map(&old, &new, effort, &Limits { file_max }, stop))
}
