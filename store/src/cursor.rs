//! Reading fixed-width little-endian fields from untrusted bytes: total, and without allocation.

use std::borrow::Cow;

use crate::error::Error;
use crate::id::{ChunkId, ID_LEN};

/// What does not hold in some bytes. Whoever knows which object they belong to makes an [`Error`] of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Not the canonical encoding of anything.
    Malformed(Cow<'static, str>),
    /// A version that this build does not know.
    Newer {
        /// The version in the bytes.
        found: u32,
        /// The newest that is read.
        supported: u32,
    },
}

impl Defect {
    pub(crate) fn new(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(detail.into())
    }

    /// The defect as an error about the object `kind` (`tree`, `content`) with this id.
    pub(crate) fn of(self, kind: &str, id: &ChunkId) -> Error {
        match self {
            Self::Malformed(detail) => Error::Damaged {
                what: format!("{kind} {id}"),
                chunk: Some(*id),
                pack: None,
                offset: None,
                detail: detail.into_owned(),
            },
            Self::Newer { found, supported } => {
                Error::NewerFormat { path: format!("{kind} {id}").into(), found, supported }
            }
        }
    }

    /// The defect as a refusal of what a caller wanted to have encoded.
    pub(crate) fn refusal(self, what: &'static str, given: impl Into<String>) -> Error {
        let reason = match self {
            Self::Malformed(detail) => detail.into_owned(),
            Self::Newer { found, .. } => format!("format {found} is not known"),
        };
        Error::Invalid { what, given: given.into(), reason }
    }
}

/// A position in bytes that takes fields one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Starts `at` bytes into `bytes`; past the end, nothing is left.
    pub(crate) fn starting_at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    /// Bytes taken so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Defect> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(Defect::new("cut short"));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Defect> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Defect> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Defect> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Defect> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Defect> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Defect> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn id(&mut self) -> Result<ChunkId, Defect> {
        self.array::<ID_LEN>().map(ChunkId)
    }

    /// Fails unless everything was taken.
    pub(crate) fn end(&self) -> Result<(), Defect> {
        match self.left() {
            0 => Ok(()),
            left => Err(Defect::new(format!("{left} bytes follow the last entry"))),
        }
    }
}
