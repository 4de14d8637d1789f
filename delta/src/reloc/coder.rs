//! Segments: parts of the new file, told as what differs from their prediction.

use std::ops::Range;

use super::SEGMENT_MAX;
use super::layout::{Table, WINDOW};
use super::map::{Map, Part};
use super::operand::{Kind, Move, Operand, WIDTH_MAX};
use super::residual::{ResidualReader, ResidualWriter};
use super::shifts::Run;
use crate::{DeltaError, Effort};

/// Operands (of 16 bytes) that are kept of analysed windows, at most, when a segment begins.
const CACHED_MAX: usize = 1 << 22;
/// Windows that a segment may need: so no segment takes longer than to analyse 64 MiB.
const WINDOWS_MAX: usize = (64 << 20) / WINDOW;

/// Access to the old file.
pub trait Old {
    /// Fills `buffer` with what lies at `at`.
    ///
    /// # Errors
    /// `DeltaError::Base` where it is not known, or past the end.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), DeltaError>;
}

impl Old for &[u8] {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), DeltaError> {
        let at = usize::try_from(at).map_err(|_| DeltaError::Base)?;
        let end = at.checked_add(buffer.len()).ok_or(DeltaError::Base)?;
        buffer.copy_from_slice(self.get(at..end).ok_or(DeltaError::Base)?);
        Ok(())
    }
}

/// Encodes and decodes segments of one map. Keeps what it found out about the old file between calls, in about
/// 64 MiB at most; make one for each thread.
#[derive(Debug)]
pub struct Coder<'m> {
    map: &'m Map,
    /// For each region the number of its first window; they are numbered throughout.
    firsts: Vec<usize>,
    windows: Vec<Window>,
    /// Operands in all windows.
    cached: usize,
    /// The number of the segment at hand, and windows that it needed.
    segment: u64,
    needed: usize,
    scratch: Vec<u8>,
    /// What the part at hand needs.
    wanted: Vec<(usize, usize)>,
    entries: Vec<(Table, u32)>,
    operands: Vec<Operand>,
}

/// What is known of a window.
#[derive(Debug, Clone, Default)]
struct Window {
    operands: Option<Box<[Operand]>>,
    /// The last segment that needed it.
    segment: u64,
}

/// An operand of a part, where it is in the part's bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

impl<'m> Coder<'m> {
    /// For segments of this map.
    pub fn new(map: &'m Map) -> Self {
        let mut count = 0;
        let mut firsts = Vec::new();
        for region in &map.old.regions {
            firsts.push(count);
            count += region.windows();
        }
        Self {
            map,
            firsts,
            windows: vec![Window::default(); count],
            cached: 0,
            segment: 0,
            needed: 0,
            scratch: Vec::new(),
            wanted: Vec::new(),
            entries: Vec::new(),
            operands: Vec::new(),
        }
    }

    /// A segment: `plain` are the bytes of the ranges (ascending, disjoint) of the new file, together at most
    /// [`SEGMENT_MAX`].
    ///
    /// # Errors
    /// Ranges that are none of the new file or not as long as `plain`; an old file that cannot be read; and ranges that
    /// need too much of the old file: such parts go by another codec.
    pub fn encode(
        &mut self,
        old: &dyn Old,
        ranges: &[Range<u64>],
        plain: &[u8],
        effort: Effort,
    ) -> Result<Vec<u8>, DeltaError> {
        if self.begin(ranges)? != plain.len() {
            return Err(DeltaError::Invalid("ranges of another length"));
        }
        let mut residual = ResidualWriter::default();
        let (mut rest, mut guess, mut slots) = (plain, Vec::new(), Vec::new());
        let parts = self.map.parts(ranges);
        let near = self.near(old, &parts)?;
        for part in parts {
            let (bytes, behind) = rest.split_at(part.len());
            rest = behind;
            match part {
                Part::Literal(_) => residual.literal(bytes),
                Part::Run(run, range) => {
                    guess.clear();
                    guess.resize(bytes.len(), 0);
                    self.predict(old, &run, &range, &mut guess, &mut slots)?;
                    residual.predicted(bytes, &mut guess, &slots);
                }
            }
        }
        Ok(residual.finish(&near, effort))
    }

    /// The plain bytes of a segment. `out` is where they go: its room is used again, what it holds is not.
    ///
    /// # Errors
    /// Ranges that are none of the new file, an old file that cannot be read, a payload that does not hold.
    pub fn decode(
        &mut self,
        old: &dyn Old,
        ranges: &[Range<u64>],
        payload: &[u8],
        mut out: Vec<u8>,
    ) -> Result<Vec<u8>, DeltaError> {
        let len = self.begin(ranges)?;
        out.clear();
        let parts = self.map.parts(ranges);
        let near = self.near(old, &parts)?;
        let streams = ResidualReader::streams(payload, &near, len)?;
        let mut residual = ResidualReader::new(&streams)?;
        out.resize(len, 0);
        let (mut rest, mut slots) = (out.as_mut_slice(), Vec::new());
        for part in parts {
            let (bytes, behind) = rest.split_at_mut(part.len());
            rest = behind;
            match part {
                Part::Literal(_) => residual.literal(bytes)?,
                Part::Run(run, range) => {
                    self.predict(old, &run, &range, bytes, &mut slots)?;
                    residual.predicted(bytes, &slots)?;
                }
            }
        }
        residual.finish()?;
        Ok(out)
    }

    /// What the literals are compressed behind.
    fn near(&self, old: &dyn Old, parts: &[Part]) -> Result<Vec<u8>, DeltaError> {
        let mut near = Vec::new();
        for part in parts {
            if let Part::Literal(range) = part {
                let range = self.map.near(range);
                let start = near.len();
                near.resize(start + usize::try_from(range.end - range.start).unwrap_or(0), 0);
                if near.len() > start {
                    old.read_at(range.start, &mut near[start..])?;
                }
            }
        }
        Ok(near)
    }

    /// Checks the ranges and makes room for their windows. Returns how long they are together.
    fn begin(&mut self, ranges: &[Range<u64>]) -> Result<usize, DeltaError> {
        let (mut end, mut len) = (0, 0u64);
        for range in ranges {
            if range.start < end || range.end <= range.start || range.end > self.map.new_len {
                return Err(DeltaError::Invalid("ranges that are none of the new file"));
            }
            end = range.end;
            len += range.end - range.start;
        }
        if self.cached > CACHED_MAX {
            self.windows.iter_mut().for_each(|window| window.operands = None);
            self.cached = 0;
        }
        self.segment += 1;
        self.needed = 0;
        let len = usize::try_from(len).ok().filter(|len| *len <= SEGMENT_MAX);
        let len = len.ok_or(DeltaError::TooLarge("a segment"))?;
        Ok(len)
    }

    /// Fills `out` with the prediction of a part of a run, and `slots` with the operands that lie wholly in it.
    fn predict(
        &mut self,
        old: &dyn Old,
        run: &Run,
        part: &Range<u64>,
        out: &mut [u8],
        slots: &mut Vec<Slot>,
    ) -> Result<(), DeltaError> {
        let map = self.map;
        slots.clear();
        let place = run.old_of(part);
        old.read_at(place.start, out)?;
        self.list(old, &place)?;
        let from = map.old.space.addr_of(u64::from(run.old));
        let here = match (from, map.new_space.addr_of(u64::from(run.new))) {
            (Some(from), Some(to)) => to.wrapping_sub(from),
            _ => 0,
        };
        let (shifts, bases) = (&map.shifts, map.base_shifts.as_slice());
        for operand in &self.operands {
            let (at, width) = (u64::from(operand.at), operand.kind.width());
            let end = at + width as u64;
            if at < u64::from(run.old) || end > run.old_end() || end <= place.start || at >= place.end {
                continue;
            }
            let addr = from.unwrap_or(0).wrapping_add(at - u64::from(run.old));
            let context = Move { shifts, bases, addr, here };
            if at >= place.start && end <= place.end {
                let start = usize::try_from(at - place.start).unwrap_or(usize::MAX);
                let field = &mut out[start..start + width];
                let value = operand.rewrite(operand.kind.read(field), context);
                operand.kind.write(field, value);
                slots.push(Slot { at: start, kind: operand.kind });
                continue;
            }
            // It reaches over an edge of the part: what of it lies in the part is rewritten all the same.
            let mut field = [0; WIDTH_MAX];
            let field = &mut field[..width];
            old.read_at(at, field)?;
            let value = operand.rewrite(operand.kind.read(field), context);
            operand.kind.write(field, value);
            for (byte, at) in field.iter().zip(at..) {
                if place.contains(&at) {
                    out[usize::try_from(at - place.start).unwrap_or(usize::MAX)] = *byte;
                }
            }
        }
        Ok(())
    }

    /// Lists the operands of all windows that a place in the old file needs, ascending.
    fn list(&mut self, old: &dyn Old, place: &Range<u64>) -> Result<(), DeltaError> {
        let map = self.map;
        self.operands.clear();
        self.wanted.clear();
        map.old.windows(place, |region, window| self.wanted.push((region, window)));
        for (number, window) in &self.wanted {
            let region = &map.old.regions[*number];
            let known = &mut self.windows[self.firsts[*number] + window];
            if known.segment != self.segment {
                known.segment = self.segment;
                self.needed += 1;
                if self.needed > WINDOWS_MAX {
                    return Err(DeltaError::TooLarge("analysis of the old file"));
                }
            }
            if known.operands.is_none() {
                let span = region.span(*window);
                self.scratch.resize((span.end - span.start) as usize, 0);
                old.read_at(u64::from(span.start), &mut self.scratch)?;
                let mut operands = Vec::new();
                map.old.operands(region, *window, &self.scratch, &mut operands);
                self.cached += operands.len();
                known.operands = Some(operands.into_boxed_slice());
            }
            let operands = known.operands.as_deref().unwrap_or_default();
            let first = operands.partition_point(|o| u64::from(o.at) + 8 <= place.start);
            let in_place = operands[first..].iter().take_while(|o| u64::from(o.at) < place.end);
            self.operands.extend(in_place);
        }
        self.list_tables(old, place)
    }

    /// Adds the entries of jump tables.
    fn list_tables(&mut self, old: &dyn Old, place: &Range<u64>) -> Result<(), DeltaError> {
        let map = self.map;
        self.entries.clear();
        map.old.entries(place, |table, entry| self.entries.push((table, entry)));
        for (table, entry) in self.entries.iter().copied() {
            let mut value = [0; 4];
            old.read_at(u64::from(table.start) + 4 * u64::from(entry), &mut value)?;
            self.operands.push(map.old.table_operand(table, entry, u32::from_le_bytes(value)));
        }
        if !self.operands.is_sorted_by_key(|operand| operand.at) {
            self.operands.sort_by_key(|operand| operand.at);
        }
        Ok(())
    }
}

impl Part {
    fn len(&self) -> usize {
        let (Self::Run(_, range) | Self::Literal(range)) = self;
        usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::super::shifts::Shifts;
    use super::super::space::Space;
    use super::*;

    /// Knows some ranges alone.
    struct Partly(Vec<u8>, Vec<Range<u64>>);

    impl Old for Partly {
        fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), DeltaError> {
            let end = at + buffer.len() as u64;
            let known = self.1.iter().any(|range| range.start <= at && end <= range.end);
            if known { self.0.as_slice().read_at(at, buffer) } else { Err(DeltaError::Base) }
        }
    }

    #[test]
    fn an_entry_over_the_edge_of_a_run_is_read_as_said() {
        let old = Layout { len: 64, tables: vec![Table { start: 16, entries: 4 }], ..Layout::default() };
        for (start, len) in (0..40).flat_map(|start| (8..24).map(move |len| (start, len))) {
            let runs = vec![Run { new: 0, old: start, len }];
            let shifts = Shifts::new(&runs, &Space::default(), &Space::default(), &[]);
            let map = Map {
                old: old.clone(),
                new_len: u64::from(len),
                new_space: Space::default(),
                base_shifts: Vec::new(),
                runs,
                fixes: Vec::new(),
                shifts,
            };
            for at in 0..u64::from(len) {
                let range = std::slice::from_ref(&(at..at + 1)).to_vec();
                let file = Partly((0..64).collect(), map.reads(&range));
                let payload = Coder::new(&map).encode(&file, &range, &[77], Effort::Normal).unwrap();
                assert_eq!(Coder::new(&map).decode(&file, &range, &payload, Vec::new()), Ok(vec![77]));
            }
        }
    }
}
