//! The relocation-aware codec over small linked programs: whatever is edited, in whatever pieces it is asked for, and
//! whatever bytes come.
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::single_range_in_vec_init,
    clippy::reversed_empty_ranges,
    reason = "tests, of small programs"
)]

mod program;

use std::cell::RefCell;
use std::ops::Range;

use cairn_delta::reloc::{self, Coder, Limits, Map, Old, SEGMENT_MAX};
use cairn_delta::{DeltaError, Effort};
use program::{Function, Program, Step, sample};
use proptest::prelude::*;

fn map(old: &[u8], new: &[u8]) -> Option<Map> {
    reloc::map(old, new, Effort::Normal, &Limits::default(), &|| false)
}

/// Knows only what it was told that decoding reads.
struct Partly<'a> {
    file: &'a [u8],
    known: Vec<Range<u64>>,
    outside: RefCell<usize>,
}

impl Old for Partly<'_> {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), DeltaError> {
        let end = at + buffer.len() as u64;
        if !buffer.is_empty() && !self.known.iter().any(|range| range.start <= at && end <= range.end) {
            *self.outside.borrow_mut() += 1;
            return Err(DeltaError::Base);
        }
        self.file.read_at(at, buffer)
    }
}

fn cut(file: &[u8], ranges: &[Range<u64>]) -> Vec<u8> {
    ranges.iter().flat_map(|range| &file[range.start as usize..range.end as usize]).copied().collect()
}

/// Encodes and decodes one segment through the map's bytes; returns the payload's length.
fn round_trip(map: &Map, old: &[u8], new: &[u8], ranges: &[Range<u64>]) -> usize {
    let map = Map::from_bytes(&map.to_bytes()).unwrap();
    let plain = cut(new, ranges);
    let payload = Coder::new(&map).encode(&old, ranges, &plain, Effort::Normal).unwrap();
    let partly = Partly { file: old, known: map.reads(ranges), outside: RefCell::new(0) };
    let decoded = Coder::new(&map).decode(&partly, ranges, &payload, Vec::new());
    assert_eq!(*partly.outside.borrow(), 0, "read what `reads` does not say");
    assert!(decoded.unwrap() == plain);
    payload.len()
}

fn whole(file: &[u8]) -> Vec<Range<u64>> {
    std::iter::once(0..file.len() as u64).collect()
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u16>().prop_map(Step::Number),
        3 => any::<u16>().prop_map(Step::Call),
        2 => any::<u16>().prop_map(Step::Data),
        1 => Just(Step::Table),
    ]
}

fn a_function() -> impl Strategy<Value = Function> {
    (any::<u32>(), prop::collection::vec(a_step(), 1..40)).prop_map(|(name, steps)| Function { name, steps })
}

fn a_program() -> impl Strategy<Value = Program> {
    let functions = prop::collection::vec(a_function(), 2..120);
    let words = prop::collection::vec(any::<u16>(), 1..60);
    (functions, words, any::<[bool; 3]>(), 0..5000usize).prop_map(
        |(functions, words, [arm, fixed, sections], pad)| Program {
            functions,
            words,
            arm,
            fixed,
            sections,
            pad,
        },
    )
}

/// What the next release changes.
#[derive(Debug, Clone)]
enum Edit {
    Remove(usize),
    Insert(usize, Function),
    Swap(usize, usize),
    Change(usize, usize, Step),
    Pad(usize),
}

fn an_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<usize>().prop_map(Edit::Remove),
        (any::<usize>(), a_function()).prop_map(|(at, function)| Edit::Insert(at, function)),
        any::<[usize; 2]>().prop_map(|[a, b]| Edit::Swap(a, b)),
        (any::<[usize; 2]>(), a_step()).prop_map(|([function, at], step)| Edit::Change(function, at, step)),
        (0..5000usize).prop_map(Edit::Pad),
    ]
}

fn edited(program: &Program, edits: &[Edit]) -> Program {
    let mut program = program.clone();
    for edit in edits {
        let functions = &mut program.functions;
        let count = functions.len();
        match edit {
            Edit::Remove(at) if count > 1 => drop(functions.remove(at % count)),
            Edit::Remove(_) => {}
            Edit::Insert(at, function) => functions.insert(at % count, function.clone()),
            Edit::Swap(a, b) => functions.swap(a % count, b % count),
            Edit::Change(function, at, step) => {
                let steps = &mut functions[function % count].steps;
                let at = at % steps.len();
                steps[at] = *step;
            }
            Edit::Pad(pad) => program.pad = *pad,
        }
    }
    program
}

/// Ascending, disjoint ranges within `len`, of the cuts' pieces every second one.
fn ranges(cuts: &[usize], len: usize) -> Vec<Range<u64>> {
    let mut cuts: Vec<u64> = cuts.iter().map(|cut| (cut % (len + 1)) as u64).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
}

#[test]
fn a_moved_program_costs_next_to_nothing() {
    for arm in [false, true] {
        let program = sample(400, arm);
        let (old, new) = (program.link(), edited(&program, &[Edit::Pad(3333)]).link());
        let map = map(&old, &new).unwrap();
        let bytes = map.to_bytes().len() + round_trip(&map, &old, &new, &whole(&new));
        assert!(bytes * 100 < new.len(), "arm {arm}: {bytes} of {}", new.len());
    }
}

#[test]
fn an_inserted_function_costs_little_more_than_itself() {
    for (arm, fixed) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut program = sample(400, arm);
        program.fixed = fixed;
        let function = Function { name: 9999, steps: (0..50).map(Step::Number).collect() };
        let new = edited(&program, &[Edit::Insert(57, function), Edit::Remove(300)]).link();
        let old = program.link();
        let map = map(&old, &new).unwrap();
        let bytes = map.to_bytes().len() + round_trip(&map, &old, &new, &whole(&new));
        assert!(bytes * 15 < new.len(), "arm {arm}, fixed {fixed}: {bytes} of {}", new.len());
    }
}

#[test]
fn what_is_no_pair_gets_no_map() {
    let program = sample(400, false);
    let file = program.link();
    assert!(map(&file, b"").is_none());
    assert!(map(b"\x7fELF\x02\x01\x01", &file).is_none());
    assert!(map(&file, &sample(400, true).link()).is_none());
    for (at, value) in [(4, 1), (5, 2), (16, 1), (18, 40), (54, 1)] {
        let mut other = file.clone();
        other[at] = value;
        assert!(map(&file, &other).is_none(), "byte {at}");
        assert!(map(&other, &file).is_none(), "byte {at}");
    }
    let limits = Limits { file_max: file.len() as u64 - 1 };
    assert!(reloc::map(&file, &file, Effort::Normal, &limits, &|| false).is_none());
    assert!(reloc::map(&file, &file, Effort::Normal, &Limits::default(), &|| true).is_none());
    assert!(reloc::map(&file, &file, Effort::Fast, &Limits::default(), &|| false).is_none());
    let mut noise = file.clone();
    let mut state = 1u64;
    for byte in &mut noise[0x400..] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    assert!(map(&file, &noise).is_none());
}

#[test]
fn tables_that_lie_do_no_harm() {
    let mut program = sample(400, false);
    program.functions.truncate(40);
    let file = program.link();
    let other = edited(&program, &[Edit::Pad(100)]).link();
    // The program's headers, the sections' number, place and size of rows, the names, and every section's row.
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let places = (16..64).chain(64..176).chain(table..file.len());
    for at in places {
        for value in [0, 1, 0x7f, 0xff] {
            let mut lying = file.clone();
            lying[at] = value;
            if at % 3 == 0 {
                lying[(at + 7).min(file.len() - 1)] = value;
            }
            for (old, new) in [(&lying, &other), (&other, &lying)] {
                if let Some(map) = map(old, new) {
                    round_trip(&map, old, new, &whole(new));
                }
            }
        }
    }
}

#[test]
fn ranges_have_to_be_those_of_the_new_file() {
    let program = sample(400, false);
    let file = program.link();
    let map = map(&file, &file).unwrap();
    let len = file.len() as u64;
    let mut coder = Coder::new(&map);
    for ranges in [vec![5..5], vec![9..5], vec![0..len + 1], vec![4..9, 8..12], vec![8..12, 0..4]] {
        let plain = vec![0; 8];
        assert!(coder.encode(&file.as_slice(), &ranges, &plain, Effort::Normal).is_err(), "{ranges:?}");
        assert!(coder.decode(&file.as_slice(), &ranges, &[0; 5], Vec::new()).is_err(), "{ranges:?}");
    }
    assert!(coder.encode(&file.as_slice(), &[0..9], &file[..8], Effort::Normal).is_err());
    assert!(SEGMENT_MAX > file.len());
    let empty: &[u8] = &[];
    let payload = coder.encode(&file.as_slice(), &[0..9], &file[..9], Effort::Normal).unwrap();
    assert_eq!(Coder::new(&map).decode(&empty, &[0..9], &payload, Vec::new()), Err(DeltaError::Base));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn edited_programs_come_back_whole_and_in_pieces(
        program in a_program(),
        edits in prop::collection::vec(an_edit(), 0..12),
        cuts in prop::collection::vec(any::<usize>(), 0..24),
        keep in 0.2..1.5f64,
    ) {
        let (mut old, mut new) = (program.link(), edited(&program, &edits).link());
        // Now and then one of them is cut short.
        if keep < 0.6 {
            old.truncate((old.len() as f64 * (keep + 0.4)) as usize);
        } else if keep < 1.0 {
            new.truncate((new.len() as f64 * keep) as usize);
        }
        for (old, new) in [(&old, &new), (&new, &old)] {
            let Some(map) = map(old, new) else { continue };
            prop_assert_eq!(map.old_len(), old.len() as u64);
            prop_assert_eq!(map.new_len(), new.len() as u64);
            round_trip(&map, old, new, &whole(new));
            let ranges = ranges(&cuts, new.len());
            round_trip(&map, old, new, &ranges);
            for range in &ranges {
                round_trip(&map, old, new, &[range.start..range.start + 1]);
            }
        }
    }

    #[test]
    fn damaged_maps_and_payloads_end_well(
        program in a_program(),
        edits in prop::collection::vec(an_edit(), 1..8),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cuts in prop::collection::vec(any::<usize>(), 2..10),
    ) {
        let (old, new) = (program.link(), edited(&program, &edits).link());
        let Some(map) = map(&old, &new) else { return Ok(()) };
        let ranges = ranges(&cuts, new.len());
        let plain = cut(&new, &ranges);
        let payload = Coder::new(&map).encode(&old.as_slice(), &ranges, &plain, Effort::Normal).unwrap();
        let harm = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, value) in &damage {
                let at = at % bytes.len();
                bytes[at] = *value;
            }
            bytes
        };
        let try_one = |map: &Map, payload: &[u8]| {
            if let Ok(out) = Coder::new(map).decode(&old.as_slice(), &ranges, payload, Vec::new()) {
                assert_eq!(out.len(), plain.len());
            }
        };
        try_one(&map, &harm(&payload));
        if let Ok(map) = Map::from_bytes(&harm(&map.to_bytes())) {
            try_one(&map, &payload);
            map.reads(&ranges);
        }
        prop_assert!(Coder::new(&map).decode(&old.as_slice(), &ranges, &payload[..payload.len() - 1], Vec::new()).is_err());
    }
}
