//! What a segment's payload says: corrections of operands, bytes that differ otherwise, and literals, each in streams of
//! their own. What was predicted right costs nothing but the gaps in between.

use super::SEGMENT_MAX;
use super::bytes::{Reader, put_signed, put_stream, put_varint};
use super::coder::Slot;
use super::stack::Stack;
use crate::{DeltaError, Effort};

/// Differing bytes no further apart than so many equal ones are told as one row.
const JOIN_MAX: usize = 2;
const STREAMS: usize = 6;

fn level(effort: Effort) -> i32 {
    match effort {
        Effort::Fast => 6,
        Effort::Normal => 19,
        Effort::Max => 22,
    }
}

/// Collects the residual of a segment.
#[derive(Debug, Default)]
pub(super) struct ResidualWriter {
    /// Operands predicted right before each that was not; what has to be added to that.
    slots: Vec<u8>,
    corrections: Vec<u8>,
    stack_corrections: Vec<u8>,
    /// Bytes predicted right before each row of others, and how many those are; their differences.
    rows: Vec<u8>,
    differences: Vec<u8>,
    literals: Vec<u8>,
    slots_right: u64,
    bytes_right: u64,
    stack: Stack,
}

impl ResidualWriter {
    pub(super) fn literal(&mut self, bytes: &[u8]) {
        self.literals.extend_from_slice(bytes);
    }

    /// A part and its prediction, which becomes worthless.
    pub(super) fn predicted(&mut self, bytes: &[u8], guess: &mut [u8], slots: &[Slot]) {
        for slot in slots {
            let place = slot.at..slot.at + slot.kind.width();
            let right = slot.kind.read(&bytes[place.clone()]);
            let old = slot.kind.read(&guess[place.clone()]);
            let difference = slot.kind.difference(self.stack.guess(slot.kind, old), right);
            self.stack.learn(slot.kind, old, right);
            slot.kind.write(&mut guess[place], right);
            if difference == 0 {
                self.slots_right += 1;
                continue;
            }
            put_varint(&mut self.slots, self.slots_right);
            let stack = slot.kind.is_stack();
            put_signed(if stack { &mut self.stack_corrections } else { &mut self.corrections }, difference);
            self.slots_right = 0;
        }
        self.bytes(bytes, guess);
    }

    fn bytes(&mut self, bytes: &[u8], guess: &[u8]) {
        let mut at = 0;
        loop {
            let same = bytes[at..].iter().zip(&guess[at..]).take_while(|(a, b)| a == b).count();
            self.bytes_right += same as u64;
            at += same;
            if at == bytes.len() {
                return;
            }
            let end = row_end(bytes, guess, at);
            put_varint(&mut self.rows, self.bytes_right);
            put_varint(&mut self.rows, (end - at) as u64);
            self.bytes_right = 0;
            let differences = bytes[at..end].iter().zip(&guess[at..end]).map(|(a, b)| a.wrapping_sub(*b));
            self.differences.extend(differences);
            at = end;
        }
    }

    /// The payload. `near` is what lies in the old file where literals lie in the new one.
    pub(super) fn finish(self, near: &[u8], effort: Effort) -> Vec<u8> {
        let mut out = Vec::new();
        let level = level(effort);
        let streams =
            [&self.slots, &self.corrections, &self.stack_corrections, &self.rows, &self.differences];
        streams.iter().for_each(|stream| put_stream(&mut out, stream, &[], level));
        put_stream(&mut out, &self.literals, near, level);
        out
    }
}

/// Where the row of differing bytes that begins at `start` ends.
fn row_end(bytes: &[u8], guess: &[u8], start: usize) -> usize {
    let (mut end, mut at) = (start + 1, start + 1);
    while at < bytes.len() && at - end <= JOIN_MAX {
        if bytes[at] != guess[at] {
            end = at + 1;
        }
        at += 1;
    }
    end
}

/// Applies the residual of a segment.
pub(super) struct ResidualReader<'a> {
    slots: Reader<'a>,
    corrections: Reader<'a>,
    stack_corrections: Reader<'a>,
    rows: Reader<'a>,
    differences: Reader<'a>,
    literals: Reader<'a>,
    /// `None` when there are no more corrections.
    slots_right: Option<u64>,
    bytes_right: Option<u64>,
    /// Bytes left of the row at hand.
    row: u64,
    stack: Stack,
}

impl<'a> ResidualReader<'a> {
    /// The payload's streams. None that fits a segment of `len` bytes is longer than some times that.
    pub(super) fn streams(payload: &[u8], near: &[u8], len: usize) -> Result<[Vec<u8>; STREAMS], DeltaError> {
        let mut reader = Reader::new(payload);
        let mut streams: [Vec<u8>; STREAMS] = Default::default();
        for (number, stream) in streams.iter_mut().enumerate() {
            let prefix = if number == STREAMS - 1 { near } else { &[] };
            *stream = reader.stream(3 * len.min(SEGMENT_MAX) + 64, prefix)?;
        }
        reader.finish()?;
        Ok(streams)
    }

    pub(super) fn new(streams: &'a [Vec<u8>; STREAMS]) -> Result<Self, DeltaError> {
        let [slots, corrections, stack_corrections, rows, differences, literals] =
            streams.each_ref().map(|s| Reader::new(s));
        let (slots_right, bytes_right) = (None, None);
        let mut reader = Self {
            slots,
            corrections,
            stack_corrections,
            rows,
            differences,
            literals,
            slots_right,
            bytes_right,
            row: 0,
            stack: Stack::default(),
        };
        reader.next_slot()?;
        reader.next_row()?;
        Ok(reader)
    }

    fn next_slot(&mut self) -> Result<(), DeltaError> {
        self.slots_right = if self.slots.is_empty() { None } else { Some(self.slots.varint()?) };
        Ok(())
    }

    fn next_row(&mut self) -> Result<(), DeltaError> {
        self.bytes_right = None;
        if !self.rows.is_empty() {
            self.bytes_right = Some(self.rows.varint()?);
            self.row = self.rows.varint()?;
        }
        Ok(())
    }

    pub(super) fn literal(&mut self, out: &mut [u8]) -> Result<(), DeltaError> {
        out.copy_from_slice(self.literals.take(out.len())?);
        Ok(())
    }

    /// Makes what it should be of a part's prediction.
    pub(super) fn predicted(&mut self, out: &mut [u8], slots: &[Slot]) -> Result<(), DeltaError> {
        for Slot { at, kind } in slots {
            let field = &mut out[*at..at + kind.width()];
            let old = kind.read(field);
            let mut value = self.stack.guess(*kind, old);
            if let Some(right) = &mut self.slots_right {
                if let Some(left) = right.checked_sub(1) {
                    *right = left;
                } else {
                    let stack = kind.is_stack();
                    let corrections = if stack { &mut self.stack_corrections } else { &mut self.corrections };
                    value = value.wrapping_add(corrections.signed()?.cast_unsigned());
                    self.next_slot()?;
                }
            }
            kind.write(field, value);
            self.stack.learn(*kind, old, kind.read(field));
        }
        let mut at = 0;
        while let Some(right) = self.bytes_right {
            let left = (out.len() - at) as u64;
            if right >= left {
                self.bytes_right = Some(right - left);
                break;
            }
            at += usize::try_from(right).unwrap_or(usize::MAX);
            let row = usize::try_from(self.row).unwrap_or(usize::MAX);
            let row =
                out.get_mut(at..at.saturating_add(row)).ok_or(DeltaError::Invalid("a row over an end"))?;
            let differences = self.differences.take(row.len())?;
            for (byte, difference) in row.iter_mut().zip(differences) {
                *byte = byte.wrapping_add(*difference);
            }
            at += differences.len();
            self.next_row()?;
        }
        Ok(())
    }

    /// All has to be used up.
    pub(super) fn finish(&self) -> Result<(), DeltaError> {
        if self.slots_right.is_some() || self.bytes_right.is_some() {
            return Err(DeltaError::Invalid("corrections behind the end"));
        }
        self.slots.finish()?;
        self.corrections.finish()?;
        self.stack_corrections.finish()?;
        self.rows.finish()?;
        self.differences.finish()?;
        self.literals.finish()
    }
}
