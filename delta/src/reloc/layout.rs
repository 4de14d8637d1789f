//! What the codec knows of a file's inside: regions whose operands it can list, window by window.

use std::ops::Range;

use super::operand::{Kind, Operand};
use super::space::Space;
use super::{arm, records, x86};

/// Bytes of a window: the unit in which regions are analysed.
pub(super) const WINDOW: usize = 4096;
/// An instruction or record that begins in a window ends within so many bytes behind it, or its end is not looked at.
pub(super) const REACH: usize = 320;
const SPAN: u32 = 4096 + 320;

/// What a region holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Instructions; `absolute` if 32-bit addresses may be among their immediates and displacements.
    X86 { absolute: bool },
    /// Instructions of 4 bytes.
    Arm,
    /// Records of unwind information.
    EhFrame,
    /// 8-byte words, of which those that are addresses are operands.
    Words,
    /// 24 bytes each: address u64, type u32, number of a row from the base u32, addend u64.
    Rela { symbols: u8 },
    /// 24 bytes each: distance of the name from the base u32, the address is the u64 at 8.
    Symbols { names: u8 },
    /// 8 bytes each: distances from the two bases.
    Pairs { bases: [u8; 2] },
    /// Go's descriptions of functions, whose fixed part has `head` bytes. Bases: code, names, tables by program counter,
    /// function data.
    GoFuncs { head: u8, bases: [u8; 4] },
    /// Go's type descriptors: words that are addresses, and otherwise pairs of 32-bit distances from the bases of types and of
    /// code, told apart by how much of each there is.
    GoTypes { bases: [u8; 2], lens: [u32; 2] },
}

/// A run of a file with one kind of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) content: Content,
    /// For contents of varying length: where in each window the first instruction or record begins; `WINDOW` if none does.
    pub(super) syncs: Vec<u16>,
}

/// A jump table: 32-bit distances of code from the table's own start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) start: u32,
    pub(super) entries: u32,
}

impl Table {
    pub(super) fn end(&self) -> u64 {
        u64::from(self.start) + 4 * u64::from(self.entries)
    }
}

/// All that is known of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) len: u64,
    pub(super) space: Space,
    /// Ascending, disjoint.
    pub(super) regions: Vec<Region>,
    /// Ascending, disjoint. They may lie within regions, and go before their operands.
    pub(super) tables: Vec<Table>,
    /// Addresses that distances are counted from.
    pub(super) bases: Vec<u64>,
}

/// A window's bytes and where they lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// The window and up to `REACH` bytes behind it, within the region.
    pub(super) bytes: &'a [u8],
    /// Offset in the file of the first byte, and its address (0 if it is not loaded).
    pub(super) at: u32,
    pub(super) addr: u64,
    /// Where the first instruction or record begins, and where the last one may begin at most.
    pub(super) sync: usize,
    pub(super) len: usize,
}

impl Content {
    /// Bytes of one record, if all have the same.
    pub(super) fn record(self) -> Option<usize> {
        match self {
            Self::Arm => Some(4),
            Self::Words | Self::Pairs { .. } | Self::GoTypes { .. } => Some(8),
            Self::Rela { .. } | Self::Symbols { .. } => Some(24),
            Self::X86 { .. } | Self::EhFrame | Self::GoFuncs { .. } => None,
        }
    }
}

impl Region {
    pub(super) fn windows(&self) -> usize {
        (self.end.saturating_sub(self.start) as usize).div_ceil(WINDOW)
    }

    /// The file's bytes that a window is analysed from.
    pub(super) fn span(&self, window: usize) -> Range<u32> {
        let start = self.window_start(window);
        let end = start.saturating_add(SPAN).min(self.end);
        start.min(end)..end
    }

    fn window_start(&self, window: usize) -> u32 {
        let offset = u32::try_from(window.saturating_mul(WINDOW)).unwrap_or(u32::MAX);
        self.start.saturating_add(offset)
    }

    /// Where the first record of a window begins.
    fn sync(&self, window: usize) -> usize {
        match self.content.record() {
            Some(record) => (record - window.saturating_mul(WINDOW) % record) % record,
            None => self.syncs.get(window).map_or(WINDOW, |sync| usize::from(*sync)),
        }
    }
}

impl Layout {
    /// Appends the operands of the instructions and records that begin in a window, ascending; `bytes` are those of its
    /// span. Returns how far behind the window's end the next one begins.
    pub(super) fn operands(
        &self,
        region: &Region,
        window: usize,
        bytes: &[u8],
        out: &mut Vec<Operand>,
    ) -> usize {
        let at = region.span(window).start;
        let addr = self.space.addr_of(u64::from(at)).unwrap_or(0);
        let len = bytes.len().min(WINDOW);
        let view = View { bytes, at, addr, sync: region.sync(window), len };
        let first = out.len();
        let next = match region.content {
            Content::X86 { absolute } => x86::operands(view, &self.space, absolute, out),
            Content::Arm => arm::operands(view, &self.space, out),
            Content::EhFrame => records::eh_frame(view, out),
            Content::Words => records::words(view, &self.space, out),
            Content::Rela { symbols } => records::rela(view, &self.space, symbols, &self.bases, out),
            Content::Symbols { names } => records::symbols(view, &self.space, names, &self.bases, out),
            Content::Pairs { bases } => records::pairs(view, bases, &self.bases, out),
            Content::GoTypes { bases, lens } => {
                records::go_types(view, &self.space, bases, lens, &self.bases, out)
            }
            Content::GoFuncs { head, bases } => {
                records::go_funcs(view, usize::from(head), bases, &self.bases, out)
            }
        };
        self.drop_tables(first, out);
        next.saturating_sub(len)
    }

    /// Removes operands that overlap a jump table.
    fn drop_tables(&self, first: usize, out: &mut Vec<Operand>) {
        let (Some(low), Some(high)) = (out.get(first), out.last()) else { return };
        let (low, high) = (u64::from(low.at), u64::from(high.at) + 8);
        let from = self.tables.partition_point(|table| table.end() <= low);
        let tables: Vec<Table> =
            self.tables[from..].iter().copied().take_while(|t| u64::from(t.start) < high).collect();
        if tables.is_empty() {
            return;
        }
        let mut kept = first;
        for place in first..out.len() {
            let operand = out[place];
            let (start, end) = (u64::from(operand.at), u64::from(operand.at) + operand.kind.width() as u64);
            let near = tables.partition_point(|table| table.end() <= start);
            if tables.get(near).is_none_or(|table| u64::from(table.start) >= end) {
                out[kept] = operand;
                kept += 1;
            }
        }
        out.truncate(kept);
    }

    /// The operand that is entry `entry` of a jump table, of the value that is there.
    pub(super) fn table_operand(&self, table: Table, entry: u32, value: u32) -> Operand {
        let base = self.space.addr_of(u64::from(table.start)).unwrap_or(0);
        let distance = i64::from(value.cast_signed()).cast_unsigned();
        let at = table.start.saturating_add(entry.saturating_mul(4));
        Operand { at, kind: Kind::Relative, target: base.wrapping_add(distance) }
    }

    /// Calls `each` with region and window of all windows that operands within `old` may begin in, ascending.
    pub(super) fn windows(&self, old: &Range<u64>, mut each: impl FnMut(usize, usize)) {
        let from = old.start.saturating_sub(REACH as u64);
        let first = self.regions.partition_point(|region| u64::from(region.end) <= from);
        for (number, region) in self.regions.iter().enumerate().skip(first) {
            let start = u64::from(region.start);
            if start >= old.end {
                break;
            }
            let window = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX) / WINDOW;
            let last = window(old.end.min(u64::from(region.end)) - 1);
            for window in window(from)..=last {
                each(number, window);
            }
        }
    }

    /// Appends the entries of jump tables that lie wholly or partly within `old`, without their targets.
    pub(super) fn entries(&self, old: &Range<u64>, mut each: impl FnMut(Table, u32)) {
        let first = self.tables.partition_point(|table| table.end() <= old.start);
        for table in self.tables[first..].iter().take_while(|table| u64::from(table.start) < old.end) {
            let start = u64::from(table.start);
            let from = old.start.saturating_sub(start) / 4;
            let to = (old.end - start).div_ceil(4).min(u64::from(table.entries));
            for entry in from..to {
                each(*table, u32::try_from(entry).unwrap_or(u32::MAX));
            }
        }
    }
}
