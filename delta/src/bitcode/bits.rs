//! Bits as the container has them: from the lowest of each byte up, values of fixed and of variable width.

use crate::DeltaError;

/// Bits of a word, to which blocks are aligned.
pub(super) const WORD: u64 = 32;

/// How a value lies in the bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Fixed(u32),
    /// Groups of so many bits, the highest of which says whether another follows.
    Vbr(u32),
    Char6,
}

const CHAR6: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._";

/// Bits to be read.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: u64) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len() as u64 * 8
    }

    fn fixed(&mut self, width: u32) -> Result<u64, DeltaError> {
        let end = self.at + u64::from(width);
        if end > self.bytes.len() as u64 * 8 {
            return Err(DeltaError::Truncated);
        }
        let from = usize::try_from(self.at / 8).map_err(|_| DeltaError::Truncated)?;
        let mut word = [0; 8];
        let there = &self.bytes[from..self.bytes.len().min(from + 8)];
        word[..there.len()].copy_from_slice(there);
        // At most 32 bits are asked for, and 7 lie before them.
        let value = u64::from_le_bytes(word) >> (self.at % 8) & ((1 << width) - 1);
        self.at = end;
        Ok(value)
    }

    pub(super) fn read(&mut self, width: Width) -> Result<u64, DeltaError> {
        match width {
            Width::Fixed(width) => self.fixed(width),
            Width::Char6 => {
                let number = usize::try_from(self.fixed(6)?).unwrap_or(0);
                Ok(u64::from(CHAR6[number]))
            }
            Width::Vbr(width) => {
                let more = 1u64 << (width - 1);
                let (mut value, mut shift) = (0u64, 0);
                loop {
                    let group = self.fixed(width)?;
                    let part = group & (more - 1);
                    if shift >= 64 || (part << shift) >> shift != part {
                        return Err(DeltaError::Invalid("a number that is too long"));
                    }
                    value |= part << shift;
                    if group & more == 0 {
                        return Ok(value);
                    }
                    shift += width - 1;
                }
            }
        }
    }

    pub(super) fn align(&mut self) {
        self.at = self.at.next_multiple_of(WORD);
    }

    /// Whole bytes, from where they are aligned.
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DeltaError> {
        self.align();
        let from = usize::try_from(self.at / 8).map_err(|_| DeltaError::Truncated)?;
        let end = from.checked_add(len).ok_or(DeltaError::Truncated)?;
        let bytes = self.bytes.get(from..end).ok_or(DeltaError::Truncated)?;
        self.at += len as u64 * 8;
        self.align();
        Ok(bytes)
    }
}

/// Bits that are written, up to a length.
pub(super) struct Writer {
    bytes: Vec<u8>,
    len_max: usize,
    pending: u64,
    pending_len: u32,
}

impl Writer {
    pub(super) fn new(mut bytes: Vec<u8>, len_max: usize) -> Self {
        bytes.clear();
        Self { bytes, len_max, pending: 0, pending_len: 0 }
    }

    pub(super) fn at(&self) -> u64 {
        self.bytes.len() as u64 * 8 + u64::from(self.pending_len)
    }

    fn fixed(&mut self, width: u32, value: u64) -> Result<(), DeltaError> {
        if value >> width != 0 {
            return Err(DeltaError::Invalid("a value that is too wide"));
        }
        self.pending |= value << self.pending_len;
        self.pending_len += width;
        if self.pending_len >= 32 {
            if self.bytes.len() + 4 > self.len_max {
                return Err(DeltaError::TooLarge("a bitcode file"));
            }
            self.bytes.extend_from_slice(&((self.pending & 0xffff_ffff) as u32).to_le_bytes());
            self.pending >>= 32;
            self.pending_len -= 32;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, width: Width, mut value: u64) -> Result<(), DeltaError> {
        match width {
            Width::Fixed(width) => self.fixed(width, value),
            Width::Char6 => {
                let place = CHAR6.iter().position(|char| u64::from(*char) == value);
                self.fixed(6, place.ok_or(DeltaError::Invalid("a character that is none"))? as u64)
            }
            Width::Vbr(width) => {
                let more = 1u64 << (width - 1);
                while value >= more {
                    self.fixed(width, value & (more - 1) | more)?;
                    value >>= width - 1;
                }
                self.fixed(width, value)
            }
        }
    }

    pub(super) fn align(&mut self) -> Result<(), DeltaError> {
        if self.pending_len > 0 { self.fixed(32 - self.pending_len, 0) } else { Ok(()) }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        self.align()?;
        let len = bytes.len().next_multiple_of(4);
        if self.bytes.len() + len > self.len_max {
            return Err(DeltaError::TooLarge("a bitcode file"));
        }
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len() + len - bytes.len(), 0);
        Ok(())
    }

    /// Sets 32 bits that were written as zeros at bit `at`.
    pub(super) fn patch(&mut self, at: u64, value: u64) -> Result<(), DeltaError> {
        let value = u32::try_from(value).map_err(|_| DeltaError::Invalid("a place out of bounds"))?;
        self.align_for(at + WORD)?;
        let from = usize::try_from(at / 8).map_err(|_| DeltaError::Truncated)?;
        let spread = u64::from(value) << (at % 8);
        for (place, byte) in spread.to_le_bytes().iter().enumerate().take(5) {
            match self.bytes.get_mut(from + place) {
                Some(there) => *there |= byte,
                None if *byte == 0 => {}
                None => return Err(DeltaError::Truncated),
            }
        }
        Ok(())
    }

    /// What is patched has left the pending bits: all patches come after the block that they are in was aligned.
    fn align_for(&self, end: u64) -> Result<(), DeltaError> {
        if end <= self.bytes.len() as u64 * 8 {
            Ok(())
        } else {
            Err(DeltaError::Invalid("a place out of bounds"))
        }
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>, DeltaError> {
        self.align()?;
        Ok(self.bytes)
    }
}
