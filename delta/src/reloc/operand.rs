//! One place in a file that says where something lies, and how its value changes when things move.

use super::shifts::Shifts;

/// How an operand's value leads to its target. Fields are little-endian and wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 32 bits: the target's distance from a place that moves with the operand.
    Relative,
    /// As `Relative`, in an instruction that takes an address without using it: tables may lie there.
    Taken,
    /// 8 bits, 32 bits: the place of a variable on the stack. Where that went is learned from those before it.
    Stack8,
    Stack32,
    /// 8 bits, 32 bits: the room that a function takes on the stack, where what was learned of the one before it ends.
    Frame8,
    Frame32,
    /// 32 bits: how far the target lies before the operand.
    Behind,
    /// 64 bits: the target's address.
    Wide,
    /// 32 bits: the target's address.
    Narrow,
    /// 32 bits: the target's distance from the base of this number.
    Based(u8),
    /// 32 bits: the number of a row of 24 bytes, counted from the base of this number.
    Row(u8),
    /// 32 bits: the length of something that ends at the target.
    Span,
    /// The low 26 bits of a 4-byte instruction: distance in units of 4.
    Jump26,
    /// Bits 5 to 23: distance in units of 4.
    Branch19,
    /// Bits 5 to 18: distance in units of 4.
    Branch14,
    /// Bits 29, 30 (low) and 5 to 23: distance in bytes.
    Near21,
    /// Bits as `Near21`: distance of 4096-byte pages.
    Page21,
    /// Bits 10 to 21: the address's low 12 bits, divided by 2 to this power.
    Low12(u8),
}

/// An operand of the old file (or, for the encoder, of the new one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operand {
    /// Offset in the file.
    pub(super) at: u32,
    pub(super) kind: Kind,
    /// The address that it leads to.
    pub(super) target: u64,
}

/// What a rewrite knows besides the operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move<'a> {
    pub(super) shifts: &'a Shifts,
    /// How far each base moved.
    pub(super) bases: &'a [u64],
    /// The operand's own old address, and how far it moved.
    pub(super) addr: u64,
    pub(super) here: u64,
}

/// Bytes of a row.
const ROW: i64 = 24;
/// Bytes that no operand is wider than.
pub(super) const WIDTH_MAX: usize = 8;

impl Kind {
    /// Bytes that hold the field.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Stack8 | Self::Frame8 => 1,
            Self::Wide => 8,
            _ => 4,
        }
    }

    /// Bits of the field.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Stack8 | Self::Frame8 => 8,
            Self::Wide => 64,
            Self::Jump26 => 26,
            Self::Branch19 => 19,
            Self::Branch14 => 14,
            Self::Near21 | Self::Page21 => 21,
            Self::Low12(_) => 12,
            _ => 32,
        }
    }

    /// Whether it is about the stack.
    pub(super) fn is_stack(self) -> bool {
        matches!(self, Self::Stack8 | Self::Stack32 | Self::Frame8 | Self::Frame32)
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The field's value; `bytes` are as many as the width says.
    pub(super) fn read(self, bytes: &[u8]) -> u64 {
        match self.width() {
            1 => return bytes.first().map_or(0, |byte| u64::from(*byte)),
            8 => return bytes.try_into().map_or(0, u64::from_le_bytes),
            _ => {}
        }
        let word = u64::from(bytes.try_into().map_or(0, u32::from_le_bytes));
        match self {
            Self::Jump26 => word & 0x3ff_ffff,
            Self::Branch19 => word >> 5 & 0x7_ffff,
            Self::Branch14 => word >> 5 & 0x3fff,
            Self::Near21 | Self::Page21 => word >> 29 & 3 | (word >> 5 & 0x7_ffff) << 2,
            Self::Low12(_) => word >> 10 & 0xfff,
            _ => word,
        }
    }

    /// Puts a value into the field and leaves the bits beside it.
    pub(super) fn write(self, bytes: &mut [u8], value: u64) {
        let value = value & self.mask();
        if self.width() != 4 {
            bytes.copy_from_slice(&value.to_le_bytes()[..self.width()]);
            return;
        }
        let (places, field) = match self {
            Self::Jump26 => (0x3ff_ffff, value),
            Self::Branch19 => (0x7_ffff << 5, value << 5),
            Self::Branch14 => (0x3fff << 5, value << 5),
            Self::Near21 | Self::Page21 => (3 << 29 | 0x7_ffff << 5, (value & 3) << 29 | (value >> 2) << 5),
            Self::Low12(_) => (0xfff << 10, value << 10),
            _ => (0xffff_ffff, value),
        };
        let word = u64::from(bytes.try_into().map_or(0, u32::from_le_bytes)) & !places | field;
        bytes.copy_from_slice(&word.to_le_bytes()[..4]);
    }

    /// `to - from` as the shortest signed number that makes `to` of `from`.
    pub(super) fn difference(self, from: u64, to: u64) -> i64 {
        let unused = 64 - self.bits();
        (to.wrapping_sub(from) << unused).cast_signed() >> unused
    }
}

impl Operand {
    /// Whether it leads to a place in the file.
    pub(super) fn leads(&self) -> bool {
        !self.kind.is_stack()
    }

    /// The value that the field should have in the new file, of the one that it has in the old one.
    pub(super) fn rewrite(&self, value: u64, context: Move) -> u64 {
        if !self.leads() {
            return value;
        }
        let shift = context.shifts.of(self.target);
        let apart = shift.wrapping_sub(context.here);
        let moved = |base: u8| context.bases.get(usize::from(base)).copied().unwrap_or(0);
        let words = || value.wrapping_add((apart.cast_signed() >> 2).cast_unsigned());
        match self.kind {
            Kind::Relative | Kind::Taken | Kind::Near21 => value.wrapping_add(apart),
            Kind::Behind => value.wrapping_sub(apart),
            Kind::Wide | Kind::Narrow => value.wrapping_add(shift),
            Kind::Based(base) => value.wrapping_add(shift.wrapping_sub(moved(base))),
            Kind::Row(base) => {
                let rows = shift.wrapping_sub(moved(base)).cast_signed() / ROW;
                value.wrapping_add(rows.cast_unsigned())
            }
            Kind::Span => {
                let start = context.shifts.of(self.target.wrapping_sub(value));
                value.wrapping_add(shift.wrapping_sub(start))
            }
            Kind::Stack8 | Kind::Stack32 | Kind::Frame8 | Kind::Frame32 => value,
            Kind::Jump26 | Kind::Branch19 | Kind::Branch14 => words(),
            Kind::Page21 => {
                let page = |addr: u64| addr >> 12;
                page(self.target.wrapping_add(shift))
                    .wrapping_sub(page(context.addr.wrapping_add(context.here)))
            }
            Kind::Low12(scale) => (self.target.wrapping_add(shift) & 0xfff) >> (scale & 7),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_hold_what_is_written_and_leave_the_rest() {
        let kinds = [
            Kind::Relative,
            Kind::Wide,
            Kind::Stack8,
            Kind::Jump26,
            Kind::Branch19,
            Kind::Branch14,
            Kind::Near21,
            Kind::Low12(2),
        ];
        for kind in kinds {
            for value in [0, 1, 0x1555_5555_5555_5555, u64::MAX] {
                for around in [0, 0xff] {
                    let mut bytes = vec![around; kind.width()];
                    let was = kind.read(&bytes);
                    kind.write(&mut bytes, value);
                    assert_eq!(kind.read(&bytes), value & kind.mask(), "{kind:?}");
                    kind.write(&mut bytes, was);
                    assert_eq!(bytes, vec![around; kind.width()], "{kind:?}");
                }
                let back = kind.difference(3, value);
                assert_eq!(
                    back.cast_unsigned().wrapping_add(3) & kind.mask(),
                    value & kind.mask(),
                    "{kind:?}"
                );
            }
        }
    }
}
