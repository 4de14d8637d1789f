//! Finds a pack's frames without its footer, and seals what a crash left unsealed.

use std::path::Path;

use super::format::{FRAMES_MAX, HEADER_LEN, decode_header};
use super::writer::seal;
use super::{ChunkRow, Footer, FrameRow, PackKind};
use crate::block::FrameHeader;
use crate::block::format::FIXED_LEN;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::io::{Io, ReadFile, WriteFile};

/// Bytes of a pack that are written again at a time.
const COPY_LEN: usize = 1 << 20;

/// Cuts an unsealed data pack after its last whole frame and seals it. A pack without frames is removed, and so is a
/// metadata pack: its objects may name chunks that were lost with the end of a data pack. So is one of deltas: all of its
/// chunks are elsewhere, and nobody has counted on these. May be interrupted and repeated at any point. The directory is
/// not synced.
///
/// # Errors
/// [`Error::Io`].
pub fn recover(io: &dyn Io, dir: &Path, path: &Path) -> Result<Option<PackId>> {
    let file = io.open(path).map_err(Error::io("open", path))?;
    let len = file.len().map_err(Error::io("read", path))?;
    let kind = header_kind(&*file, path, len)?;
    let footer = match kind {
        Some(PackKind::Data) => scan(&*file, path, len, PackKind::Data)?,
        _ => Footer { kind: PackKind::Data, frames: Vec::new(), chunks: Vec::new() },
    };
    if footer.frames.is_empty() {
        io.remove(path).map_err(Error::io("remove", path))?;
        return Ok(None);
    }
    let writable = io.open_write(path).map_err(Error::io("open", path))?;
    writable.set_len(footer.frames_end()).map_err(Error::io("cut", path))?;
    write_again(&*file, &*writable, path, footer.frames_end())?;
    seal(io, dir, path, &*writable, &footer, &|_| ()).map(|(id, _)| Some(id))
}

/// Writes the frames as they are, so that sealing syncs them: after a sync that failed under an earlier writer, the
/// system may hold bytes that it takes for written.
fn write_again(from: &dyn ReadFile, to: &dyn WriteFile, path: &Path, len: u64) -> Result<()> {
    let mut buffer = vec![0; COPY_LEN];
    let mut at = 0;
    while at < len {
        let part = usize::try_from(len - at).unwrap_or(COPY_LEN).min(COPY_LEN);
        from.read_exact_at(&mut buffer[..part], at).map_err(Error::io("read", path))?;
        to.write_all_at(&buffer[..part], at).map_err(Error::io("write to", path))?;
        at += part as u64;
    }
    Ok(())
}

fn header_kind(file: &dyn ReadFile, path: &Path, len: u64) -> Result<Option<PackKind>> {
    if len < HEADER_LEN as u64 {
        return Ok(None);
    }
    let mut header = [0; HEADER_LEN];
    file.read_exact_at(&mut header, 0).map_err(Error::io("read", path))?;
    Ok(decode_header(&header).ok())
}

/// The table of contents of the frames that follow one another from the start of a pack, up to the first that is not
/// whole. `kind` is taken where the header does not tell.
fn scan(file: &dyn ReadFile, path: &Path, len: u64, kind: PackKind) -> Result<Footer> {
    let kind = header_kind(file, path, len)?.unwrap_or(kind);
    let mut footer = Footer { kind, frames: Vec::new(), chunks: Vec::new() };
    let mut offset = HEADER_LEN as u64;
    while footer.frames.len() < FRAMES_MAX {
        let Some(header) = whole_frame(file, path, offset, len, kind)? else { break };
        offset = note(&mut footer, offset, &header);
    }
    sort(&mut footer);
    Ok(footer)
}

/// Adds a frame that was found to a table of contents; gives where it ends.
pub(super) fn note(footer: &mut Footer, offset: u64, header: &FrameHeader) -> u64 {
    let number = u16::try_from(footer.frames.len()).expect("bounded by FRAMES_MAX");
    let frame_len = u32::try_from(header.frame_len()).expect("BLOCK_MAX bounds a frame");
    footer.frames.push(FrameRow { offset, len: frame_len, plain_len: header.plain_len });
    let row = |(slot, (id, _)): (u16, &(ChunkId, u32))| ChunkRow { id: *id, frame: number, slot };
    footer.chunks.extend((0u16..).zip(&header.chunks).map(row));
    offset + u64::from(frame_len)
}

/// Puts the chunks of a table in order.
pub(super) fn sort(footer: &mut Footer) {
    footer.chunks.sort_unstable();
    footer.chunks.dedup_by_key(|row| row.id);
}

/// The header of the frame at `offset` of a pack of this kind, if one begins there and ends within `len`, and how long that is.
pub(super) fn frame_header(
    file: &dyn ReadFile,
    path: &Path,
    offset: u64,
    len: u64,
    kind: PackKind,
) -> Result<Option<(FrameHeader, usize)>> {
    let left = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
    if left < FIXED_LEN {
        return Ok(None);
    }
    let mut fixed = [0; FIXED_LEN];
    file.read_exact_at(&mut fixed, offset).map_err(Error::io("read", path))?;
    let Ok(header_len) = FrameHeader::encoded_len_of(&fixed) else { return Ok(None) };
    if header_len > left {
        return Ok(None);
    }
    let mut header = vec![0; header_len];
    file.read_exact_at(&mut header, offset).map_err(Error::io("read", path))?;
    let decoded = match kind {
        PackKind::Delta => FrameHeader::decode_delta(&header),
        PackKind::Data | PackKind::Metadata => FrameHeader::decode(&header),
    };
    Ok(decoded.ok().filter(|(header, _)| header.frame_len() <= left))
}

fn whole_frame(
    file: &dyn ReadFile,
    path: &Path,
    offset: u64,
    len: u64,
    kind: PackKind,
) -> Result<Option<FrameHeader>> {
    let Some((header, header_len)) = frame_header(file, path, offset, len, kind)? else { return Ok(None) };
    let mut payload = vec![0; header.stored_len as usize];
    file.read_exact_at(&mut payload, offset + header_len as u64).map_err(Error::io("read", path))?;
    Ok((crc32c::crc32c(&payload) == header.payload_crc).then_some(header))
}
