//! What frames of packs of deltas stand on: chunks wherever they are, which may stand on others in turn.
//!
//! Bounded by the number of levels, and by that of the frames that are decoded for one, for nothing here believes that a
//! pack was written by a writer that kept to its rules. A base that does not hold makes all damaged that stands on it: then
//! other copies of that are looked for, and if there are none it is fetched itself, not what it stood on.
//!
//! Blocks with bases are kept apart from those that readers ask for: chunks that lie together mostly stand on chunks that
//! lie together.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use cairn_delta::reloc::Map;

use super::{KeptBlocks, Store, is_damage, lock};
use crate::block::{BASE_BYTES_MAX, Based, Bases, Block, Decompressor, FrameError, MAP_BYTES_MAX, Undecoded};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::pack::Pack;

/// How many frames may stand on one another. Writers keep to fewer.
const LEVELS_MAX: u8 = 8;
/// Frames that are decoded for one, at most.
const FRAMES_MAX: u32 = 4096;
/// Decoded bytes of blocks with bases that are kept, about: of a predicted file each block may stand on places all over the
/// other one.
const KEPT_BYTES_MAX: usize = 48 << 20;
/// Maps that are kept, at most, and bytes that these are in the store: in memory they take some times as much.
const MAPS_MAX: usize = 8;
const MAP_BYTES_KEPT_MAX: usize = 4 << 20;
/// Contexts that are kept, at most.
const DECOMPRESSORS_MAX: usize = 4;

/// What reading bases takes, shared by all readers.
#[derive(Default)]
pub(super) struct Unfolding {
    /// Guards the decoded blocks with bases, oldest first. A leaf lock.
    blocks: Mutex<KeptBlocks>,
    /// Guards the maps that were read, the one that was asked for last at the end. A leaf lock.
    maps: Mutex<Vec<KeptMap>>,
    /// Guards the contexts that nobody is using. A leaf lock.
    spare: Mutex<Vec<Decompressor>>,
}

/// A map, by the chunks that it is.
struct KeptMap {
    ids: Box<[ChunkId]>,
    bytes: usize,
    map: Arc<Map>,
}

impl Unfolding {
    fn kept_map(&self, ids: &[ChunkId]) -> Option<Arc<Map>> {
        let mut maps = lock(&self.maps);
        let at = maps.iter().position(|kept| *kept.ids == *ids)?;
        maps[at..].rotate_left(1);
        maps.last().map(|kept| Arc::clone(&kept.map))
    }

    fn keep_map(&self, ids: &[ChunkId], bytes: usize, map: &Arc<Map>) {
        let mut maps = lock(&self.maps);
        maps.push(KeptMap { ids: ids.into(), bytes, map: Arc::clone(map) });
        let is_too_much = |maps: &[KeptMap]| {
            maps.len() > MAPS_MAX || maps.iter().map(|kept| kept.bytes).sum::<usize>() > MAP_BYTES_KEPT_MAX
        };
        while maps.len() > 1 && is_too_much(&maps) {
            maps.remove(0);
        }
    }

    pub(super) fn forget(&self, pack: PackId) {
        lock(&self.blocks).forget(pack);
    }

    /// Lends a context of one's own.
    pub(super) fn with_decompressor<T>(&self, work: impl FnOnce(&mut Decompressor) -> T) -> T {
        let spare = lock(&self.spare).pop();
        let mut decompressor = spare.unwrap_or_default();
        let result = work(&mut decompressor);
        let mut spare = lock(&self.spare);
        if spare.len() < DECOMPRESSORS_MAX {
            spare.push(decompressor);
        }
        result
    }
}

/// How far a reader is below the frame that was asked for.
pub(super) struct Below<'a> {
    store: &'a Store,
    levels: u8,
    /// Frames that may still be decoded.
    left: LeftFrames<'a>,
}

enum LeftFrames<'a> {
    Own(Cell<u32>),
    Shared(&'a Cell<u32>),
}

impl<'a> Below<'a> {
    /// Nothing was decoded yet.
    pub(super) fn nothing(store: &'a Store) -> Self {
        Self { store, levels: 0, left: LeftFrames::Own(Cell::new(FRAMES_MAX)) }
    }

    pub(super) fn is_something(&self) -> bool {
        self.levels > 0
    }

    fn left(&self) -> &Cell<u32> {
        match &self.left {
            LeftFrames::Own(left) => left,
            LeftFrames::Shared(left) => left,
        }
    }

    /// Reads chunks of at most `bytes_max` bytes in all.
    fn read_up_to(&self, ids: &[ChunkId], bytes_max: usize) -> std::result::Result<Based, Undecoded> {
        let deeper = self.deeper().ok_or(FrameError::Depth)?;
        let mut based = Based::default();
        for id in ids {
            match self.store.read_here(id, &deeper) {
                Ok(chunk) => based.push(&chunk),
                Err(error) if is_damage(&error) || matches!(error, Error::Absent { .. }) => {
                    return Err(FrameError::Base(*id).into());
                }
                Err(error) => return Err(Undecoded::Failed(error)),
            }
            if based.bytes.len() > bytes_max {
                return Err(FrameError::Lengths.into());
            }
        }
        Ok(based)
    }

    fn deeper(&self) -> Option<Below<'_>> {
        let levels = Some(self.levels + 1).filter(|levels| *levels <= LEVELS_MAX)?;
        Some(Below { store: self.store, levels, left: LeftFrames::Shared(self.left()) })
    }
}

impl Bases for Below<'_> {
    fn read(&self, ids: &[ChunkId]) -> std::result::Result<Based, Undecoded> {
        self.read_up_to(ids, BASE_BYTES_MAX)
    }

    fn map(&self, ids: &[ChunkId]) -> std::result::Result<Arc<Map>, Undecoded> {
        let unfolding = self.store.unfolding();
        if let Some(map) = unfolding.kept_map(ids) {
            return Ok(map);
        }
        let bytes = self.read_up_to(ids, MAP_BYTES_MAX)?.bytes;
        let map = Arc::new(Map::from_bytes(&bytes).map_err(|_| FrameError::Decompress)?);
        unfolding.keep_map(ids, bytes.len(), &map);
        Ok(map)
    }
}

impl Store {
    pub(super) fn unfolding(&self) -> &Unfolding {
        &self.inner.unfolding
    }

    /// A block with a base.
    pub(super) fn base_block(&self, place: Place, below: &Below<'_>) -> Result<Arc<Block>> {
        if let Some(block) = lock(&self.unfolding().blocks).get(place) {
            return Ok(block);
        }
        let pack = self.pack(place.pack)?;
        let left = below.left();
        left.set(left.get().checked_sub(1).ok_or_else(|| pack.damaged(place.frame, &FrameError::Depth))?);
        let room = lock(&self.unfolding().blocks).make_room(KEPT_BYTES_MAX);
        let decode = |own: &mut Decompressor| pack.block_on(below, place.frame, own, room);
        let block = Arc::new(self.unfolding().with_decompressor(decode)?.verified());
        lock(&self.unfolding().blocks).keep(place, &block);
        Ok(block)
    }

    /// A frame of a pack, decoded, whatever it stands on: as [`Pack::block`].
    pub(crate) fn block_in(
        &self,
        pack: &Pack,
        number: u16,
        decompressor: &mut Decompressor,
        buffer: Vec<u8>,
    ) -> Result<Block> {
        pack.block_on(&Below::nothing(self), number, decompressor, buffer)
    }

    /// The bytes of a frame of a pack, decoded, whatever it stands on. All of it has to hold.
    pub(crate) fn decode_in(
        &self,
        pack: &Pack,
        number: u16,
        frame: &[u8],
        decompressor: &mut Decompressor,
        buffer: Vec<u8>,
    ) -> Result<Block> {
        pack.decode(frame, &Below::nothing(self), decompressor, buffer).map_err(|error| match error {
            Undecoded::Frame(damage) => pack.damaged(number, &damage),
            Undecoded::Failed(error) => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cairn_delta::{Effort, prefix};

    use super::*;
    use crate::block::{Codec, Frame, FrameHeader};
    use crate::io::{Io, Sim};
    use crate::pack::{PackKind, PackWriter};

    const ROOT: &str = "/srv/store";

    fn bytes(number: u64) -> Vec<u8> {
        let mut bytes = vec![0; 3000];
        blake3::Hasher::new().update(b"all the same").finalize_xof().fill(&mut bytes);
        bytes[100..108].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    fn id(number: u64) -> ChunkId {
        ChunkId::of(&bytes(number))
    }

    /// A frame of one chunk that is told in terms of another.
    fn told(number: u64, base: u64) -> Frame {
        let payload = prefix::Encoder::new(Effort::Fast).encode(&bytes(base), &bytes(number));
        Frame::of_delta(Codec::Prefix, vec![(id(number), 3000)], vec![id(base)], &payload).unwrap()
    }

    /// A store of a chunk that stands on nothing, and these frames.
    fn store(frames: &[Frame]) -> Store {
        let sim: Arc<dyn Io> = Arc::new(Sim::new(0));
        let root = Path::new(ROOT);
        sim.create_dir_all(&root.join("packs")).unwrap();
        crate::store::write_format(&*sim, root).unwrap();
        let mut plain = crate::block::BlockBuilder::default();
        plain.push(id(0), &bytes(0));
        let (plain, _) = plain.finish(&mut crate::block::Compressor::default());
        for (kind, frames) in [(PackKind::Data, &[plain][..]), (PackKind::Delta, frames)] {
            let mut writer = PackWriter::create(Arc::clone(&sim), &root.join("packs"), kind).unwrap();
            frames.iter().for_each(|frame| _ = writer.append(frame).unwrap());
            writer.seal().unwrap();
        }
        Store::open_with(sim, root).unwrap()
    }

    #[test]
    fn frames_stand_on_one_another_to_a_bound() {
        let frames: Vec<Frame> = (1..=12).map(|number| told(number, number - 1)).collect();
        let store = store(&frames);
        for number in 0..=u64::from(LEVELS_MAX) {
            assert_eq!(*store.chunk(&id(number)).unwrap(), bytes(number)[..]);
        }
        let fresh = Store::open_with(Arc::clone(store.io()), Path::new(ROOT)).unwrap();
        let error = fresh.chunk(&id(12)).err().unwrap();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_circle_ends_in_an_error() {
        let store = store(&[told(1, 2), told(2, 3), told(3, 1), told(4, 4)]);
        for number in 1..=4 {
            assert!(matches!(store.chunk(&id(number)), Err(Error::Damaged { .. })));
        }
        assert!(store.chunk(&id(0)).is_ok());
    }

    #[test]
    fn what_stands_on_what_is_not_here_is_damaged() {
        let store = store(&[told(1, 7)]);
        let error = store.chunk(&id(1)).err().unwrap();
        assert!(error.to_string().contains(&id(7).to_string()), "{error}");
    }

    #[test]
    fn headers_say_what_a_frame_stands_on_and_only_where_it_may() {
        let frame = told(1, 0);
        let (header, len) = FrameHeader::decode_delta(&frame.bytes).unwrap();
        assert_eq!((header.bases, len), (vec![id(0)], FrameHeader::encoded_len(1, 1)));
        assert_eq!(FrameHeader::decode(&frame.bytes).unwrap_err(), FrameError::Codec(2));
        let mut wrong = frame.header.clone();
        wrong.bases.clear();
        assert_eq!(FrameHeader::decode_delta(&wrong.encode()).unwrap_err(), FrameError::Codec(2));
        let mut wrong = frame.header.clone();
        wrong.codec = Codec::Zstd;
        assert_eq!(FrameHeader::decode_delta(&wrong.encode()).unwrap_err(), FrameError::Codec(1));
        // In a pack of another kind it is no frame.
        let sim: Arc<dyn Io> = Arc::new(Sim::new(0));
        let mut writer = PackWriter::create(Arc::clone(&sim), Path::new("/"), PackKind::Data).unwrap();
        writer.append(&frame).unwrap();
        let pack = writer.seal().unwrap();
        let path = Path::new("/").join(format!("{pack}.pack"));
        let pack = Pack::open(&*sim, &path, pack).unwrap();
        let block = pack.block(0, &mut Decompressor::default(), Vec::new());
        assert!(block.is_err() || block.unwrap().chunk(0).is_err());
    }
}
