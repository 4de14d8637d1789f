//! What the relocation-aware codec makes of pairs of executables.
//!
//! `cargo run --release -p cairn-delta --example pairs -- [--max] [--sections] OLD NEW [OLD NEW]...`
//!
//! For each pair: the bytes of the map and of all segments of 1 MiB and of 4 MiB, as parts of the new file, with the time on
//! one core and the most memory that the process had; every segment is decoded and compared. `--sections` adds what each
//! stream of the map has, and what each section costs by itself and in which streams (gaps between wrong operands,
//! corrections, corrections on the stack, rows of other bytes, their differences, literals). `--max` takes the greatest effort.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a program for the developer's terminal"
)]

use std::ops::Range;

use cairn_delta::Effort;
use cairn_delta::reloc::{self, Coder, Limits, Map};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut effort, mut sections, mut files) = (Effort::Normal, false, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--max" => effort = Effort::Max,
            "--sections" => sections = true,
            _ => files.push(argument),
        }
    }
    for pair in files.chunks_exact(2) {
        one(&pair[0], &pair[1], effort, sections)?;
    }
    Ok(())
}

fn one(
    old_path: &str,
    new_path: &str,
    effort: Effort,
    by_section: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let (old, new) = (std::fs::read(old_path)?, std::fs::read(new_path)?);
    let megabytes = new.len() as f64 / 1e6;
    println!("{old_path} {} -> {new_path} {}", old.len(), new.len());
    let start = cpu();
    let Some(map) = reloc::map(&old, &new, effort, &Limits::default(), &|| false) else {
        println!("  no map, after {:.2} s", (cpu() - start));
        return Ok(());
    };
    let map_bytes = map.to_bytes();
    let map_time = cpu() - start;
    println!(
        "  map {} in {map_time:.2} s, memory {:.1}x",
        map_bytes.len(),
        peak() / old.len().max(new.len()) as f64
    );
    if by_section {
        println!("  map streams {:?}", stream_sizes(&map_bytes[4..]));
    }
    let map = Map::from_bytes(&map_bytes)?;
    for size in [1 << 20, 4 << 20] {
        let ranges = (0..new.len()).step_by(size).map(|at| at as u64..(at + size).min(new.len()) as u64);
        let ranges: Vec<Range<u64>> = ranges.collect();
        let start = cpu();
        let segments = encode(&map, &old, &new, &ranges, effort)?;
        let encode_time = cpu() - start;
        let start = cpu();
        let (mut coder, mut out) = (Coder::new(&map), Vec::new());
        let mut wrong = 0;
        let mut decode_time = 0.0;
        for (range, segment) in ranges.iter().zip(&segments) {
            out = coder.decode(&old.as_slice(), std::slice::from_ref(range), segment, out)?;
            decode_time = cpu() - start;
            wrong += usize::from(out != new[range.start as usize..range.end as usize]);
        }
        let bytes: usize = segments.iter().map(Vec::len).sum();
        println!(
            "  {} MiB segments: {bytes} + map = {} = {:.3} %; encode {:.1} MB/s with the map, decode {:.0} MB/s{}",
            size >> 20,
            bytes + map_bytes.len(),
            (bytes + map_bytes.len()) as f64 * 100.0 / new.len() as f64,
            megabytes / (map_time + encode_time),
            megabytes / decode_time,
            if wrong > 0 { "; NOT WHAT WAS ENCODED" } else { "" },
        );
    }
    if by_section {
        for (name, range) in sections(&new).unwrap_or_default() {
            let (mut streams, mut at) = ([0; 6], range.start);
            while at < range.end {
                let part = at..(at + (4 << 20)).min(range.end);
                at = part.end;
                let segment = encode(&map, &old, &new, &[part], effort)?;
                streams.iter_mut().zip(stream_sizes(&segment[0])).for_each(|(sum, size)| *sum += size);
            }
            let sum: usize = streams.iter().sum();
            println!("  {name:20} {:9} {sum:8} {streams:?}", range.end - range.start);
        }
    }
    Ok(())
}

fn encode(
    map: &Map,
    old: &[u8],
    new: &[u8],
    ranges: &[Range<u64>],
    effort: Effort,
) -> Result<Vec<Vec<u8>>, cairn_delta::DeltaError> {
    let mut coder = Coder::new(map);
    let each = ranges.iter().map(|range| {
        let plain = &new[range.start as usize..range.end as usize];
        coder.encode(&old, std::slice::from_ref(range), plain, effort)
    });
    each.collect()
}

/// Seconds that this thread has computed.
fn cpu() -> f64 {
    let state = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    state.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// The most memory that this process had.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0
}

/// The stored lengths of a segment's streams.
fn stream_sizes(mut segment: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while !segment.is_empty() {
        let mut number = || {
            let end = segment.iter().position(|byte| *byte < 128).unwrap_or(0);
            let value =
                segment[..=end].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 127));
            segment = &segment[end + 1..];
            value
        };
        let stored = if number() == 0 { 0 } else { number() };
        sizes.push(stored);
        segment = &segment[stored..];
    }
    sizes
}

fn sections(file: &[u8]) -> Option<Vec<(String, Range<u64>)>> {
    let number = |at: usize, width: usize| {
        let bytes = file.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (table, count, names) = (number(40, 8)? as usize, number(60, 2)? as usize, number(62, 2)? as usize);
    let names = number(table + 64 * names + 24, 8)? as usize;
    let mut found = Vec::new();
    for row in (0..count).map(|row| table + 64 * row) {
        let name = file.get(names + number(row, 4)? as usize..)?;
        let name = String::from_utf8_lossy(&name[..name.iter().position(|byte| *byte == 0)?]).into_owned();
        let (at, len) = (number(row + 24, 8)?, number(row + 32, 8)?);
        if number(row + 4, 4)? != 8 && len > 1000 && at + len <= file.len() as u64 {
            found.push((name, at..at + len));
        }
    }
    Some(found)
}
