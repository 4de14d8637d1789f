//! Zip: a directory at the end, which says where each member is.
//!
//! What different programs would read differently is refused: names that are there twice, members that overlap, headers that contradict
//! the directory, members that the directory does not have, bytes in front of the first member or behind the end.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use zip::read::Config;
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipArchive};

use crate::archive::gauge::{Gauge, Taking};
use crate::archive::search::{Kind, Search};
use crate::archive::trail::shown;
use crate::archive::{BUFFER_BYTES, read_full};
use crate::error::{Error, Result};

/// Entries that are held in memory, some hundred bytes each.
const ENTRIES_MAX: u64 = 100_000;

/// What a symbolic link says.
const LINK_BYTES_MAX: u64 = 4096;

/// The end of a directory, without its comment.
const END_BYTES: u64 = 22;
const END_MAGIC: [u8; 4] = *b"PK\x05\x06";

/// What a mode says of the kind of a file.
const KIND_BITS: u32 = 0o170_000;

/// Reads the directory, and hands `search` the members that it wants.
pub(super) fn read(file: File, path: &Path, gauge: &Gauge<'_>, search: &mut Search<'_>) -> Result<()> {
    let refuse = |error: ZipError, place: &str| refusal(gauge, error, place);
    let mut file = BufReader::with_capacity(BUFFER_BYTES, gauge.taking(file, path));
    let max = gauge.bounds().entries_max.min(ENTRIES_MAX);
    let count = ZipIterable::try_new(&mut file, Config::default())
        .map_err(|error| refuse(error, "at its end"))?
        .len();
    if count as u64 > max {
        return Err(gauge.refuse(format!("it has {count} entries, and {max} are allowed")));
    }
    let mut archive = ZipArchive::new(file).map_err(|error| refuse(error, "in its directory"))?;
    archive.validate_header_consistency().map_err(|error| refuse(error, "in its directory"))?;
    if archive.offset() != 0 {
        return Err(gauge.refuse("there is something in front of its first member"));
    }
    for number in 0..archive.len() {
        let name = archive
            .by_index_data(number)
            .map_err(|error| refuse(error, "in its directory"))?
            .name_raw()
            .to_vec();
        if let Some(met) = search.meet(&name, name.ends_with(b"/"))? {
            let place = format!("in {}", shown(&name));
            let entry = archive.by_index_data(number).map_err(|error| refuse(error, &place))?;
            if entry.encrypted() {
                return Err(gauge.refuse(format!("{} is encrypted", shown(&name))));
            }
            let method = entry.compression();
            if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
                let reason = format!("{} is compressed by {method}, which is not read here", shown(&name));
                return Err(gauge.refuse(reason));
            }
            let (mode, size) = (entry.unix_mode().unwrap_or(0), entry.size());
            let body = archive.by_index(number).map_err(|error| refuse(error, &place))?;
            let mut body = gauge.giving(Sized { body, left: size });
            let kind = match mode & KIND_BITS {
                _ if name.ends_with(b"/") => Kind::Other("a folder"),
                0 | 0o100_000 => Kind::File,
                0o120_000 => Kind::Symlink(target(&mut body, size, &place, gauge)?),
                0o040_000 => Kind::Other("a folder"),
                0o020_000 | 0o060_000 => Kind::Other("a device"),
                0o010_000 => Kind::Other("a pipe"),
                _ => Kind::Other("of an unknown kind"),
            };
            search.take(met, kind, size, &mut body)?;
        }
    }
    let comment = archive.comment().len() as u64;
    check_end(&mut archive.into_inner(), comment, gauge)
}

/// A member's bytes, which have to be as many as the directory says.
struct Sized<R> {
    body: R,
    left: u64,
}

impl<R: Read> Read for Sized<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let wrong = || io::Error::other("it is longer than the directory says");
        self.left = self.left.checked_sub(read as u64).ok_or_else(wrong)?;
        Ok(read)
    }
}

fn target(body: &mut dyn Read, size: u64, place: &str, gauge: &Gauge<'_>) -> Result<Vec<u8>> {
    if size > LINK_BYTES_MAX {
        return Err(gauge.refuse(format!("a link says more than {LINK_BYTES_MAX} bytes {place}")));
    }
    let mut target = Vec::new();
    body.take(LINK_BYTES_MAX).read_to_end(&mut target).map_err(|error| gauge.error(&error, place))?;
    Ok(target)
}

/// The end of the directory is the end of the file.
fn check_end(file: &mut BufReader<Taking<'_, '_, File>>, comment: u64, gauge: &Gauge<'_>) -> Result<()> {
    let mut magic = [0; END_MAGIC.len()];
    let back = i64::try_from(END_BYTES + comment).unwrap_or(i64::MAX);
    let read = file.seek(SeekFrom::End(-back)).and_then(|_| read_full(file, &mut magic));
    match read {
        Ok(read) if read == magic.len() && magic == END_MAGIC => Ok(()),
        Ok(_) => Err(gauge.refuse("it goes on behind its end")),
        Err(error) => Err(gauge.error(&error, "at its end")),
    }
}

fn refusal(gauge: &Gauge<'_>, error: ZipError, place: &str) -> Error {
    match error {
        ZipError::Io(error) => gauge.error(&error, place),
        error => gauge.error(&io::Error::other(error.to_string()), place),
    }
}
