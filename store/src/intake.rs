//! Takes in frames that come from elsewhere: verified, each chunk once, in packs of their own.

mod frame;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

pub use frame::VerifiedFrame;

use crate::block::{BlockBuilder, Compressor, Frame};
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::pack::{PackKind, PackWriter};
use crate::store::{Store, lock};

/// What was new of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Chunks.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Bytes that they take in a pack.
    pub stored_bytes: u64,
}

/// Where frames from elsewhere go: one for each writer, shared by all transfers of the process.
pub struct Intake {
    store: Store,
    /// Guards the packs that are filled. The store's index is asked under it.
    packs: Mutex<Packs>,
}

#[derive(Default)]
struct Packs {
    data: Option<PackWriter>,
    metadata: Option<PackWriter>,
    /// What they hold.
    chunks: HashSet<ChunkId>,
}

impl Intake {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, packs: Mutex::default() }
    }

    /// Keeps what is new of a frame: the frame as it is where all of it is, else what is, encoded anew. It is durable
    /// after [`Intake::flush`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep(&self, kind: PackKind, frame: &VerifiedFrame) -> Result<Kept> {
        let index = self.store.index()?;
        let mut packs = lock(&self.packs);
        let is_new = |id: &ChunkId| !packs.chunks.contains(id) && index.lookup(id).is_none();
        let new: Vec<usize> = fresh(frame, is_new);
        self.append(&mut packs, kind, frame, &new)
    }

    /// Keeps chunks of a frame that the store has, but damaged: from now on these are the ones that are read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn heal(&self, kind: PackKind, frame: &VerifiedFrame) -> Result<Kept> {
        let mut packs = lock(&self.packs);
        let is_bad = |id: &ChunkId| !packs.chunks.contains(id) && self.store.chunk(id).is_err();
        let bad: Vec<usize> = fresh(frame, is_bad);
        self.append(&mut packs, kind, frame, &bad)
    }

    fn append(
        &self,
        packs: &mut Packs,
        kind: PackKind,
        frame: &VerifiedFrame,
        slots: &[usize],
    ) -> Result<Kept> {
        if slots.is_empty() {
            return Ok(Kept::default());
        }
        let again;
        let frame = if slots.len() == frame.chunks().len() {
            frame.frame()
        } else {
            again = encode(frame, slots);
            &again
        };
        let open = match kind {
            PackKind::Data => &mut packs.data,
            PackKind::Metadata => &mut packs.metadata,
        };
        let writer = match open {
            Some(writer) => writer,
            None => {
                open.insert(PackWriter::create(Arc::clone(self.store.io()), &self.store.packs_dir(), kind)?)
            }
        };
        writer.append(frame)?;
        let is_full = writer.is_full();
        packs.chunks.extend(frame.header.chunks.iter().map(|(id, _)| *id));
        let kept = Kept {
            chunks: frame.header.chunks.len() as u64,
            plain_bytes: frame.header.plain_len.into(),
            stored_bytes: frame.bytes.len() as u64,
        };
        if is_full {
            self.seal(packs)?;
        }
        Ok(kept)
    }

    /// Makes all that was kept durable.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&self) -> Result<()> {
        self.seal(&mut lock(&self.packs))
    }

    fn seal(&self, packs: &mut Packs) -> Result<()> {
        packs.chunks.clear();
        for mut writer in [packs.data.take(), packs.metadata.take()].into_iter().flatten() {
            writer.seal()?;
        }
        let dir = self.store.packs_dir();
        self.store.io().sync_dir(&dir).map_err(Error::io("sync", dir))?;
        self.store.refresh_index();
        Ok(())
    }
}

/// The slots of the chunks that are wanted, each chunk once.
fn fresh(frame: &VerifiedFrame, mut is_wanted: impl FnMut(&ChunkId) -> bool) -> Vec<usize> {
    let mut seen = HashSet::new();
    let slots = frame.chunks().iter().enumerate();
    slots.filter(|(_, (id, _))| is_wanted(id) && seen.insert(*id)).map(|(slot, _)| slot).collect()
}

fn encode(frame: &VerifiedFrame, slots: &[usize]) -> Frame {
    let mut builder = BlockBuilder::default();
    for &slot in slots {
        builder.push(frame.chunks()[slot].0, frame.chunk(slot));
    }
    builder.finish(&mut Compressor::default()).0
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::blocks::Decoder;
    use crate::content::ChunkRef;
    use crate::io::Sim;
    use crate::writer::{Writer, WriterOptions};

    fn frame(chunks: &[&[u8]]) -> VerifiedFrame {
        let mut builder = BlockBuilder::default();
        chunks.iter().for_each(|bytes| builder.push(ChunkId::of(bytes), bytes));
        let (frame, _) = builder.finish(&mut Compressor::default());
        VerifiedFrame::verify(frame.bytes, &mut Decoder::default()).unwrap()
    }

    fn writer() -> Writer {
        let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
        Writer::open_with(Arc::new(Sim::new(1)), Path::new("/srv/store"), &options).unwrap()
    }

    #[test]
    fn what_is_kept_is_here_and_only_once() {
        let writer = writer();
        let intake = writer.intake();
        let kept = intake.keep(PackKind::Data, &frame(&[b"one", b"two", b"one"])).unwrap();
        assert_eq!((kept.chunks, kept.plain_bytes), (2, 6));
        let again = intake.keep(PackKind::Data, &frame(&[b"two", b"three"])).unwrap();
        assert_eq!((again.chunks, again.plain_bytes), (1, 5));
        intake.flush().unwrap();
        assert_eq!(intake.keep(PackKind::Metadata, &frame(&[b"one", b"three"])).unwrap(), Kept::default());
        for bytes in [&b"one"[..], b"two", b"three"] {
            assert_eq!(&*writer.chunk(&ChunkId::of(bytes)).unwrap(), bytes);
        }
        let wanted = [&b"one"[..], b"four", b"four"]
            .map(|bytes| ChunkRef { id: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap() });
        assert_eq!(writer.lacks(&wanted).unwrap(), wanted[1..2]);
        assert!(matches!(writer.ensure(&wanted), Err(Error::Unavailable { .. })));
    }
}
