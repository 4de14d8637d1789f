//! The relocation-aware codec: executables of which most bytes changed only because what they lead to moved.
//!
//! **The method** is that of bsdiff (Percival 2003) with the insight of Courgette and Zucchini (Chromium): find what says where
//! something lies (by disassembly, and in tables of known form), align both files without it, and predict the new values
//! from the old ones and from where everything went. A [`Map`] carries what that takes; a segment carries what the
//! prediction got wrong. So a wrong guess costs bytes, and never the result.
//!
//! **The roles.** The encoder reads ELF (`elf`, `survey`, `golang`), masks (`mask`), compares (`alike`, `align`) and tallies
//! (`votes`). Both sides list operands of the old file (`layout`, `x86`, `arm`, `records`), know where things went
//! (`shifts`), predict (`coder`, `operand`) and correct (`residual`). The decoder knows neither ELF nor more of the old file
//! than the windows that a segment stands on.
//!
//! **What holds.** Decoding takes memory and time in proportion to the segment, whatever the bytes are. Both sides do
//! the same on every machine: integers that wrap, nothing that depends on order of hashing or time.

mod align;
mod alike;
mod arm;
mod bytes;
mod coder;
mod elf;
mod golang;
mod layout;
mod map;
mod mask;
mod operand;
mod records;
mod residual;
mod shifts;
mod space;
mod stack;
mod survey;
mod votes;
mod wire;
mod x86;

pub use coder::{Coder, Old};
pub use map::Map;

use crate::Effort;
use elf::Elf;
use shifts::Shifts;
use survey::Survey;

/// Plain bytes of one segment, at most.
pub const SEGMENT_MAX: usize = 4 << 20;

/// What [`map`] refuses to try.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of either file, at most. The encoder takes up to 12 times the larger file's bytes of memory.
    pub file_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_max: 512 << 20 }
    }
}

/// How `new` is predicted from `old`; `None` where it is no pair of executables that this knows, past the limits, not alike,
/// or cancelled. `Effort::Fast` is no effort for this codec, and gives `None`.
pub fn map(
    old: &[u8],
    new: &[u8],
    effort: Effort,
    limits: &Limits,
    cancelled: &dyn Fn() -> bool,
) -> Option<Map> {
    let file_max = limits.file_max.min(wire::FILE_MAX);
    if effort == Effort::Fast || (old.len().max(new.len()) as u64) > file_max {
        return None;
    }
    let (old_elf, new_elf) = (Elf::parse(old)?, Elf::parse(new)?);
    if old_elf.machine != new_elf.machine || !alike::alike(old, new) {
        return None;
    }
    let old_survey = Survey::new(&old_elf, old, cancelled)?;
    let new_survey = Survey::new(&new_elf, new, cancelled)?;
    let runs = {
        let old_masked = mask::hashed(old, &old_elf.space, &old_survey.operands);
        let new_masked = mask::hashed(new, &new_elf.space, &new_survey.operands);
        align::align(&old_masked, &new_masked, cancelled)?
    };
    let edges = [old_elf.space.edges(), new_elf.space.edges()];
    let old_blank = mask::blank(old, &old_survey.operands);
    let new_blank = mask::blank(new, &new_survey.operands);
    let runs = align::finish(runs, &old_blank, &new_blank, edges);
    drop((old_blank, new_blank));
    let mut shifts = Shifts::new(&runs, &old_elf.space, &new_elf.space, &[]);
    let fixes = votes::fixes(&runs, &old_survey.operands, &new_survey.operands, &shifts);
    shifts.set_fixes(&fixes);
    let (old_bases, new_bases) = (&old_survey.layout.bases, &new_survey.layout.bases);
    let base_shifts = old_bases.iter().zip(new_bases).map(|(old, new)| new.wrapping_sub(*old)).collect();
    let new_space = new_survey.layout.space;
    Some(Map {
        old: old_survey.layout,
        new_len: new.len() as u64,
        new_space,
        base_shifts,
        runs,
        fixes,
        shifts,
    })
}
