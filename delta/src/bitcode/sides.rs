//! The two sides of the walk: bits to bytes, and bytes to bits.

use super::TOKENS_MAX;
use super::bits::{Reader, Width, Writer};
use super::forms::{self, Form};
use super::model::{Model, block};
use super::symtab;
use super::walk::Side;
use crate::DeltaError;

/// A file is read, bytes are written.
pub(super) struct Taking<'a> {
    bits: Reader<'a>,
    out: Vec<u8>,
    /// What goes elsewhere: its rank, and where it lies.
    turned: Vec<(usize, usize, usize)>,
    is_turned: bool,
}

impl<'a> Taking<'a> {
    pub(super) fn new(file: &'a [u8], from: u64) -> Self {
        Self { bits: Reader::new(file, from), out: Vec::new(), turned: Vec::new(), is_turned: false }
    }

    /// Lengths of what goes to each of so many ranks, that itself, and all else.
    pub(super) fn finish(self, ranks: usize, out: &mut Vec<u8>) {
        if ranks == 0 {
            return out.extend_from_slice(&self.out);
        }
        let mut parts = vec![&[][..]; ranks];
        let (mut rest, mut from) = (Vec::new(), 0);
        for &(rank, begin, end) in &self.turned {
            rest.extend_from_slice(&self.out[from..begin]);
            parts[rank] = &self.out[begin..end];
            from = end;
        }
        rest.extend_from_slice(&self.out[from..]);
        parts.iter().for_each(|part| forms::number(out, part.len() as u64));
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(&rest);
    }
}

impl Side for Taking<'_> {
    fn at(&self) -> u64 {
        self.bits.at()
    }

    fn is_at_end(&self) -> bool {
        self.bits.is_at_end()
    }

    fn value(&mut self, width: Width, form: Form, model: &Model) -> Result<u64, DeltaError> {
        let value = self.bits.read(width)?;
        if form == Form::Later && width == LATER {
            return Ok(0);
        }
        forms::put(form, value, model, &mut self.out);
        if self.out.len() > TOKENS_MAX { Err(DeltaError::TooLarge("tokens")) } else { Ok(value) }
    }

    fn told(&mut self, _: u64) -> Result<(), DeltaError> {
        Ok(())
    }

    fn enter(&mut self) -> Result<(), DeltaError> {
        self.bits.align();
        self.bits.read(LATER).map(|_| ())
    }

    fn leave(&mut self) -> Result<(), DeltaError> {
        self.bits.align();
        Ok(())
    }

    fn turn_to(&mut self, rank: Option<usize>) -> Result<(), DeltaError> {
        let at = self.out.len();
        if let Some(rank) = rank {
            self.turned.push((rank, at, at));
        } else if let Some(last) = self.turned.last_mut().filter(|_| self.is_turned) {
            last.2 = at;
        }
        self.is_turned = rank.is_some();
        Ok(())
    }

    fn blob(&mut self, block: u64, model: &Model) -> Result<(), DeltaError> {
        let len = self.bits.read(LENGTH)?;
        let len = usize::try_from(len).map_err(|_| DeltaError::Truncated)?;
        let blob = self.bits.take(len)?;
        match block {
            block::STRTAB if blob == model.strtab => self.out.push(KNOWN),
            block::SYMTAB => {
                self.out.push(OTHER);
                forms::number(&mut self.out, len as u64);
                symtab::put(blob, model, &mut self.out);
            }
            _ => {
                self.out.push(OTHER);
                forms::number(&mut self.out, len as u64);
                self.out.extend_from_slice(blob);
            }
        }
        Ok(())
    }
}

/// How places that are known later are written.
const LATER: Width = Width::Fixed(32);
/// How lengths of blobs are.
const LENGTH: Width = Width::Vbr(6);
const KNOWN: u8 = 0;
const OTHER: u8 = 1;

/// Bytes are read, a file is written.
pub(super) struct Making<'a> {
    bytes: &'a [u8],
    pub(super) bits: Writer,
    /// Where lengths of blocks go.
    open: Vec<u64>,
    later: Option<u64>,
    /// What was put elsewhere, by rank.
    turned: Vec<&'a [u8]>,
    /// Where to return to.
    rest: Option<&'a [u8]>,
}

impl<'a> Making<'a> {
    pub(super) fn new(mut bytes: &'a [u8], ranks: usize, bits: Writer) -> Result<Self, DeltaError> {
        // Each takes a byte or more.
        if ranks > bytes.len() {
            return Err(DeltaError::Truncated);
        }
        let lens: Result<Vec<u64>, _> = (0..ranks).map(|_| forms::take_number(&mut bytes)).collect();
        let mut turned = Vec::with_capacity(ranks);
        for len in lens? {
            let len = usize::try_from(len).map_err(|_| DeltaError::Truncated)?;
            let (part, rest) = bytes.split_at_checked(len).ok_or(DeltaError::Truncated)?;
            turned.push(part);
            bytes = rest;
        }
        Ok(Self { bytes, bits, open: Vec::new(), later: None, turned, rest: None })
    }
}

impl Side for Making<'_> {
    fn at(&self) -> u64 {
        self.bits.at()
    }

    fn is_at_end(&self) -> bool {
        self.bytes.is_empty()
    }

    fn value(&mut self, width: Width, form: Form, model: &Model) -> Result<u64, DeltaError> {
        if form == Form::Later && width == LATER {
            self.later = Some(self.bits.at());
            self.bits.write(width, 0)?;
            return Ok(0);
        }
        let value = forms::take(form, model, &mut self.bytes)?;
        self.bits.write(width, value)?;
        Ok(value)
    }

    fn told(&mut self, word: u64) -> Result<(), DeltaError> {
        self.later.take().map_or(Ok(()), |at| self.bits.patch(at, word))
    }

    fn enter(&mut self) -> Result<(), DeltaError> {
        self.bits.align()?;
        self.open.push(self.bits.at());
        self.bits.write(LATER, 0)
    }

    fn leave(&mut self) -> Result<(), DeltaError> {
        self.bits.align()?;
        let at = self.open.pop().ok_or(DeltaError::Invalid("an end of no block"))?;
        self.bits.patch(at, (self.bits.at() - at) / 32 - 1)
    }

    fn turn_to(&mut self, rank: Option<usize>) -> Result<(), DeltaError> {
        if let Some(rest) = self.rest.take() {
            self.bytes = rest;
        }
        if let Some(rank) = rank {
            let part = self.turned.get(rank).ok_or(DeltaError::Truncated)?;
            self.rest = Some(std::mem::replace(&mut self.bytes, part));
        }
        Ok(())
    }

    fn blob(&mut self, block: u64, model: &Model) -> Result<(), DeltaError> {
        let (&kind, rest) = self.bytes.split_first().ok_or(DeltaError::Truncated)?;
        self.bytes = rest;
        if kind == KNOWN {
            self.bits.write(LENGTH, model.strtab.len() as u64)?;
            return self.bits.put(&model.strtab);
        }
        let len = forms::take_number(&mut self.bytes)?;
        self.bits.write(LENGTH, len)?;
        let len = usize::try_from(len).map_err(|_| DeltaError::Truncated)?;
        if block == block::SYMTAB {
            let blob = symtab::take(len, model, &mut self.bytes)?;
            return self.bits.put(&blob);
        }
        let (blob, rest) = self.bytes.split_at_checked(len).ok_or(DeltaError::Truncated)?;
        self.bytes = rest;
        self.bits.put(blob)
    }
}
