//! Appends frames to a pack and seals it.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::format::{FRAMES_MAX, HEADER_LEN, encode_header};
use super::{ChunkRow, Footer, FrameRow, PACK_TARGET, PackKind, SEALED, UNSEALED};
use crate::block::Frame;
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::io::{Io, WriteFile};

/// A pack that takes frames.
///
/// Order: frames, then the footer, then `sync`, then the rename to the sealed name. The caller syncs the directory
/// before it lets anything refer to the pack's chunks. After a failed write the pack takes nothing more.
pub struct PackWriter {
    io: Arc<dyn Io>,
    dir: PathBuf,
    path: PathBuf,
    file: Arc<dyn WriteFile>,
    footer: Footer,
    end: u64,
    poisoned: bool,
    replaced: bool,
}

impl PackWriter {
    /// Begins a pack in `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be made.
    pub fn create(io: Arc<dyn Io>, dir: &Path, kind: PackKind) -> Result<Self> {
        let path = dir.join(format!("{:016x}.{UNSEALED}", unique()));
        let file = io.create(&path).map_err(Error::io("create", &path))?;
        if let Err(error) = file.write_all_at(&encode_header(kind), 0) {
            // Nobody knows of it yet, and the room may be wanted.
            if let Err(error) = io.remove(&path) {
                tracing::debug!(path = %path.display(), %error, "a pack that was not begun stays");
            }
            return Err(Error::io("write to", path)(error));
        }
        let footer = Footer { kind, frames: Vec::new(), chunks: Vec::new() };
        Ok(Self {
            io,
            dir: dir.to_owned(),
            path,
            file,
            footer,
            end: HEADER_LEN as u64,
            poisoned: false,
            replaced: false,
        })
    }

    /// Whether it is time to seal it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.end >= PACK_TARGET || self.footer.frames.len() == FRAMES_MAX
    }

    /// Where it lies until it is sealed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether no frame was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.footer.frames.is_empty()
    }

    /// The file, for syncing it while more is appended.
    #[must_use]
    pub fn file(&self) -> Arc<dyn WriteFile> {
        Arc::clone(&self.file)
    }

    /// Appends a frame; gives where it lies. A chunk that this pack has already is found in the new frame once it is
    /// sealed: whoever stores it again could not read the other.
    ///
    /// # Errors
    /// [`Error::Io`] when the write fails, [`Error::Poisoned`] ever after.
    pub fn append(&mut self, frame: &Frame) -> Result<FrameRow> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        self.poisoned = true;
        self.file.write_all_at(&frame.bytes, self.end).map_err(Error::io("write to", &self.path))?;
        self.poisoned = false;
        let number = u16::try_from(self.footer.frames.len()).expect("is_full bounds the frames");
        let len = u32::try_from(frame.bytes.len()).expect("BLOCK_MAX bounds a frame");
        let row = FrameRow { offset: self.end, len, plain_len: frame.header.plain_len };
        self.footer.frames.push(row);
        self.footer.chunks.extend((0u16..).zip(&frame.header.chunks).map(|(slot, (id, _))| ChunkRow {
            id: *id,
            frame: number,
            slot,
        }));
        self.end += u64::from(len);
        Ok(row)
    }

    /// Writes the footer, syncs, and gives the pack its name. Its directory is not synced. The pack takes nothing after
    /// it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Poisoned`]. The unsealed file stays, for the next writer to recover.
    pub fn seal(&mut self) -> Result<PackId> {
        self.seal_as(&|_| ())
    }

    /// The same; `claim` is told its id before it gets its name.
    pub(crate) fn seal_as(&mut self, claim: &dyn Fn(&PackId)) -> Result<PackId> {
        if self.poisoned {
            return Err(Error::Poisoned { path: self.path.clone() });
        }
        self.poisoned = true;
        self.footer.chunks.sort_unstable();
        self.footer.chunks.dedup_by(|later, earlier| {
            let is_same = later.id == earlier.id;
            if is_same {
                *earlier = *later;
            }
            is_same
        });
        let (id, replaced) = seal(&*self.io, &self.dir, &self.path, &*self.file, &self.footer, claim)?;
        self.replaced = replaced;
        Ok(id)
    }

    /// Whether sealing it replaced a pack of the same id, which others may need.
    #[must_use]
    pub fn replaced(&self) -> bool {
        self.replaced
    }
}

/// Appends the footer to an unsealed pack whose frames are in place, syncs, renames; says whether there was a pack of
/// that name.
pub(super) fn seal(
    io: &dyn Io,
    dir: &Path,
    path: &Path,
    file: &dyn WriteFile,
    footer: &Footer,
    claim: &dyn Fn(&PackId),
) -> Result<(PackId, bool)> {
    let (bytes, id) = footer.encode();
    file.write_all_at(&bytes, footer.frames_end()).map_err(Error::io("write to", path))?;
    file.sync().map_err(Error::io("sync", path))?;
    claim(&id);
    let sealed = dir.join(format!("{id}.{SEALED}"));
    let replaced = io.open(&sealed).is_ok();
    io.rename(path, &sealed).map_err(Error::io("rename", path))?;
    Ok((id, replaced))
}

/// A number for a temporary name that no other process and no earlier call uses.
fn unique() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now.to_le_bytes());
    hasher.update(&process::id().to_le_bytes());
    hasher.update(&CALLS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    crate::block::format::u64_at(hasher.finalize().as_bytes(), 0)
}
