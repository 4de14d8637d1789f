//! Operands of tables: unwind information, relocations, symbols, pointers, and Go's descriptions of functions.

use super::bytes::{distance_at, u32_at, u64_at};
use super::layout::View;
use super::operand::{Kind, Operand};
use super::space::Space;

/// Below this a word is taken for a number, and not for an address.
const WORD_MIN: u64 = 0x1000;
/// The same for what is known to be an address, unless it is that of a header.
const ADDRESS_MIN: u64 = 0x200;
/// Tables by program counter, and function data, of one Go function, at most.
pub(super) const GO_TABLES_MAX: usize = 32;

fn operand(view: &View, offset: usize, kind: Kind, target: u64) -> Operand {
    let at = view.at.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
    Operand { at, kind, target }
}

fn addr(view: &View, offset: usize) -> u64 {
    view.addr.wrapping_add(offset as u64)
}

/// FDEs: the CIE, the code and its length, and (if the augmentation has 4 bytes) the language's data.
pub(super) fn eh_frame(view: View, out: &mut Vec<Operand>) -> usize {
    let mut start = view.sync;
    while start < view.len {
        let Some(len) = u32_at(view.bytes, start) else { break };
        if len == 0 || len >= 0xffff_fff0 {
            start += 4;
            continue;
        }
        if len >= 12 && u32_at(view.bytes, start + 4).is_some_and(|cie| cie != 0) {
            fde(&view, start, len, out);
        }
        start += 4 + len as usize;
    }
    start
}

fn fde(view: &View, start: usize, len: u32, out: &mut Vec<Operand>) -> Option<()> {
    let (cie, code) = (u32_at(view.bytes, start + 4)?, distance_at(view.bytes, start + 8)?);
    let span = u32_at(view.bytes, start + 12)?;
    let code = addr(view, start + 8).wrapping_add(code);
    let cie = addr(view, start + 4).wrapping_sub(u64::from(cie));
    out.push(operand(view, start + 4, Kind::Behind, cie));
    out.push(operand(view, start + 8, Kind::Relative, code));
    out.push(operand(view, start + 12, Kind::Span, code.wrapping_add(u64::from(span))));
    let data = distance_at(view.bytes, start + 17).filter(|data| len >= 17 && *data != 0)?;
    if view.bytes.get(start + 16) == Some(&4) {
        let target = addr(view, start + 17).wrapping_add(data);
        out.push(operand(view, start + 17, Kind::Relative, target));
    }
    Some(())
}

/// Words that are addresses of something loaded.
pub(super) fn words(view: View, space: &Space, out: &mut Vec<Operand>) -> usize {
    let mut start = view.sync;
    while start < view.len {
        if let Some(target) = u64_at(view.bytes, start).filter(|word| space.holds(*word, WORD_MIN)) {
            out.push(operand(&view, start, Kind::Wide, target));
        }
        start += 8;
    }
    start
}

/// Relocations: the place, the symbol's number, and the addend where it is an address.
pub(super) fn rela(view: View, space: &Space, symbols: u8, bases: &[u64], out: &mut Vec<Operand>) -> usize {
    let mut start = view.sync;
    while start < view.len {
        let address =
            |offset: usize| u64_at(view.bytes, offset).filter(|word| space.holds(*word, ADDRESS_MIN));
        if let Some(target) = address(start) {
            out.push(operand(&view, start, Kind::Wide, target));
        }
        let base = bases.get(usize::from(symbols));
        let number = u32_at(view.bytes, start + 12).filter(|number| *number != 0);
        if let (Some(base), Some(number)) = (base, number) {
            let target = base.wrapping_add(24 * u64::from(number));
            out.push(operand(&view, start + 12, Kind::Row(symbols), target));
        }
        if let Some(target) = address(start + 16) {
            out.push(operand(&view, start + 16, Kind::Wide, target));
        }
        start += 24;
    }
    start
}

/// Symbols: their names and addresses.
pub(super) fn symbols(view: View, space: &Space, names: u8, bases: &[u64], out: &mut Vec<Operand>) -> usize {
    let mut start = view.sync;
    while start < view.len {
        based(&view, start, names, bases, out);
        if let Some(target) = u64_at(view.bytes, start + 8).filter(|word| space.holds(*word, ADDRESS_MIN)) {
            out.push(operand(&view, start + 8, Kind::Wide, target));
        }
        start += 24;
    }
    start
}

/// Appends a distance from a base.
fn based(view: &View, offset: usize, base: u8, bases: &[u64], out: &mut Vec<Operand>) {
    let Some(distance) = distance_at(view.bytes, offset) else { return };
    if let Some(addr) = bases.get(usize::from(base)) {
        out.push(operand(view, offset, Kind::Based(base), addr.wrapping_add(distance)));
    }
}

/// Pairs of distances.
pub(super) fn pairs(view: View, pair: [u8; 2], bases: &[u64], out: &mut Vec<Operand>) -> usize {
    let mut start = view.sync;
    while start < view.len {
        based(&view, start, pair[0], bases, out);
        based(&view, start + 4, pair[1], bases, out);
        start += 8;
    }
    start
}

/// The numbers of tables and of function data of the Go function at `start`, and where its record ends; `None` if it makes
/// no sense.
pub(super) fn go_func_end(bytes: &[u8], start: usize, head: usize) -> Option<(usize, usize, usize)> {
    let tables = u32_at(bytes, start + 28)? as usize;
    let data = usize::from(*bytes.get(start + head - 1)?);
    (tables <= GO_TABLES_MAX && data <= GO_TABLES_MAX).then_some(())?;
    Some((tables, data, start + head + 4 * (tables + data)))
}

/// Go's `_func` records (runtime/symtab.go): offsets of code, names, and tables, then as many more as they say.
pub(super) fn go_funcs(view: View, head: usize, of: [u8; 4], bases: &[u64], out: &mut Vec<Operand>) -> usize {
    let [code, names, tables_base, data_base] = of;
    let mut start = view.sync;
    while start < view.len {
        let end = (head >= 40).then(|| go_func_end(view.bytes, start, head)).flatten();
        let Some((tables, _, end)) = end.filter(|(_, _, end)| *end <= view.bytes.len()) else {
            start += 8;
            continue;
        };
        based(&view, start, code, bases, out);
        based(&view, start + 4, names, bases, out);
        for offset in [16, 20, 24] {
            if u32_at(view.bytes, start + offset).is_some_and(|value| value != 0) {
                based(&view, start + offset, tables_base, bases, out);
            }
        }
        for offset in (start + head..end).step_by(4) {
            let value = u32_at(view.bytes, offset).unwrap_or(0);
            let is_table = offset < start + head + 4 * tables;
            if is_table && value != 0 {
                based(&view, offset, tables_base, bases, out);
            } else if !is_table && value != u32::MAX {
                based(&view, offset, data_base, bases, out);
            }
        }
        // Go begins each at a multiple of 8 from the first, and so do windows.
        start = end.next_multiple_of(8);
    }
    start
}

/// Go's type descriptors (internal/abi/type.go): addresses, and offsets of names, types and methods. A method's two offsets
/// of code are often the same; what is equal to its neighbour is taken for these.
pub(super) fn go_types(
    view: View,
    space: &Space,
    [types, code]: [u8; 2],
    [types_len, code_len]: [u32; 2],
    bases: &[u64],
    out: &mut Vec<Operand>,
) -> usize {
    let mut start = view.sync;
    while start < view.len {
        if let Some(target) = u64_at(view.bytes, start).filter(|word| space.holds(*word, WORD_MIN)) {
            out.push(operand(&view, start, Kind::Wide, target));
            start += 8;
            continue;
        }
        for offset in [start, start + 4] {
            let Some(value) = u32_at(view.bytes, offset).filter(|value| u64::from(*value) >= WORD_MIN) else {
                continue;
            };
            let before = offset.checked_sub(4).and_then(|before| u32_at(view.bytes, before));
            let twice = before == Some(value) || u32_at(view.bytes, offset + 4) == Some(value);
            if value < types_len && !twice {
                based(&view, offset, types, bases, out);
            } else if value < code_len {
                based(&view, offset, code, bases, out);
            }
        }
        start += 8;
    }
    start
}
