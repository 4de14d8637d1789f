//! Blocks of the chunks that lack, each in the smallest of its forms.
//!
//! Executables go file by file, since a map is for a pair of files; whether it pays is known only when all of a file's
//! blocks are there. All else goes in blocks that run over from file to file.

use std::ops::{Range, RangeInclusive};
use std::time::{Duration, Instant};

use cairn_delta::Effort;
use cairn_delta::prefix::{self, PREFIX_MAX};
use cairn_delta::reloc::{self, Coder, Map};

use super::bases::Bases;
use super::bitcode;
use super::files::{self, ELF, MAPPED_MIN};
use super::gap::{Gap, NewChunk};
use super::gzip;
use super::old::{OldRanges, is_allowed};
use super::pairs::pairs;
use super::unit::{BASES_MAX, CHUNKS_MAX, PLAIN_MAX, UNIT_LEN_MAX, Unit};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::store::Store;

/// Plain bytes of a block behind a prefix, about. Longer blocks, whose prefix has no room to be as long, come out larger.
const PREFIX_BLOCK: usize = 2 << 20;
/// Bytes of a unit before its map, at most.
const MAP_HEAD_MAX: usize = 16;
/// A segment that comes to less than one in so many bytes is not tried in other forms.
const WELL_TOLD: usize = 6;

/// How deltas are made.
#[derive(Debug, Clone)]
pub struct DeltaOptions {
    /// How hard it is tried.
    pub effort: Effort,
    /// After this time the rest is only compressed.
    pub max_time: Option<Duration>,
    /// Longest executable that is predicted from another, in bytes. It takes about 12 times as much memory.
    pub file_max: u64,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self { effort: Effort::Normal, max_time: None, file_max: 128 << 20 }
    }
}

/// What one codec was used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CodecTotals {
    /// Blocks.
    pub blocks: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Bytes that they come to.
    pub bytes: u64,
}

/// What a delta comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeltaSummary {
    /// Bytes as they are.
    pub raw: CodecTotals,
    /// Compressed by themselves.
    pub zstd: CodecTotals,
    /// Compressed behind old chunks.
    pub prefix: CodecTotals,
    /// What is left of executables after their prediction.
    pub reloc: CodecTotals,
    /// What is in gzip files, compressed behind what was in old ones.
    pub gzip: CodecTotals,
    /// Bitcode files, compressed behind old ones, both as tokens.
    pub bitcode: CodecTotals,
    /// Maps by which executables are predicted: `blocks` of them, of files with so many plain bytes.
    pub maps: CodecTotals,
}

impl DeltaSummary {
    /// Bytes of all of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts().iter().map(|(_, totals)| totals.bytes).sum()
    }

    /// Each part with its name.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, CodecTotals); 7] {
        let Self { raw, zstd, prefix, reloc, gzip, bitcode, maps } = *self;
        [
            ("raw", raw),
            ("zstd", zstd),
            ("prefix", prefix),
            ("relocation", reloc),
            ("gzip", gzip),
            ("bitcode", bitcode),
            ("maps", maps),
        ]
    }
}

/// A block of a form, before it is written.
struct Told {
    chunks: Range<usize>,
    plain_len: usize,
    form: Form,
    payload: Vec<u8>,
}

enum Form {
    Raw,
    Prefix(Vec<u32>),
    Reloc,
    Gzip(usize),
    Bitcode(usize),
}

/// How a file is gone about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It may be predicted from this old file.
    Executable(usize),
    /// So may its content.
    Gzip(usize),
    Bitcode(usize),
    Other,
}

/// What takes the units of a delta, in their order.
type Take<'a> = dyn FnMut(Vec<u8>) -> Result<()> + 'a;

struct Encoder<'a> {
    store: &'a Store,
    gap: &'a Gap,
    options: &'a DeltaOptions,
    progress: &'a dyn Progress,
    pairs: Vec<Option<usize>>,
    bases: Bases<'a>,
    compressor: prefix::Encoder,
    deadline: Option<Instant>,
    summary: DeltaSummary,
}

impl Store {
    /// Tells what lacks in terms of what is there: gives `take` the units, in order, each at most [`super::UNIT_LEN_MAX`]
    /// bytes. Tells `progress` of plain bytes.
    ///
    /// # Errors
    /// [`Error::Absent`] and [`Error::Damaged`] when chunks of one of the artifacts cannot be read here,
    /// [`Error::Cancelled`], [`Error::Io`], and what `take` says.
    pub fn encode_delta(
        &self,
        gap: &Gap,
        options: &DeltaOptions,
        progress: &dyn Progress,
        take: &mut Take<'_>,
    ) -> Result<DeltaSummary> {
        let store = self.local();
        let pairs = pairs(gap);
        progress.expect(gap.plain_bytes(), 0);
        let mut encoder = Encoder {
            store: &store,
            gap,
            options,
            progress,
            bases: Bases::new(&store, gap, &pairs),
            pairs,
            compressor: prefix::Encoder::new(options.effort),
            deadline: options.max_time.map(|time| Instant::now() + time),
            summary: DeltaSummary::default(),
        };
        encoder.run(take)?;
        Ok(encoder.summary)
    }
}

impl Encoder<'_> {
    fn run(&mut self, take: &mut Take<'_>) -> Result<()> {
        let mut at = 0;
        while at < self.gap.new_chunks.len() {
            self.check()?;
            let file = self.gap.new_chunks[at].file;
            let end = at + self.gap.new_chunks[at..].iter().take_while(|new| new.file == file).count();
            match self.kind(file)? {
                Kind::Executable(old) => {
                    self.mapped(at..end, old, take)?;
                    at = end;
                    continue;
                }
                kind @ (Kind::Gzip(old) | Kind::Bitcode(old)) if end - at <= CHUNKS_MAX => {
                    let told = self.apart(at..end, old, kind)?;
                    at = end;
                    self.put(told, take)?;
                    continue;
                }
                Kind::Gzip(_) | Kind::Bitcode(_) | Kind::Other => {}
            }
            let block = self.block(at, PREFIX_BLOCK, false)?;
            at = block.end;
            let told = self.behind_prefix(block)?;
            self.put(told, take)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.progress.cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// How a file is gone about, by its first bytes and the old file that goes with it.
    fn kind(&self, file: usize) -> Result<Kind> {
        let new = &self.gap.new_files[file];
        let Some(old) = self.pairs[file] else { return Ok(Kind::Other) };
        let old_size = self.gap.old_files[old].size;
        let are_within = |sizes: RangeInclusive<u64>| sizes.contains(&new.size) && sizes.contains(&old_size);
        let may_be_mapped = are_within(MAPPED_MIN..=self.options.file_max);
        let may_be_gzip = are_within(1..=gzip::FILE_MAX);
        let may_be_bitcode = are_within(1..=bitcode::FILE_MAX);
        let may_be_told = may_be_mapped || may_be_gzip || may_be_bitcode;
        if self.options.effort == Effort::Fast || !may_be_told || self.is_late() {
            return Ok(Kind::Other);
        }
        Ok(match files::magic(self.store, new)?.as_slice() {
            ELF if may_be_mapped => Kind::Executable(old),
            magic if may_be_gzip && magic.starts_with(gzip::MAGIC) => Kind::Gzip(old),
            bitcode::MAGIC if may_be_bitcode => Kind::Bitcode(old),
            _ => Kind::Other,
        })
    }

    /// What lacks of a file that can be taken apart, which is one block.
    fn apart(&mut self, chunks: Range<usize>, old: usize, kind: Kind) -> Result<Told> {
        let file = self.gap.new_chunks[chunks.start].file;
        let mut told = self.behind_prefix(chunks.clone())?;
        let old_bytes = files::old_bytes(self.store, self.gap, &self.gap.old_files[old])?;
        let new_bytes = files::new_bytes(self.store, &self.gap.new_files[file])?;
        let (payload, form) = if matches!(kind, Kind::Bitcode(_)) {
            (bitcode::encode(&old_bytes, &new_bytes, &mut self.compressor), Form::Bitcode(old))
        } else {
            (gzip::encode(&old_bytes, &new_bytes, &mut self.compressor), Form::Gzip(old))
        };
        if let Some(payload) = payload.filter(|payload| payload.len() < told.payload.len()) {
            (told.form, told.payload) = (form, payload);
        }
        Ok(told)
    }

    /// The chunks of the next block: of one file, or until one comes that is gone about by itself.
    fn block(&self, first: usize, bytes_max: usize, is_one_file: bool) -> Result<Range<usize>> {
        let chunks = &self.gap.new_chunks[first..];
        let (mut bytes, mut end, mut file) = (0, first, chunks[0].file);
        for new in chunks.iter().take(CHUNKS_MAX) {
            let len = new.chunk.len as usize;
            if bytes > 0 && bytes + len > bytes_max {
                break;
            }
            if new.file != file {
                if is_one_file || self.kind(new.file)? != Kind::Other {
                    break;
                }
                file = new.file;
            }
            bytes += len;
            end += 1;
        }
        Ok(first..end)
    }

    fn plain(&self, chunks: &[NewChunk]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        for new in chunks {
            plain.extend_from_slice(&self.store.whole_chunk(new.chunk)?);
        }
        Ok(plain)
    }

    /// A block in the smallest form that needs no map.
    fn behind_prefix(&mut self, block: Range<usize>) -> Result<Told> {
        let chunks = &self.gap.new_chunks[block.clone()];
        let plain = self.plain(chunks)?;
        let bases = if self.is_late() { Vec::new() } else { self.bases_of(chunks, &plain)? };
        let alone = self.compressor.encode(&[], &plain);
        let mut told =
            Told { chunks: block, plain_len: plain.len(), form: Form::Prefix(Vec::new()), payload: alone };
        if !bases.is_empty() {
            let prefix = self.prefix(&bases)?;
            let behind = self.compressor.encode(&prefix, &plain);
            // Numbers of bases take a byte or two each.
            if behind.len() + 2 * bases.len() < told.payload.len() {
                (told.form, told.payload) = (Form::Prefix(bases), behind);
            }
        }
        if told.payload.len() >= plain.len() {
            (told.form, told.payload) = (Form::Raw, plain);
        }
        Ok(told)
    }

    /// Old chunks like those of a block, which may be of several files.
    fn bases_of(&mut self, chunks: &[NewChunk], plain: &[u8]) -> Result<Vec<u32>> {
        let mut bases: Vec<u32> = Vec::new();
        let mut rest = plain;
        for of_file in chunks.chunk_by(|a, b| a.file == b.file) {
            let len = of_file.iter().map(|new| new.chunk.len as usize).sum();
            let (part, after) = rest.split_at(len);
            rest = after;
            let found = self.bases.find(self.pairs[of_file[0].file], of_file[0].offset, part)?;
            bases.retain(|base| !found.contains(base));
            bases.extend(found);
        }
        // What comes last is the nearest, and stays: of many small files each brings some.
        let (mut bytes, mut kept) = (0, bases.len());
        for base in bases.iter().rev().take(BASES_MAX) {
            bytes += self.gap.old_chunks[*base as usize].len as usize;
            if bytes > PREFIX_MAX {
                break;
            }
            kept -= 1;
        }
        bases.drain(..kept);
        Ok(bases)
    }

    fn prefix(&self, bases: &[u32]) -> Result<Vec<u8>> {
        let mut prefix = Vec::new();
        for base in bases {
            prefix.extend_from_slice(&self.store.whole_chunk(self.gap.old_chunks[*base as usize])?);
        }
        Ok(prefix)
    }

    /// The blocks of an executable, if they and its map come to less than its blocks without.
    fn mapped(&mut self, chunks: Range<usize>, old: usize, take: &mut Take<'_>) -> Result<()> {
        let told = match self.map(chunks.start, old)? {
            Some(map) => self.by_map(chunks.clone(), old, &map)?,
            None => None,
        };
        let Some((map, told)) = told else {
            let mut at = chunks.start;
            while at < chunks.end {
                self.check()?;
                let block = self.block(at, PREFIX_BLOCK, true)?;
                at = block.end;
                let told = self.behind_prefix(block)?;
                self.put(told, take)?;
            }
            return Ok(());
        };
        if told.iter().any(|told| matches!(told.form, Form::Reloc)) {
            let unit = Unit::Map { old_file: old, payload: &map }.to_bytes();
            let size = self.gap.new_files[self.gap.new_chunks[chunks.start].file].size;
            let maps = &mut self.summary.maps;
            (maps.blocks, maps.plain_bytes, maps.bytes) =
                (maps.blocks + 1, maps.plain_bytes + size, maps.bytes + unit.len() as u64);
            take(unit)?;
        }
        told.into_iter().try_for_each(|told| self.put(told, take))
    }

    fn map(&self, first: usize, old: usize) -> Result<Option<Map>> {
        let new = &self.gap.new_files[self.gap.new_chunks[first].file];
        let files = (&self.gap.old_files[old], new);
        let stop = || self.progress.cancelled() || self.is_late();
        let map = files::map(self.store, self.gap, files, self.options.effort, self.options.file_max, &stop)?;
        self.check()?;
        Ok(map)
    }

    /// The blocks of a file by its map, and the map as it travels; nothing where it does not pay.
    fn by_map(
        &mut self,
        chunks: Range<usize>,
        old: usize,
        map: &Map,
    ) -> Result<Option<(Vec<u8>, Vec<Told>)>> {
        let bytes = map.to_bytes();
        let file = self.gap.new_chunks[chunks.start].file;
        let mut coder = Coder::new(map);
        let (mut at, mut all, mut plain_all, mut by_map_all) = (chunks.start, Vec::new(), 0, 0);
        while at < chunks.end {
            self.check()?;
            let block = self.block(at, PLAIN_MAX.min(reloc::SEGMENT_MAX), true)?;
            at = block.end;
            let plain = self.plain(&self.gap.new_chunks[block.clone()])?;
            plain_all += plain.len();
            let ranges = self.gap.ranges(block.clone(), file).unwrap_or_default();
            let reads = map.reads(&ranges);
            let payload = if is_allowed(&reads) {
                let old = OldRanges::read(self.store, self.gap, &self.gap.old_files[old], &reads)?;
                coder.encode(&old, &ranges, &plain, self.options.effort).ok()
            } else {
                None
            };
            match payload {
                Some(payload) if payload.len() < plain.len() / WELL_TOLD => {
                    by_map_all += payload.len();
                    all.push(Told { chunks: block, plain_len: plain.len(), form: Form::Reloc, payload });
                }
                payload => {
                    drop(plain);
                    let plain_len =
                        self.gap.new_chunks[block.clone()].iter().map(|new| new.chunk.len as usize).sum();
                    let (parts, len) = self.in_parts(block.clone())?;
                    match payload.filter(|payload| payload.len() < len) {
                        Some(payload) => {
                            by_map_all += payload.len();
                            all.push(Told { chunks: block, plain_len, form: Form::Reloc, payload });
                        }
                        None => all.extend(parts),
                    }
                }
            }
        }
        // Where it saves nothing to speak of, a map is not worth its bytes.
        let fits = bytes.len() + MAP_HEAD_MAX <= UNIT_LEN_MAX;
        let pays = fits && by_map_all > 0 && (bytes.len() + by_map_all) * 3 < plain_all;
        Ok(pays.then_some((bytes, all)))
    }

    /// A block in parts without a map, and what they come to.
    fn in_parts(&mut self, block: Range<usize>) -> Result<(Vec<Told>, usize)> {
        let (mut parts, mut len, mut at) = (Vec::new(), 0, block.start);
        while at < block.end {
            let part = self.block(at, PREFIX_BLOCK, true)?;
            let part = part.start..part.end.min(block.end);
            at = part.end;
            let told = self.behind_prefix(part)?;
            len += told.payload.len();
            parts.push(told);
        }
        Ok((parts, len))
    }

    fn put(&mut self, told: Told, take: &mut Take<'_>) -> Result<()> {
        let Told { chunks, plain_len, form, payload } = told;
        let count = chunks.len();
        let (unit, totals) = match form {
            Form::Raw => (Unit::Raw { chunks: count, payload: &payload }, &mut self.summary.raw),
            Form::Gzip(old_file) => {
                (Unit::Gzip { chunks: count, old_file, payload: &payload }, &mut self.summary.gzip)
            }
            Form::Bitcode(old_file) => {
                (Unit::Bitcode { chunks: count, old_file, payload: &payload }, &mut self.summary.bitcode)
            }
            Form::Reloc => (Unit::Reloc { chunks: count, payload: &payload }, &mut self.summary.reloc),
            Form::Prefix(bases) => {
                let totals = if bases.is_empty() { &mut self.summary.zstd } else { &mut self.summary.prefix };
                (Unit::Prefix { chunks: count, bases, payload: &payload }, totals)
            }
        };
        let unit = unit.to_bytes();
        totals.blocks += 1;
        totals.chunks += count as u64;
        totals.plain_bytes += plain_len as u64;
        totals.bytes += unit.len() as u64;
        self.progress.advance(plain_len as u64, 0);
        take(unit)
    }
}
