//! The encoder's look at a whole file: its regions, where their windows begin, its jump tables, and all operands.

use super::bytes::{u32_at, u64_at};
use super::elf::{Elf, Machine, Section};
use super::golang;
use super::layout::{Content, Layout, Region, Table, WINDOW};
use super::operand::{Kind, Operand};
use super::wire::REGIONS_MAX;

const SYMBOLS: u32 = 2;
const RELA: u32 = 4;
const DYNAMIC_SYMBOLS: u32 = 11;
/// Numbers of bases: the search table of unwind information, (1 to 6 are Go's), names of dynamic symbols, and those; no base.
const UNWIND: u8 = 0;
const NAMES: u8 = 7;
const DYNAMIC: u8 = 8;
const BASES: usize = 9;
const NONE: u8 = u8::MAX;
/// Entries that a jump table has at least.
const TABLE_MIN: u32 = 2;

/// A file and what is in it.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) layout: Layout,
    /// Ascending, disjoint.
    pub(super) operands: Vec<Operand>,
}

impl Survey {
    /// None if cancelled.
    pub(super) fn new(elf: &Elf, file: &[u8], cancelled: &dyn Fn() -> bool) -> Option<Self> {
        let mut layout = Layout { len: file.len() as u64, space: elf.space.clone(), ..Layout::default() };
        layout.bases = vec![0; BASES];
        layout.regions = regions(elf, file, &mut layout.bases);
        let mut operands = Vec::with_capacity(file.len() / 12);
        for number in 0..layout.regions.len() {
            if cancelled() {
                return None;
            }
            let syncs = sweep(&layout, &layout.regions[number], file, &mut operands);
            layout.regions[number].syncs = syncs;
        }
        layout.tables = tables(elf, file, &layout, &operands);
        drop_overlapping(&mut operands, &layout.tables);
        for table in &layout.tables {
            for entry in 0..table.entries {
                let value = u32_at(file, table.start as usize + 4 * entry as usize)?;
                operands.push(layout.table_operand(*table, entry, value));
            }
        }
        operands.sort_unstable_by_key(|operand| operand.at);
        Some(Self { layout, operands })
    }
}

/// Lists a region's operands window by window, and where each window begins.
fn sweep(layout: &Layout, region: &Region, file: &[u8], operands: &mut Vec<Operand>) -> Vec<u16> {
    let mut region = Region { syncs: Vec::new(), ..region.clone() };
    let mut next = 0;
    for window in 0..region.windows() {
        if region.content.record().is_none() {
            region.syncs.push(u16::try_from(next.min(WINDOW)).unwrap_or(u16::MAX));
        }
        let span = region.span(window);
        let bytes = &file[span.start as usize..span.end as usize];
        if next >= WINDOW {
            next -= WINDOW;
        } else {
            next = layout.operands(&region, window, bytes, operands);
        }
    }
    region.syncs
}

/// What lies where, ascending and disjoint.
fn regions(elf: &Elf, file: &[u8], bases: &mut [u64]) -> Vec<Region> {
    let mut found: Vec<(usize, usize, Content)> = Vec::new();
    for section in elf.sections.iter().filter(|section| !section.in_memory_only()) {
        if let Some((skip, content)) = content(elf, section) {
            found.push((section.at + skip, section.at + section.len, content));
        }
        let base = match section.name {
            b".eh_frame_hdr" => UNWIND,
            b".dynstr" => NAMES,
            b".dynsym" => DYNAMIC,
            _ => continue,
        };
        bases[usize::from(base)] = section.addr;
    }
    found.extend(golang::regions(elf, file, bases));
    if elf.sections.is_empty() {
        found.extend(elf.code.iter().map(|code| (code.start, code.end, instructions(elf))));
    }
    found.sort_by_key(|(start, end, _)| (*start, *end));
    let mut regions: Vec<Region> = Vec::new();
    for (start, end, content) in found {
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else { continue };
        if start < end && regions.len() < REGIONS_MAX && regions.last().is_none_or(|last| last.end <= start) {
            regions.push(Region { start, end, content, syncs: Vec::new() });
        }
    }
    regions
}

fn instructions(elf: &Elf) -> Content {
    match elf.machine {
        Machine::X86 => Content::X86 { absolute: elf.fixed && elf.section(b".gopclntab").is_none() },
        Machine::Arm => Content::Arm,
    }
}

/// What a section holds, behind how many bytes.
fn content(elf: &Elf, section: &Section) -> Option<(usize, Content)> {
    let begins = |start: &[u8]| section.name.starts_with(start);
    if section.executable() {
        return Some((0, instructions(elf)));
    }
    match section.kind {
        RELA => {
            let named = section.allocated() && elf.section(b".dynsym").is_some();
            return Some((0, Content::Rela { symbols: if named { DYNAMIC } else { NONE } }));
        }
        DYNAMIC_SYMBOLS if elf.section(b".dynstr").is_some() => {
            return Some((0, Content::Symbols { names: NAMES }));
        }
        SYMBOLS | DYNAMIC_SYMBOLS => return Some((0, Content::Symbols { names: NONE })),
        _ => {}
    }
    match section.name {
        b".eh_frame" => return Some((0, Content::EhFrame)),
        b".eh_frame_hdr" => {
            return Some((12, Content::Pairs { bases: [UNWIND, UNWIND] }));
        }
        b".typelink" => return Some((0, Content::Pairs { bases: [golang::TYPES, golang::TYPES] })),
        _ => {}
    }
    let data = begins(b".data")
        || begins(b".got")
        || section.name.ends_with(b"_array")
        || section.name == b".dynamic"
        || section.name == b".rodata" && elf.fixed
        || begins(b".noptrdata")
        || begins(b".go.")
        || begins(b".itab");
    let skip = usize::try_from(section.addr.wrapping_neg() % 8).unwrap_or(0);
    (section.allocated() && data).then_some((skip, Content::Words))
}

/// Jump tables: where an address is taken of something that is not code, and code's distances follow.
fn tables(elf: &Elf, file: &[u8], layout: &Layout, operands: &[Operand]) -> Vec<Table> {
    let mut taken: Vec<u64> = operands.iter().filter(|o| o.kind == Kind::Taken).map(|o| o.target).collect();
    taken.sort_unstable();
    taken.dedup();
    let mut tables: Vec<Table> = Vec::new();
    let code = |addr: u64| elf.is_code(addr);
    for (number, addr) in taken.iter().enumerate() {
        let limit = taken.get(number + 1).copied().unwrap_or(u64::MAX);
        let Some(start) = layout.space.at_of(*addr).filter(|_| addr % 4 == 0 && !code(*addr)) else {
            continue;
        };
        let Ok(start) = u32::try_from(start) else { continue };
        let mut entries = 0;
        while addr.saturating_add(4 * u64::from(entries) + 4) <= limit {
            let Some(value) = u32_at(file, start as usize + 4 * entries as usize) else { break };
            if value == 0 || !code(layout.table_operand(Table { start, entries }, 0, value).target) {
                break;
            }
            entries += 1;
        }
        let behind = tables.last().is_none_or(|last| last.end() <= u64::from(start));
        if entries >= TABLE_MIN && behind {
            tables.push(Table { start, entries });
        }
    }
    if let Some(table) = unwind_table(elf, layout) {
        let place = tables.partition_point(|t| t.start < table.start);
        let free = tables.get(place).is_none_or(|next| u64::from(next.start) >= table.end())
            && (place == 0 || tables[place - 1].end() <= u64::from(table.start));
        if free {
            tables.insert(place, table);
        }
    }
    tables
}

/// The distance from the search table of unwind information to that itself, as a table of one entry.
fn unwind_table(elf: &Elf, layout: &Layout) -> Option<Table> {
    let section = elf.section(b".eh_frame_hdr").filter(|section| section.len >= 12)?;
    let start = u32::try_from(section.at + 4).ok()?;
    let inside = layout.space.addr_of(u64::from(start)).is_some() && u64::from(start) + 4 <= layout.len;
    inside.then_some(Table { start, entries: 1 })
}

fn drop_overlapping(operands: &mut Vec<Operand>, tables: &[Table]) {
    operands.retain(|operand| {
        let (start, end) = (u64::from(operand.at), u64::from(operand.at) + operand.kind.width() as u64);
        let near = tables.partition_point(|table| table.end() <= start);
        tables.get(near).is_none_or(|table| u64::from(table.start) >= end)
    });
}

/// The u64 at a file offset, 0 past the end.
pub(super) fn word(file: &[u8], at: usize) -> u64 {
    u64_at(file, at).unwrap_or(0)
}
