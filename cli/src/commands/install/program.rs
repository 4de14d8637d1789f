//! A single program: out of the store, and beside what is in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use cairn_store::FileReader;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Who may execute it: everybody.
pub(crate) const MODE: u32 = 0o755;

/// Why a program could not be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// Out of the store.
    #[error(transparent)]
    Read(#[from] cairn_store::Error),
    /// Into the file.
    #[error(transparent)]
    Write(io::Error),
}

/// Copies all of a file of the store, verified, into a file.
pub(crate) fn copy(reader: &mut FileReader, file: &mut File) -> Result<(), CopyError> {
    let (mut buffer, mut at) = (vec![0; BUFFER_BYTES], 0);
    while at < reader.len() {
        let read = reader.read_at(at, &mut buffer)?;
        file.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        at += read as u64;
    }
    Ok(())
}

/// Whether a file is just what the store has, and everybody may execute it. A link is not what it leads to.
pub(crate) fn is_same(reader: &mut FileReader, path: &Path) -> Result<bool, cairn_store::Error> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    // What cannot be read is replaced.
    let Ok(mut file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Ok(false) };
    let Ok(metadata) = file.metadata() else { return Ok(false) };
    let is_like = metadata.is_file()
        && metadata.size() == reader.len()
        && metadata.permissions().mode() & 0o7777 == MODE;
    if !is_like {
        return Ok(false);
    }
    let (mut ours, mut theirs, mut at) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES], 0);
    while at < reader.len() {
        let read = reader.read_at(at, &mut ours)?;
        if file.read_exact(&mut theirs[..read]).is_err() || ours[..read] != theirs[..read] {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}
