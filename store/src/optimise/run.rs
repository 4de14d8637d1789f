//! Makes packs of deltas, and has what they replace go.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::batch::Batch;
use super::graph::Graph;
use super::pairs::{Pair, Standing, pairs};
use super::plan::{folded, stays_plain, stored_if_open};
use super::{OptimiseOptions, OptimisePlan};
use crate::block::{BlockBuilder, Codec, Compressor, Frame};
use crate::collect::{CollectOptions, Collected, Needed, Pace, Turn, WhyKept};
use crate::content::ChunkRef;
use crate::delta::{CodecTotals, FrameMaker, FrameOf, Gap, Made, Rules};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::pack::PackKind;
use crate::progress::Progress;
use crate::refs::View;
use crate::store::{Store, is_damage};
use crate::writer::Writer;

/// Bytes that chunks take in the places that they are moved out of, with which these places are let go of.
const MOVED_BYTES_MAX: u64 = 256 << 20;
/// A frame has to come to less than this part, in percent, of what its chunks take now.
const WORTH_PERCENT: u64 = 90;

/// What telling older versions in terms of newer ones came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Optimised {
    /// Versions of which something was told anew.
    pub versions: u64,
    /// What is now behind a prefix of other chunks. The bytes are those of the frames.
    pub prefix: CodecTotals,
    /// What is now what was left after it was predicted; the bytes are those of the maps, too.
    pub relocation: CodecTotals,
    /// Chunks that are plain again.
    pub unfolded_chunks: u64,
    /// Their plain bytes.
    pub unfolded_bytes: u64,
    /// Bytes that what is told took before, about.
    pub bytes_before: u64,
    /// Packs that were made.
    pub made: Vec<PackId>,
    /// Packs that are gone.
    pub gone: Vec<PackId>,
    /// Bytes of the packs that are gone.
    pub freed_bytes: u64,
    /// Bytes of the packs that were made.
    pub written_bytes: u64,
    /// Packs that were to go and stay, with the reason: the next collection takes them, or what was made for them.
    pub kept_back: Vec<(PackId, WhyKept)>,
    /// Whether no room was left.
    pub disk_full: bool,
    /// Whether it came to its end.
    pub complete: bool,
}

impl Optimised {
    /// Bytes of frames that were made.
    #[must_use]
    pub fn bytes_after(&self) -> u64 {
        self.prefix.bytes + self.relocation.bytes
    }

    fn take(&mut self, collected: Collected) {
        self.made.extend(collected.made);
        self.gone.extend(collected.dropped);
        self.gone.extend(collected.rewritten);
        self.freed_bytes += collected.freed_bytes;
        self.written_bytes += collected.written_bytes;
        self.kept_back.extend(collected.kept_back);
        self.disk_full |= collected.disk_full;
    }
}

impl Writer {
    /// Makes plain what is to be plain, and tells what the planned versions alone have in terms of others. What is named
    /// by now stays plain where it has to. Where `progress` or `options` stop it, or another process is taking the store
    /// over, it ends after the step that it is at, and the result says that it is not complete.
    ///
    /// # Errors
    /// [`Error::Damaged`] as [`Writer::plan_optimise`], [`Error::Poisoned`] when it is not known what is named,
    /// [`Error::Unavailable`] when another process is taking the store over, [`Error::Cancelled`] while it waits,
    /// [`Error::Io`]. The store is as good as before.
    pub fn optimise(
        &self,
        plan: &OptimisePlan,
        options: &OptimiseOptions,
        progress: &dyn Progress,
    ) -> Result<Optimised> {
        let collections = self.collections();
        let turn = collections.wait_for_turn(progress)?;
        if collections.is_suspended() {
            return Err(Error::Unavailable {
                what: "optimising".to_owned(),
                detail: "another process is taking the store over".to_owned(),
            });
        }
        self.check_names_are_known()?;
        let limited = CollectOptions {
            bandwidth: options.bandwidth,
            max_time: options.max_time,
            ..CollectOptions::default()
        };
        // What was told is let go of where it was, however long that takes.
        let collecting = CollectOptions { max_time: None, ..limited };
        let mut run = Run {
            writer: self,
            turn: &turn,
            options,
            pace: Pace::new(&limited, progress, collections),
            collecting: &collecting,
            progress,
            result: Optimised::default(),
        };
        progress.expect(
            plan.versions.iter().map(|version| version.plain_bytes).sum(),
            plan.versions.len() as u64,
        );
        let done = match run.run(plan) {
            // Somebody has stopped it where nothing was begun.
            Err(Error::Cancelled) => Ok(false),
            done => done,
        };
        let result = run.result;
        if !result.made.is_empty() {
            self.write_index(true);
        }
        drop(turn);
        self.fill_reserve();
        done.map(|complete| Optimised { complete, ..result })
    }
}

struct Run<'a> {
    writer: &'a Writer,
    turn: &'a Turn<'a>,
    options: &'a OptimiseOptions,
    pace: Pace<'a>,
    collecting: &'a CollectOptions,
    progress: &'a dyn Progress,
    result: Optimised,
}

impl Run<'_> {
    /// Whether it came to its end.
    fn run(&mut self, plan: &OptimisePlan) -> Result<bool> {
        let planned: HashSet<ArtifactId> = plan.versions.iter().map(|version| version.artifact).collect();
        let mut told = HashSet::new();
        if plan.unfolded_chunks > 0
            && !self.in_batches(&mut |run| run.make(PackKind::Data, &mut |run, step| run.unfold(step)))?
        {
            return Ok(false);
        }
        if planned.is_empty() {
            return Ok(true);
        }
        self.in_batches(&mut |run| {
            run.make(PackKind::Delta, &mut |run, step| run.tell_all(step, &planned, &mut told))
        })
    }

    /// Lets go, batch by batch, of what was written anew; whether it came to its end.
    fn in_batches(&mut self, make: &mut dyn FnMut(&mut Self) -> Result<(Batch, Next)>) -> Result<bool> {
        loop {
            let (batch, next) = make(self)?;
            if !batch.moved.is_empty() {
                let (moved, from) = (batch.moved, &batch.from);
                let collected =
                    self.writer.let_moved_go(self.turn, moved, from, self.collecting, self.progress)?;
                let is_complete = collected.complete;
                self.result.take(collected);
                if !is_complete {
                    return Ok(false);
                }
            }
            match next {
                Next::More if !self.result.disk_full => {}
                next => return Ok(next == Next::End && !self.result.disk_full),
            }
        }
    }

    /// Makes packs of a kind by `work`, until what is in them is worth letting its old places go.
    fn make(
        &mut self,
        kind: PackKind,
        work: &mut dyn FnMut(&mut Self, &mut Step) -> Result<Next>,
    ) -> Result<(Batch, Next)> {
        let view = self.writer.names();
        let plain = stays_plain(&view);
        let artifacts: Vec<ArtifactId> = plain.iter().copied().collect();
        let needed = self.writer.needed(&artifacts, self.progress)?;
        let store = self.writer.local();
        let named = store.holds().named();
        let graph = Graph::of(&store, needed.delta_packs())?;
        let mut step = Step { view, plain, needed, graph, batch: Batch::new(store, kind) };
        let before = self.result.clone();
        let done = work(self, &mut step).and_then(|next| {
            // Where only its time is over, what was told by then is of use.
            if next == Next::Stop && self.is_to_stop_at_once() {
                return Ok(next);
            }
            step.batch.seal()?;
            Ok(if next == Next::Stop { Next::Over } else { next })
        });
        let mut batch = step.batch;
        batch.discard_open();
        let next = match done {
            Ok(Next::Stop) => {
                // Nothing goes any more, so what was made is of no use.
                batch.discard_made(named);
                batch.moved.clear();
                self.result = before;
                return Ok((batch, Next::Stop));
            }
            Ok(next) => next,
            Err(error) if error.is_disk_full() => {
                self.result.disk_full = true;
                Next::End
            }
            Err(error) => {
                batch.discard_made(named);
                self.result = before;
                return Err(error);
            }
        };
        let dir = batch.store.packs_dir();
        batch.store.io().sync_dir(&dir).map_err(Error::io("sync", dir))?;
        self.result.made.extend(batch.made.iter().map(|(pack, ..)| *pack));
        self.result.written_bytes += batch.made.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        Ok((batch, next))
    }

    fn is_to_stop_at_once(&self) -> bool {
        self.progress.cancelled() || self.writer.collections().is_suspended()
    }

    /// Writes plainly what is to be plain.
    fn unfold(&mut self, step: &mut Step) -> Result<Next> {
        let store = step.batch.store.clone();
        let (mut builder, mut from) = (BlockBuilder::default(), HashMap::new());
        let mut compressor = Compressor::default();
        for (chunk, pack) in folded(&store, &step.needed)? {
            if !self.pace.spend(u64::from(chunk.len) * 2) {
                return Ok(Next::Stop);
            }
            let bytes = match store.whole_chunk(chunk) {
                Ok(bytes) => bytes,
                // It is for repair to mend it.
                Err(error) if is_damage(&error) => continue,
                Err(error) => return Err(error),
            };
            if from.insert(chunk.id, pack).is_some() {
                continue;
            }
            if builder.is_full_for(bytes.len()) {
                let (frame, buffer) = builder.finish(&mut compressor);
                step.batch.append(&frame, &from)?;
                builder = BlockBuilder::with_buffer(buffer);
            }
            builder.push(chunk.id, &bytes);
            step.batch.bytes += u64::from(chunk.len);
            self.result.unfolded_chunks += 1;
            self.result.unfolded_bytes += u64::from(chunk.len);
            if step.batch.bytes >= MOVED_BYTES_MAX {
                step.batch.append(&builder.finish(&mut compressor).0, &from)?;
                return Ok(Next::More);
            }
        }
        if !builder.is_empty() {
            step.batch.append(&builder.finish(&mut compressor).0, &from)?;
        }
        Ok(Next::End)
    }

    /// Tells the planned versions in terms of others.
    fn tell_all(
        &mut self,
        step: &mut Step,
        planned: &HashSet<ArtifactId>,
        told: &mut HashSet<ArtifactId>,
    ) -> Result<Next> {
        let standing = Standing { plain: &step.plain, graph: &step.graph };
        let is_asked = |artifact: &ArtifactId| planned.contains(artifact);
        for pair in pairs(&step.batch.store, &step.view, &standing, &is_asked, self.progress)? {
            if !planned.contains(&pair.version.1) || !told.insert(pair.version.1) {
                continue;
            }
            match self.tell(&pair, step) {
                Ok(true) => {}
                Ok(false) => return Ok(Next::Stop),
                // A version of which something cannot be read stays as it is, as does one that is told in terms of it.
                Err(error) if is_damage(&error) => {
                    tracing::warn!(version = %pair.version.0, %error, "a version is not told in terms of another");
                }
                Err(error) => return Err(error),
            }
            if step.batch.bytes >= MOVED_BYTES_MAX {
                return Ok(Next::More);
            }
        }
        Ok(Next::End)
    }

    /// Tells what of a version is open; false if it is to stop.
    fn tell(&mut self, pair: &Pair, step: &mut Step) -> Result<bool> {
        let Some(gap) = self.writer.gap_of(pair, self.progress)? else { return Ok(true) };
        let store = step.batch.store.clone();
        let blocks = |result: &Optimised| result.prefix.blocks + result.relocation.blocks;
        let before = blocks(&self.result);
        let told = self.tell_gap(&store, &gap, step)?;
        self.result.versions += u64::from(blocks(&self.result) > before);
        self.progress.advance(0, 1);
        Ok(told)
    }

    fn tell_gap(&mut self, store: &Store, gap: &Gap, step: &mut Step) -> Result<bool> {
        let mut maker = FrameMaker::new(store, gap, self.options.effort, self.options.file_max);
        while let Some(told) = maker.next(&mut |chunk| step.is_open(chunk))? {
            let plain_bytes = told.plain_bytes();
            if !self.pace.spend(plain_bytes * 2) {
                return Ok(false);
            }
            self.progress.advance(plain_bytes, 0);
            match maker.frames(&told, step, &|| self.progress.cancelled()) {
                Ok(made) => self.keep(&made, step)?,
                Err(error) if is_damage(&error) => {
                    tracing::warn!(%error, "some chunks are not told in terms of others");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes of what was made what saves enough.
    fn keep(&mut self, made: &Made, step: &mut Step) -> Result<()> {
        // The rows of both packs are alike.
        let len = |frames: &[&Frame]| frames.iter().map(|frame| frame.bytes.len() as u64).sum::<u64>();
        let is_worth = |after: u64, before: u64| after * 100 < before * WORTH_PERCENT;
        let worth: Vec<&Frame> =
            made.frames.iter().filter(|frame| is_worth(len(&[frame]), step.stored(frame))).collect();
        let (mapped, others): (Vec<&Frame>, Vec<&Frame>) =
            worth.into_iter().partition(|frame| frame.header.codec == Codec::Relocation);
        let maps: Vec<&Frame> = made.maps.iter().collect();
        let mapped_before = mapped.iter().map(|frame| step.stored(frame)).sum();
        if is_worth(len(&maps) + len(&mapped), mapped_before) {
            maps.iter().try_for_each(|map| step.batch.append(map, &HashMap::new()))?;
            self.result.relocation.bytes += len(&maps);
            mapped.iter().try_for_each(|frame| self.take(frame, step))?;
        }
        others.iter().try_for_each(|frame| self.take(frame, step))
    }

    fn take(&mut self, frame: &Frame, step: &mut Step) -> Result<()> {
        let (header, before) = (&frame.header, step.stored(frame));
        // What was made with it may have come to stand on its chunks.
        if !step.graph.allows(header) {
            return Ok(());
        }
        step.graph.add(header);
        let from = header.chunks.iter().filter_map(|(id, _)| Some((*id, step.needed.find(id)?.place.pack)));
        step.batch.append(frame, &from.collect())?;
        step.batch.bytes += before;
        self.result.bytes_before += before;
        let totals = match header.codec {
            Codec::Relocation => &mut self.result.relocation,
            Codec::Raw | Codec::Zstd | Codec::Prefix => &mut self.result.prefix,
        };
        totals.blocks += 1;
        totals.chunks += header.chunks.len() as u64;
        totals.plain_bytes += u64::from(header.plain_len);
        totals.bytes += frame.bytes.len() as u64;
        Ok(())
    }
}

/// What is known while packs are made, and these.
struct Step {
    view: Arc<View>,
    plain: BTreeSet<ArtifactId>,
    needed: Needed,
    graph: Graph,
    batch: Batch,
}

impl Step {
    /// Whether a chunk is to be told.
    fn is_open(&self, chunk: &ChunkRef) -> bool {
        !self.batch.has(&chunk.id) && stored_if_open(&self.needed, &self.graph, chunk).is_some()
    }

    /// Bytes that the chunks of a frame take now, about.
    fn stored(&self, frame: &Frame) -> u64 {
        let chunks = frame.header.chunks.iter().map(|(id, len)| ChunkRef { id: *id, len: *len });
        chunks.filter_map(|chunk| stored_if_open(&self.needed, &self.graph, &chunk)).sum()
    }
}

impl Rules for Step {
    fn frame_of(&self, base: &ChunkId) -> Option<FrameOf> {
        let lying = self.needed.find(base).filter(|lying| !lying.is_told && !self.graph.is_told(base))?;
        Some((lying.place.pack, lying.place.frame))
    }
}

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    End,
    /// Its time is over.
    Over,
    Stop,
}
