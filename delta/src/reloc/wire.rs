//! A map's bytes (docs/format.md, "Relocation-aware codec").

use super::bytes::{Reader, put_dense_stream, put_signed, put_varint};
use super::layout::{Content, Layout, Region, Table, WINDOW};
use super::map::Map;
use super::shifts::{Run, Shift, Shifts};
use super::space::{Segment, Space};
use crate::DeltaError;

const MAGIC: &[u8; 4] = b"CRM1";
const LEVEL: i32 = 19;
/// Files that a map may be about.
pub(super) const FILE_MAX: u64 = 1 << 30;
const SEGMENTS_MAX: u64 = 64;
const BASES_MAX: u64 = 64;
/// Regions of a file.
pub(super) const REGIONS_MAX: usize = 4096;
/// Offsets of runs that are told by their place in a list.
const RECENT_MAX: usize = 32;
/// Runs are at least so long.
pub(super) const RUN_MIN: u32 = 8;

impl Map {
    /// The map as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_dense_stream(&mut out, &self.facts(), LEVEL);
        let mut streams: [Vec<u8>; 9] = Default::default();
        let [syncs, run_gaps, run_jumps, run_lens, table_gaps, table_lens, fix_gaps, fix_spans, fix_shifts] =
            &mut streams;
        for region in &self.old.regions {
            region.syncs.iter().for_each(|sync| put_varint(syncs, u64::from(*sync)));
        }
        let (mut new_end, mut recent) = (0, Recent::default());
        for run in &self.runs {
            put_varint(run_gaps, u64::from(run.new) - new_end);
            put_varint(run_jumps, recent.tell(i64::from(run.old) - i64::from(run.new)));
            put_varint(run_lens, u64::from(run.len - RUN_MIN));
            new_end = run.new_end();
        }
        let mut end = 0;
        for table in &self.old.tables {
            put_varint(table_gaps, u64::from(table.start) - end);
            put_varint(table_lens, u64::from(table.entries));
            end = table.end();
        }
        let (mut end, mut shift) = (0, 0u64);
        for fix in &self.fixes {
            put_varint(fix_gaps, fix.first - end);
            put_varint(fix_spans, fix.last - fix.first);
            put_signed(fix_shifts, fix.shift.wrapping_sub(shift).cast_signed());
            (end, shift) = (fix.last, fix.shift);
        }
        streams.iter().for_each(|stream| put_dense_stream(&mut out, stream, LEVEL));
        out
    }

    fn facts(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.old.len);
        put_varint(&mut out, self.new_len);
        for space in [&self.old.space, &self.new_space] {
            put_varint(&mut out, space.segments().len() as u64);
            for segment in space.segments() {
                for number in [segment.at, segment.addr, segment.len, segment.memory] {
                    put_varint(&mut out, number);
                }
            }
        }
        put_varint(&mut out, self.old.bases.len() as u64);
        for (base, shift) in self.old.bases.iter().zip(&self.base_shifts) {
            put_varint(&mut out, *base);
            put_signed(&mut out, shift.cast_signed());
        }
        put_varint(&mut out, self.old.regions.len() as u64);
        let mut end = 0;
        for region in &self.old.regions {
            put_varint(&mut out, u64::from(region.start - end));
            put_varint(&mut out, u64::from(region.end - region.start));
            out.extend_from_slice(&content_bytes(region.content));
            end = region.end;
        }
        out
    }

    /// Reads a map. Needs memory of at most 64 times the input's decompressed streams, which are at most 256 times the
    /// input, and never more than a few times both files' lengths.
    ///
    /// # Errors
    /// Whatever does not hold.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DeltaError> {
        let mut reader = Reader::new(bytes);
        if reader.take(4)? != MAGIC {
            return Err(DeltaError::Invalid("no map"));
        }
        let facts = reader.dense_stream(1 << 20)?;
        let mut map = read_facts(&facts)?;
        let max =
            usize::try_from((map.old.len + map.new_len) / 2).unwrap_or(usize::MAX).saturating_add(1 << 16);
        let mut streams: [Vec<u8>; 9] = Default::default();
        for stream in &mut streams {
            *stream = reader.dense_stream(max)?;
        }
        reader.finish()?;
        let [syncs, runs @ .., table_gaps, table_lens, fix_gaps, fix_spans, fix_shifts] = &streams;
        read_syncs(&mut map.old.regions, syncs)?;
        map.runs = read_runs(runs, map.old.len, map.new_len)?;
        map.old.tables = read_tables(table_gaps, table_lens, map.old.len)?;
        map.fixes = read_fixes(fix_gaps, fix_spans, fix_shifts)?;
        map.shifts = Shifts::new(&map.runs, &map.old.space, &map.new_space, &map.fixes);
        Ok(map)
    }
}

/// The offsets (old less new) of the last runs, each once, the last one first: a run often goes on where one before it was.
#[derive(Default)]
struct Recent {
    offsets: Vec<i64>,
}

impl Recent {
    /// The number that tells an offset: its place, or behind all places the signed distance from the last one.
    fn tell(&mut self, offset: i64) -> u64 {
        if let Some(place) = self.offsets.iter().position(|other| *other == offset) {
            self.offsets[..=place].rotate_right(1);
            return place as u64;
        }
        let distance = offset.wrapping_sub(self.offsets.first().copied().unwrap_or(0));
        self.push(offset);
        ((distance << 1) ^ (distance >> 63)).cast_unsigned().saturating_add(RECENT_MAX as u64)
    }

    fn told(&mut self, number: u64) -> i64 {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(offset) = self.offsets.get(place).copied() {
            self.offsets[..=place].rotate_right(1);
            return offset;
        }
        let number = number.saturating_sub(RECENT_MAX as u64);
        let distance = (number >> 1).cast_signed() ^ -((number & 1).cast_signed());
        let offset = distance.wrapping_add(self.offsets.first().copied().unwrap_or(0));
        self.push(offset);
        offset
    }

    fn push(&mut self, offset: i64) {
        self.offsets.truncate(RECENT_MAX - 1);
        self.offsets.insert(0, offset);
    }
}

fn content_bytes(content: Content) -> Vec<u8> {
    match content {
        Content::X86 { absolute: false } => vec![0],
        Content::X86 { absolute: true } => vec![1],
        Content::Arm => vec![2],
        Content::EhFrame => vec![3],
        Content::Words => vec![4],
        Content::Rela { symbols } => vec![5, symbols],
        Content::Symbols { names } => vec![6, names],
        Content::Pairs { bases: [a, b] } => vec![7, a, b],
        Content::GoFuncs { head, bases: [a, b, c, d] } => vec![8, head, a, b, c, d],
        Content::GoTypes { bases: [types, code], lens } => {
            let mut out = vec![9, types, code];
            lens.iter().for_each(|len| put_varint(&mut out, u64::from(*len)));
            out
        }
    }
}

fn read_content(reader: &mut Reader) -> Result<Content, DeltaError> {
    Ok(match reader.byte()? {
        0 => Content::X86 { absolute: false },
        1 => Content::X86 { absolute: true },
        2 => Content::Arm,
        3 => Content::EhFrame,
        4 => Content::Words,
        5 => Content::Rela { symbols: reader.byte()? },
        6 => Content::Symbols { names: reader.byte()? },
        7 => Content::Pairs { bases: [reader.byte()?, reader.byte()?] },
        8 => {
            let head = reader.byte()?;
            if !(40..=64).contains(&head) {
                return Err(DeltaError::Invalid("the head of Go's functions"));
            }
            let bases = [reader.byte()?, reader.byte()?, reader.byte()?, reader.byte()?];
            Content::GoFuncs { head, bases }
        }
        9 => {
            let bases = [reader.byte()?, reader.byte()?];
            let mut len = || Ok(u32::try_from(reader.up_to(FILE_MAX, "types")?).unwrap_or(u32::MAX));
            Content::GoTypes { bases, lens: [len()?, len()?] }
        }
        _ => return Err(DeltaError::Invalid("a content that is not known")),
    })
}

fn read_space(reader: &mut Reader) -> Result<Space, DeltaError> {
    let count = reader.up_to(SEGMENTS_MAX, "load segments")?;
    let mut segments = Vec::new();
    for _ in 0..count {
        let (at, addr) = (reader.up_to(FILE_MAX, "a segment's offset")?, reader.varint()?);
        let (len, memory) = (reader.up_to(FILE_MAX, "a segment")?, reader.varint()?);
        if memory < len || addr.checked_add(memory).is_none() {
            return Err(DeltaError::Invalid("a segment"));
        }
        segments.push(Segment { at, addr, len, memory });
    }
    Ok(Space::new(segments))
}

/// Everything but what has streams of its own.
fn read_facts(facts: &[u8]) -> Result<Map, DeltaError> {
    let mut reader = Reader::new(facts);
    let (old_len, new_len) = (reader.up_to(FILE_MAX, "a file")?, reader.up_to(FILE_MAX, "a file")?);
    let (space, new_space) = (read_space(&mut reader)?, read_space(&mut reader)?);
    let (mut bases, mut base_shifts) = (Vec::new(), Vec::new());
    for _ in 0..reader.up_to(BASES_MAX, "bases")? {
        bases.push(reader.varint()?);
        base_shifts.push(reader.signed()?.cast_unsigned());
    }
    let (mut regions, mut end) = (Vec::new(), 0u64);
    for _ in 0..reader.up_to(REGIONS_MAX as u64, "regions")? {
        let start = end.saturating_add(reader.varint()?);
        end = start.saturating_add(reader.varint()?);
        let (start, end) = (u32::try_from(start), u32::try_from(end.min(old_len + 1)));
        let (Ok(start), Ok(end)) = (start, end) else { return Err(DeltaError::Invalid("a region")) };
        if start >= end || u64::from(end) > old_len {
            return Err(DeltaError::Invalid("a region"));
        }
        regions.push(Region { start, end, content: read_content(&mut reader)?, syncs: Vec::new() });
    }
    reader.finish()?;
    let old = Layout { len: old_len, space, regions, tables: Vec::new(), bases };
    let (runs, fixes, shifts) = (Vec::new(), Vec::new(), Shifts::default());
    Ok(Map { old, new_len, new_space, base_shifts, runs, fixes, shifts })
}

fn read_syncs(regions: &mut [Region], syncs: &[u8]) -> Result<(), DeltaError> {
    let mut reader = Reader::new(syncs);
    for region in regions.iter_mut().filter(|region| region.content.record().is_none()) {
        for _ in 0..region.windows() {
            let sync = reader.up_to(WINDOW as u64, "a window's start")?;
            region.syncs.push(u16::try_from(sync).unwrap_or(u16::MAX));
        }
    }
    reader.finish()
}

fn read_runs(streams: &[Vec<u8>], old_len: u64, new_len: u64) -> Result<Vec<Run>, DeltaError> {
    let [gaps, jumps, lens] = streams else { return Err(DeltaError::Truncated) };
    let (mut gaps, mut jumps, mut lens) = (Reader::new(gaps), Reader::new(jumps), Reader::new(lens));
    let (mut runs, mut new_end, mut recent) = (Vec::new(), 0u64, Recent::default());
    while !gaps.is_empty() {
        let new = new_end.saturating_add(gaps.varint()?);
        let offset = recent.told(jumps.varint()?);
        let old = new.checked_add_signed(offset).ok_or(DeltaError::Invalid("a run outside the files"))?;
        let len = lens.varint()?.saturating_add(u64::from(RUN_MIN));
        new_end = new.saturating_add(len);
        if new_end > new_len || old.saturating_add(len) > old_len {
            return Err(DeltaError::Invalid("a run outside the files"));
        }
        let fit = |value: u64| u32::try_from(value).map_err(|_| DeltaError::Invalid("a run"));
        runs.push(Run { new: fit(new)?, old: fit(old)?, len: fit(len)? });
    }
    jumps.finish()?;
    lens.finish()?;
    Ok(runs)
}

fn read_tables(gaps: &[u8], lens: &[u8], old_len: u64) -> Result<Vec<Table>, DeltaError> {
    let (mut gaps, mut lens) = (Reader::new(gaps), Reader::new(lens));
    let (mut tables, mut end) = (Vec::new(), 0u64);
    while !gaps.is_empty() {
        let start = end.saturating_add(gaps.varint()?);
        let entries = lens.up_to(FILE_MAX, "a table")?;
        let (start, entries) = (u32::try_from(start), u32::try_from(entries));
        let (Ok(start), Ok(entries)) = (start, entries) else { return Err(DeltaError::Invalid("a table")) };
        let table = Table { start, entries };
        end = table.end();
        if entries == 0 || end > old_len {
            return Err(DeltaError::Invalid("a table outside the file"));
        }
        tables.push(table);
    }
    lens.finish()?;
    Ok(tables)
}

fn read_fixes(gaps: &[u8], spans: &[u8], shifts: &[u8]) -> Result<Vec<Shift>, DeltaError> {
    let (mut gaps, mut spans, mut shifts) = (Reader::new(gaps), Reader::new(spans), Reader::new(shifts));
    let (mut fixes, mut end, mut shift): (Vec<Shift>, u64, u64) = (Vec::new(), 0, 0);
    while !gaps.is_empty() {
        let gap = gaps.varint()?;
        let first = end.checked_add(gap).filter(|_| gap > 0 || fixes.is_empty());
        let first = first.ok_or(DeltaError::Invalid("a fix"))?;
        let last = first.checked_add(spans.varint()?).ok_or(DeltaError::Invalid("a fix"))?;
        shift = shift.wrapping_add(shifts.signed()?.cast_unsigned());
        fixes.push(Shift { first, last, shift });
        end = last;
    }
    spans.finish()?;
    shifts.finish()?;
    Ok(fixes)
}
