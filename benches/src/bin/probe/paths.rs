//! Many paths, one after the other.

use std::ffi::{CStr, CString};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::{Errno, read as read_some};

use super::Result;

/// What is read of each file that is opened.
const READ_BYTES: usize = 4096;
/// What is asked of a folder at a time; the C library does so too.
const NAMES_BYTES: usize = 32 << 10;

/// Paths as the kernel takes them, so that nothing but the kernel is measured.
pub(crate) struct List(Vec<CString>);

impl List {
    /// From a file with one path a line.
    pub(crate) fn read(path: &Path) -> Result<List> {
        let text = std::fs::read(path)?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(List(lines.map(CString::new).collect::<std::result::Result<_, _>>()?))
    }

    fn each(&self, mut visit: impl FnMut(&CStr) -> Result<()>) -> Result<u64> {
        for path in &self.0 {
            visit(path).map_err(|error| format!("{}: {error}", path.to_string_lossy()))?;
        }
        Ok(self.0.len() as u64)
    }
}

pub(crate) fn stat(list: &List) -> Result<u64> {
    list.each(|path| {
        statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        Ok(())
    })
}

/// Looks for what must not be there.
pub(crate) fn absent(list: &List) -> Result<u64> {
    list.each(|path| match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT) => Ok(()),
        Ok(_) => Err("is there".into()),
        Err(error) => Err(error.into()),
    })
}

pub(crate) fn open_and_read(list: &List) -> Result<u64> {
    let mut buffer = [0; READ_BYTES];
    list.each(|path| {
        let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        read_some(&file, &mut buffer)?;
        Ok(())
    })
}

/// Lists a folder and looks at each of its entries: what `ls -l` asks the kernel for, without its sorting and printing.
pub(crate) fn list(folder: &Path) -> Result<u64> {
    let folder = openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut entries = 0;
    let mut names = Vec::with_capacity(NAMES_BYTES);
    let mut listing = RawDir::new(&folder, names.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            statx(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
            entries += 1;
        }
    }
    Ok(entries)
}
