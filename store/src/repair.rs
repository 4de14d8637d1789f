//! Replaces damaged packs: report, then plan, then run.
//!
//! What is sound in a damaged pack goes into new ones, what is not is fetched where somebody has it, and then the pack
//! goes to `quarantine/`, whole, for whoever wants to look into it. Order: new packs are sealed and their names durable
//! before the old one's name goes, so that whenever this stops every chunk that could be read still can, at worst twice;
//! it is then begun anew. A pack that comes out the same has the same name, and takes the damaged one's place. Readers
//! that have the old pack open go on reading it; others find the new ones.
//!
//! No ingest runs meanwhile, since it might count on a pack that goes, and no collection.

mod derived;
mod foundations;
mod reread;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

pub use foundations::Foundations;
pub use reread::{Folders, Reread};

use crate::block::{BlockBuilder, Compressor};
use crate::blocks::Decoder;
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::fetch::{Fetch, Why};
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::index::Place;
use crate::intake::VerifiedFrame;
use crate::pack::{Pack, SEALED};
use crate::progress::Progress;
use crate::store::{Store, is_damage};
use crate::verify::VerifyReport;
use crate::writer::Writer;

/// The folder in the store where damaged packs go.
pub const QUARANTINE: &str = "quarantine";
/// Chunks that are asked for together.
const FETCHED_TOGETHER: usize = 1024;

/// A pack that is to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPack {
    /// The pack.
    pub pack: PackId,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Chunks in it that are sound.
    pub sound_chunks: u64,
    /// Chunks in it that are not, as far as it still says which it had.
    pub damaged: Vec<ChunkId>,
}

/// What a repair will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// Packs whose sound chunks are written again, and that go to the quarantine.
    pub packs: Vec<DamagedPack>,
    /// Chunks that cannot be read from any pack here.
    pub lost: Vec<ChunkId>,
    /// Those of them that artifacts need, and that are asked for. Lengths are not known: 0.
    pub wanted: Vec<ChunkRef>,
    /// The artifacts that need them, each with what it needs.
    pub affected: Vec<(ArtifactId, Vec<ChunkId>)>,
}

impl RepairPlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.packs.is_empty() && self.wanted.is_empty()
    }
}

/// What a repair has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Packs that went to the quarantine.
    pub packs: Vec<PackId>,
    /// Packs that came out the same again, and took their own place.
    pub mended: Vec<PackId>,
    /// Chunks of theirs that were sound and are in other packs now.
    pub kept_chunks: u64,
    /// Chunks that could not be read and can be now.
    pub healed: u64,
    /// Artifacts that are not whole yet, each with what cannot be read of it. Where that was a list of files or chunks,
    /// what lies below it was not looked at: verify again.
    pub still_damaged: Vec<(ArtifactId, Vec<ChunkId>)>,
}

impl Writer {
    /// What it takes to mend what a verification found. Reads the packs that it names, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn plan_repair(&self, report: &VerifyReport) -> Result<RepairPlan> {
        let store = self.local();
        let (_, here) = store.index_now()?;
        let named: BTreeSet<PackId> = report.damage.iter().filter_map(|damage| damage.pack).collect();
        let mut plan = RepairPlan::default();
        for id in named.into_iter().filter(|id| here.contains(id)) {
            plan.packs.extend(examine(&store, id)?);
        }
        let is_lost = |id: &ChunkId| store.chunk(id).is_err();
        let damaged: BTreeSet<ChunkId> =
            plan.packs.iter().flat_map(|pack| pack.damaged.iter().copied()).collect();
        plan.lost = damaged.into_iter().filter(is_lost).collect();
        let mut wanted = BTreeSet::new();
        for affected in &report.affected {
            let needed: Vec<ChunkId> = affected.missing.iter().copied().filter(is_lost).collect();
            wanted.extend(needed.iter().copied());
            if !needed.is_empty() {
                plan.affected.push((affected.artifact, needed));
            }
        }
        plan.wanted = wanted.into_iter().map(|id| ChunkRef { id, len: 0 }).collect();
        Ok(plan)
    }

    /// Does what a plan says. `fetch` is asked for what cannot be read here. A pack that holds what is in no other pack
    /// afterwards stays where it is.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`]: the store is as readable as before, and the repair can be begun anew.
    pub fn repair(
        &self,
        plan: &RepairPlan,
        fetch: Option<&dyn Fetch>,
        progress: &dyn Progress,
    ) -> Result<Repaired> {
        let _alone = self.wait_for_turn(progress)?;
        let no_collection = self.collections().wait_for_turn(progress)?;
        no_collection.begin();
        let condemned = Condemned::new(self.local(), plan);
        let mut repaired = Repaired::default();
        progress.expect(plan.packs.iter().map(|pack| pack.file_bytes).sum(), plan.packs.len() as u64);
        for pack in &plan.packs {
            repaired.kept_chunks += self.keep_sound(pack.pack, progress)?;
        }
        let lost: Vec<ChunkId> = plan.wanted.iter().map(|chunk| chunk.id).collect();
        if let Some(fetch) = fetch {
            self.fetch_lost(fetch, &plan.wanted, progress)?;
        }
        self.intake().flush()?;
        let mended = self.mended(plan)?;
        mended.iter().for_each(|pack| self.spare(pack));
        repaired.mended = mended.iter().copied().collect();
        for pack in plan.packs.iter().filter(|pack| !mended.contains(&pack.pack)) {
            if self.is_replaced(pack.pack)? {
                repaired.packs.push(pack.pack);
            } else {
                tracing::warn!(pack = %pack.pack, "a damaged pack stays: not all that it holds is in other packs");
            }
        }
        repaired.packs.iter().try_for_each(|pack| self.quarantine(*pack))?;
        drop(condemned);
        self.refresh_index();
        self.forget_damage_of_deltas();
        let store = self.local();
        repaired.healed = lost.iter().filter(|id| store.chunk(id).is_ok()).count() as u64;
        for (artifact, needed) in &plan.affected {
            let still: Vec<_> = needed.iter().copied().filter(|id| store.chunk(id).is_err()).collect();
            if !still.is_empty() {
                repaired.still_damaged.push((*artifact, still));
            }
        }
        Ok(repaired)
    }

    /// Writes what is sound of a pack into others, but what is in others already; gives the number of chunks.
    fn keep_sound(&self, id: PackId, progress: &dyn Progress) -> Result<u64> {
        let (store, intake) = (self.local(), self.intake());
        let Some(pack) = open(&store, id)? else { return Ok(0) };
        let kind = pack.footer().kind.plain();
        let mut tools = Tools::default();
        let mut kept = 0;
        for (number, row) in (0u16..).zip(&pack.footer().frames) {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            if let Some(part) = sound_part(&store, &pack, number, &mut tools)? {
                kept += intake.keep(kind, &part.frame)?.chunks;
            }
            progress.advance(row.len.into(), 0);
        }
        progress.advance(0, 1);
        Ok(kept)
    }

    /// Asks for chunks, until nobody brings any.
    fn fetch_lost(&self, fetch: &dyn Fetch, wanted: &[ChunkRef], progress: &dyn Progress) -> Result<()> {
        let store = self.local();
        for wanted in wanted.chunks(FETCHED_TOGETHER) {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            match crate::fetch::ask(fetch, wanted, Why::Damaged) {
                Ok(()) => {}
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(%error, "not everything that is damaged could be fetched");
                    if wanted.iter().all(|chunk| store.chunk(&chunk.id).is_err()) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The packs that came out the same again and took their own place: all of them is sound now.
    fn mended(&self, plan: &RepairPlan) -> Result<BTreeSet<PackId>> {
        let store = self.local();
        let sealed = store.overlay().sealed_packs();
        let mut mended = BTreeSet::new();
        for pack in plan.packs.iter().map(|pack| pack.pack).filter(|pack| sealed.contains(pack)) {
            if examine(&store, pack)?.is_none() {
                tracing::info!(%pack, "a damaged pack came out the same again, and took its own place");
                mended.insert(pack);
            }
        }
        Ok(mended)
    }

    /// Whether each sound chunk of a pack is soundly in another sealed one.
    fn is_replaced(&self, id: PackId) -> Result<bool> {
        let store = self.local();
        store.index_of_all()?;
        let Some(pack) = open(&store, id)? else { return Ok(false) };
        let mut tools = Tools::default();
        for number in (0u16..).take(pack.footer().frames.len()) {
            let Some(part) = sound_part(&store, &pack, number, &mut tools)? else { continue };
            for (chunk, _) in part.frame.chunks() {
                if store.sound_copy_outside(id, chunk)?.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn quarantine(&self, id: PackId) -> Result<()> {
        let (io, packs, root) = (self.io(), self.packs_dir(), self.path());
        let dir = root.join(QUARANTINE);
        io.create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        io.sync_dir(root).map_err(Error::io("sync", root))?;
        let name = format!("{id}.{SEALED}");
        let path = packs.join(&name);
        io.rename(&path, &dir.join(name)).map_err(Error::io("rename", path))?;
        io.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        io.sync_dir(&packs).map_err(Error::io("sync", &packs))?;
        self.forget_pack(id);
        tracing::info!(pack = %id, "a damaged pack is in the quarantine");
        Ok(())
    }
}

/// Packs of which every place counts as damaged while they are replaced, so that other places are looked for.
struct Condemned {
    store: Store,
    packs: Vec<PackId>,
}

impl Condemned {
    fn new(store: Store, plan: &RepairPlan) -> Self {
        let packs: Vec<PackId> = plan.packs.iter().map(|pack| pack.pack).collect();
        packs.iter().for_each(|pack| store.condemn(*pack));
        Self { store, packs }
    }
}

impl Drop for Condemned {
    fn drop(&mut self) {
        self.packs.iter().for_each(|pack| self.store.spare(pack));
    }
}

/// What frames are decoded and encoded with.
#[derive(Default)]
struct Tools {
    decoder: Decoder,
    compressor: Compressor,
}

/// A pack, if it is there.
fn open(store: &Store, id: PackId) -> Result<Option<Pack>> {
    let path: PathBuf = store.packs_dir().join(format!("{id}.{SEALED}"));
    match Pack::open(&**store.io(), &path, id) {
        Ok(pack) => Ok(Some(pack)),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What of a pack is sound and what is not; nothing if all of it is.
fn examine(store: &Store, id: PackId) -> Result<Option<DamagedPack>> {
    let Some(pack) = open(store, id)? else { return Ok(None) };
    let mut tools = Tools::default();
    let (mut sound, mut is_whole) = (HashSet::new(), true);
    for number in (0u16..).take(pack.footer().frames.len()) {
        let part = sound_part(store, &pack, number, &mut tools)?;
        // One that cannot be sent as it is is damaged, though all of its chunks may be sound.
        is_whole &= part.as_ref().is_some_and(|part| part.is_whole);
        sound.extend(part.iter().flat_map(|part| part.frame.chunks()).map(|(id, _)| *id));
    }
    let rows = &pack.footer().chunks;
    let bad = rows.iter().filter(|row| !sound.contains(&row.id));
    let damaged: Vec<ChunkId> = bad
        .map(|row| {
            store.note_damaged(Place { pack: id, frame: row.frame, slot: row.slot });
            row.id
        })
        .collect();
    is_whole &= damaged.is_empty() && pack.damage().is_empty();
    let (file_bytes, sound_chunks) = (pack.file_bytes(), sound.len() as u64);
    Ok((!is_whole).then_some(DamagedPack { pack: id, file_bytes, sound_chunks, damaged }))
}

/// What is sound of a frame.
struct SoundPart {
    /// The frame as it is, or one of its sound chunks that stands on no others.
    frame: VerifiedFrame,
    /// Whether all of it is sound.
    is_whole: bool,
}

/// A frame as it is, or of its sound chunks; nothing where none is.
fn sound_part(store: &Store, pack: &Pack, number: u16, tools: &mut Tools) -> Result<Option<SoundPart>> {
    match pack.frame(number) {
        Ok(bytes) => {
            if let Ok(frame) = VerifiedFrame::verify(bytes, &mut tools.decoder) {
                return Ok(Some(SoundPart { frame, is_whole: true }));
            }
        }
        Err(error) if is_damage(&error) => {}
        Err(error) => return Err(error),
    }
    let block = match store.block_in(pack, number, tools.decoder.decompressor(), Vec::new()) {
        Ok(block) => block,
        Err(error) if is_damage(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut builder = BlockBuilder::default();
    for (slot, (id, _)) in block.header().chunks.iter().enumerate() {
        if let Ok(bytes) = block.chunk(slot) {
            builder.push(*id, bytes);
        }
    }
    if builder.is_empty() {
        return Ok(None);
    }
    // What stands on other chunks is whole where all of it could be read.
    let header = block.header();
    let is_whole =
        header.codec.has_bases() && builder.chunks() == header.chunks.len() && block.damage().is_none();
    let (frame, _) = builder.finish(&mut tools.compressor);
    // What was hashed a moment ago holds.
    let frame = VerifiedFrame::verify(frame.bytes, &mut tools.decoder).ok();
    Ok(frame.map(|frame| SoundPart { frame, is_whole }))
}
