//! The packs: their tables, what the index says of them, and as many of their frames as are wanted.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::frames::{Checked, check, split};
use super::{Damage, Depth, Frames, VerifyReport};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::Index;
use crate::pack::{Pack, SEALED};
use crate::pool::{Pending, Pool, Rank};
use crate::progress::Progress;
use crate::store::{Store, is_damage};

pub(super) struct Run<'a> {
    store: &'a Store,
    progress: &'a dyn Progress,
    report: &'a mut VerifyReport,
    index: Arc<Index>,
    /// Chunks of which a copy is damaged.
    pub(super) bad: HashSet<ChunkId>,
    pending: VecDeque<Pending<Checked>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        store: &'a Store,
        progress: &'a dyn Progress,
        report: &'a mut VerifyReport,
    ) -> Result<Self> {
        let index = store.index_of_all()?;
        Ok(Self { store, progress, report, index, bad: HashSet::new(), pending: VecDeque::new() })
    }

    /// Checks all packs, or those that hold what is wanted.
    pub(super) fn check(&mut self, pool: &Pool, wanted: Option<Frames>, depth: Depth) -> Result<()> {
        let mut ids: Vec<_> = self
            .index
            .packs()
            .iter()
            .copied()
            .filter(|id| wanted.as_ref().is_none_or(|w| w.contains_key(id)))
            .collect();
        ids.sort_unstable();
        match depth {
            Depth::Full if wanted.is_none() => self.progress.expect(self.stored_bytes()?, 0),
            Depth::Full => {}
            Depth::Structure | Depth::Sample { .. } => self.progress.expect(0, ids.len() as u64),
        }
        let mut choice = Choice::default();
        for id in ids {
            let Some(pack) = self.open(id)? else { continue };
            self.report.packs += 1;
            self.look_at(&pack);
            let chosen = wanted.as_ref().and_then(|wanted| wanted.get(&id));
            let frames: Vec<_> = (0u16..)
                .zip(&pack.footer().frames)
                .filter(|(number, _)| chosen.is_none_or(|chosen| chosen.contains(number)))
                .map(|(number, row)| (number, u64::from(row.len)))
                .collect();
            if depth == Depth::Full {
                self.read(pool, &pack, &frames)?;
                continue;
            }
            self.look_for_chunks(&pack);
            if let Depth::Sample { seed, .. } = depth {
                choice.offer(seed, id, &frames);
            }
            self.progress.advance(0, 1);
            self.stop_if_cancelled()?;
        }
        if wanted.is_none() {
            self.look_at_index();
        }
        if let Depth::Sample { percent, .. } = depth {
            self.read_chosen(pool, choice.take(percent))?;
        }
        while !self.pending.is_empty() {
            self.take()?;
        }
        self.spare_healthy_copies()
    }

    /// A pack, unless it went since the packs were listed, or cannot be read at all.
    fn open(&mut self, id: PackId) -> Result<Option<Arc<Pack>>> {
        let path = self.path(&id);
        match Pack::open(&**self.store.io(), &path, id) {
            Ok(pack) => Ok(Some(Arc::new(pack))),
            // What was needed of it is in others by now, or missed by whoever needs it.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if is_damage(&error) => {
                let chunks = self.index.listed_in(&id);
                self.note(Damage {
                    file: path,
                    pack: Some(id),
                    offset: None,
                    chunks,
                    detail: error.to_string(),
                });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn path(&self, id: &PackId) -> PathBuf {
        self.store.packs_dir().join(format!("{id}.{SEALED}"))
    }

    fn note(&mut self, damage: Damage) {
        self.bad.extend(&damage.chunks);
        self.report.damage.push(damage);
    }

    /// What is wrong with a pack's header and tables. Of one that has lost them the index may say what else it had.
    fn look_at(&mut self, pack: &Pack) {
        let (file, id) = (pack.path().to_owned(), Some(pack.id()));
        for (offset, detail) in pack.damage() {
            let (file, offset, detail) = (file.clone(), Some(*offset), detail.clone());
            self.note(Damage { file, pack: id, offset, chunks: Vec::new(), detail });
        }
        if pack.damage().is_empty() {
            return;
        }
        let found: HashSet<ChunkId> = pack.footer().chunks.iter().map(|row| row.id).collect();
        let mut chunks = self.index.listed_in(&pack.id());
        chunks.retain(|id| !found.contains(id));
        if !chunks.is_empty() {
            let detail = "the index knows chunks of it that no frame has any more".to_owned();
            self.note(Damage { file, pack: id, offset: None, chunks, detail });
        }
    }

    /// Whether the index knows what the pack has.
    fn look_for_chunks(&mut self, pack: &Pack) {
        let unknown = pack.footer().chunks.iter().filter(|row| self.index.lookup(&row.id).is_none());
        let chunks: Vec<ChunkId> = unknown.map(|row| row.id).collect();
        if !chunks.is_empty() {
            let detail = format!("the index does not know {} chunks of pack {}", chunks.len(), pack.id());
            let file = self.store.path().join("index");
            self.report.derived.push(Damage { file, pack: Some(pack.id()), offset: None, chunks, detail });
        }
    }

    fn look_at_index(&mut self) {
        for (file, detail) in self.index.damaged_files(&**self.store.io()) {
            let detail = detail.to_owned();
            self.report.derived.push(Damage { file, pack: None, offset: None, chunks: Vec::new(), detail });
        }
    }

    /// Has frames read, and takes what is done.
    fn read(&mut self, pool: &Pool, pack: &Arc<Pack>, frames: &[(u16, u64)]) -> Result<()> {
        for group in split(frames) {
            let (pack, store) = (Arc::clone(pack), self.store.local());
            self.pending.push_back(pool.submit(Rank::Beginning, move |tools| {
                let checked = check(&store, &pack, &group, tools);
                if checked.damage.is_empty() {
                    store.note_sound(pack.id(), &group);
                }
                checked
            }));
            while self.pending.len() > pool.threads() * 4 {
                self.take()?;
            }
        }
        Ok(())
    }

    fn read_chosen(&mut self, pool: &Pool, chosen: Vec<Chosen>) -> Result<()> {
        self.progress.expect(chosen.iter().map(|frame| frame.len).sum(), 0);
        for frames in chosen.chunk_by(|a, b| a.pack == b.pack) {
            let Some(pack) = self.open(frames[0].pack)? else { continue };
            let frames: Vec<_> = frames.iter().map(|frame| (frame.number, frame.len)).collect();
            self.read(pool, &pack, &frames)?;
        }
        Ok(())
    }

    fn stored_bytes(&self) -> Result<u64> {
        let dir = self.store.packs_dir();
        let listed = self.store.io().list(&dir).map_err(Error::io("list", dir))?;
        Ok(listed.iter().filter(|entry| entry.name.ends_with(SEALED)).map(|entry| entry.len).sum())
    }

    fn take(&mut self) -> Result<()> {
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        let checked = pending.wait();
        self.progress.advance(checked.stored_bytes, 0);
        self.report.frames += checked.frames;
        self.report.chunks += checked.chunks;
        self.report.plain_bytes += checked.plain_bytes;
        self.report.stored_bytes += checked.stored_bytes;
        checked.damage.into_iter().for_each(|damage| self.note(damage));
        self.stop_if_cancelled()
    }

    fn stop_if_cancelled(&self) -> Result<()> {
        if self.progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// A chunk that can be read all the same, from another pack, hurts no artifact.
    fn spare_healthy_copies(&mut self) -> Result<()> {
        let mut bad = std::mem::take(&mut self.bad);
        bad.retain(|id| self.store.chunk(id).is_err());
        self.bad = bad;
        Ok(())
    }
}

/// A frame that may be read.
struct Chosen {
    key: u64,
    pack: PackId,
    number: u16,
    len: u64,
}

/// Frames in an order of chance, which their names and a seed decide, whatever other frames there are.
#[derive(Default)]
struct Choice(Vec<Chosen>);

impl Choice {
    fn offer(&mut self, seed: u64, pack: PackId, frames: &[(u16, u64)]) {
        self.0.extend(frames.iter().map(|&(number, len)| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&seed.to_le_bytes()).update(&pack.0).update(&number.to_le_bytes());
            let hash = hasher.finalize();
            let key = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
            Chosen { key, pack, number, len }
        }));
    }

    /// So many of a hundred, at least one, in the order of packs and frames.
    fn take(self, percent: f64) -> Vec<Chosen> {
        let Self(mut frames) = self;
        frames.sort_unstable_by_key(|frame| frame.key);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count, which it does not pass"
        )]
        let count = (frames.len() as f64 * percent.clamp(0.0, 100.0) / 100.0).ceil() as usize;
        frames.truncate(count);
        frames.sort_unstable_by_key(|frame| (frame.pack, frame.number));
        frames
    }
}
