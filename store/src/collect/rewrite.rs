//! Writes what is needed of packs into new ones, in batches. Frames that are needed as a whole are copied as they are, of
//! others the chunks that are needed are encoded anew; every chunk is hashed on its way. New packs are sealed and their
//! names durable before one goes that they replace.
//!
//! Where no room is left, what was written and frees nothing is removed again, and the rest stays as it is.

use std::collections::HashSet;
use std::sync::Arc;

use super::marks::Marked;
use super::plan::{PackPlan, WhyKept};
use super::sweep::{Leaving, Next, Sweep};
use crate::block::{Block, BlockBuilder, Compressor, Decompressor, Frame, FrameHeader};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::pack::{Filling, Pack, PackKind};
use crate::store::{Store, is_damage};

/// Bytes that are needed of the packs of a batch, at most, but for one pack: what is in the store twice for a while.
const BATCH_BYTES_MAX: u64 = 256 << 20;
/// Packs of a batch, at most.
const BATCH_PACKS_MAX: usize = 4096;

/// The packs that a batch makes of one kind.
struct Output {
    store: Store,
    kind: PackKind,
    filling: Option<Filling>,
    builder: BlockBuilder,
    compressor: Compressor,
    /// Chunks in this batch's packs.
    written: HashSet<ChunkId>,
    /// Packs that were made, with their bytes, and whether they were not there before.
    made: Vec<(PackId, u64, bool)>,
    /// Packs all of which was written, the rest of it to the pack that is filled.
    waiting: Vec<Leaving>,
    /// Packs all of which is in sealed packs.
    ready: Vec<Leaving>,
}

/// What became of writing a pack again.
enum Copied {
    All,
    Damaged(String),
    Stopped,
}

/// What copies of a frame's chunks are made with.
#[derive(Default)]
struct Reading {
    decompressor: Decompressor,
    buffer: Vec<u8>,
}

impl Sweep<'_> {
    /// Writes packs again, batch by batch, and lets the old ones go.
    ///
    /// Of packs of deltas and of others not together: what is written of the former goes into packs of two kinds.
    pub(super) fn rewrite(&mut self, plans: &[&PackPlan]) -> Result<Next> {
        let mut rest = plans;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(batch_len(rest));
            rest = after;
            let next = if self.pace.must_stop() {
                self.keep_back(batch.iter().map(|plan| plan.pack), &WhyKept::Stopped);
                Next::Stop
            } else {
                self.rewrite_batch(batch)?
            };
            if next == Next::Stop {
                self.keep_back(rest.iter().map(|plan| plan.pack), &WhyKept::Stopped);
                return Ok(Next::Stop);
            }
            if self.result.disk_full {
                self.keep_back(rest.iter().map(|plan| plan.pack), &WhyKept::DiskFull);
                break;
            }
        }
        Ok(Next::GoOn)
    }

    fn rewrite_batch(&mut self, batch: &[&PackPlan]) -> Result<Next> {
        let store = self.writer.local();
        let named = store.holds().named();
        let kinds = [PackKind::Data, PackKind::Metadata, PackKind::Delta];
        let mut outputs = kinds.map(|kind| Output::new(&store, kind));
        let written = self.write_batch(batch, &mut outputs);
        let next = match written {
            Ok(next) => next,
            Err(error) => {
                outputs.iter_mut().for_each(Output::discard_open);
                if !error.is_disk_full() {
                    return Err(error);
                }
                self.result.disk_full = true;
                Next::GoOn
            }
        };
        outputs.iter_mut().for_each(Output::discard_open);
        let ready: Vec<Leaving> = outputs.iter().flat_map(|output| output.ready.iter().copied()).collect();
        let unready =
            batch.iter().map(|plan| plan.pack).filter(|pack| !ready.iter().any(|(it, _)| it == pack));
        let (unready, why): (Vec<PackId>, _) =
            (unready.collect(), if next == Next::Stop { WhyKept::Stopped } else { WhyKept::DiskFull });
        let told: HashSet<PackId> = self.result.kept_back.iter().map(|(pack, _)| *pack).collect();
        self.keep_back(unready.into_iter().filter(|pack| !told.contains(pack)), &why);
        let are_deltas = batch.iter().any(|plan| plan.deltas);
        for output in &mut outputs {
            if if are_deltas { ready.is_empty() } else { output.ready.is_empty() } {
                output.discard_made(named);
            }
            self.result.made.extend(output.made.iter().map(|(pack, ..)| *pack));
            self.result.written_bytes += output.made.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        }
        if ready.is_empty() {
            return Ok(next);
        }
        let dir = store.packs_dir();
        store.io().sync_dir(&dir).map_err(Error::io("sync", dir))?;
        let made: HashSet<PackId> = self.result.made.iter().copied().collect();
        // What was made may be one of those that were to go, under the same name.
        let leaving = ready.into_iter().filter(|(pack, _)| !made.contains(pack)).collect();
        match self.let_go(leaving)? {
            Next::Stop => Ok(Next::Stop),
            Next::GoOn => Ok(next),
        }
    }

    /// Writes what is needed of a batch, and seals it.
    fn write_batch(&mut self, batch: &[&PackPlan], outputs: &mut [Output; 3]) -> Result<Next> {
        let found = self.found;
        let mut deltas = Vec::new();
        for plan in batch {
            let Some(marked) = found.marks.pack(&plan.pack) else { continue };
            let [data, metadata, delta] = &mut *outputs;
            let (output, alone) = match marked.kind {
                PackKind::Data => (data, None),
                PackKind::Metadata => (metadata, None),
                PackKind::Delta => (delta, Some(data)),
            };
            // Counted before it is copied: what comes to be needed meanwhile is one too many.
            let needed = marked.needed();
            match self.copy(marked, output, alone)? {
                Copied::All if marked.kind == PackKind::Delta => deltas.push((plan.pack, needed)),
                Copied::All => output.waiting.push((plan.pack, needed)),
                Copied::Damaged(detail) => self.keep_back([plan.pack], &WhyKept::Damaged(detail)),
                Copied::Stopped => return Ok(Next::Stop),
            }
        }
        outputs.iter_mut().try_for_each(Output::seal)?;
        // What is needed of these is in packs of either kind.
        outputs[2].ready.append(&mut deltas);
        Ok(Next::GoOn)
    }

    /// Copies what is needed of a pack; of one of deltas, what is to stand alone from now on into the packs of `alone`.
    fn copy(
        &mut self,
        marked: &Marked,
        output: &mut Output,
        mut alone: Option<&mut Output>,
    ) -> Result<Copied> {
        let store = self.writer.local();
        let pack = match self.open(marked.id) {
            Ok(pack) => pack,
            Err(error) if is_damage(&error) => return Ok(Copied::Damaged(error.to_string())),
            Err(error) => return Err(error),
        };
        let mut reading = Reading::default();
        for (number, row) in (0u16..).zip(&marked.frames) {
            let (there, needed) = marked.of_frame(usize::from(number));
            if needed == 0 {
                continue;
            }
            if !self.pace.spend(u64::from(row.len) * 2) {
                return Ok(Copied::Stopped);
            }
            // Only what fails here is damage: what fails in writing has lost chunks of others, too.
            let frame = match pack
                .frame(number)
                .and_then(|bytes| reading.verify(&store, marked, &pack, number, bytes))
            {
                Ok(frame) => frame,
                Err(error) if is_damage(&error) => {
                    self.note(marked.id, number, &error);
                    return Ok(Copied::Damaged(error.to_string()));
                }
                Err(error) => return Err(error),
            };
            let is_whole = there == needed && !self.is_to_stand_alone(marked, number);
            match &mut alone {
                Some(alone) if !is_whole => frame.copy(marked, number, false, alone)?,
                _ => frame.copy(marked, number, is_whole, output)?,
            }
            reading.buffer = frame.block.into_buffer();
            self.advance(u64::from(row.len) * u64::from(needed) / u64::from(there.max(1)));
        }
        Ok(Copied::All)
    }

    fn is_to_stand_alone(&self, marked: &Marked, frame: u16) -> bool {
        marked.is_to_stand_alone(frame, &self.found.marks, &|id| self.found.find(id))
    }

    fn open(&self, id: PackId) -> Result<Arc<Pack>> {
        self.writer.store().pack(id)
    }

    /// Remembers what was found damaged: all of a frame, where it does not say which chunk.
    fn note(&self, pack: PackId, frame: u16, error: &Error) {
        let Error::Damaged { chunk, .. } = error else { return };
        let Some(marked) = self.found.marks.pack(&pack) else { return };
        let (there, _) = marked.of_frame(usize::from(frame));
        for slot in (0..there).filter_map(|slot| u16::try_from(slot).ok()) {
            let place = Place { pack, frame, slot };
            let is_it =
                |id: &ChunkId| self.writer.store().known_place(id).is_ok_and(|known| known == Some(place));
            if chunk.as_ref().is_none_or(is_it) {
                self.writer.note_damaged(place);
            }
        }
    }
}

fn batch_len(plans: &[&PackPlan]) -> usize {
    let mut bytes = 0u64;
    let fits = |plan: &&&PackPlan| {
        bytes += plan.needed_bytes;
        bytes <= BATCH_BYTES_MAX
    };
    plans.iter().take(BATCH_PACKS_MAX).take_while(fits).count().max(1)
}

/// A frame all of which that is needed was verified.
struct Verified {
    bytes: Vec<u8>,
    block: Block,
}

impl Reading {
    /// Decodes a frame, and hashes what is needed of it.
    fn verify(
        &mut self,
        store: &Store,
        marked: &Marked,
        pack: &Pack,
        number: u16,
        bytes: Vec<u8>,
    ) -> Result<Verified> {
        let damaged = |error| pack.damaged(number, &error);
        let buffer = std::mem::take(&mut self.buffer);
        let block = store.decode_in(pack, number, &bytes, &mut self.decompressor, buffer)?;
        let frame = Verified { bytes, block };
        for slot in frame.needed(marked, number) {
            frame.block.chunk(slot).map_err(damaged)?;
        }
        Ok(frame)
    }
}

impl Verified {
    /// The slots of the chunks that are needed.
    fn needed(&self, marked: &Marked, number: u16) -> impl Iterator<Item = usize> {
        let slots = u16::try_from(self.block.header().chunks.len()).unwrap_or(u16::MAX);
        (0..slots).filter(move |slot| marked.is_needed(number, *slot)).map(usize::from)
    }

    /// Writes what is needed: the frame as it is, where that is all of it and new.
    fn copy(&self, marked: &Marked, number: u16, is_whole: bool, output: &mut Output) -> Result<()> {
        let header = self.block.header();
        if is_whole && header.chunks.iter().all(|(id, _)| !output.written.contains(id)) {
            return output.append(header, &self.bytes);
        }
        for slot in self.needed(marked, number) {
            output.push(header.chunks[slot].0, self.block.verified_run(slot..slot + 1))?;
        }
        Ok(())
    }
}

impl Output {
    fn new(store: &Store, kind: PackKind) -> Self {
        Self {
            store: store.clone(),
            kind,
            filling: None,
            builder: BlockBuilder::default(),
            compressor: Compressor::default(),
            written: HashSet::new(),
            made: Vec::new(),
            waiting: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Appends a frame as it is, none of whose chunks were written.
    fn append(&mut self, header: &FrameHeader, bytes: &[u8]) -> Result<()> {
        self.close_block()?;
        self.written.extend(header.chunks.iter().map(|(id, _)| *id));
        self.put(&Frame { header: header.clone(), bytes: bytes.to_vec() })
    }

    /// Adds a chunk, unless it was written.
    fn push(&mut self, id: ChunkId, bytes: &[u8]) -> Result<()> {
        if !self.written.insert(id) {
            return Ok(());
        }
        if self.builder.is_full_for(bytes.len()) {
            self.close_block()?;
        }
        self.builder.push(id, bytes);
        Ok(())
    }

    fn close_block(&mut self) -> Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let (frame, buffer) = std::mem::take(&mut self.builder).finish(&mut self.compressor);
        self.builder = BlockBuilder::with_buffer(buffer);
        self.put(&frame)
    }

    fn put(&mut self, frame: &Frame) -> Result<()> {
        let filling = match &mut self.filling {
            Some(filling) => filling,
            None => {
                let (io, dir) = (Arc::clone(self.store.io()), self.store.packs_dir());
                self.filling.insert(Filling::create(io, &dir, self.kind)?)
            }
        };
        filling.append(frame)?;
        // Right behind the frame, so that all that was taken so far is in it.
        if filling.is_full() { self.seal_filling() } else { Ok(()) }
    }

    /// Seals all that was written.
    fn seal(&mut self) -> Result<()> {
        self.close_block()?;
        self.seal_filling()?;
        self.ready.append(&mut self.waiting);
        Ok(())
    }

    fn seal_filling(&mut self) -> Result<()> {
        // Kept until it is sealed, so that it can be discarded if that fails.
        if let Some(filling) = &mut self.filling {
            let id = filling.seal(&|id| self.store.holds().claim(id))?;
            self.made.push((id, filling.len(), !filling.replaced()));
            self.filling = None;
            if self.builder.is_empty() {
                self.ready.append(&mut self.waiting);
            }
        }
        Ok(())
    }

    /// Removes what is not sealed.
    fn discard_open(&mut self) {
        self.builder = BlockBuilder::default();
        if let Some(filling) = self.filling.take()
            && let Err(error) = self.store.io().remove(filling.path())
        {
            tracing::warn!(path = %filling.path().display(), %error, "cannot remove an unfinished pack");
        }
    }

    /// Removes the packs that were made, since they replace nothing.
    fn discard_made(&mut self, named: u64) {
        let made = std::mem::take(&mut self.made);
        let new: Vec<PackId> = made.iter().filter(|(.., is_new)| *is_new).map(|(pack, ..)| *pack).collect();
        if !self.store.discard(&new, named) {
            self.made = made;
        }
    }
}
