//! What the targets share: input cut into parts, and checksums that hold, so that what is behind them is reached.

pub mod units;

use std::path::{Path, PathBuf};

use cairn_store::block::FrameHeader;

/// Cuts input into parts: each begins with its length, a u16; the last is what is left.
pub fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<2>() {
        let (part, behind) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
        parts.push(part);
        data = behind;
    }
    parts
}

/// Puts parts together, so that [`parts`] gives them.
pub fn join<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut data = Vec::new();
    for part in parts {
        data.extend(u16::try_from(part.len()).expect("a small part").to_le_bytes());
        data.extend(part);
    }
    data
}

/// Makes the checksums of a frame hold, as far as it has the shape of one.
pub fn mend_frame(bytes: &mut [u8]) {
    let Ok(len) = FrameHeader::encoded_len_of(bytes) else { return };
    if len > bytes.len() || len < 28 {
        return;
    }
    let payload = crc32c::crc32c(&bytes[len..]);
    bytes[20..24].copy_from_slice(&payload.to_le_bytes());
    let header = crc32c::crc32c(&bytes[..len - 4]);
    bytes[len - 4..len].copy_from_slice(&header.to_le_bytes());
}

/// A folder in memory where there is such a place, for decoders that read files; it stays for the life of the process.
pub fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    let folder = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    folder.expect("a temporary folder").keep()
}
