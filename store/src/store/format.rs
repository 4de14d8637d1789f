//! The file that makes a folder a store, and says of which format.

use std::path::Path;

use crate::error::{Error, Result};
use crate::io::Io;

/// The newest format of a store that this code reads and writes.
pub const FORMAT: u32 = 1;
/// Names the store's format; a folder without it is no store.
const FORMAT_FILE: &str = "cairn-store";
const FORMAT_HEAD: &str = "cairn store\nformat ";

/// Whether a folder is a store of a format that this code knows.
pub(crate) fn check_format(io: &dyn Io, path: &Path) -> Result<bool> {
    let file = path.join(FORMAT_FILE);
    let bytes = match io.read(&file) {
        Ok(bytes) => bytes,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(Error::io("read", file)(error)),
    };
    let found = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_prefix(FORMAT_HEAD)?.strip_suffix('\n')?.parse().ok())
        .ok_or_else(|| Error::damaged(file.display().to_string(), "it does not name a store's format"))?;
    match found {
        FORMAT => Ok(true),
        _ => Err(Error::NewerFormat { path: file, found, supported: FORMAT }),
    }
}

/// Makes a folder a store, durably.
pub(crate) fn write_format(io: &dyn Io, path: &Path) -> Result<()> {
    let file = path.join(FORMAT_FILE);
    io.write_atomic(&file, format!("{FORMAT_HEAD}{FORMAT}\n").as_bytes()).map_err(Error::io("write", file))
}
