//! Finds the frames of a sealed pack whose footer is lost, also those behind damage. The pack's kind is the header's.
//!
//! A frame counts as found when its header holds: what of its payload is right, its chunks tell. Where none begins, the
//! next place is looked for that looks like one. Bytes of a payload can look like a frame too, if somebody stored a pack in
//! the store; then they are one, and its chunks are what their ids say.

use std::path::Path;

use super::format::{FRAMES_MAX, HEADER_LEN};
use super::recover::{frame_header, note, sort};
use super::{Footer, PackKind};
use crate::block::FrameHeader;
use crate::block::format::MAGIC;
use crate::error::{Error, Result};
use crate::io::ReadFile;
use crate::store::is_damage;

/// Bytes that are searched at a time.
const WINDOW_LEN: usize = 1 << 20;
/// Bytes that are given up where the disk cannot read all of a window.
const PIECE_LEN: usize = 4096;

/// The frames of a pack, and the gaps before the last of them: where each begins, and its length.
pub(super) fn find_frames(
    file: &dyn ReadFile,
    path: &Path,
    len: u64,
    kind: PackKind,
) -> Result<(Footer, Vec<(u64, u64)>)> {
    let mut footer = Footer { kind, frames: Vec::new(), chunks: Vec::new() };
    let mut gaps = Vec::new();
    let (mut end, mut at) = (HEADER_LEN as u64, HEADER_LEN as u64);
    while footer.frames.len() < FRAMES_MAX {
        if let Some((header, _)) = header_at(file, path, at, len, kind)? {
            if at > end {
                gaps.push((end, at - end));
            }
            at = note(&mut footer, at, &header);
            end = at;
        } else {
            match next_magic(file, path, at + 1, len)? {
                Some(next) => at = next,
                None => break,
            }
        }
    }
    sort(&mut footer);
    Ok((footer, gaps))
}

/// Where the next bytes are that a frame begins with.
fn next_magic(file: &dyn ReadFile, path: &Path, mut at: u64, len: u64) -> Result<Option<u64>> {
    let mut window = Vec::new();
    while at + MAGIC.len() as u64 <= len {
        let part = usize::try_from(len - at).unwrap_or(WINDOW_LEN).min(WINDOW_LEN);
        window.resize(part, 0);
        read_or_zeros(file, path, &mut window, at)?;
        if let Some(found) = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
            return Ok(Some(at + found as u64));
        }
        at += (part - MAGIC.len() + 1) as u64;
    }
    Ok(None)
}

/// What the disk cannot read is no header.
fn header_at(
    file: &dyn ReadFile,
    path: &Path,
    at: u64,
    len: u64,
    kind: PackKind,
) -> Result<Option<(FrameHeader, usize)>> {
    match frame_header(file, path, at, len, kind) {
        Err(error) if is_damage(&error) => Ok(None),
        found => found,
    }
}

/// Fills a window; with zeros, where the disk cannot read it.
fn read_or_zeros(file: &dyn ReadFile, path: &Path, window: &mut [u8], at: u64) -> Result<()> {
    match file.read_exact_at(window, at).map_err(Error::io("read", path)) {
        Err(error) if is_damage(&error) && window.len() > PIECE_LEN => {
            for (piece, at) in window.chunks_mut(PIECE_LEN).zip((at..).step_by(PIECE_LEN)) {
                read_or_zeros(file, path, piece, at)?;
            }
            Ok(())
        }
        Err(error) if is_damage(&error) => {
            window.fill(0);
            Ok(())
        }
        read => read,
    }
}
