//! The parts of an ELF file that the encoder looks at. Decoders never read ELF: the map tells them what it says.

use super::bytes::{u16_at, u32_at, u64_at};
use super::space::{Segment, Space};

const SEGMENTS_MAX: usize = 64;
const SECTIONS_MAX: usize = 4096;
const LOAD: u32 = 1;
const EXECUTABLE: u32 = 1;
const NOBITS: u32 = 8;
const FLAG_ALLOCATED: u64 = 2;
const FLAG_EXECUTABLE: u64 = 4;

/// The machine whose code a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86,
    Arm,
}

/// One section. Those with bytes lie wholly within the file.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: u32,
    flags: u64,
    pub(super) addr: u64,
    pub(super) at: usize,
    /// Bytes in memory; in the file too, unless `in_memory_only`.
    pub(super) len: usize,
}

impl Section<'_> {
    pub(super) fn allocated(&self) -> bool {
        self.flags & FLAG_ALLOCATED != 0
    }

    pub(super) fn executable(&self) -> bool {
        self.flags & FLAG_EXECUTABLE != 0
    }

    pub(super) fn in_memory_only(&self) -> bool {
        self.kind == NOBITS
    }
}

/// What is known of a little-endian 64-bit executable or shared object.
#[derive(Debug, Clone)]
pub(super) struct Elf<'a> {
    pub(super) machine: Machine,
    /// Linked to run at the addresses that it says.
    pub(super) fixed: bool,
    pub(super) space: Space,
    pub(super) sections: Vec<Section<'a>>,
    /// File ranges of what is loaded to be executed.
    pub(super) code: Vec<std::ops::Range<usize>>,
}

impl<'a> Elf<'a> {
    /// None if this is no little-endian 64-bit ELF of a known machine with load segments, or its tables lie outside the file.
    pub(super) fn parse(file: &'a [u8]) -> Option<Self> {
        if file.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let fixed = match u16_at(file, 16)? {
            2 => true,
            3 => false,
            _ => return None,
        };
        let machine = match u16_at(file, 18)? {
            62 => Machine::X86,
            183 => Machine::Arm,
            _ => return None,
        };
        let (segments, code) = load_segments(file)?;
        if segments.is_empty() {
            return None;
        }
        let space = Space::new(segments);
        Some(Self { machine, fixed, space, sections: sections(file).unwrap_or_default(), code })
    }

    /// The section of a name that has bytes in the file.
    pub(super) fn section(&self, name: &[u8]) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name && !section.in_memory_only())
    }

    /// Whether code lies at an address.
    pub(super) fn is_code(&self, addr: u64) -> bool {
        let holds = |s: &&Section| s.executable() && addr >= s.addr && addr - s.addr < s.len as u64;
        self.sections.iter().find(holds).is_some()
    }
}

/// The load segments, and where the executable ones lie in the file.
fn load_segments(file: &[u8]) -> Option<(Vec<Segment>, Vec<std::ops::Range<usize>>)> {
    let table = usize::try_from(u64_at(file, 32)?).ok()?;
    let count = usize::from(u16_at(file, 56)?);
    if u16_at(file, 54)? != 56 || count > SEGMENTS_MAX {
        return None;
    }
    let (mut segments, mut code) = (Vec::new(), Vec::new());
    for number in 0..count {
        let row = table.checked_add(number * 56)?;
        if u32_at(file, row)? != LOAD {
            continue;
        }
        let (at, addr) = (u64_at(file, row + 8)?.min(file.len() as u64), u64_at(file, row + 16)?);
        let (len, memory) = (u64_at(file, row + 32)?, u64_at(file, row + 40)?);
        // A file that is cut short still has what is in front of the cut.
        let len = len.min((file.len() as u64).saturating_sub(at));
        addr.checked_add(memory.max(len))?;
        if u32_at(file, row + 4)? & EXECUTABLE != 0 && len > 0 {
            let start = usize::try_from(at).ok()?;
            code.push(start..start + usize::try_from(len).ok()?);
        }
        segments.push(Segment { at, addr, len, memory: memory.max(len) });
    }
    Some((segments, code))
}

/// None if there is no table of sections, or it is not within the file.
fn sections(file: &[u8]) -> Option<Vec<Section<'_>>> {
    let table = usize::try_from(u64_at(file, 40)?).ok()?;
    let (count, names) = (usize::from(u16_at(file, 60)?), usize::from(u16_at(file, 62)?));
    if table == 0 || u16_at(file, 58)? != 64 || count > SECTIONS_MAX {
        return None;
    }
    let row = |number: usize| table.checked_add(number.checked_mul(64)?);
    let names = usize::try_from(u64_at(file, row(names)?.checked_add(24)?)?).ok()?;
    let mut sections = Vec::new();
    for number in 0..count {
        let row = row(number)?;
        let name = names.checked_add(u32_at(file, row)? as usize)?;
        let name = file.get(name..)?;
        let name = &name[..name.iter().take(64).position(|byte| *byte == 0).unwrap_or(0)];
        let at = usize::try_from(u64_at(file, row + 24)?).ok()?;
        let len = usize::try_from(u64_at(file, row + 32)?).ok()?;
        let (kind, flags) = (u32_at(file, row + 4)?, u64_at(file, row + 8)?);
        let section = Section { name, kind, flags, addr: u64_at(file, row + 16)?, at, len };
        let whole = at.checked_add(len).is_some_and(|end| end <= file.len());
        let addressable = section.addr.checked_add(len as u64).is_some();
        if len > 0 && addressable && (whole || section.in_memory_only()) {
            sections.push(section);
        }
    }
    Some(sections)
}
