//! Files that keep to the container format, whatever their records mean.

use proptest::prelude::*;

/// What is in a block.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A block of a kind, and what is in it.
    Block(u64, u32, Vec<Item>),
    /// A record without abbreviation.
    Record(u64, Vec<u64>),
    /// An abbreviation of its own, and a record by it: the code, a fixed field, a variable one, an array.
    Abbreviated { code: u64, fixed: u32, small: u8, variable: u64, array: Vec<u8> },
    /// An abbreviation of its own of a blob, and one.
    Blob(u64, Vec<u8>),
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..40u64, 2 => 0..5000u64, 1 => any::<u32>().prop_map(u64::from), 1 => any::<u64>()]
}

fn item() -> impl Strategy<Value = Item> {
    let record = (0..64u64, prop::collection::vec(value(), 0..12))
        .prop_map(|(code, values)| Item::Record(code, values));
    let array = prop::collection::vec(0..64u8, 0..9);
    let abbreviated =
        (0..64u64, 6..32u32, 0..64u8, value(), array).prop_map(|(code, fixed, small, variable, array)| {
            Item::Abbreviated { code, fixed, small, variable, array }
        });
    let blob =
        (0..4u64, prop::collection::vec(any::<u8>(), 0..90)).prop_map(|(code, blob)| Item::Blob(code, blob));
    let leaf = prop_oneof![8 => record, 2 => abbreviated, 1 => blob];
    leaf.prop_recursive(4, 60, 12, |inner| {
        // Kinds that mean something, but for the description of others and modules, of which there are but some.
        let kind = prop::sample::select((9..27u64).collect::<Vec<_>>());
        (kind, 4..8u32, prop::collection::vec(inner, 0..12))
            .prop_map(|(kind, width, items)| Item::Block(kind, width, items))
    })
}

/// What is in the module of a file.
pub(crate) fn items() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec(item(), 0..30)
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn fixed(&mut self, width: u32, value: u64) {
        for bit in 0..width {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().expect("there is one") |=
                u8::from(value >> bit & 1 != 0) << (self.len % 8);
            self.len += 1;
        }
    }

    fn variable(&mut self, width: u32, mut value: u64) {
        let more = 1u64 << (width - 1);
        while value >= more {
            self.fixed(width, value & (more - 1) | more);
            value >>= width - 1;
        }
        self.fixed(width, value);
    }

    fn align(&mut self) {
        while !self.len.is_multiple_of(32) {
            self.fixed(1, 0);
        }
    }
}

/// A file of a module that has these.
pub(crate) fn file(items: &[Item]) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.fixed(32, 0xdec0_4342);
    block(&mut bits, 2, (8, 5), items);
    bits.bytes
}

fn block(bits: &mut Bits, outer: u32, (kind, width): (u64, u32), items: &[Item]) {
    bits.fixed(outer, 1);
    bits.variable(8, kind);
    bits.variable(4, u64::from(width));
    bits.align();
    let at = bits.len / 8;
    bits.fixed(32, 0);
    let mut abbreviations = 4;
    for item in items {
        // More of them than the width has room for.
        let has_room = abbreviations < 1 << width;
        match item {
            Item::Block(kind, inner, items) => block(bits, width, (*kind, *inner), items),
            Item::Record(code, values) => {
                // Where names are is what follows from where they are: any other word is made again as that.
                let code = if (kind, *code) == (8, 13) { 12 } else { *code };
                bits.fixed(width, 3);
                bits.variable(6, code);
                bits.variable(6, values.len() as u64);
                values.iter().for_each(|value| bits.variable(6, *value));
            }
            Item::Abbreviated { code, fixed, small, variable, array } if has_room => {
                let code = if (kind, *code) == (8, 13) { 12 } else { *code };
                bits.fixed(width, 2);
                bits.variable(5, 5);
                bits.fixed(1, 1);
                bits.variable(8, code);
                for (encoding, value) in [(1, Some(*fixed)), (2, Some(7)), (3, None), (1, Some(6))] {
                    bits.fixed(1, 0);
                    bits.fixed(3, encoding);
                    if let Some(value) = value {
                        bits.variable(5, u64::from(value));
                    }
                }
                bits.fixed(width, abbreviations);
                bits.fixed(*fixed, u64::from(*small));
                bits.variable(7, *variable);
                bits.variable(6, array.len() as u64);
                array.iter().for_each(|value| bits.fixed(6, u64::from(*value)));
                abbreviations += 1;
            }
            Item::Blob(code, blob) if has_room => {
                bits.fixed(width, 2);
                bits.variable(5, 2);
                bits.fixed(1, 1);
                bits.variable(8, *code);
                bits.fixed(1, 0);
                bits.fixed(3, 5);
                bits.fixed(width, abbreviations);
                bits.variable(6, blob.len() as u64);
                bits.align();
                blob.iter().for_each(|byte| bits.fixed(8, u64::from(*byte)));
                bits.align();
                abbreviations += 1;
            }
            Item::Abbreviated { .. } | Item::Blob(..) => {}
        }
    }
    bits.fixed(width, 0);
    bits.align();
    let words = u32::try_from(bits.len / 8 - at - 4).expect("small") / 4;
    bits.bytes[at..at + 4].copy_from_slice(&words.to_le_bytes());
}
