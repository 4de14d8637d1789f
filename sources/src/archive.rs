//! The programs that are wanted, out of an archive of a release.
//!
//! An archive comes from somebody else, and may be made to do harm. So nothing of it decides where anything is written: whoever
//! calls says which paths of the archive are wanted and which file each becomes, and what else the archive has is read over. Its
//! paths are only ever compared. An archive that has an absolute path, or one with `..`, is refused whole all the same: it is an attack
//! or a mistake.
//!
//! What is decoded is bounded by [`Bounds`] while it is decoded: bytes, entries, memory, and how much may come out of how little.
//! The whole archive is read to its end, also when all that is wanted was found: what is cut off or goes on behind its end is
//! refused. (Of a zip archive, its directory; of its members those that are wanted.)
//!
//! An archive is read once. Where a wanted member is a link to another member, it is read again to find that one.
//!
//! This does not compare the archive with a checksum, which is to be done before; it makes no folders, and sets no times or
//! owners; it does not sync, since what it writes is staged.

use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::error::{Error, Result};
use crate::sha256::Sha256;
use crate::watch::Watch;

mod gauge;
mod output;
mod search;
mod tape;
mod trail;
mod zipped;

use gauge::Gauge;
use search::Search;

/// Bytes of an archive that are read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// What an archive is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// `.tar`
    Tar,
    /// `.tar.gz`, `.tgz`
    TarGz,
    /// `.tar.xz`, `.txz`
    TarXz,
    /// `.tar.zst`, `.tzst`
    TarZst,
    /// `.zip`
    Zip,
}

/// A program that is wanted of an archive.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its whole path in the archive, without the folders that are left out.
    pub path: &'a str,
    /// The file that it becomes. It must not be there.
    pub to: &'a Path,
}

/// A file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Of its bytes.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

/// How much is read and written at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of one member that is wanted.
    pub member_bytes_max: u64,
    /// Decompressed bytes that are read altogether.
    pub total_bytes_max: u64,
    /// Entries of an archive. Of a zip archive, whose directory is held in memory, never more than 100 000.
    pub entries_max: u64,
    /// How far back a decompressor may have to look, which is the memory that it takes. What `xz -9` and `zstd --ultra -21`
    /// write needs 64 MiB.
    pub window_bytes_max: u32,
    /// Decompressed bytes for each byte that is read, from [`Bounds::RATIO_FROM_BYTES`] on.
    pub ratio_max: u64,
}

impl Bounds {
    /// Decompressed bytes from which on [`Bounds::ratio_max`] is looked at: what is smaller does no harm.
    pub const RATIO_FROM_BYTES: u64 = 1 << 30;
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            member_bytes_max: 4 << 30,
            total_bytes_max: 32 << 30,
            entries_max: 1_000_000,
            window_bytes_max: 64 << 20,
            ratio_max: 200,
        }
    }
}

impl Format {
    /// What a file of this name is; nothing where it is no archive, and so the program itself. Case does not matter.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let endings = [
            (".tar", Self::Tar),
            (".tar.gz", Self::TarGz),
            (".tgz", Self::TarGz),
            (".tar.xz", Self::TarXz),
            (".txz", Self::TarXz),
            (".tar.zst", Self::TarZst),
            (".tzst", Self::TarZst),
            (".zip", Self::Zip),
        ];
        endings.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
    }
}

/// Writes the members that are wanted, each to the file that is said, mode 755, and says what they are, in the order of
/// `members`. `name` is what the archive is called in the release; `strip`, how many leading folders of its paths do not count.
///
/// A member that is a link to a regular file of the archive becomes that file.
///
/// # Errors
/// - [`Error::Absent`] if the archive does not have a member; the hint says what it has that is most like it.
/// - [`Error::Archive`] if it is damaged, hostile or too large, or if a member is something else than a file.
/// - [`Error::Usage`] if a path that is wanted can be in no archive.
/// - [`Error::Io`] if the archive cannot be read or a file not written; [`Error::Cancelled`].
///
/// Nothing that this made is left then.
pub fn unpack(
    archive: &Path,
    name: &str,
    format: Format,
    strip: usize,
    members: &[Member<'_>],
    bounds: &Bounds,
    watch: &dyn Watch,
) -> Result<Vec<Unpacked>> {
    let gauge = Gauge::new(name, bounds, watch);
    let search = RefCell::new(Search::new(&gauge, strip, members)?);
    let read = || {
        while search.borrow().is_open() {
            read_through(archive, format, &gauge, &mut search.borrow_mut())?;
            search.borrow_mut().turn()?;
        }
        search.borrow_mut().finish()
    };
    let unpacked = read();
    if unpacked.is_err() {
        search.borrow().discard();
    }
    unpacked
}

/// Reads an archive from its beginning to its end.
fn read_through(archive: &Path, format: Format, gauge: &Gauge<'_>, search: &mut Search<'_>) -> Result<()> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(archive, flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::io("open", archive)(errno.into()))?;
    let file = std::fs::File::from(file);
    if format == Format::Zip {
        return zipped::read(file, archive, gauge, search);
    }
    let compressed = BufReader::with_capacity(BUFFER_BYTES, gauge.taking(file, archive));
    let mut plain: Box<dyn Read + '_> = match format {
        Format::Tar | Format::Zip => Box::new(compressed),
        Format::TarGz => Box::new(MultiGzDecoder::new(compressed)),
        Format::TarXz => {
            // Beside its window, the decoder takes some hundred KiB.
            let memory_kib = (gauge.bounds().window_bytes_max >> 10).saturating_add(1 << 10);
            Box::new(XzReader::new_mem_limit(compressed, true, memory_kib))
        }
        Format::TarZst => {
            let log = gauge.bounds().window_bytes_max.max(1 << 10).ilog2();
            let decoder = zstd::Decoder::with_buffer(compressed)
                .and_then(|mut decoder| decoder.window_log_max(log).map(|()| decoder));
            Box::new(decoder.map_err(|error| gauge.error(&error, "at its beginning"))?)
        }
    };
    tape::read(&mut gauge.giving(BufReader::with_capacity(BUFFER_BYTES, &mut plain)), gauge, search)
}

/// The whole of `buffer`, or as much as there is.
fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_the_name() {
        assert_eq!(Format::of_name("app-1.0.tar.gz"), Some(Format::TarGz));
        assert_eq!(Format::of_name("APP.TGZ"), Some(Format::TarGz));
        assert_eq!(Format::of_name("app.tar.xz"), Some(Format::TarXz));
        assert_eq!(Format::of_name("app.tzst"), Some(Format::TarZst));
        assert_eq!(Format::of_name("app.tar"), Some(Format::Tar));
        assert_eq!(Format::of_name("app.zip"), Some(Format::Zip));
        for program in ["app", "app-linux-amd64", "tar", "app.gz", "zip", "app.zip.sig", ""] {
            assert_eq!(Format::of_name(program), None, "{program}");
        }
    }
}
