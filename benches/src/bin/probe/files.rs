//! One large file.

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;

use super::Result;
use super::mapping::Pages;

/// What `cp` and `cat` ask for at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// Opens, reads to the end, and closes; the bytes that there were.
pub(crate) fn read(path: &Path) -> Result<u64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => bytes += read as u64,
        }
    }
}

/// Opens, maps, touches every page, and unmaps.
pub(crate) fn map(path: &Path) -> Result<u64> {
    let pages = Pages::of(&File::open(path)?)?;
    black_box(pages.touch());
    Ok(pages.bytes())
}
