//! What the prefix codec makes of a pair of files: `cargo run --release -p cairn-delta --example prefix OLD NEW [CHUNK [BLOCK [PREFIX]]]`.
//!
//! The old file is cut into base chunks of CHUNK bytes (16384), and what is new, by whole chunks of NEW that are not in OLD at
//! a multiple of CHUNK, goes into blocks of BLOCK bytes (524288), each with at most PREFIX bytes of bases (1048576). Prints, for
//! each effort, the bytes that blocks take, and the speeds of voting, encoding and decoding in MB/s of one core.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example that measures files")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cairn_delta::{Effort, prefix, similar};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [old, new, sizes @ ..] = &arguments[..] else {
        return Err("OLD NEW [CHUNK [BLOCK [PREFIX]]]".into());
    };
    let size = |at: usize, default: usize| sizes.get(at).map_or(Ok(default), |text| text.parse());
    let (chunk, block, prefix_max) = (size(0, 16 << 10)?, size(1, 512 << 10)?, size(2, 1 << 20)?);
    let (old, new) = (std::fs::read(old)?, std::fs::read(new)?);

    let began = Instant::now();
    let mut samples = similar::Samples::new();
    for (number, bytes) in (0..).zip(old.chunks(chunk)) {
        samples.add(number, bytes);
    }
    println!(
        "sampling the old file: {:.0} MB/s, {} KiB",
        speed(old.len(), began.elapsed()),
        samples.memory_bytes() >> 10
    );

    let known: HashMap<&[u8], ()> = old.chunks(chunk).map(|bytes| (bytes, ())).collect();
    let lacking: Vec<&[u8]> = new.chunks(chunk).filter(|bytes| !known.contains_key(bytes)).collect();
    let lacking = lacking.concat();
    let blocks: Vec<&[u8]> = lacking.chunks(block).collect();
    println!("new: {} of {} bytes in {} blocks", lacking.len(), new.len(), blocks.len());

    let began = Instant::now();
    let prefixes: Vec<Vec<u8>> = blocks
        .iter()
        .map(|plain| {
            let chosen = samples.vote(plain, prefix_max);
            chosen
                .iter()
                .flat_map(|number| old.chunks(chunk).nth(*number as usize).unwrap_or_default())
                .copied()
                .collect()
        })
        .collect();
    let bases: usize = prefixes.iter().map(Vec::len).sum();
    println!(
        "voting: {:.0} MB/s; {} bytes of bases for a block",
        speed(lacking.len(), began.elapsed()),
        bases / blocks.len().max(1)
    );

    for effort in [Effort::Fast, Effort::Normal, Effort::Max] {
        let mut encoder = prefix::Encoder::new(effort);
        let began = Instant::now();
        let payloads: Vec<Vec<u8>> =
            prefixes.iter().zip(&blocks).map(|(prefix, plain)| encoder.encode(prefix, plain)).collect();
        let encoding = began.elapsed();
        let (mut decoder, mut buffer) = (prefix::Decoder::new(), Vec::new());
        let began = Instant::now();
        for ((payload, prefix), plain) in payloads.iter().zip(&prefixes).zip(&blocks) {
            buffer = decoder.decode(prefix, payload, plain.len(), buffer)?;
        }
        let decoding = began.elapsed();
        let bytes: usize = payloads.iter().map(Vec::len).sum();
        println!(
            "{effort:?}: {bytes} bytes, {:.2} % of the new, {:.2} % of the file; encodes {:.0} MB/s, decodes {:.0} MB/s",
            percent(bytes, lacking.len()),
            percent(bytes, new.len()),
            speed(lacking.len(), encoding),
            speed(lacking.len(), decoding),
        );
    }
    Ok(())
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn speed(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}
