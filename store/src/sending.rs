//! What a store sends to others: which chunks are here, those chunks as block frames, and what one artifact has that
//! another has not.
//!
//! A frame travels as it lies in its pack wherever at least [`COPIED_PARTS_MIN`] of 16 parts of its plain bytes are
//! wanted: one read, no decoding, its checksums looked at. Of other frames the wanted chunks are verified and encoded
//! anew, several frames' together; and so are those of all frames that stand on others. Whoever receives frames hashes every chunk, so nothing here has to be believed; what
//! is checked is checked so that a disk that rots here is not taken for a lie there.
//!
//! Invariants:
//! - every wanted chunk is sent or named absent, and nothing is named absent that was sent;
//! - what is held in memory is bounded by a window of `WINDOW_MAX` ids and two blocks, however much is wanted.
//!
//! [`Store::lacking_objects`] and [`Store::lacking_chunks`] are in `lacking`. Nothing here fetches from anybody.

pub(crate) mod lacking;
mod plan;
mod tools;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec;

pub use lacking::Lacking;
use plan::Step;
pub(crate) use tools::SendingTools;
use tools::Tools;

use crate::block::{BlockBuilder, FrameError, FrameHeader};
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::pack::{Pack, PackKind};
use crate::store::Store;

/// A frame is sent as it is if so many 16ths of its plain bytes are wanted.
pub const COPIED_PARTS_MIN: u64 = 15;
/// Ids that are looked at together: some 64 MiB of files. A frame is asked for once in a window however its chunks are
/// ordered there.
const WINDOW_MAX: usize = 4096;
/// Chunks that are not found where the index looks first, and are looked for thoroughly in one question.
const THOROUGH_MAX: usize = 16;

/// A part of what is sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A block frame, and whether it holds bytes of files or metadata objects. It may hold chunks that were not wanted.
    Frame(PackKind, Vec<u8>),
    /// Wanted chunks that are not here, or damaged.
    Absent(Vec<ChunkId>),
}

/// Iterator over what was wanted: see [`Store::sending`].
pub struct Sending {
    store: Store,
    wanted: vec::IntoIter<ChunkId>,
    /// Ids that belong to the next window.
    carried: Vec<ChunkId>,
    steps: VecDeque<Step>,
    /// Chunks that are being encoded anew.
    group: BlockBuilder,
    group_kind: PackKind,
    /// What is sent next.
    ready: VecDeque<Piece>,
    failed: bool,
}

/// A sealed pack as a file, for whoever wants a range of it.
pub struct PackFile(Arc<Pack>);

impl PackFile {
    /// Bytes of the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.file_bytes()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Io`], also where the file ends before that.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
}

impl Store {
    /// Whether each of some chunks is here. Whether its bytes hold is not looked at.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn have(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        Ok(self.places(ids)?.into_iter().map(|place| place.is_some()).collect())
    }

    /// Sends chunks, of files or objects, in about this order: a frame comes where the first of its wanted chunks is due,
    /// and what is absent comes before other parts of about the same place. Each chunk is sent once within some
    /// thousand ids, however often it is named.
    #[must_use]
    pub fn sending(&self, wanted: Vec<ChunkId>) -> Sending {
        Sending {
            store: self.local(),
            wanted: wanted.into_iter(),
            carried: Vec::new(),
            steps: VecDeque::new(),
            group: BlockBuilder::default(),
            group_kind: PackKind::Data,
            ready: VecDeque::new(),
            failed: false,
        }
    }

    /// A sealed pack. One of deltas is not for others, who need not have what its frames stand on.
    ///
    /// # Errors
    /// [`Error::Absent`] when it is not here, [`Error::Io`].
    pub fn pack_file(&self, id: &PackId) -> Result<PackFile> {
        let absent = || Error::Absent { what: format!("pack {id}") };
        if !self.index_now()?.1.contains(id) {
            return Err(absent());
        }
        match self.pack(*id) {
            Ok(pack) if pack.footer().kind == PackKind::Delta => Err(absent()),
            Ok(pack) => Ok(PackFile(pack)),
            Err(Error::Damaged { .. }) => Err(absent()),
            Err(error) => Err(error),
        }
    }

    /// What chunks come to where they lie: of each its part of the frame that it lies in. Holes count nothing, and chunks
    /// that are not here their plain bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn stored_size(&self, chunks: &[ChunkRef]) -> Result<u64> {
        let mut total = 0;
        let mut open: Option<Arc<Pack>> = None;
        for window in chunks.chunks(WINDOW_MAX) {
            let stored: Vec<&ChunkRef> = window.iter().filter(|chunk| !chunk.is_hole()).collect();
            let ids: Vec<ChunkId> = stored.iter().map(|chunk| chunk.id).collect();
            for (chunk, place) in stored.into_iter().zip(self.places(&ids)?) {
                let len = u64::from(chunk.len);
                let Some(Place { pack: id, frame, .. }) = place else {
                    total += len;
                    continue;
                };
                let is_it = |pack: &Arc<Pack>| pack.id() == id;
                let (pack, frame) = match (open.take().filter(is_it), place) {
                    (Some(pack), _) => (pack, frame),
                    (None, Some(place)) => match self.open_place(&chunk.id, place)? {
                        Some((pack, now)) => (pack, now.frame),
                        None => {
                            total += len;
                            continue;
                        }
                    },
                    (None, None) => continue,
                };
                let row = pack.row(frame);
                total +=
                    row.map_or(len, |row| (len * u64::from(row.len)).div_ceil(row.plain_len.max(1).into()));
                open = Some(pack);
            }
        }
        Ok(total)
    }

    /// Where chunks lie soundly, as far as that is known. One look at the packs that there are now serves all of them.
    fn places(&self, ids: &[ChunkId]) -> Result<Vec<Option<Place>>> {
        let mut places = ids.iter().map(|id| self.sound_place(id)).collect::<Result<Vec<_>>>()?;
        if places.iter().all(Option::is_some) {
            return Ok(places);
        }
        let mut thorough = THOROUGH_MAX;
        self.index_now()?;
        for (id, place) in ids.iter().zip(&mut places).filter(|(_, place)| place.is_none()) {
            *place = self.sound_place(id)?;
            if place.is_none() && thorough > 0 {
                thorough -= 1;
                self.locate(id)?;
                *place = self.sound_place(id)?;
            }
        }
        Ok(places)
    }
}

impl Sending {
    /// Goes on until something is ready, or everything is sent.
    fn advance(&mut self) -> Result<()> {
        while self.ready.is_empty() {
            if let Some(step) = self.steps.pop_front() {
                self.take(step)?;
            } else if !self.plan()? {
                self.close_group();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Plans the next window; whether there is one.
    fn plan(&mut self) -> Result<bool> {
        let mut window = std::mem::take(&mut self.carried);
        let room = WINDOW_MAX - window.len();
        window.extend(self.wanted.by_ref().take(room));
        if window.is_empty() {
            return Ok(false);
        }
        let places = self.store.places(&window)?;
        let mut steps = plan::steps(&window, &places);
        // The last frame may go on in the next window.
        if self.wanted.len() > 0
            && steps.len() > 1
            && let Some(Step::Frame { chunks, .. }) = steps.pop_back()
        {
            self.carried = chunks.into_iter().map(|(_, id)| id).collect();
        }
        self.steps = steps;
        Ok(true)
    }

    fn take(&mut self, step: Step) -> Result<()> {
        let (pack, frame, chunks) = match step {
            Step::Absent(ids) => {
                self.ready.push_back(Piece::Absent(ids));
                return Ok(());
            }
            Step::Frame { pack, frame, chunks } => (pack, frame, chunks),
        };
        let (pack, bytes) =
            match self.store.pack(pack).and_then(|pack| pack.frame(frame).map(|bytes| (pack, bytes))) {
                Ok(read) => read,
                // Collected since it was looked up, or damaged as a whole.
                Err(Error::Damaged { .. }) => return self.send_others(None, &chunks),
                Err(error) => return Err(error),
            };
        let kind = pack.footer().kind.plain();
        match is_to_be_copied(&bytes, &chunks) {
            Ok(true) => {
                self.close_group();
                self.ready.push_back(Piece::Frame(kind, bytes));
                Ok(())
            }
            Ok(false) => self.encode_anew(&pack, frame, &bytes, &chunks),
            // It is told in terms of others, which whoever receives it need not have.
            Err(FrameError::Codec(_)) if pack.footer().kind == PackKind::Delta => {
                self.encode_anew(&pack, frame, &bytes, &chunks)
            }
            Err(_) => self.send_others(Some(kind), &chunks),
        }
    }

    /// Sends some chunks of a frame.
    fn encode_anew(
        &mut self,
        pack: &Pack,
        frame: u16,
        bytes: &[u8],
        chunks: &[(u16, ChunkId)],
    ) -> Result<()> {
        let kind = pack.footer().kind.plain();
        let mut tools = self.store.sending_tools().take();
        let decoded = tools.decode(&self.store, pack, frame, bytes);
        let Ok(block) = decoded else {
            self.store.sending_tools().give(tools);
            return self.send_others(Some(kind), chunks);
        };
        let mut bad = Vec::new();
        for (slot, id) in chunks {
            let is_it = block.header().chunks.get(usize::from(*slot)).is_some_and(|(there, _)| there == id);
            match block.chunk(usize::from(*slot)) {
                Ok(bytes) if is_it => self.add_to_group(kind, *id, bytes, &mut tools),
                _ => bad.push((*slot, *id)),
            }
        }
        tools.give_back(block);
        self.store.sending_tools().give(tools);
        if bad.is_empty() { Ok(()) } else { self.send_others(Some(kind), &bad) }
    }

    /// Sends chunks that their frame does not hold from wherever else they are, as what they are, or what they are there.
    fn send_others(&mut self, kind: Option<PackKind>, chunks: &[(u16, ChunkId)]) -> Result<()> {
        let mut absent = Vec::new();
        for (_, id) in chunks {
            // It remembers what does not hold; the rest of a damaged frame is as good as any.
            match self.store.chunk(id) {
                Ok(bytes) => {
                    let kind = match kind {
                        Some(kind) => kind,
                        None => self.kind_of(id)?,
                    };
                    let mut tools = self.store.sending_tools().take();
                    self.add_to_group(kind, *id, &bytes, &mut tools);
                    self.store.sending_tools().give(tools);
                }
                Err(Error::Damaged { .. } | Error::Absent { .. }) => absent.push(*id),
                Err(error) => return Err(error),
            }
        }
        if !absent.is_empty() {
            self.ready.push_back(Piece::Absent(absent));
        }
        Ok(())
    }

    /// What a chunk is where it lies now.
    fn kind_of(&self, id: &ChunkId) -> Result<PackKind> {
        let place = self.store.locate(id)?;
        let opened = place.map(|place| self.store.open_place(id, place)).transpose()?.flatten();
        Ok(opened.map_or(PackKind::Data, |(pack, _)| pack.footer().kind.plain()))
    }

    fn add_to_group(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8], tools: &mut Tools) {
        if kind != self.group_kind || self.group.is_full_for(bytes.len()) {
            self.encode_group(tools);
            self.group_kind = kind;
        }
        self.group.push(id, bytes);
    }

    /// What was collected goes before whatever comes next.
    fn close_group(&mut self) {
        if !self.group.is_empty() {
            let mut tools = self.store.sending_tools().take();
            self.encode_group(&mut tools);
            self.store.sending_tools().give(tools);
        }
    }

    fn encode_group(&mut self, tools: &mut Tools) {
        if self.group.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.group);
        let bytes = tools.encode(group);
        self.ready.push_back(Piece::Frame(self.group_kind, bytes));
    }
}

impl Iterator for Sending {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.advance() {
            Ok(()) => self.ready.pop_front().map(Ok),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// Whether a frame is sent as it is.
///
/// # Errors
/// [`FrameError`] when it is not the frame that the index says, or a checksum does not hold.
fn is_to_be_copied(frame: &[u8], chunks: &[(u16, ChunkId)]) -> Result<bool, FrameError> {
    let (header, header_len) = FrameHeader::decode(frame)?;
    if header.frame_len() != frame.len() {
        return Err(FrameError::Lengths);
    }
    let mut wanted = 0;
    for (slot, id) in chunks {
        match header.chunks.get(usize::from(*slot)) {
            Some((there, len)) if there == id => wanted += u64::from(*len),
            _ => return Err(FrameError::Slot),
        }
    }
    let copied = wanted * 16 >= u64::from(header.plain_len) * COPIED_PARTS_MIN;
    if copied && crc32c::crc32c(&frame[header_len..]) != header.payload_crc {
        return Err(FrameError::PayloadChecksum);
    }
    Ok(copied)
}
