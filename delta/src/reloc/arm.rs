//! Operands of aarch64 instructions: words of 4 bytes, told apart by their fixed bits (Arm ARM, C4.1).
//!
//! An address is made in two steps, the page by ADRP and the rest by ADD or a load or store, so the page of each register is
//! followed from ADRP to its uses within a window.

use super::bytes::u32_at;
use super::layout::View;
use super::operand::{Kind, Operand};
use super::space::Space;

/// How many instructions behind ADRP are searched for the low part of its target.
const LOOK_AHEAD: usize = 8;
/// BL leaves what is in the registers from here on.
const FIRST_SAVED: usize = 19;

/// What an instruction does, as far as operands go.
enum Meaning {
    /// An operand with a distance in bytes.
    Distance(Kind, u64),
    /// The pages between here and the target, into a register.
    Page {
        register: usize,
        pages: u64,
    },
    /// An address's low part on top of a register; `into` is overwritten.
    Low {
        base: usize,
        into: usize,
        scale: u8,
        low: u64,
    },
    /// Where it goes on, no register is as it was.
    Leave,
    Other,
}

fn signed(value: u32, bits: u32) -> u64 {
    let unused = 64 - bits;
    ((u64::from(value) << unused).cast_signed() >> unused).cast_unsigned()
}

fn meaning(word: u32) -> Meaning {
    let near = || signed(word >> 29 & 3 | (word >> 5 & 0x7_ffff) << 2, 21);
    let (low, base, into) = (word >> 10 & 0xfff, word >> 5 & 31, word & 31);
    let (base, into) = (base as usize, into as usize);
    if word & 0x7c00_0000 == 0x1400_0000 {
        Meaning::Distance(Kind::Jump26, signed(word & 0x3ff_ffff, 26) << 2)
    } else if word & 0xff00_0000 == 0x5400_0000
        || word & 0x7e00_0000 == 0x3400_0000
        || word & 0x3b00_0000 == 0x1800_0000
    {
        Meaning::Distance(Kind::Branch19, signed(word >> 5 & 0x7_ffff, 19) << 2)
    } else if word & 0x7e00_0000 == 0x3600_0000 {
        Meaning::Distance(Kind::Branch14, signed(word >> 5 & 0x3fff, 14) << 2)
    } else if word & 0x9f00_0000 == 0x1000_0000 {
        Meaning::Distance(Kind::Near21, near())
    } else if word & 0x9f00_0000 == 0x9000_0000 {
        Meaning::Page { register: into, pages: near() }
    } else if word & 0xffc0_0000 == 0x9100_0000 {
        Meaning::Low { base, into, scale: 0, low: u64::from(low) }
    } else if word & 0x3b00_0000 == 0x3900_0000 {
        let vector = word & 0x0400_0000 != 0;
        let scale = if vector && word & 0x0080_0000 != 0 { 4 } else { word >> 30 };
        let loads = !vector && word & 0x00c0_0000 != 0;
        let scale = scale.to_le_bytes()[0];
        Meaning::Low { base, into: if loads { into } else { 31 }, scale, low: u64::from(low) << scale }
    } else if word & 0xfe00_0000 == 0xd600_0000 {
        Meaning::Leave
    } else {
        Meaning::Other
    }
}

/// The target of an ADRP that puts `page` into `register`: the page and what the first use of the register adds.
fn whole(view: &View, start: usize, register: usize, page: u64) -> u64 {
    for offset in (start + 4..).step_by(4).take(LOOK_AHEAD) {
        let Some(word) = u32_at(view.bytes, offset) else { break };
        match meaning(word) {
            Meaning::Low { base, low, .. } if base == register => return page.wrapping_add(low),
            Meaning::Page { register: other, .. } if other == register => break,
            Meaning::Leave => break,
            _ => {}
        }
    }
    page
}

/// Appends the operands of one window. Returns where the first instruction behind it begins.
pub(super) fn operands(view: View, space: &Space, out: &mut Vec<Operand>) -> usize {
    let mut pages: [Option<u64>; 32] = [None; 32];
    let mut start = view.sync;
    while start < view.len {
        let Some(word) = u32_at(view.bytes, start) else { break };
        let addr = view.addr.wrapping_add(start as u64);
        let mut add = |kind: Kind, target: u64| {
            if space.holds(target, 0) {
                let at = view.at.saturating_add(u32::try_from(start).unwrap_or(u32::MAX));
                out.push(Operand { at, kind, target });
            }
        };
        match meaning(word) {
            Meaning::Distance(kind, distance) => {
                add(kind, addr.wrapping_add(distance));
                if word & 0xfc00_0000 == 0x1400_0000 {
                    pages = [None; 32];
                } else if kind == Kind::Jump26 {
                    pages[..FIRST_SAVED].fill(None);
                }
            }
            Meaning::Page { register, pages: distance } => {
                let page = (addr & !0xfff).wrapping_add(distance << 12);
                pages[register] = Some(page);
                add(Kind::Page21, whole(&view, start, register, page));
            }
            Meaning::Low { base, into, scale, low } => {
                if let Some(page) = pages[base] {
                    add(Kind::Low12(scale), page.wrapping_add(low));
                }
                pages[into] = None;
            }
            Meaning::Leave => pages = [None; 32],
            Meaning::Other => {}
        }
        start += 4;
    }
    start
}
