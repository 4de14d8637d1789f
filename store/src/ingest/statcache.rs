//! Remembers what files held, so that a file whose status has not changed is not read again.
//!
//! A file is taken as unchanged when device, inode, length, modification and change time are what they were *and* both
//! times were older than the clock's grain when they were recorded: a write within the same tick leaves the times as
//! they are (the "racy git" problem, `Documentation/technical/racy-git.txt` in git; restic keeps the same rule). A file
//! that changed keeps its old content as a hint of where to cut. Where change times do not count ([`Stamps`]), the
//! rest decides.
//!
//! Beside the files it names all packs that what they held was found in or put into when they were remembered. Packs do not change, so while all of these
//! are there no chunk has to be looked for. When one has gone each chunk of each file is.
//!
//! One file for each set of paths that are added together, each choice of bounds and of stamps: `cache/stat/<16 hex digits>`. It is derived: unreadable,
//! damaged or of another version, it is as if there were none.
//!
//! ```text
//! magic "CSTC" | version u16 = 3 | zero u16 | BLAKE3 of the rest | length u64 of what follows | zstd of postcard of (Vec<PackId>, Vec<Row>)
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Stamps;
use super::source::Stamp;
use crate::chunker::CdcBounds;
use crate::content::{ChunkRef, Content};
use crate::id::{ChunkId, ContentId, PackId};
use crate::io::Io;

const MAGIC: [u8; 8] = *b"CSTC\x03\0\0\0";
const HEADER_LEN: usize = MAGIC.len() + 32;
/// Times and inode numbers compress well and fast; ids do not at any level.
const ZSTD_LEVEL: i32 = 1;
/// How many times longer rows may be than what they are compressed to; ids alone keep it below ten.
const RATIO_MAX: usize = 256;
/// Grain of timestamps that carry fractions of a second: a kernel tick, with room to spare.
const FINE_GRAIN_NS: i128 = 20_000_000;
/// Grain of file systems that keep whole or even seconds only.
const COARSE_GRAIN_NS: i128 = 2_000_000_000;

/// What a file held when it was last read.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    pub(super) content: Content,
    /// Bytes it held.
    pub(super) size: u64,
    /// The ELF machine number, 0 for other files.
    pub(super) machine: u16,
    /// Whether it still holds that: the status is the same and was recorded safely after the last write.
    pub(super) unchanged: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    racy: bool,
    machine: u16,
    content: Kept,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Kept {
    Inline(Vec<u8>),
    Chunks(Vec<(ChunkId, u32)>),
    Long(ContentId, u64),
}

/// The cache for one set of paths.
pub(super) struct StatCache {
    path: PathBuf,
    old: HashMap<(u64, u64), Row>,
    new: Vec<Row>,
    /// Where all that `old` holds lies; nothing is known where there is no file.
    packs: Vec<PackId>,
    started_ns: i128,
    /// Whether `new` says anything that the file does not.
    differs: bool,
}

impl StatCache {
    /// Loads what is remembered for `roots`, absolute paths in the order given, when they are cut within `bounds`.
    pub(super) fn load(
        io: &dyn Io,
        store: &Path,
        roots: &[PathBuf],
        bounds: CdcBounds,
        stamps: Stamps,
        started_ns: i128,
    ) -> Self {
        let mut key = blake3::Hasher::new();
        for bound in [bounds.min, bounds.avg, bounds.max] {
            key.update(&bound.to_le_bytes());
        }
        for root in roots {
            key.update(root.as_os_str().as_encoded_bytes());
            key.update(&[0]);
        }
        if stamps == Stamps::HardLinks {
            // No absolute path begins so.
            key.update(b"hard links");
        }
        let path = store.join("cache/stat").join(&key.finalize().to_hex()[..16]);
        let (packs, rows) = io.read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        let old = rows.into_iter().map(|row| ((row.dev, row.ino), row)).collect();
        Self { path, old, new: Vec::new(), packs, started_ns, differs: false }
    }

    /// What a file held, if it was ever read.
    pub(super) fn lookup(&self, stamp: &Stamp) -> Option<Remembered> {
        let row = self.old.get(&(stamp.dev, stamp.ino))?;
        let same = row.size == stamp.size
            && row.mtime == stamp.mtime
            && stamp.ctime.is_none_or(|ctime| row.ctime == ctime);
        let content = match &row.content {
            Kept::Inline(bytes) => Content::Inline(bytes.clone()),
            Kept::Chunks(list) => {
                Content::Chunks(list.iter().map(|&(id, len)| ChunkRef { id, len }).collect())
            }
            Kept::Long(root, chunks) => Content::Long { root: *root, chunks: *chunks },
        };
        Some(Remembered { content, size: row.size, machine: row.machine, unchanged: same && !row.racy })
    }

    /// The packs that all it remembers lies in.
    pub(super) fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// From now on all that is remembered lies in these.
    pub(super) fn set_packs(&mut self, mut packs: Vec<PackId>) {
        packs.sort_unstable();
        packs.dedup();
        if packs != self.packs {
            self.packs = packs;
            self.differs = true;
        }
    }

    /// Remembers a file that was read, or found unchanged.
    pub(super) fn record(&mut self, stamp: &Stamp, content: &Content, machine: u16, was_read: bool) {
        self.differs |= was_read;
        let content = match content {
            Content::Inline(bytes) => Kept::Inline(bytes.clone()),
            Content::Chunks(list) => Kept::Chunks(list.iter().map(|chunk| (chunk.id, chunk.len)).collect()),
            Content::Long { root, chunks } => Kept::Long(*root, *chunks),
        };
        let racy =
            was_read && (self.is_racy(stamp.mtime) || stamp.ctime.is_some_and(|ctime| self.is_racy(ctime)));
        let Stamp { dev, ino, size, mtime, ctime } = *stamp;
        let ctime = ctime.unwrap_or_default();
        self.new.push(Row { dev, ino, size, mtime, ctime, racy, machine, content });
    }

    fn is_racy(&self, (seconds, nanos): (i64, u32)) -> bool {
        let grain = if nanos == 0 { COARSE_GRAIN_NS } else { FINE_GRAIN_NS };
        i128::from(seconds) * 1_000_000_000 + i128::from(nanos) + grain >= self.started_ns
    }

    /// Writes what was recorded. Failure costs the next ingest time, and nothing else.
    pub(super) fn save(&self, io: &dyn Io) {
        if !self.differs && self.new.len() == self.old.len() {
            return;
        }
        let Some(bytes) = encode(&self.packs, &self.new) else { return };
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if let Err(error) = io.create_dir_all(dir).and_then(|()| io.write_atomic(&self.path, &bytes)) {
            tracing::debug!(path = %self.path.display(), %error, "cannot write the stat cache");
        }
    }
}

fn encode(packs: &[PackId], rows: &[Row]) -> Option<Vec<u8>> {
    let rows = postcard::to_stdvec(&(packs, rows)).ok()?;
    let packed = zstd::bulk::compress(&rows, ZSTD_LEVEL).ok()?;
    let body = [&(rows.len() as u64).to_le_bytes(), &packed[..]].concat();
    Some([&MAGIC[..], blake3::hash(&body).as_bytes(), &body].concat())
}

fn decode(bytes: &[u8]) -> Option<(Vec<PackId>, Vec<Row>)> {
    let (header, body) = bytes.split_at_checked(HEADER_LEN)?;
    if header[..MAGIC.len()] != MAGIC || header[MAGIC.len()..] != *blake3::hash(body).as_bytes() {
        return None;
    }
    let (len, packed) = body.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    if len / RATIO_MAX > packed.len() {
        return None;
    }
    let rows = zstd::bulk::decompress(packed, len).ok()?;
    postcard::from_bytes(&rows).ok()
}

/// How many files a cache remembers, if it is one: for who feeds decoders with anything.
pub(crate) fn decode_rows(bytes: &[u8]) -> Option<usize> {
    decode(bytes).map(|(_, rows)| rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunker::PACKAGE_BOUNDS;
    use crate::io::Os;

    const SECOND: i128 = 1_000_000_000;

    #[test]
    fn a_length_that_lies_costs_nothing() {
        let rows = postcard::to_stdvec(&(Vec::<PackId>::new(), Vec::<Row>::new())).unwrap();
        let packed = zstd::bulk::compress(&rows, ZSTD_LEVEL).unwrap();
        for (len, is_one) in
            [(1, false), (2, true), (u64::MAX, false), (1 << 45, false), (u64::from(u32::MAX), false)]
        {
            let body = [&len.to_le_bytes(), &packed[..]].concat();
            let bytes = [&MAGIC[..], blake3::hash(&body).as_bytes(), &body].concat();
            assert_eq!(decode_rows(&bytes).is_some(), is_one, "{len}");
        }
    }

    fn stamp(mtime: (i64, u32)) -> Stamp {
        Stamp { dev: 1, ino: 2, size: 3, mtime, ctime: Some(mtime) }
    }

    fn remembered(recorded: Stamp, now_ns: i128, asked: Stamp) -> Option<bool> {
        let store = tempfile::tempdir().unwrap();
        let roots = [PathBuf::from("/a")];
        let mut cache = StatCache::load(&Os, store.path(), &roots, PACKAGE_BOUNDS, Stamps::All, now_ns);
        cache.record(&recorded, &Content::Inline(vec![1, 2, 3]), 62, true);
        cache.save(&Os);
        let cache = StatCache::load(&Os, store.path(), &roots, PACKAGE_BOUNDS, Stamps::All, now_ns);
        cache.lookup(&asked).map(|found| found.unchanged)
    }

    #[test]
    fn a_file_is_unchanged_only_when_all_of_its_status_is() {
        let old = stamp((100, 5));
        let now = 200 * SECOND;
        assert_eq!(remembered(old, now, old), Some(true));
        assert_eq!(remembered(old, now, Stamp { size: 4, ..old }), Some(false));
        assert_eq!(remembered(old, now, Stamp { mtime: (100, 6), ..old }), Some(false));
        assert_eq!(remembered(old, now, Stamp { ctime: Some((101, 5)), ..old }), Some(false));
        assert_eq!(remembered(old, now, Stamp { ino: 9, ..old }), None);
    }

    #[test]
    fn a_file_written_within_the_clocks_grain_is_read_again() {
        let at = |mtime, now| remembered(stamp(mtime), now, stamp(mtime));
        assert_eq!(at((100, 500), 100 * SECOND + 1000), Some(false));
        assert_eq!(at((100, 500), 100 * SECOND + 30_000_000), Some(true));
        assert_eq!(at((100, 0), 101 * SECOND), Some(false), "perhaps whole seconds only");
        assert_eq!(at((100, 0), 103 * SECOND), Some(true));
        assert_eq!(at((300, 7), 200 * SECOND), Some(false), "from the future");
    }

    #[test]
    fn another_link_is_no_change_where_change_times_do_not_count() {
        let store = tempfile::tempdir().unwrap();
        let roots = [PathBuf::from("/a")];
        let load = |stamps| StatCache::load(&Os, store.path(), &roots, PACKAGE_BOUNDS, stamps, 200 * SECOND);
        let linked = Stamp { ctime: None, ..stamp((100, 5)) };
        let mut cache = load(Stamps::HardLinks);
        cache.record(&linked, &Content::Inline(vec![1, 2, 3]), 62, true);
        cache.save(&Os);
        let found = |stamps, asked| load(stamps).lookup(&asked).map(|found| found.unchanged);
        assert_eq!(found(Stamps::HardLinks, linked), Some(true));
        assert_eq!(found(Stamps::HardLinks, Stamp { mtime: (100, 6), ..linked }), Some(false));
        assert_eq!(found(Stamps::All, stamp((100, 5))), None, "each has a file of its own");
        let mut cache = load(Stamps::HardLinks);
        cache.record(&Stamp { mtime: (199, 990_000_000), ..linked }, &Content::Inline(vec![1]), 0, true);
        cache.save(&Os);
        let racy = Stamp { mtime: (199, 990_000_000), ..linked };
        assert_eq!(found(Stamps::HardLinks, racy), Some(false));
    }

    #[test]
    fn packs_are_remembered_and_a_change_of_them_is_written() {
        let store = tempfile::tempdir().unwrap();
        let load = || StatCache::load(&Os, store.path(), &[], PACKAGE_BOUNDS, Stamps::All, 200 * SECOND);
        assert!(load().packs().is_empty());
        let (one, two) = (PackId([1; 32]), PackId([2; 32]));
        for packs in [vec![two, one, two], vec![two]] {
            let mut cache = load();
            cache.record(&stamp((1, 1)), &Content::Inline(Vec::new()), 0, false);
            cache.set_packs(packs.clone());
            cache.save(&Os);
            let expected = if packs.len() == 1 { vec![two] } else { vec![one, two] };
            assert_eq!(load().packs(), expected);
        }
    }

    #[test]
    fn garbage_is_as_good_as_nothing() {
        let store = tempfile::tempdir().unwrap();
        let mut cache = StatCache::load(&Os, store.path(), &[], PACKAGE_BOUNDS, Stamps::All, 0);
        cache.record(&stamp((1, 1)), &Content::Inline(Vec::new()), 0, true);
        cache.save(&Os);
        let mut bytes = Os.read(&cache.path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        Os.write_atomic(&cache.path, &bytes).unwrap();
        assert!(StatCache::load(&Os, store.path(), &[], PACKAGE_BOUNDS, Stamps::All, 0).old.is_empty());
    }
}
