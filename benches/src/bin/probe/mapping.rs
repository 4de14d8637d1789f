//! A file that is read through a mapping.
#![expect(unsafe_code, reason = "mapped memory is read through a pointer; see SAFETY below")]

use std::fs::File;

use memmap2::{MmapOptions, MmapRaw};

use super::Result;

const PAGE_BYTES: usize = 4096;

/// A file, mapped to be read.
pub(crate) struct Pages(MmapRaw);

impl Pages {
    pub(crate) fn of(file: &File) -> Result<Pages> {
        Ok(Pages(MmapOptions::new().map_raw_read_only(file)?))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    /// Reads a byte of every page.
    pub(crate) fn touch(&self) -> u64 {
        let start = self.0.as_ptr();
        let mut sum = 0;
        for offset in (0..self.0.len()).step_by(PAGE_BYTES) {
            // SAFETY: `offset` is below the length of the mapping, which lives as long as `self`. The read is volatile and
            // of a byte, so that it does not matter if somebody changes the file meanwhile. Nobody truncates it: it is
            // one of a bench's own trees.
            sum += u64::from(unsafe { start.add(offset).read_volatile() });
        }
        sum
    }
}
