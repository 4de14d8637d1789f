//! Bits, the lowest of a byte first.

use crate::DeltaError;

/// Reads bits.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits that were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn bit(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let mut bits = 0;
        for shift in 0..count {
            bits |= self.bit()? << shift;
        }
        Some(bits)
    }

    /// Goes on at the next whole byte, and gives so many of them.
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let from = self.at.div_ceil(8);
        let bytes = self.bytes.get(from..from.checked_add(count)?)?;
        self.at = (from + count) * 8;
        Some(bytes)
    }

    /// The bits from `from` on to where it reads, in whole bytes.
    pub(super) fn since(&self, from: usize) -> Vec<u8> {
        let (mut reader, mut writer) =
            (Self { bytes: self.bytes, at: from }, BitWriter::new(Vec::new(), usize::MAX));
        while reader.at < self.at {
            let count = (self.at - reader.at).min(8);
            // It was read before, and eight bits are a u32.
            let bits = u32::try_from(count).ok().and_then(|count| Some((reader.take(count)?, count)));
            let Some((bits, count)) = bits else { break };
            if writer.put(bits, count).is_err() {
                break;
            }
        }
        writer.finish()
    }
}

/// Writes bits, not past a limit.
#[derive(Debug)]
pub(super) struct BitWriter {
    out: Vec<u8>,
    len_max: usize,
    bits: u64,
    count: u32,
}

impl BitWriter {
    /// Behind what `out` has.
    pub(super) fn new(out: Vec<u8>, len_max: usize) -> Self {
        Self { out, len_max, bits: 0, count: 0 }
    }

    /// At most 32 bits.
    pub(super) fn put(&mut self, bits: u32, count: u32) -> Result<(), DeltaError> {
        self.bits |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            if self.out.len() >= self.len_max {
                return Err(DeltaError::TooLarge("a file"));
            }
            self.out.push(self.bits.to_le_bytes()[0]);
            self.bits >>= 8;
            self.count -= 8;
        }
        Ok(())
    }

    /// From the next whole byte on.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        self.pad();
        if bytes.len() > self.len_max.saturating_sub(self.out.len()) {
            return Err(DeltaError::TooLarge("a file"));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn pad(&mut self) {
        if self.count > 0 {
            self.out.push(self.bits.to_le_bytes()[0]);
            (self.bits, self.count) = (0, 0);
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.pad();
        self.out
    }
}
