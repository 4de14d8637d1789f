//! Reads frames of a pack, sealed or not, whole or damaged.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::format::{
    CHUNK_ROW_LEN, ChunkRowBytes, HEADER_LEN, TRAILER_LEN, Tables, Trailer, VERSION, decode_header,
};
use super::{Footer, FrameRow, PackKind, salvage};
use crate::block::format::FIXED_LEN;
use crate::block::{Bases, Block, Decompressor, FrameError, FrameHeader, NoBases, Undecoded};
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::io::{Io, ReadFile};
use crate::store::is_damage;

/// Bytes that are read from the end of a pack at first: trailer and footer of 64 MiB of chunks of 16 KiB, so that one
/// read is enough for most packs.
const TAIL_LEN: u64 = 160 << 10;

/// What does not hold where the disk, and not what is on it, is to blame.
const UNREADABLE: &str = "the disk cannot read the footer";

/// A pack that is open for reading.
pub struct Pack {
    id: PackId,
    path: PathBuf,
    file: Arc<dyn ReadFile>,
    footer: Footer,
    /// The frames of a pack that is still filled, as far as they are written; a leaf lock. Its footer has none.
    growing: Option<RwLock<Vec<FrameRow>>>,
    damage: Vec<(u64, String)>,
    len: u64,
}

/// Where the rows of a chunk table are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableState {
    /// The footer, which holds.
    Sound,
    /// The frames that were found where the footer does not hold: there may have been others.
    Scanned,
    /// The same, and the disk failed: there may be others.
    Unreadable,
}

impl Pack {
    /// Opens a sealed pack. Where its header or footer is damaged, its frames are found by scanning, and
    /// [`Self::damage`] says so.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::NewerFormat`] when a later cairn wrote it.
    pub fn open(io: &dyn Io, path: &Path, id: PackId) -> Result<Self> {
        let file = io.open(path).map_err(Error::io("open", path))?;
        let len = file.len().map_err(Error::io("read", path))?;
        let mut damage = Vec::new();
        let header_kind = read_header(&*file, path, len)?;
        let mut buffer = Vec::new();
        let footer = match read_tables(&*file, path, len, id, &mut buffer)? {
            Ok(tables) => tables.footer(),
            Err(detail) => {
                damage.push((len.saturating_sub(TRAILER_LEN as u64), detail.to_owned()));
                // Frames of any kind are read where it is not known.
                let kind = header_kind.unwrap_or(PackKind::Delta);
                let (footer, gaps) = salvage::find_frames(&*file, path, len, kind)?;
                // One bit that rots makes a version a newer one. Frames of this version have checksums.
                if let Err(found) = header_kind
                    && found > VERSION
                    && footer.frames.is_empty()
                {
                    let (found, supported) = (u32::from(found), u32::from(VERSION));
                    return Err(Error::NewerFormat { path: path.to_owned(), found, supported });
                }
                damage.extend(
                    gaps.into_iter().map(|(at, bytes)| (at, format!("no frame is found in {bytes} bytes"))),
                );
                footer
            }
        };
        if header_kind != Ok(footer.kind) {
            damage.push((0, "the pack's header is not one".to_owned()));
        }
        if footer.frames_end() > len {
            damage.push((len, "the pack is cut short".to_owned()));
        }
        Ok(Self { id, path: path.to_owned(), file, footer, growing: None, damage, len })
    }

    /// A pack that is still filled, under an id that is made up for it. It is told of its frames by [`Pack::push`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn growing(io: &dyn Io, path: &Path, id: PackId, kind: PackKind) -> Result<Self> {
        let file = io.open(path).map_err(Error::io("open", path))?;
        let footer = Footer { kind, frames: Vec::new(), chunks: Vec::new() };
        let growing = Some(RwLock::default());
        Ok(Self { id, path: path.to_owned(), file, footer, growing, damage: Vec::new(), len: 0 })
    }

    /// Adds a frame that was written to a pack that is still filled; gives its number.
    pub(crate) fn push(&self, row: FrameRow) -> u16 {
        let Some(growing) = &self.growing else { return 0 };
        let mut rows = growing.write().unwrap_or_else(PoisonError::into_inner);
        rows.push(row);
        u16::try_from(rows.len() - 1).expect("a pack has at most FRAMES_MAX frames")
    }

    /// Where a frame lies.
    #[must_use]
    pub fn row(&self, number: u16) -> Option<FrameRow> {
        let number = usize::from(number);
        match &self.growing {
            Some(growing) => growing.read().unwrap_or_else(PoisonError::into_inner).get(number).copied(),
            None => self.footer.frames.get(number).copied(),
        }
    }

    /// The chunk table of a sealed pack, for the index: one read of the end of the file, into `buffer`, in nearly all
    /// cases. A pack whose footer is damaged is opened, which finds its frames by scanning; beside it, how that went.
    ///
    /// # Errors
    /// As [`Pack::open`].
    pub(crate) fn chunk_table<'a>(
        io: &dyn Io,
        path: &Path,
        id: PackId,
        buffer: &'a mut Vec<u8>,
    ) -> Result<(&'a [ChunkRowBytes], TableState)> {
        let mut state = TableState::Sound;
        let file = io.open(path).map_err(Error::io("open", path))?;
        let len = file.len().map_err(Error::io("read", path))?;
        let rows = match read_tables(&*file, path, len, id, buffer)? {
            Ok(tables) => tables.chunks.len(),
            Err(_) => {
                let pack = Self::open(io, path, id)?;
                for (offset, detail) in &pack.damage {
                    tracing::warn!(pack = %id, offset, detail, "a pack is damaged; its frames were found by scanning");
                }
                state = if pack.is_unreadable() { TableState::Unreadable } else { TableState::Scanned };
                *buffer = pack.footer.encode().0;
                pack.footer.chunks.len()
            }
        };
        let end = buffer.len() - TRAILER_LEN;
        Ok((buffer[end - rows * CHUNK_ROW_LEN..end].as_chunks().0, state))
    }

    /// The checked footer of a sealed pack, in `buffer`, and the length of its file; or what does not hold.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn tables<'a>(
        io: &dyn Io,
        path: &Path,
        id: PackId,
        buffer: &'a mut Vec<u8>,
    ) -> Result<(std::result::Result<Tables<'a>, &'static str>, u64)> {
        let file = io.open(path).map_err(Error::io("open", path))?;
        let len = file.len().map_err(Error::io("read", path))?;
        let header = read_header(&*file, path, len)?;
        let tables = read_tables(&*file, path, len, id, buffer)?;
        Ok((
            tables.and_then(|tables| {
                if header == Ok(tables.kind) { Ok(tables) } else { Err("the pack's header is not one") }
            }),
            len,
        ))
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> PackId {
        self.id
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its table of contents; empty while it is filled.
    #[must_use]
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Damage to header and footer, with the offset of each.
    #[must_use]
    pub fn damage(&self) -> &[(u64, String)] {
        &self.damage
    }

    /// Whether the disk failed when it was opened: it may be all there when it is opened again.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.damage.iter().any(|(_, detail)| detail == UNREADABLE)
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` with the bytes of the file from `offset` on.
    ///
    /// # Errors
    /// [`Error::Io`], also where the file ends before that.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(Error::io("read", &self.path))
    }

    /// Lets the system forget what it keeps in memory of a part of the file.
    pub(crate) fn forget_cached(&self, offset: u64, len: u64) {
        self.file.forget_cached(offset, len);
    }

    /// A frame's bytes, as stored.
    ///
    /// # Errors
    /// [`Error::Damaged`] when there is no such frame or the file is too short, [`Error::Io`].
    pub fn frame(&self, number: u16) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_frame(number, &mut bytes)?;
        let is_whole = self.row(number).is_some_and(|row| row.len as usize == bytes.len());
        if is_whole { Ok(bytes) } else { Err(self.damaged(number, &FrameError::Truncated)) }
    }

    /// The header of a frame.
    ///
    /// # Errors
    /// As [`Pack::frame`].
    pub(crate) fn header(&self, number: u16) -> Result<FrameHeader> {
        let row = self.row(number).ok_or_else(|| self.damaged(number, &FrameError::Slot))?;
        let mut bytes = vec![0; FIXED_LEN.min(row.len as usize)];
        let read = |bytes: &mut Vec<u8>| match self.file.read_exact_at(bytes, row.offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(number, &FrameError::Truncated))
            }
            read => read.map_err(Error::io("read", &self.path)),
        };
        read(&mut bytes)?;
        let len = FrameHeader::encoded_len_of(&bytes).map_err(|error| self.damaged(number, &error))?;
        bytes.resize(len.min(row.len as usize), 0);
        read(&mut bytes)?;
        let decoded = FrameHeader::decode_delta(&bytes).map_err(|error| self.damaged(number, &error))?;
        Ok(decoded.0)
    }

    /// The headers of its frames, each with its number, but those that do not hold.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn sound_headers(&self) -> Result<Vec<(u16, FrameHeader)>> {
        let mut headers = Vec::with_capacity(self.footer.frames.len());
        for number in (0u16..).take(self.footer.frames.len()) {
            match self.header(number) {
                Ok(header) => headers.push((number, header)),
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(headers)
    }

    fn read_frame(&self, number: u16, bytes: &mut Vec<u8>) -> Result<()> {
        let row = self.row(number).ok_or_else(|| Error::Damaged {
            what: format!("pack {}", self.path.display()),
            chunk: None,
            pack: Some(self.id),
            offset: None,
            detail: format!("it has no frame {number}"),
        })?;
        // What lies behind the end of a file that was cut short is not there, and what lies before it may be sound.
        let there = self.len.saturating_sub(row.offset).min(row.len.into());
        let there = if self.growing.is_some() { u64::from(row.len) } else { there };
        bytes.resize(usize::try_from(there).map_err(|_| Error::damaged("pack", "a frame is too long"))?, 0);
        match self.file.read_exact_at(bytes, row.offset) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(number, &FrameError::Truncated))
            }
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }

    /// A frame, decoded: of one that is damaged, what can be decoded, and [`Block::damage`] says so. Its chunks are
    /// verified as they are asked for. One that stands on others is taken for damaged: [`crate::Store::decode_block`].
    ///
    /// # Errors
    /// [`Error::Damaged`] when nothing of it decodes, [`Error::Io`].
    pub fn block(&self, number: u16, decompressor: &mut Decompressor, buffer: Vec<u8>) -> Result<Block> {
        self.block_on(&NoBases, number, decompressor, buffer)
    }

    /// The same, for whoever has what frames stand on.
    pub(crate) fn block_on(
        &self,
        bases: &dyn Bases,
        number: u16,
        decompressor: &mut Decompressor,
        buffer: Vec<u8>,
    ) -> Result<Block> {
        let mut frame = decompressor.take_scratch();
        let read = self.read_frame(number, &mut frame);
        let block = read.and_then(|()| match self.decode(&frame, bases, decompressor, buffer) {
            Ok(block) => Ok(block),
            Err(Undecoded::Failed(error)) => Err(error),
            Err(Undecoded::Frame(damage @ (FrameError::Base(_) | FrameError::Depth))) => {
                Err(self.damaged(number, &damage))
            }
            Err(Undecoded::Frame(damage)) => {
                Block::salvage(&frame, damage.clone(), Vec::new()).map_err(|_| self.damaged(number, &damage))
            }
        });
        decompressor.give_scratch(frame);
        block
    }

    /// A frame of this pack, all of which has to hold.
    pub(crate) fn decode(
        &self,
        frame: &[u8],
        bases: &dyn Bases,
        decompressor: &mut Decompressor,
        buffer: Vec<u8>,
    ) -> std::result::Result<Block, Undecoded> {
        match self.footer.kind {
            PackKind::Delta => Block::decode_delta(frame, bases, decompressor, buffer),
            PackKind::Data | PackKind::Metadata => {
                Block::decode(frame, decompressor, buffer).map_err(Undecoded::Frame)
            }
        }
    }

    /// The error for a frame that does not hold.
    #[must_use]
    pub fn damaged(&self, number: u16, error: &FrameError) -> Error {
        let chunk = if let FrameError::Chunk(id) = error { Some(*id) } else { None };
        Error::Damaged {
            what: format!("frame {number} of pack {}", self.path.display()),
            chunk,
            pack: Some(self.id),
            offset: self.row(number).map(|row| row.offset),
            detail: error.to_string(),
        }
    }
}

/// The kind that the header says, or the error of [`decode_header`].
fn read_header(file: &dyn ReadFile, path: &Path, len: u64) -> Result<std::result::Result<PackKind, u16>> {
    let mut header = [0; HEADER_LEN];
    if len < HEADER_LEN as u64 {
        return Ok(Err(0));
    }
    match file.read_exact_at(&mut header, 0).map_err(Error::io("read", path)) {
        Err(error) if is_damage(&error) => Ok(Err(0)),
        read => read.map(|()| decode_header(&header)),
    }
}

/// Footer and trailer of a pack of this length and id, checked; they end `buffer`. Else what does not hold.
fn read_tables<'a>(
    file: &dyn ReadFile,
    path: &Path,
    len: u64,
    id: PackId,
    buffer: &'a mut Vec<u8>,
) -> Result<std::result::Result<Tables<'a>, &'static str>> {
    match read_tail(file, path, len, len.min(TAIL_LEN), buffer) {
        Err(error) if is_damage(&error) => return Ok(Err(UNREADABLE)),
        read => read?,
    }
    let trailer = match buffer.last_chunk().ok_or("the pack is cut short").and_then(Trailer::decode) {
        Ok(trailer) => trailer,
        Err(detail) => return Ok(Err(detail)),
    };
    let footer_len = match trailer.footer_len.checked_add(TRAILER_LEN as u64) {
        Some(footer_len) if footer_len <= len => footer_len,
        _ => return Ok(Err("the footer is longer than the pack")),
    };
    if footer_len > TAIL_LEN {
        match read_tail(file, path, len, footer_len, buffer) {
            Err(error) if is_damage(&error) => return Ok(Err(UNREADABLE)),
            read => read?,
        }
    }
    let footer_at = buffer.len() - usize::try_from(footer_len).expect("it is in the buffer");
    Ok(match Tables::parse(&buffer[footer_at..]) {
        Ok(tables) if tables.id != id => Err("the footer is another pack's"),
        Ok(tables) if tables.frames_end != len - footer_len => Err("frames and footer do not meet"),
        result => result,
    })
}

/// Fills `buffer` with the last `wanted` bytes of a file, which has so many.
fn read_tail(file: &dyn ReadFile, path: &Path, len: u64, wanted: u64, buffer: &mut Vec<u8>) -> Result<()> {
    let bytes = usize::try_from(wanted).map_err(|_| Error::damaged("pack", "the footer is too long"))?;
    buffer.resize(bytes, 0);
    file.read_exact_at(buffer, len - wanted).map_err(Error::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::super::{ChunkRow, SEALED};
    use super::*;
    use crate::id::ChunkId;
    use crate::io::Sim;

    /// A pack of so many chunks whose frames are zeroes.
    fn pack(sim: &Sim, chunks: u16) -> (std::path::PathBuf, PackId, Footer) {
        let frames = vec![FrameRow { offset: HEADER_LEN as u64, len: 100, plain_len: 100 }];
        let chunk = |slot: u16| ChunkRow { id: ChunkId::of(&slot.to_le_bytes()), frame: 0, slot };
        let mut footer = Footer { kind: PackKind::Data, frames, chunks: (0..chunks).map(chunk).collect() };
        footer.chunks.sort_unstable();
        let (bytes, id) = footer.encode();
        let path = Path::new("/").join(format!("{id}.{SEALED}"));
        let file = sim.create(&path).unwrap();
        file.write_all_at(&super::super::format::encode_header(PackKind::Data), 0).unwrap();
        file.write_all_at(&bytes, footer.frames_end()).unwrap();
        (path, id, footer)
    }

    #[test]
    fn footers_of_all_lengths_around_the_first_read() {
        let sim = Sim::new(1);
        let row_len = CHUNK_ROW_LEN as u64;
        let most = u16::try_from((TAIL_LEN - TRAILER_LEN as u64 - 16) / row_len).unwrap();
        for chunks in [0, 1, 2, most - 1, most, most + 1, most * 2] {
            let (path, id, footer) = pack(&sim, chunks);
            let opened = Pack::open(&sim, &path, id).unwrap();
            assert_eq!((opened.footer(), opened.damage()), (&footer, &[][..]));
            for mut buffer in [Vec::new(), vec![1; 10], vec![1; 1 << 20]] {
                let (rows, state) = Pack::chunk_table(&sim, &path, id, &mut buffer).unwrap();
                assert_ne!(state, TableState::Unreadable);
                let ids: Vec<_> = rows.iter().map(|row| row[..32].to_vec()).collect();
                assert_eq!(ids, footer.chunks.iter().map(|row| row.id.0.to_vec()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_newer_header_counts_where_the_footer_does_not_hold() {
        let sim = Sim::new(1);
        let (path, id, footer) = pack(&sim, 3);
        let file = sim.open_write(&path).unwrap();
        file.write_all_at(&[9], 4).unwrap();
        assert_eq!(Pack::open(&sim, &path, id).unwrap().damage().len(), 1);
        file.write_all_at(b"....", footer.frames_end()).unwrap();
        assert!(matches!(Pack::open(&sim, &path, id), Err(Error::NewerFormat { found: 9, .. })));
        file.write_all_at(&[1], 4).unwrap();
        assert_eq!(Pack::open(&sim, &path, id).unwrap().damage().len(), 1);
    }
}
