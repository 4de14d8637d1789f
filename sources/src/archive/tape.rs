//! Tar: headers of 512 bytes, each with what it is of behind it.
//!
//! Read here block by block, with the `tar` crate for the fields of a header: what tells more of the next entry (GNU's long
//! names, the records of pax) is bounded, and what different programs would read differently is refused.
//!
//! Formats: v7, ustar, GNU, pax. Sparse files are passed over and cannot be wanted.

use std::io::Read;

use tar::{EntryType, GnuExtSparseHeader, Header};

use crate::archive::gauge::Gauge;
use crate::archive::read_full;
use crate::archive::search::{Kind, Search};
use crate::archive::trail::shown;
use crate::error::Result;

const BLOCK_BYTES: usize = 512;

/// A long name, which the kernel would not take at a length of more than 4096.
const NAME_BYTES_MAX: u64 = 64 << 10;

/// The records of pax for one entry: names, times, extended attributes.
const RECORDS_BYTES_MAX: u64 = 1 << 20;

/// What was told of the next entry in front of its header.
#[derive(Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
}

/// Records of pax that matter here.
#[derive(Default)]
struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

/// Reads an archive to its end, and hands `search` what it wants.
pub(super) fn read(plain: &mut dyn Read, gauge: &Gauge<'_>, search: &mut Search<'_>) -> Result<()> {
    let mut tape = Tape { plain, gauge, place: "at its beginning" };
    let mut ahead = Ahead::default();
    loop {
        let Some(header) = tape.header()? else {
            if ahead.name.is_some() || ahead.link.is_some() || ahead.records.is_some() {
                return Err(gauge.refuse("it ends behind the name of an entry that is not there"));
            }
            return tape.end();
        };
        let size = header.entry_size().map_err(|error| gauge.error(&error, "in a header"))?;
        match header.entry_type() {
            EntryType::GNULongName => tape.ahead(size, &mut ahead.name)?,
            EntryType::GNULongLink => tape.ahead(size, &mut ahead.link)?,
            EntryType::XHeader => {
                let records = tape.records(size)?;
                if ahead.records.replace(records).is_some() {
                    return Err(gauge.refuse("an entry is described twice"));
                }
            }
            EntryType::XGlobalHeader => {
                let records = tape.records(size)?;
                let harmless = records.path.is_none() && records.link.is_none() && records.size.is_none();
                if !harmless || records.is_sparse {
                    return Err(gauge.refuse("it says of all its entries what can be true of one alone"));
                }
            }
            _ => tape.entry(&header, size, std::mem::take(&mut ahead), search)?,
        }
    }
}

struct Tape<'t, 'a> {
    plain: &'t mut dyn Read,
    gauge: &'t Gauge<'a>,
    /// Where the next header is.
    place: &'static str,
}

impl Tape<'_, '_> {
    /// The next header, or nothing at the mark of the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let read = self.fill(header.as_mut_bytes(), self.place)?;
        self.place = "between two entries";
        if read < BLOCK_BYTES {
            return Err(self.gauge.refuse("it is cut off: the mark of its end lacks"));
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        let of_itself: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
        let told = header.cksum().map_err(|error| self.gauge.error(&error, "in a header"))?;
        if told != sum - of_itself + 8 * u32::from(b' ') {
            return Err(self.gauge.refuse("it is damaged, or no tar archive: a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Behind the mark of the end there are zeros alone.
    fn end(&mut self) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.fill(&mut buffer, "behind its last entry")?;
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Err(self.gauge.refuse("it goes on behind the mark of its end"));
            }
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, ahead: Ahead, search: &mut Search<'_>) -> Result<()> {
        let records = ahead.records.unwrap_or_default();
        let size = records.size.unwrap_or(size);
        let path = self.one_of(records.path, ahead.name)?.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = self.one_of(records.link, ahead.link)?;
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Other("a folder"),
            EntryType::Regular | EntryType::Continuous if records.is_sparse => Kind::Other("a sparse file"),
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Symlink => Kind::Symlink(link.unwrap_or_default()),
            EntryType::Link => Kind::Hardlink(link.unwrap_or_default()),
            EntryType::Directory => Kind::Other("a folder"),
            EntryType::Char | EntryType::Block => Kind::Other("a device"),
            EntryType::Fifo => Kind::Other("a pipe"),
            EntryType::GNUSparse => Kind::Other("a sparse file"),
            _ => Kind::Other("of an unknown kind"),
        };
        let has_body = matches!(kind, Kind::File) || !is_empty_by_kind(header.entry_type());
        if size > 0 && !has_body {
            let reason = format!("{} has no room for the {size} bytes that it is said to have", shown(&path));
            return Err(self.gauge.refuse(reason));
        }
        if header.entry_type() == EntryType::GNUSparse {
            self.sparse_map(header)?;
        }
        let is_folder = kind == Kind::Other("a folder");
        let met = search.meet(&path, is_folder)?;
        let mut body = Body { plain: &mut *self.plain, left: size };
        if let Some(met) = met {
            search.take(met, kind, size, &mut body)?;
        }
        let left = body.left;
        self.skip(left, &path)?;
        self.skip(padding(size), &path)
    }

    /// The one that is told, if no two differ.
    fn one_of(&self, pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        match (pax, gnu) {
            (Some(pax), Some(gnu)) if pax != gnu => {
                let reason = format!("an entry is called both {} and {}", shown(&pax), shown(&gnu));
                Err(self.gauge.refuse(reason))
            }
            (pax, gnu) => Ok(pax.or(gnu)),
        }
    }

    /// A long name, which ends at its first zero.
    fn ahead(&mut self, size: u64, into: &mut Option<Vec<u8>>) -> Result<()> {
        let mut name = self.small(size, NAME_BYTES_MAX)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        match into.replace(name) {
            None => Ok(()),
            Some(_) => Err(self.gauge.refuse("an entry is named twice")),
        }
    }

    fn records(&mut self, size: u64) -> Result<Records> {
        let bytes = self.small(size, RECORDS_BYTES_MAX)?;
        parse_records(&bytes)
            .ok_or_else(|| self.gauge.refuse("it is damaged: records of pax are not as they should be"))
    }

    /// What tells more of an entry.
    fn small(&mut self, size: u64, max: u64) -> Result<Vec<u8>> {
        self.gauge.entry()?;
        let len = usize::try_from(size).ok().filter(|_| size <= max);
        let Some(len) = len else {
            return Err(self.gauge.refuse(format!("{size} bytes tell of one entry, and {max} are enough")));
        };
        let mut bytes = vec![0; len];
        if self.fill(&mut bytes, "in the name of an entry")? < len {
            return Err(self.gauge.refuse("it is cut off in the name of an entry"));
        }
        self.skip(padding(size), b"the name of an entry")?;
        Ok(bytes)
    }

    /// Reads over the blocks that say where the holes of a sparse file are; they do not count as its bytes.
    fn sparse_map(&mut self, header: &Header) -> Result<()> {
        let mut goes_on = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while goes_on {
            let mut more = GnuExtSparseHeader::new();
            if self.fill(more.as_mut_bytes(), "in a sparse file")? < BLOCK_BYTES {
                return Err(self.gauge.refuse("it is cut off in a sparse file"));
            }
            goes_on = more.is_extended();
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64, path: &[u8]) -> Result<()> {
        let mut left = bytes;
        let mut buffer = [0; 16 << 10];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.fill(&mut buffer[..wanted], &format!("in {}", shown(path)))?;
            if read < wanted {
                return Err(self.gauge.refuse(format!("it is cut off in {}", shown(path))));
            }
            left -= read as u64;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8], place: &str) -> Result<usize> {
        read_full(self.plain, buffer).map_err(|error| self.gauge.error(&error, place))
    }
}

/// The bytes of one entry. That it is cut off is an error.
struct Body<'t> {
    plain: &'t mut dyn Read,
    left: u64,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.plain.read(&mut buffer[..wanted])? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.left -= read as u64;
                Ok(read)
            }
        }
    }
}

/// Whether an entry of this kind has nothing behind its header.
fn is_empty_by_kind(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK_BYTES as u64
}

/// `LENGTH KEY=VALUE\n`, the length that of all of it.
fn parse_records(mut bytes: &[u8]) -> Option<Records> {
    let mut records = Records::default();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
        let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
        bytes = bytes.get(len..)?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], record[equals + 1..].to_vec());
        match key {
            b"path" => records.path = Some(value),
            b"GNU.sparse.name" => {
                records.path = Some(value);
                records.is_sparse = true;
            }
            b"linkpath" => records.link = Some(value),
            b"size" => records.size = Some(std::str::from_utf8(&value).ok()?.parse().ok()?),
            key if key.starts_with(b"GNU.sparse.") => records.is_sparse = true,
            _ => {}
        }
    }
    Some(records)
}
