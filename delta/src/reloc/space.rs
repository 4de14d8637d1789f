//! File offsets and addresses: which part of a file is loaded where.

/// A part of a file that is loaded: `len` bytes from `at` lie at `addr`, followed by zeros up to `memory` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) at: u64,
    pub(super) addr: u64,
    pub(super) len: u64,
    pub(super) memory: u64,
}

/// All of a file's load segments, in the order of its headers; where two overlap, the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Space {
    segments: Vec<Segment>,
    low: u64,
    high: u64,
}

impl Space {
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        let low = segments.iter().map(|s| s.addr).min().unwrap_or(0);
        let high = segments.iter().map(|s| s.addr.saturating_add(s.memory)).max().unwrap_or(0);
        Self { segments, low, high }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether an address is that of something loaded, and not so low that it is as likely a small number.
    pub(super) fn holds(&self, addr: u64, least: u64) -> bool {
        addr >= self.low.max(least) && addr < self.high
    }

    /// Where the byte at a file offset is loaded.
    pub(super) fn addr_of(&self, at: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| at >= s.at && at - s.at < s.len)?;
        Some(segment.addr.wrapping_add(at - segment.at))
    }

    /// The file offset of what is loaded at an address.
    pub(super) fn at_of(&self, addr: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| addr >= s.addr && addr - s.addr < s.len)?;
        segment.at.checked_add(addr - segment.addr)
    }

    /// The file offsets at which a segment begins or ends, ascending.
    pub(super) fn edges(&self) -> Vec<u64> {
        let mut edges: Vec<u64> =
            self.segments.iter().flat_map(|s| [s.at, s.at.saturating_add(s.len)]).collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}
