//! Operands of x86-64 instructions, by a linear sweep. What does not decode is skipped byte by byte: such code falls back
//! into step within a few instructions, and both sides sweep alike.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

use super::bytes::u32_at;
use super::layout::View;
use super::operand::{Kind, Operand};
use super::space::Space;

/// Below this a number is taken for a number.
const ABSOLUTE_MIN: u64 = 0x1000;

/// Appends the operands of one window. Returns where the first instruction behind it begins.
pub(super) fn operands(view: View, space: &Space, absolute: bool, out: &mut Vec<Operand>) -> usize {
    let mut decoder = Decoder::with_ip(64, view.bytes, view.addr, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let mut start = view.sync;
    if decoder.set_position(start).is_err() {
        return start;
    }
    decoder.set_ip(view.addr.wrapping_add(start as u64));
    while start < view.len {
        decoder.decode_out(&mut instruction);
        if instruction.code() == Code::INVALID {
            start += 1;
            decoder.set_ip(view.addr.wrapping_add(start as u64));
            if decoder.set_position(start).is_err() {
                break;
            }
            continue;
        }
        let branches = matches!(instruction.op0_kind(), OpKind::NearBranch64);
        let near = instruction.is_ip_rel_memory_operand();
        let stack = instruction.memory_base() == Register::RSP && instruction.memory_displ_size() > 0
            || takes_room(&instruction);
        if branches || near || absolute || stack {
            one(&view, space, absolute, start, &decoder, &instruction, out);
        }
        start = decoder.position();
    }
    start
}

/// Whether an instruction takes room on the stack.
fn takes_room(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32)
        && instruction.op0_register() == Register::RSP
}

/// The operands of one instruction: of its displacement, and of its immediate.
fn one(
    view: &View,
    space: &Space,
    absolute: bool,
    start: usize,
    decoder: &Decoder,
    instruction: &Instruction,
    out: &mut Vec<Operand>,
) {
    let offsets = decoder.get_constant_offsets(instruction);
    let mut add = |offset: usize, kind: Kind, target: u64| {
        let at = view.at.saturating_add(u32::try_from(start + offset).unwrap_or(u32::MAX));
        out.push(Operand { at, kind, target });
    };
    if takes_room(instruction) {
        let kind = if offsets.immediate_size() == 1 { Kind::Frame8 } else { Kind::Frame32 };
        add(offsets.immediate_offset(), kind, 0);
        return;
    }
    if instruction.memory_base() == Register::RSP && offsets.has_displacement() {
        match offsets.displacement_size() {
            1 => add(offsets.displacement_offset(), Kind::Stack8, 0),
            4 => add(offsets.displacement_offset(), Kind::Stack32, 0),
            _ => {}
        }
    } else if offsets.has_displacement() && offsets.displacement_size() == 4 {
        let offset = offsets.displacement_offset();
        if instruction.is_ip_rel_memory_operand() {
            let target = instruction.ip_rel_memory_address();
            if space.holds(target, 0) {
                let taken = instruction.code() == Code::Lea_r64_m;
                add(offset, if taken { Kind::Taken } else { Kind::Relative }, target);
            }
        } else if absolute {
            let target = u64::from(u32_at(view.bytes, start + offset).unwrap_or(0));
            if space.holds(target, ABSOLUTE_MIN) {
                add(offset, Kind::Narrow, target);
            }
        }
    }
    if offsets.has_immediate() && offsets.immediate_size() == 4 {
        let offset = offsets.immediate_offset();
        if instruction.op0_kind() == OpKind::NearBranch64 {
            let target = instruction.near_branch_target();
            if space.holds(target, 0) {
                add(offset, Kind::Relative, target);
            }
        } else if absolute {
            let target = u64::from(u32_at(view.bytes, start + offset).unwrap_or(0));
            if space.holds(target, ABSOLUTE_MIN) {
                add(offset, Kind::Narrow, target);
            }
        }
    }
}
