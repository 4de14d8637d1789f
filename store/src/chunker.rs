//! Where a file is cut into chunks.
//!
//! Two ways, chosen by the file's content alone, so that equal files are cut alike everywhere:
//! - content-defined (FastCDC, the 2020 variant, normalisation level 1: Xia et al., "The Design of Fast Content-Defined
//!   Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 2020), for everything;
//! - at every page, for databases that are made of fixed pages and say so in their header. Rows change in place there:
//!   with 1 % of the rows of an SQLite database changed, 13 % of its 4 KiB pages are new, but 45 % of its 16 KiB chunks.
//!
//! A cut depends on nothing before the chunk's first byte. Chunking may therefore begin anywhere that is known to be
//! a boundary, and two sequences of cuts that share a boundary are the same from there on.

use fastcdc::v2020::{Normalization, cut, select_masks};

use crate::content::CHUNK_LEN_MAX;

/// Bounds of content-defined chunks, in bytes; all even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CdcBounds {
    /// No chunk but a file's last is shorter.
    pub min: u32,
    /// What lengths centre on.
    pub avg: u32,
    /// No chunk is longer.
    pub max: u32,
}

impl CdcBounds {
    /// Why files cannot be cut so, if they cannot.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        let Self { min, avg, max } = *self;
        if [min, avg, max].iter().any(|len| len % 2 != 0) {
            Some("the bounds of chunks are even")
        } else if min < 64 || avg < 256 || min > avg || avg > max {
            Some("the bounds of chunks ascend, from 64 bytes on, around at least 256")
        } else if max > CHUNK_LEN_MAX {
            Some("a chunk has to fit into a block of 1 MiB")
        } else {
            None
        }
    }
}

/// The bounds for packages.
pub const PACKAGE_BOUNDS: CdcBounds = CdcBounds { min: 4 << 10, avg: 16 << 10, max: 64 << 10 };

/// Bytes of a file's beginning that decide how it is cut.
pub const HEAD_LEN: usize = 16 << 10;

const PAGE_MIN: u32 = 4 << 10;
const PAGE_MAX: u32 = 64 << 10;

/// Cuts one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutter {
    bounds: CdcBounds,
    masks: (u64, u64),
    page: Option<u32>,
}

impl Cutter {
    /// The cutter for a file of `size` bytes that begins with `head` ([`HEAD_LEN`] bytes, or all it has).
    #[must_use]
    pub fn for_file(bounds: CdcBounds, head: &[u8], size: u64) -> Self {
        let masks = select_masks(bounds.avg as usize, Normalization::Level1);
        let page = page_size(head, size).map(|page| page_chunk(page, size));
        Self { bounds, masks, page }
    }

    /// Whether a file that begins with `head` is cut by pages if its length is a multiple of them.
    #[must_use]
    pub fn may_cut_pages(head: &[u8]) -> bool {
        page_size(head, 0).is_some()
    }

    /// Content-defined cuts whatever the file is.
    #[must_use]
    pub fn content_defined(bounds: CdcBounds) -> Self {
        Self { bounds, masks: select_masks(bounds.avg as usize, Normalization::Level1), page: None }
    }

    /// The fixed length of chunks, where the file is cut by pages.
    #[must_use]
    pub fn page(&self) -> Option<u32> {
        self.page
    }

    /// The longest chunk.
    #[must_use]
    pub fn max(&self) -> usize {
        self.page.unwrap_or(self.bounds.max) as usize
    }

    /// The shortest chunk but a file's last.
    #[must_use]
    pub fn min(&self) -> usize {
        self.page.unwrap_or(self.bounds.min) as usize
    }

    /// The length of the chunk at the start of `bytes`, which are the file's rest or at least [`Self::max`] of it.
    #[must_use]
    pub fn cut(&self, bytes: &[u8]) -> usize {
        if let Some(page) = self.page {
            return bytes.len().min(page as usize);
        }
        let (CdcBounds { min, avg, max }, (small, large)) = (self.bounds, self.masks);
        let (_, len) =
            cut(bytes, min as usize, avg as usize, max as usize, small, large, small << 1, large << 1);
        len
    }
}

/// Chunks of large databases are several pages, so that their lists and the index stay small beside them.
fn page_chunk(page: u32, size: u64) -> u32 {
    let pages = match size >> 30 {
        0 => 1,
        1..16 => 4,
        _ => 16,
    };
    (page.max(PAGE_MIN) * pages).min(PAGE_MAX)
}

/// The page size of a database file, as its first bytes tell.
fn page_size(head: &[u8], size: u64) -> Option<u32> {
    let page = [sqlite, berkeley_db, lmdb, redb, postgresql].into_iter().find_map(|page_of| page_of(head))?;
    (page.is_power_of_two() && page <= PAGE_MAX && size.is_multiple_of(u64::from(page))).then_some(page)
}

/// <https://www.sqlite.org/fileformat2.html>, 1.3: page size at 16, big-endian, 1 for 65,536.
fn sqlite(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(b"SQLite format 3\0")?;
    match u32::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])) {
        1 => Some(65_536),
        page if page >= 512 => Some(page),
        _ => None,
    }
}

/// `dbinc/db_page.h`: magic at 12 (btree, hash, queue, heap), page size at 20, little-endian.
fn berkeley_db(head: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    matches!(word(12)?, 0x0005_3162 | 0x0006_1561 | 0x0004_2253 | 0x0007_4582)
        .then(|| word(20))?
        .filter(|page| *page >= 512)
}

/// `mdb.c`: a meta page's header has 16 bytes, then the magic; pages are the system's, 4 KiB where this runs.
fn lmdb(head: &[u8]) -> Option<u32> {
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    (word(16)? == 0xBEEF_C0DE && word(4096 + 16)? == 0xBEEF_C0DE).then_some(4096)
}

/// `docs/design.md` of redb: magic first, page size at 12, little-endian.
fn redb(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(b"redb\x1A\x0A\xA9\x0D\x0A")?;
    let page = u32::from_le_bytes(rest.get(3..7)?.try_into().ok()?);
    (page >= 512).then_some(page)
}

/// `storage/bufpage.h`: every page begins with a header that carries its size and layout version 4. Both pages of the
/// head have to look like one, for there is no magic.
fn postgresql(head: &[u8]) -> Option<u32> {
    const PAGE: usize = 8192;
    let is_page = |page: &[u8]| {
        let half = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
        let (lower, upper, special) = (half(12), half(14), half(16));
        half(18) == 0x2004
            && half(10) & !7 == 0
            && 24 <= lower
            && lower <= upper
            && upper <= special
            && special <= 8192
    };
    let (first, rest) = head.split_at_checked(PAGE)?;
    (is_page(first) && (rest.is_empty() || rest.get(..PAGE).is_some_and(is_page))).then_some(8192)
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::FastCDC;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"chunker").finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(cutter: Cutter, mut bytes: &[u8]) -> Vec<usize> {
        let mut cuts = Vec::new();
        while !bytes.is_empty() {
            let len = cutter.cut(bytes);
            cuts.push(len);
            bytes = &bytes[len..];
        }
        cuts
    }

    #[test]
    fn cuts_are_those_of_the_published_algorithm() {
        let bytes = noise(3 << 20);
        let cutter = Cutter::for_file(PACKAGE_BOUNDS, &bytes[..HEAD_LEN], bytes.len() as u64);
        let reference: Vec<_> =
            FastCDC::new(&bytes, 4 << 10, 16 << 10, 64 << 10).map(|chunk| chunk.length).collect();
        assert_eq!(cuts(cutter, &bytes), reference);
    }

    #[test]
    fn cuts_converge_after_an_insertion() {
        let bytes = noise(1 << 20);
        let cutter = Cutter::content_defined(PACKAGE_BOUNDS);
        let shifted = [b"inserted".as_slice(), &bytes].concat();
        let ends = |bytes: &[u8]| {
            cuts(cutter, bytes)
                .iter()
                .scan(bytes.len(), |left, len| {
                    *left -= len;
                    Some(*left)
                })
                .collect::<Vec<_>>()
        };
        let (before, after) = (ends(&bytes), ends(&shifted));
        let shared = after.iter().filter(|left| before.contains(left)).count();
        assert!(shared * 10 > before.len() * 9, "{shared} of {}", before.len());
    }

    #[test]
    fn databases_are_cut_by_page_whatever_their_size_says_and_nothing_else_is() {
        let mut sqlite = b"SQLite format 3\0\x10\x00".to_vec();
        sqlite.resize(HEAD_LEN, 0);
        let page = |head: &[u8], size| Cutter::for_file(PACKAGE_BOUNDS, head, size).page();
        assert_eq!(page(&sqlite, 1 << 20), Some(4096));
        assert_eq!(page(&sqlite, 2 << 30), Some(16 << 10));
        assert_eq!(page(&sqlite, 200 << 30), Some(64 << 10));
        assert_eq!(page(&sqlite, (1 << 20) + 1), None, "not a multiple of the page");
        sqlite[16] = 3;
        assert_eq!(page(&sqlite, 768 << 10), None, "not a power of two");
        for len in [0, 1, 15, 16, 17, 20, 24, 4116] {
            assert_eq!(page(&sqlite[..len], len as u64), None);
        }
        assert_eq!(page(&noise(HEAD_LEN), 1 << 20), None);
        let mut redb = b"redb\x1A\x0A\xA9\x0D\x0A\x01\0\0\0\x10\0\0".to_vec();
        redb.resize(HEAD_LEN, 0);
        assert_eq!(page(&redb, 1 << 20), Some(4096));
        assert_eq!(page(&redb, (1 << 20) + 512), None);
        for len in [9, 12, 15] {
            assert_eq!(page(&redb[..len], 1 << 20), None);
        }
    }
}
