//! Read-only bytes of a whole file: memory-mapped, or owned where there is no file to map.
#![expect(unsafe_code, reason = "mapping a file is unsafe; the one call is justified below")]

use std::fs::File;
use std::io;
use std::ops::Deref;

/// Bytes that do not change while they are held.
#[derive(Debug)]
pub enum Bytes {
    /// A private read-only mapping.
    Mapped(memmap2::Mmap),
    /// Bytes in memory.
    Owned(Vec<u8>),
}

impl Bytes {
    pub(super) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the store maps only files that it wrote under a temporary name, synced and renamed, and that no code
        // of its own truncates or writes again (index runs, sealed packs); removal of the name leaves the mapping whole.
        // Another program that truncates such a file breaks the store's contract and ends this process by SIGBUS; it
        // cannot make Rust see bytes of another type, for only u8 is read from here.
        unsafe { memmap2::Mmap::map(file) }.map(Self::Mapped)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
