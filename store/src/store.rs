//! A store that is open for reading.
//!
//! Reading needs neither the lock nor the catalogue: what is named comes from the journal, where it lies from the packs'
//! footers, and both only ever grow, so that readers never wait for a writer. Each thing is opened when it is first
//! asked for.

mod format;
mod held;
mod places;
mod unfold;

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use format::FORMAT;
pub(crate) use format::{check_format, write_format};
use places::DamagedPlaces;
use unfold::{Below, Unfolding};

use crate::artifact::Artifact;
use crate::block::{BLOCK_TARGET, Block, Decompressor};
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::fetch::{Fetch, Why};
use crate::holds::Holds;
use crate::id::{ArtifactId, ChunkId, PackId};
use crate::index::{Index, IndexSummary, Overlay, Place};
use crate::io::{Io, Os};
use crate::journal::{self, Journal, Log, Position};
use crate::object::ObjectSource;
use crate::pack::{Pack, PackKind, SEALED};
use crate::presence::Known;
use crate::refs::View;
use crate::sending::SendingTools;

/// Places of a chunk that are tried, at most.
const PLACES_MAX: usize = 8;
/// Packs that are held open, at most.
const OPEN_PACKS_MAX: usize = 128;
/// Decoded bytes of blocks that are kept, about: enough for the nodes on the way to a file.
const KEPT_BLOCK_BYTES_MAX: usize = 2 << 20;

/// A store, open for reading. Clones share what is open.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Whether this clone asks others for what is not here.
    fetches: bool,
}

struct Inner {
    io: Arc<dyn Io>,
    path: PathBuf,
    /// Guards the view as last read. No other lock is taken under it.
    view: Mutex<Option<(Arc<View>, Position)>>,
    /// Guards the index as last opened. The overlay's lock is taken under it.
    index: Mutex<Option<Arc<Index>>>,
    overlay: Overlay,
    damaged: DamagedPlaces,
    /// Who counts on which packs, in this process. Beside a writer's it is of no use.
    holds: Arc<Holds>,
    /// Guards the open packs. A leaf lock.
    packs: Mutex<HashMap<PackId, Arc<Pack>>>,
    /// Guards the decoded blocks, oldest first. A leaf lock.
    blocks: Mutex<KeptBlocks>,
    /// Guards what is known to be missing of artifacts. The index is asked before it is taken.
    presence: Mutex<Known>,
    /// Guards the context that decodes blocks for readers without one of their own. `blocks` is not held with it.
    decompressor: Mutex<Decompressor>,
    unfolding: Unfolding,
    sending_tools: SendingTools,
    /// Guards who is asked for what is not here. A leaf lock.
    fetch: Mutex<Option<Arc<dyn Fetch>>>,
}

#[derive(Default)]
struct KeptBlocks {
    blocks: VecDeque<(PackId, u16, Arc<Block>)>,
    /// Their decoded bytes.
    bytes: usize,
}

impl KeptBlocks {
    fn forget(&mut self, pack: PackId) {
        self.blocks.retain(|(of, _, _)| *of != pack);
        self.bytes = self.blocks.iter().map(|(_, _, block)| block.capacity()).sum();
    }

    /// Drops the oldest until there is room for another; gives out the memory of one of them, since getting and freeing
    /// that much again and again leaves holes in the heap.
    fn make_room(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut room = Vec::new();
        while self.bytes + BLOCK_TARGET > bytes_max {
            let Some((_, _, block)) = self.blocks.pop_front() else { break };
            self.bytes -= block.capacity();
            if let Ok(block) = Arc::try_unwrap(block) {
                room = block.into_buffer();
            }
        }
        room
    }

    fn get(&self, place: Place) -> Option<Arc<Block>> {
        let is_it = |kept: &&(PackId, u16, Arc<Block>)| kept.0 == place.pack && kept.1 == place.frame;
        self.blocks.iter().find(is_it).map(|(_, _, block)| Arc::clone(block))
    }

    fn keep(&mut self, place: Place, block: &Arc<Block>) {
        self.bytes += block.capacity();
        self.blocks.push_back((place.pack, place.frame, Arc::clone(block)));
    }
}

/// A chunk's bytes, which hash to its id.
pub struct Chunk {
    block: Arc<Block>,
    slot: usize,
    range: Range<usize>,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.verified_run(self.slot..self.slot + 1)[..self.range.len()]
    }
}

/// Figures about a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackSummary {
    /// Its id.
    pub id: PackId,
    /// Whether it holds trees, chunk lists and artifacts, not files' bytes.
    pub metadata: bool,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Frames in it.
    pub frames: u64,
    /// Chunks in it.
    pub chunks: u64,
    /// Plain bytes of its chunks.
    pub plain_bytes: u64,
    /// Bytes of its frames.
    pub stored_bytes: u64,
}

/// Where a chunk lies, and what the frame around it weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The pack.
    pub pack: PackId,
    /// Offset of the frame in the pack.
    pub frame_offset: u64,
    /// Bytes of the frame.
    pub frame_stored: u32,
    /// Plain bytes of its block.
    pub frame_plain: u32,
}

impl Store {
    /// Opens the store in a folder.
    ///
    /// # Errors
    /// [`Error::Absent`] when there is none, [`Error::NewerFormat`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(Arc::new(Os), path)
    }

    /// Like [`Store::open`], on another file system.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(io: Arc<dyn Io>, path: &Path) -> Result<Self> {
        if !check_format(&*io, path)? {
            return Err(Error::Absent { what: format!("a store in {}", path.display()) });
        }
        Ok(Self::assemble(io, path))
    }

    pub(crate) fn assemble(io: Arc<dyn Io>, path: &Path) -> Self {
        let inner = Inner {
            io,
            path: path.to_owned(),
            view: Mutex::new(None),
            index: Mutex::new(None),
            overlay: Overlay::default(),
            damaged: DamagedPlaces::default(),
            holds: Arc::default(),
            packs: Mutex::new(HashMap::new()),
            blocks: Mutex::default(),
            presence: Mutex::default(),
            decompressor: Mutex::new(Decompressor::default()),
            unfolding: Unfolding::default(),
            sending_tools: SendingTools::default(),
            fetch: Mutex::new(None),
        };
        Self { inner: Arc::new(inner), fetches: true }
    }

    /// The store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) fn io(&self) -> &Arc<dyn Io> {
        &self.inner.io
    }

    /// The same store for whoever cannot wait for others, or must know what is here: it shares what is open, and fetches
    /// nothing.
    #[must_use]
    pub fn local(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), fetches: false }
    }

    pub(crate) fn is_local(&self) -> bool {
        !self.fetches
    }

    pub(crate) fn fetch_slot(&self) -> &Mutex<Option<Arc<dyn Fetch>>> {
        &self.inner.fetch
    }

    /// Who counts on which packs.
    pub(crate) fn holds(&self) -> &Arc<Holds> {
        &self.inner.holds
    }

    pub(crate) fn packs_dir(&self) -> PathBuf {
        self.inner.path.join("packs")
    }

    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.inner.path.join("journal")
    }

    /// What is named now.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the journal is, [`Error::Io`].
    pub fn view(&self) -> Result<Arc<View>> {
        let mut known = lock(&self.inner.view);
        let dir = self.journal_dir();
        let fresh = match &*known {
            Some((view, position)) => match Journal::refresh(&*self.inner.io, &dir, position)? {
                Some(newer) => newer,
                None => return Ok(Arc::clone(view)),
            },
            None => Journal::open_read(&*self.inner.io, &dir)?,
        };
        let view = Arc::new(fresh.0);
        *known = Some((Arc::clone(&view), fresh.1));
        Ok(view)
    }

    /// All changes of names, oldest first.
    ///
    /// # Errors
    /// [`Error::Io`]; the iterator gives [`Error::Damaged`] where the journal is.
    pub fn log(&self) -> Result<Log> {
        journal::log(Arc::clone(&self.inner.io), &self.journal_dir())
    }

    pub(crate) fn sending_tools(&self) -> &SendingTools {
        &self.inner.sending_tools
    }

    /// What is known to be missing of artifacts.
    pub(crate) fn presence(&self) -> MutexGuard<'_, Known> {
        lock(&self.inner.presence)
    }

    /// An open pack.
    pub(crate) fn pack(&self, id: PackId) -> Result<Arc<Pack>> {
        if let Some(pack) = lock(&self.inner.packs).get(&id) {
            return Ok(Arc::clone(pack));
        }
        if let Some(pack) = self.inner.overlay.pack(&id) {
            return Ok(pack);
        }
        let path = self.packs_dir().join(format!("{id}.{SEALED}"));
        let pack = Pack::open(&*self.inner.io, &path, id).map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => gone(id),
            error => error,
        })?;
        let pack = Arc::new(pack);
        // What a scan has found is kept: it may be all that there will ever be.
        if pack.is_unreadable() && pack.footer().frames.is_empty() {
            return Ok(pack);
        }
        let mut packs = lock(&self.inner.packs);
        if packs.len() >= OPEN_PACKS_MAX {
            packs.clear();
        }
        packs.insert(id, Arc::clone(&pack));
        Ok(pack)
    }

    /// Whether a pack is not there any more: it was collected since its name was read.
    pub(crate) fn is_gone(&self, id: PackId) -> bool {
        let path = self.packs_dir().join(format!("{id}.{SEALED}"));
        matches!(self.inner.io.open(&path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    }

    /// A chunk's verified bytes. What is not here is fetched, if there is somebody to ask.
    ///
    /// # Errors
    /// [`Error::Absent`] when it is not here, [`Error::Unavailable`] when nobody brings it, [`Error::Damaged`] when its
    /// bytes are not what its id says, [`Error::Io`].
    pub fn chunk(&self, id: &ChunkId) -> Result<Chunk> {
        self.read(ChunkRef { id: *id, len: 0 })
    }

    /// A chunk of this length; 0 is one that is not known.
    fn read(&self, wanted: ChunkRef) -> Result<Chunk> {
        let error = match self.read_here(&wanted.id, &Below::nothing(self)) {
            Err(error) if matches!(error, Error::Absent { .. }) || is_damage(&error) => error,
            result => return result,
        };
        let why = if is_damage(&error) { Why::Damaged } else { Why::Absent };
        match self.try_fetch(&[wanted], why) {
            Ok(true) => self.read_here(&wanted.id, &Below::nothing(self)),
            Ok(false) => Err(error),
            Err(unavailable) if why == Why::Absent => Err(unavailable),
            Err(unavailable) => Err(error.because(&unavailable)),
        }
    }

    /// A chunk, from whichever of its places holds it.
    fn read_here(&self, id: &ChunkId, below: &Below<'_>) -> Result<Chunk> {
        let place = self.locate(id)?.ok_or_else(|| Error::Absent { what: format!("chunk {id}") })?;
        let mut error = match self.chunk_at(id, place, below) {
            Err(error) if is_damage(&error) => error,
            result => return result,
        };
        let mut tried = vec![place];
        if self.renew_index()? {
            let place = self.locate(id)?.ok_or_else(|| self.lost(id, Some(place.pack)))?;
            match self.chunk_at(id, place, below) {
                Err(again) if is_damage(&again) => error = again,
                result => return result,
            }
            tried.push(place);
        }
        tried.iter().for_each(|place| self.note_damaged(*place));
        while tried.len() < PLACES_MAX
            && let Some(other) = self.copy_of(id, |place| !tried.contains(place))?
        {
            match self.chunk_at(id, other, below) {
                Err(again) if is_damage(&again) => self.note_damaged(other),
                result => return result,
            }
            tried.push(other);
        }
        Err(error)
    }

    fn chunk_at(&self, id: &ChunkId, place: Place, below: &Below<'_>) -> Result<Chunk> {
        let block = self.block(place, below)?;
        let slot = usize::from(place.slot);
        if block.header().chunks.get(slot).map(|(there, _)| there) != Some(id) {
            return Err(self.misplaced(id, place));
        }
        let range = match block.chunk(slot) {
            Ok(_) => block.range(slot).unwrap_or_default(),
            Err(error) => return Err(self.pack(place.pack)?.damaged(place.frame, &error)),
        };
        Ok(Chunk { block, slot, range })
    }

    fn misplaced(&self, id: &ChunkId, place: Place) -> Error {
        Error::Damaged {
            what: format!("chunk {id}"),
            chunk: Some(*id),
            pack: Some(place.pack),
            offset: None,
            detail: "it is not where the index says".to_owned(),
        }
    }

    fn block(&self, place: Place, below: &Below<'_>) -> Result<Arc<Block>> {
        if below.is_something() {
            return self.base_block(place, below);
        }
        if let Some(block) = lock(&self.inner.blocks).get(place) {
            return Ok(block);
        }
        let pack = self.pack(place.pack)?;
        let room = lock(&self.inner.blocks).make_room(KEPT_BLOCK_BYTES_MAX);
        let block = if pack.footer().kind == PackKind::Delta {
            // What it stands on may take long to read: others go on with the context that all share.
            self.unfolding().with_decompressor(|own| pack.block_on(below, place.frame, own, room))
        } else {
            pack.block_on(below, place.frame, &mut lock(&self.inner.decompressor), room)
        };
        let block = Arc::new(block?);
        lock(&self.inner.blocks).keep(place, &block);
        Ok(block)
    }

    /// An artifact.
    ///
    /// # Errors
    /// [`Error::Absent`] when it is not here and nothing names it, [`Error::Damaged`], [`Error::Io`].
    pub fn artifact(&self, id: &ArtifactId) -> Result<Artifact> {
        let bytes = self.chunk(&(*id).into()).map_err(|error| match error {
            Error::Absent { .. } => self.absent_artifact(id),
            error => error,
        })?;
        Artifact::decode(&bytes)
    }

    /// All sealed packs, in no order.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn packs(&self) -> Result<Vec<PackSummary>> {
        let mut listed = crate::index::list_packs(&*self.inner.io, &self.packs_dir())?;
        let condemned = self.holds().condemned();
        listed.retain(|id| !condemned.contains(id));
        let mut summaries = Vec::with_capacity(listed.len());
        for id in listed {
            match self.pack(id) {
                Ok(pack) => summaries.push(summary(&pack)),
                Err(_) if self.is_gone(id) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(summaries)
    }

    /// Figures about the index.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn index_summary(&self) -> Result<IndexSummary> {
        Ok(self.index()?.summary())
    }
}

/// Objects are asked for because others name them.
impl ObjectSource for Store {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.held_chunk(id).map(|chunk| Arc::from(&*chunk))
    }
}

/// Whether an error says that bytes here are not what they should be, or that the disk cannot read them.
pub(crate) fn is_damage(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } => true,
        Error::Io { source, .. } => source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()),
        _ => false,
    }
}

fn gone(id: PackId) -> Error {
    let detail = "its file is gone".to_owned();
    Error::Damaged { what: format!("pack {id}"), chunk: None, pack: Some(id), offset: None, detail }
}

fn summary(pack: &Pack) -> PackSummary {
    let footer = pack.footer();
    let stored_bytes = footer.frames.iter().map(|row| u64::from(row.len)).sum();
    PackSummary {
        id: pack.id(),
        metadata: footer.kind == PackKind::Metadata,
        file_bytes: pack.file_bytes(),
        frames: footer.frames.len() as u64,
        chunks: footer.chunks.len() as u64,
        plain_bytes: footer.frames.iter().map(|row| u64::from(row.plain_len)).sum(),
        stored_bytes,
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is replaced whole, so a panic elsewhere leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
