//! What is asked of `blocks.py` on a machine, and its answers. What the bytes mean is said there.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::incoming::{self, Format, Framing, Length};
use super::link::IDLE_MAX;
use super::search::{CRC_BYTES, Sum};
use super::session::Session;
use crate::error::{Error, Result};
use crate::sha256::Sha256;
use crate::watch::Watch;

/// The status with which the program ends when it cannot read the file to its end.
const FAILED_READING: i32 = 43;

/// The program on the machine, which has the file open, and a list of its parts.
pub(super) struct Talk<'a> {
    session: Session,
    watch: &'a dyn Watch,
    /// Whether it can compress with xz.
    pub(super) has_xz: bool,
    /// The number that xz has for a filter of the branches of the processor there.
    pub(super) filter: Option<u8>,
    /// How many processors are there.
    pub(super) processors: u8,
    /// Of the file, when it was opened.
    pub(super) size: u64,
}

/// How data is compressed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packing {
    pub(super) is_xz: bool,
    pub(super) preset: u8,
    /// The number that xz has for a filter of a processor's branches; 0 for none.
    pub(super) filter: u8,
    /// Bytes that are compressed together.
    pub(super) segment_bytes: u32,
    pub(super) threads: u8,
}

impl<'a> Talk<'a> {
    /// With a session in which the mark and the letter came.
    pub(super) fn begin(session: Session, watch: &'a dyn Watch, filter: Option<u8>) -> Self {
        Self { session, watch, has_xz: false, processors: 1, filter, size: 0 }
    }

    /// Takes what the program says of itself and of the file. Before anything is asked.
    pub(super) fn greet(&mut self) -> Result<()> {
        let [has_xz, processors, size @ ..] = self.take::<10>()?;
        self.has_xz = has_xz == 1;
        self.processors = processors.max(1);
        self.size = u64::from_le_bytes(size);
        Ok(())
    }

    /// The list is the whole file again.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.ask(b"W")
    }

    /// The sums of the whole blocks of the list, or of the first and then one in `every` of them: `count` sums.
    pub(super) fn sums(
        &mut self,
        block_bytes: u32,
        strong_bytes: u8,
        every: u8,
        count: usize,
    ) -> Result<Vec<Sum>> {
        let mut request = vec![b'B'];
        request.extend(block_bytes.to_le_bytes());
        request.extend([strong_bytes, every]);
        self.ask(&request)?;
        let width = CRC_BYTES + usize::from(strong_bytes);
        let mut sums = Vec::with_capacity(count);
        let mut buffer = vec![0; width * 4096];
        while sums.len() < count {
            let now = (count - sums.len()).min(4096) * width;
            self.fill(&mut buffer[..now])?;
            sums.extend(buffer[..now].chunks_exact(width).map(Sum::decode));
        }
        Ok(sums)
    }

    /// Of the whole blocks of the list only those stay of which it is said so.
    pub(super) fn keep(&mut self, block_bytes: u32, stays: &[bool]) -> Result<()> {
        let mut bits = vec![0_u8; stays.len().div_ceil(8)];
        for (at, _) in stays.iter().enumerate().filter(|(_, stays)| **stays) {
            bits[at / 8] |= 1 << (at % 8);
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        // Into memory: that does not fail.
        let packed = encoder.write_all(&bits).and_then(|()| encoder.finish());
        let packed = packed.map_err(|error| self.session.broken(&error.to_string()))?;
        let len = u32::try_from(packed.len()).map_err(|_| self.session.broken("the list is too long"))?;
        let mut request = vec![b'K'];
        request.extend(block_bytes.to_le_bytes());
        request.extend(len.to_le_bytes());
        request.extend(packed);
        self.ask(&request)
    }

    /// The hash of the file as it is there now.
    pub(super) fn hash(&mut self) -> Result<Sha256> {
        self.ask(b"H")?;
        self.take().map(Sha256)
    }

    /// What the list has, one part behind the other, given to `take` as it comes; at most `bytes_max` bytes.
    pub(super) fn data(
        &mut self,
        packing: Packing,
        bytes_max: u64,
        take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut request = vec![b'D', if packing.is_xz { 2 } else { 1 }, packing.preset, packing.filter];
        request.extend(packing.segment_bytes.to_le_bytes());
        request.push(packing.threads);
        self.ask(&request)?;
        let format = if packing.is_xz { Format::Xz } else { Format::Gzip };
        let how = (format, Framing::Frames);
        match incoming::receive(&mut self.session, self.watch, how, bytes_max, take)? {
            Length::Bounded => Ok(()),
            Length::TooLong => Err(self.session.broken("it sent more than it was asked for")),
        }
    }

    /// What the program there said before it ended because it could not read the file.
    pub(super) fn failed_reading(&mut self) -> Option<String> {
        let status = self.session.finish(self.watch).ok()?;
        (status.code() == Some(FAILED_READING)).then(|| self.session.said().trim().to_owned())
    }

    /// What it compresses with.
    pub(super) fn packer(&self) -> &'static str {
        if self.has_xz { "xz" } else { "gzip" }
    }

    /// That it does not do what it should.
    pub(super) fn broken(&self, how: &str) -> Error {
        self.session.broken(how)
    }

    /// Nothing more is asked.
    pub(super) fn end(mut self) {
        let _ = self.session.finish(self.watch);
    }

    fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.session.send(request, IDLE_MAX, self.watch)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.session.receive(bytes, IDLE_MAX, self.watch)? {
                0 => return Err(self.session.broken("it ended too early")),
                read => bytes = &mut bytes[read..],
            }
        }
        Ok(())
    }
}
