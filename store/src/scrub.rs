//! Reading everything again and again, slowly: what nobody reads rots unseen until it is needed.
//!
//! [`Scrub::step`] reads a little and says what it found; whoever calls it decides how fast, and has what is lost brought
//! from elsewhere. How far it is and what is damaged is in `cache/scrub`, so that the next process goes on. Packs are
//! read in the order of their ids; one that was sealed meanwhile is read at the end of the pass, and one that went is
//! no loss: what was needed of it is elsewhere.
//!
//! It reads the disk, not what the system keeps of it in memory, and leaves nothing there.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::block::Compressor;
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::pack::{Pack, SEALED};
use crate::pool::{Buffers, Tools};
use crate::store::{Store, is_damage};
use crate::time::now_ms;
use crate::verify::{Checked, Damage, check_frames};

/// Where it is kept how far it is.
const FILE: &str = "cache/scrub";
/// Stored bytes of a step, about.
const STEP_BYTES: u64 = 512 << 10;
/// Damaged places that are remembered, and chunks of each, at most.
const NOTED_MAX: usize = 1000;
const CHUNKS_MAX: usize = 4096;

/// A damaged place that was found, until it is mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// The pack, as text.
    pub pack: String,
    /// Where in it the damaged frame or part begins.
    pub offset: Option<u64>,
    /// The chunks that it does not hold any more, as text; the first 4,096.
    pub chunks: Vec<String>,
    /// How many of these cannot be read from anywhere here.
    pub lost: u64,
    /// What does not hold.
    pub detail: String,
    /// When it was found, in milliseconds since 1970.
    pub found_ms: u64,
}

/// A pass that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// When it began and ended, in milliseconds since 1970.
    pub began_ms: u64,
    /// The same.
    pub ended_ms: u64,
    /// Packs that it read.
    pub packs: u64,
    /// Bytes that it read.
    pub bytes: u64,
}

/// How far it is, and what is damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubState {
    /// The pack that is being read, as text, and the frame that is next.
    position: Option<(String, u16)>,
    /// When this pass began, in milliseconds since 1970; 0 between passes.
    pub began_ms: u64,
    /// Packs and bytes that it has read.
    pub packs: u64,
    /// The same.
    pub bytes: u64,
    /// The pass before it.
    pub last: Option<Pass>,
    /// What is damaged.
    pub damage: Vec<Noted>,
}

impl ScrubState {
    /// What a store's scrubber has written last; what is damaged without what is in packs that are gone by now. The usual
    /// where there was none.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let bytes = store.io().read(&store.path().join(FILE)).unwrap_or_default();
        let mut state: Self = serde_json::from_slice(&bytes).unwrap_or_default();
        state.damage.retain(|noted| is_there(store, &noted.pack));
        state
    }

    /// Chunks that are lost by what is damaged.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.damage.iter().map(|noted| noted.lost).sum()
    }
}

fn path_of(store: &Store, pack: &str) -> PathBuf {
    store.packs_dir().join(format!("{pack}.{SEALED}"))
}

fn is_there(store: &Store, pack: &str) -> bool {
    store.io().open(&path_of(store, pack)).is_ok()
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It read so many bytes of packs.
    Read {
        /// Bytes.
        bytes: u64,
        /// Chunks that it found damaged, and of which there is no sound copy here.
        lost: Vec<ChunkRef>,
    },
    /// All packs that there are have been read.
    PassEnded(Pass),
}

/// Reads all packs of a store, a little at a time.
pub struct Scrub {
    store: Store,
    state: ScrubState,
    tools: Tools,
    /// The pack that is read, with a file of its own, and the frame that is next.
    current: Option<(Arc<Pack>, u16)>,
    /// Packs of this pass that were read.
    done: HashSet<PackId>,
    is_saved: bool,
}

impl Scrub {
    /// Goes on where the one before it was.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        let tools = Tools {
            compressor: Compressor::default(),
            decompressor: crate::block::Decompressor::default(),
            buffers: Buffers::default(),
        };
        let (store, state) = (store.local(), ScrubState::of(store));
        Self { store, state, tools, current: None, done: HashSet::new(), is_saved: true }
    }

    /// How far it is, and what is damaged.
    #[must_use]
    pub fn state(&self) -> &ScrubState {
        &self.state
    }

    /// Reads the next frames, half a megabyte of them or one.
    ///
    /// # Errors
    /// [`Error::Io`] when the packs cannot be listed. Damage is no error, and neither is a pack that went.
    pub fn step(&mut self) -> Result<Step> {
        loop {
            let Some((pack, frame)) = self.current.take() else {
                match self.next_pack()? {
                    Some(id) => self.open(id),
                    None => return Ok(Step::PassEnded(self.end_pass())),
                }
                continue;
            };
            if usize::from(frame) < pack.footer().frames.len() {
                return Ok(self.read(&pack, frame));
            }
            self.done.insert(pack.id());
            self.state.packs += 1;
        }
    }

    /// The next pack of this pass: first by their ids, then those that came meanwhile.
    fn next_pack(&mut self) -> Result<Option<PackId>> {
        let here = crate::index::list_packs(&**self.store.io(), &self.store.packs_dir())?;
        if self.state.began_ms == 0 {
            (self.state.began_ms, self.state.packs, self.state.bytes) = (now_ms(), 0, 0);
        }
        let position = self.state.position.as_ref().and_then(|(pack, _)| pack.parse::<PackId>().ok());
        if let Some(position) = position.filter(|_| self.done.is_empty()) {
            // Another process read what is before it.
            self.done.extend(here.iter().filter(|id| **id < position));
        }
        let open = here.into_iter().filter(|id| !self.done.contains(id));
        Ok(open.min_by_key(|id| (position.is_some_and(|position| *id < position), *id)))
    }

    fn open(&mut self, id: PackId) {
        let path = path_of(&self.store, &id.to_string());
        let pack = match Pack::open(&**self.store.io(), &path, id) {
            Ok(pack) => Arc::new(pack),
            Err(error) => {
                self.done.insert(id);
                if is_damage(&error) {
                    let damage = Damage {
                        file: path,
                        pack: Some(id),
                        offset: None,
                        chunks: Vec::new(),
                        detail: error.to_string(),
                    };
                    self.note(damage);
                }
                return;
            }
        };
        for (offset, detail) in pack.damage() {
            let (file, offset, detail) = (path.clone(), Some(*offset), detail.clone());
            self.note(Damage { file, pack: Some(id), offset, chunks: Vec::new(), detail });
        }
        let at = match &self.state.position {
            Some((pack, frame)) if *pack == id.to_string() => *frame,
            _ => 0,
        };
        self.state.position = Some((id.to_string(), at));
        self.is_saved = false;
        self.current = Some((pack, at));
    }

    fn read(&mut self, pack: &Arc<Pack>, from: u16) -> Step {
        let (mut bytes, mut numbers) = (0, Vec::new());
        for (number, row) in (0u16..).zip(&pack.footer().frames).skip(usize::from(from)) {
            if bytes > 0 && bytes + u64::from(row.len) > STEP_BYTES {
                break;
            }
            bytes += u64::from(row.len);
            numbers.push(number);
        }
        let start = pack.footer().frames[usize::from(from)].offset;
        pack.forget_cached(start, bytes);
        let Checked { damage, .. } = check_frames(&self.store, pack, &numbers, &mut self.tools);
        pack.forget_cached(start, bytes);
        let next = from + u16::try_from(numbers.len()).expect("a pack has at most 65,535 frames");
        self.state.position = Some((pack.id().to_string(), next));
        self.state.bytes += bytes;
        self.current = Some((Arc::clone(pack), next));
        self.is_saved = false;
        let mut lost = Vec::new();
        // A pack that was collected meanwhile took with it what was damaged.
        if !damage.is_empty() && is_there(&self.store, &pack.id().to_string()) {
            lost.extend(damage.into_iter().flat_map(|damage| self.note(damage)));
        }
        Step::Read { bytes, lost }
    }

    /// Notes damage; gives what is lost by it.
    fn note(&mut self, damage: Damage) -> Vec<ChunkRef> {
        let Damage { pack: Some(pack), offset, chunks, detail, .. } = damage else { return Vec::new() };
        let pack = pack.to_string();
        let lost = self.lost_of(&chunks);
        tracing::error!(
            pack,
            offset,
            lost = lost.len(),
            detail,
            "damage was found by reading everything again"
        );
        self.state.damage.retain(|noted| (&noted.pack, noted.offset) != (&pack, offset));
        if self.state.damage.len() < NOTED_MAX {
            let named = chunks.iter().take(CHUNKS_MAX).map(ToString::to_string);
            self.state.damage.push(Noted {
                pack,
                offset,
                chunks: named.collect(),
                lost: lost.len() as u64,
                detail,
                found_ms: now_ms(),
            });
        }
        self.is_saved = false;
        lost
    }

    /// Those that cannot be read. Reading them notes the damaged places, so that others are preferred from now on.
    fn lost_of(&self, chunks: &[ChunkId]) -> Vec<ChunkRef> {
        let lost = chunks.iter().filter(|id| self.store.chunk(id).is_err());
        lost.map(|id| ChunkRef { id: *id, len: 0 }).collect()
    }

    /// Looks again at everything that is noted as damaged: forgets what holds by now, or is gone, and gives what is still
    /// lost.
    pub fn look_again(&mut self) -> Vec<ChunkRef> {
        let mut all_lost = Vec::new();
        for mut noted in std::mem::take(&mut self.state.damage) {
            if self.is_mended(&noted) {
                self.is_saved = false;
                continue;
            }
            let chunks: Vec<ChunkId> = noted.chunks.iter().filter_map(|id| id.parse().ok()).collect();
            let lost = self.lost_of(&chunks);
            self.is_saved &= noted.lost == lost.len() as u64;
            noted.lost = lost.len() as u64;
            all_lost.extend(lost);
            self.state.damage.push(noted);
        }
        all_lost
    }

    fn is_mended(&mut self, noted: &Noted) -> bool {
        let Ok(id) = noted.pack.parse() else { return true };
        let pack = match Pack::open(&**self.store.io(), &path_of(&self.store, &noted.pack), id) {
            Ok(pack) => pack,
            Err(error) => return !is_damage(&error),
        };
        let at = pack.footer().frames.iter().position(|row| Some(row.offset) == noted.offset);
        let frame = at.and_then(|at| u16::try_from(at).ok());
        pack.damage().is_empty()
            && frame.is_none_or(|frame| {
                check_frames(&self.store, &pack, &[frame], &mut self.tools).damage.is_empty()
            })
    }

    fn end_pass(&mut self) -> Pass {
        let ScrubState { began_ms, packs, bytes, .. } = self.state;
        let pass = Pass { began_ms, ended_ms: now_ms(), packs, bytes };
        self.state.last = Some(pass);
        (self.state.position, self.state.began_ms) = (None, 0);
        (self.state.packs, self.state.bytes) = (0, 0);
        self.done.clear();
        self.is_saved = false;
        pass
    }

    /// Writes down how far it is, if that is not written yet.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing is lost but the place to go on from.
    pub fn save(&mut self) -> Result<()> {
        if self.is_saved {
            return Ok(());
        }
        let path = self.store.path().join(FILE);
        // Texts and numbers always have a JSON form.
        let bytes = serde_json::to_vec(&self.state).unwrap_or_default();
        self.store.io().write_atomic(&path, &bytes).map_err(Error::io("write", path))?;
        self.is_saved = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
