//! What the Go linker adds: the table of functions by program counter (`runtime/symtab.go`, Go 1.18 and later).

use super::bytes::{u32_at, u64_at};
use super::elf::Elf;
use super::layout::Content;
use super::survey::word;

/// Numbers of bases: see `survey`.
const CODE: u8 = 1;
const FUNCTIONS: u8 = 2;
const NAMES: u8 = 3;
const TABLES: u8 = 4;
const DATA: u8 = 5;
/// The type descriptors.
pub(super) const TYPES: u8 = 6;

/// Words of the runtime's `moduledata` in front of `types` and `gofunc`.
const MODULE_TYPES: usize = 37;
const MODULE_DATA: usize = 40;

/// Bytes of the last type's descriptor, about.
const TYPE_MAX: usize = 4096;

/// The regions of a Go program; fills in its bases.
pub(super) fn regions(elf: &Elf, file: &[u8], bases: &mut [u64]) -> Vec<(usize, usize, Content)> {
    find(elf, file, bases).unwrap_or_default()
}

fn find(elf: &Elf, file: &[u8], bases: &mut [u64]) -> Option<Vec<(usize, usize, Content)>> {
    let section = elf.section(b".gopclntab")?;
    let head = match u32_at(file, section.at)? {
        0xffff_fff1 => 44,
        0xffff_fff0 => 40,
        _ => return None,
    };
    let field = |number: usize| u64_at(file, section.at + 8 * number);
    let count = usize::try_from(field(1)?).ok()?;
    let text = elf.section(b".text")?.addr;
    let code = if field(3)? == 0 { text } else { field(3)? };
    let functions = usize::try_from(field(8)?).ok().filter(|offset| *offset < section.len)?;
    let table_end = functions.checked_add(count.checked_mul(8)?).filter(|end| *end <= section.len)?;
    let module = module(elf, file, section.addr);
    let based = |offset: u64| section.addr.wrapping_add(offset);
    let of_module = |number: usize| {
        let addr = module.map_or(0, |at| word(file, at + 8 * number));
        if elf.space.at_of(addr).is_some() { addr } else { 0 }
    };
    let all = [
        (CODE, code),
        (FUNCTIONS, based(functions as u64)),
        (NAMES, based(field(4)?)),
        (TABLES, based(field(7)?)),
        (DATA, of_module(MODULE_DATA)),
        (TYPES, of_module(MODULE_TYPES)),
    ];
    for (number, addr) in all {
        bases[usize::from(number)] = addr;
    }
    let first = u32_at(file, section.at + functions + 4)? as usize;
    let records = functions.checked_add(first).filter(|at| *at >= table_end && *at < section.len)?;
    let at = section.at;
    let funcs = Content::GoFuncs { head, bases: [CODE, NAMES, TABLES, DATA] };
    let mut regions = types(elf, file, bases).unwrap_or_default();
    regions.extend([
        (at + functions, at + table_end, Content::Pairs { bases: [CODE, FUNCTIONS] }),
        (at + records, at + section.len, funcs),
    ]);
    Some(regions)
}

/// The type descriptors at the start of `.rodata`, as far as the list of types reaches, and the rest of it.
fn types(elf: &Elf, file: &[u8], bases: &[u64]) -> Option<Vec<(usize, usize, Content)>> {
    let (data, text, links) = (elf.section(b".rodata")?, elf.section(b".text")?, elf.section(b".typelink")?);
    if bases[usize::from(TYPES)] != data.addr || data.addr % 8 != 0 {
        return None;
    }
    let last = (links.at..links.at + links.len).step_by(4).filter_map(|at| u32_at(file, at)).max()?;
    let len = (last as usize).saturating_add(TYPE_MAX).min(data.len) & !7;
    let lens = [u32::try_from(len).ok()?, u32::try_from(text.len).ok()?];
    let content = Content::GoTypes { bases: [TYPES, CODE], lens };
    let rest = (data.at + len, data.at + data.len, Content::Words);
    Some(vec![(data.at, data.at + len, content), rest])
}

/// The file offset of `moduledata`: it begins with the address of the table of functions.
fn module(elf: &Elf, file: &[u8], table: u64) -> Option<usize> {
    let names: [&[u8]; 3] = [b".go.module", b".noptrdata", b".data"];
    let sections = elf.sections.iter().filter(|s| names.contains(&s.name) && !s.in_memory_only());
    sections.flat_map(|s| (s.at..s.at + s.len).step_by(8)).find(|at| word(file, *at) == table)
}
