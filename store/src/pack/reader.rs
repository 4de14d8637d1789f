//! Reads frames of a pack, sealed or not, whole or damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{HEADER_LEN, TRAILER_LEN, Trailer, VERSION, decode_header};
use super::recover::scan;
use super::{ChunkRow, Footer, PackKind};
use crate::block::{Block, Decompressor, FrameError};
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::io::{Io, ReadFile};

/// A pack that is open for reading.
pub struct Pack {
    id: PackId,
    path: PathBuf,
    file: Arc<dyn ReadFile>,
    footer: Footer,
    damage: Vec<(u64, String)>,
    len: u64,
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
        let header = read_header(&*file, path, len)?;
        let footer = match (read_footer(&*file, path, len)?, header) {
            // A whole footer of this version speaks for itself: then it is the header that is damaged.
            (Ok((footer, found)), _) if found == id => footer,
            (_, Err(newer)) if newer > VERSION => {
                let (path, found) = (path.to_owned(), newer.into());
                return Err(Error::NewerFormat { path, found, supported: VERSION.into() });
            }
            (other, _) => {
                let detail = match other {
                    Err(detail) => detail,
                    Ok(_) => "the footer is another pack's",
                };
                damage.push((len.saturating_sub(TRAILER_LEN as u64), detail.to_owned()));
                scan(&*file, path, len, PackKind::Data)?
            }
        };
        if header != Ok(footer.kind) {
            damage.push((0, "the pack's header is not one".to_owned()));
        }
        if footer.frames_end() > len {
            damage.push((len, "the pack is cut short".to_owned()));
        }
        Ok(Self { id, path: path.to_owned(), file, footer, damage, len })
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

    /// Its table of contents.
    #[must_use]
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Damage to header and footer, with the offset of each.
    #[must_use]
    pub fn damage(&self) -> &[(u64, String)] {
        &self.damage
    }

    /// Bytes of the file when it was opened.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.len
    }

    /// Its chunks, ascending by id.
    #[must_use]
    pub fn into_chunk_rows(self) -> Vec<ChunkRow> {
        self.footer.chunks
    }

    /// A frame's bytes, as stored.
    ///
    /// # Errors
    /// [`Error::Damaged`] when there is no such frame or the file is too short, [`Error::Io`].
    pub fn frame(&self, number: u16) -> Result<Vec<u8>> {
        let row = self.footer.frames.get(usize::from(number)).ok_or_else(|| Error::Damaged {
            what: format!("pack {}", self.path.display()),
            chunk: None,
            pack: Some(self.id),
            offset: None,
            detail: format!("it has no frame {number}"),
        })?;
        let mut bytes = vec![0; row.len as usize];
        match self.file.read_exact_at(&mut bytes, row.offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(number, &FrameError::Truncated))
            }
            Err(error) => Err(Error::io("read", &self.path)(error)),
        }
    }

    /// A frame, decoded. Its chunks are verified as they are asked for.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it does not decode, [`Error::Io`].
    pub fn block(&self, number: u16, decompressor: &mut Decompressor, buffer: Vec<u8>) -> Result<Block> {
        let frame = self.frame(number)?;
        Block::decode(&frame, decompressor, buffer).map_err(|error| self.damaged(number, &error))
    }

    /// The error for a frame that does not hold.
    #[must_use]
    pub fn damaged(&self, number: u16, error: &FrameError) -> Error {
        let chunk = if let FrameError::Chunk(id) = error { Some(*id) } else { None };
        Error::Damaged {
            what: format!("frame {number} of pack {}", self.path.display()),
            chunk,
            pack: Some(self.id),
            offset: self.footer.frames.get(usize::from(number)).map(|row| row.offset),
            detail: error.to_string(),
        }
    }
}

/// What the header says, as [`decode_header`] gives it.
fn read_header(file: &dyn ReadFile, path: &Path, len: u64) -> Result<std::result::Result<PackKind, u16>> {
    let mut header = [0; HEADER_LEN];
    if len < HEADER_LEN as u64 {
        return Ok(Err(0));
    }
    file.read_exact_at(&mut header, 0).map_err(Error::io("read", path))?;
    Ok(decode_header(&header))
}

type ReadFooter = std::result::Result<(Footer, PackId), &'static str>;

fn read_footer(file: &dyn ReadFile, path: &Path, len: u64) -> Result<ReadFooter> {
    let Some(trailer_at) = len.checked_sub(TRAILER_LEN as u64) else {
        return Ok(Err("the pack is cut short"));
    };
    let mut trailer = [0; TRAILER_LEN];
    file.read_exact_at(&mut trailer, trailer_at).map_err(Error::io("read", path))?;
    let trailer = match Trailer::decode(&trailer) {
        Ok(trailer) => trailer,
        Err(detail) => return Ok(Err(detail)),
    };
    let footer_at = match trailer_at.checked_sub(trailer.footer_len) {
        Some(at) if at >= HEADER_LEN as u64 => at,
        _ => return Ok(Err("the footer is longer than the pack")),
    };
    let footer_len =
        usize::try_from(len - footer_at).map_err(|_| Error::damaged("pack", "the footer is too long"))?;
    let mut bytes = vec![0; footer_len];
    file.read_exact_at(&mut bytes, footer_at).map_err(Error::io("read", path))?;
    Ok(Footer::decode(&bytes).and_then(|(footer, id)| {
        if footer.frames_end() == footer_at { Ok((footer, id)) } else { Err("frames and footer do not meet") }
    }))
}
