//! A sorted run: the binary form of a part of the index, searched in place (docs/format.md, "Index run").
//!
//! ```text
//! header, 64 bytes: magic "CIDX" | version u16 = 1 | fan-out bits u8 | zero u8 | packs u32 | entries u32 | zero x 16
//!                   BLAKE3 of all after the header
//! entries           x (id 32, pack u16, frame u16, slot u16), ascending by id
//! fan-out           (2^bits + 1) x u32: the first entry whose id begins with these bits
//! packs             x id 32
//! ```
//!
//! Ids are uniformly distributed, so the fan-out narrows a search to ~64 entries and interpolation to two or three.
//! 38 bytes a chunk, and 1/16 byte of fan-out.

use super::Place;
use crate::block::format::{id_at, u16_at, u32_at};
use crate::id::{ChunkId, ID_LEN, PackId};
use crate::io::Bytes;

const MAGIC: [u8; 4] = *b"CIDX";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 64;
/// Bytes of an entry.
pub(super) const ENTRY_LEN: usize = ID_LEN + 6;
/// Packs in a run, at most.
pub(super) const PACKS_MAX: usize = 1 << 16;
/// Entries that share a fan-out bucket, about.
const BUCKET: usize = 64;
const FANOUT_BITS_MAX: u32 = 24;

/// One entry, as bytes.
pub(super) type Entry = [u8; ENTRY_LEN];

/// A sorted run.
pub struct Run {
    bytes: Bytes,
    packs: Vec<PackId>,
    entries: usize,
    fanout_bits: u32,
}

impl Run {
    /// Takes the bytes of a run. Only their shape is checked: see [`Run::checksum_holds`].
    ///
    /// # Errors
    /// What does not hold.
    pub fn open(bytes: Bytes) -> Result<Self, &'static str> {
        let header = bytes.get(..HEADER_LEN).ok_or("it is cut short")?;
        if header[..4] != MAGIC {
            return Err("it has another magic");
        }
        if u16_at(header, 4) != VERSION || header[7] != 0 || header[16..32] != [0; 16] {
            return Err("it has another version");
        }
        let fanout_bits = u32::from(header[6]);
        let (packs, entries) = (u32_at(header, 8) as usize, u32_at(header, 12) as usize);
        if fanout_bits > FANOUT_BITS_MAX || packs > PACKS_MAX {
            return Err("its counts pass the limits");
        }
        let packs_at = HEADER_LEN + entries * ENTRY_LEN + fanout_len(fanout_bits);
        if bytes.len() != packs_at + packs * ID_LEN {
            return Err("it has another length");
        }
        let packs = bytes[packs_at..].chunks_exact(ID_LEN).map(|id| PackId(id_at(id).0)).collect();
        Ok(Self { bytes, packs, entries, fanout_bits })
    }

    /// Lays out entries that are sorted and unique.
    pub(super) fn build(parts: &[Vec<Entry>], packs: Vec<PackId>) -> Self {
        let entries: usize = parts.iter().map(Vec::len).sum();
        let fanout_bits = (entries / BUCKET).max(1).ilog2().min(FANOUT_BITS_MAX);
        let len = HEADER_LEN + entries * ENTRY_LEN + fanout_len(fanout_bits) + packs.len() * ID_LEN;
        let mut bytes = Vec::with_capacity(len);
        bytes.resize(HEADER_LEN, 0);
        let mut fanout = Vec::with_capacity((1 << fanout_bits) + 1);
        let mut number = 0u32;
        for entry in parts.iter().flatten() {
            let bucket = bucket(prefix(entry), fanout_bits);
            fanout.resize(fanout.len().max(bucket + 1), number);
            number += 1;
            bytes.extend_from_slice(entry);
        }
        fanout.resize((1 << fanout_bits) + 1, number);
        for start in fanout {
            bytes.extend_from_slice(&start.to_le_bytes());
        }
        for pack in &packs {
            bytes.extend_from_slice(&pack.0);
        }
        let count = |n: usize| u32::try_from(n).expect("bounded by the format").to_le_bytes();
        let hash = blake3::hash(&bytes[HEADER_LEN..]);
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = u8::try_from(fanout_bits).expect("at most 24");
        bytes[8..12].copy_from_slice(&count(packs.len()));
        bytes[12..16].copy_from_slice(&count(entries));
        bytes[32..64].copy_from_slice(hash.as_bytes());
        Self { bytes: Bytes::Owned(bytes), packs, entries, fanout_bits }
    }

    /// Whether its bytes are those that were written.
    #[must_use]
    pub fn checksum_holds(&self) -> bool {
        self.bytes[32..64] == *blake3::hash(&self.bytes[HEADER_LEN..]).as_bytes()
    }

    /// Where a chunk lies.
    #[must_use]
    pub fn lookup(&self, id: &ChunkId) -> Option<Place> {
        let wanted = prefix(&id.0);
        let bucket = bucket(wanted, self.fanout_bits);
        let (low, high) = (self.fanout(bucket), self.fanout(bucket + 1).min(self.entries));
        if low >= high {
            return None;
        }
        let within = u128::from(wanted << self.fanout_bits);
        let guess = usize::try_from((within * (high - low) as u128) >> 64).unwrap_or(0);
        let mut at = low + guess;
        while at > low && self.prefix(at) >= wanted {
            at -= 1;
        }
        while at < high && self.prefix(at) < wanted {
            at += 1;
        }
        // Nearly always this is it, or nothing is: ids that share eight bytes are rare.
        while at < high && self.prefix(at) == wanted {
            if self.id(at) == id.0 {
                return self.place(at);
            }
            at += 1;
        }
        None
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The packs it covers.
    #[must_use]
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// Its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Its binary form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of all entries.
    pub(super) fn entries(&self) -> &[Entry] {
        self.bytes[HEADER_LEN..HEADER_LEN + self.entries * ENTRY_LEN].as_chunks().0
    }

    fn prefix(&self, at: usize) -> u64 {
        prefix(&self.bytes[HEADER_LEN + at * ENTRY_LEN..][..8])
    }

    fn id(&self, at: usize) -> &[u8] {
        &self.bytes[HEADER_LEN + at * ENTRY_LEN..][..ID_LEN]
    }

    fn fanout(&self, bucket: usize) -> usize {
        u32_at(&self.bytes, HEADER_LEN + self.entries * ENTRY_LEN + bucket * 4) as usize
    }

    fn place(&self, at: usize) -> Option<Place> {
        let entry = &self.bytes[HEADER_LEN + at * ENTRY_LEN..][..ENTRY_LEN];
        let pack = *self.packs.get(usize::from(u16_at(entry, ID_LEN)))?;
        Some(Place { pack, frame: u16_at(entry, ID_LEN + 2), slot: u16_at(entry, ID_LEN + 4) })
    }
}

fn fanout_len(bits: u32) -> usize {
    ((1 << bits) + 1) * 4
}

/// The first eight bytes of an id, as a number that sorts like the id.
pub(super) fn prefix(id: &[u8]) -> u64 {
    u64::from_be_bytes(id[..8].try_into().expect("an id has 32 bytes"))
}

fn bucket(prefix: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { usize::try_from(prefix >> (64 - bits)).expect("at most 24 bits") }
}
