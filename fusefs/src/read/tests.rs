//! Random reads of all kinds of files, against the plain bytes.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::testing::{Scratch, noise};

struct Sample {
    scratch: Scratch,
    plain: Vec<Vec<u8>>,
    specs: Vec<FileSpec>,
}

/// Files of all kinds of content: inline, a short list, a long list of two levels, holes.
fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let mut sparse = vec![0; 6 << 20];
        sparse[..1000].copy_from_slice(&noise(4, 1000));
        sparse[3 << 20..][..200_000].copy_from_slice(&noise(5, 200_000));
        let mut repeated = noise(6, 100_000).repeat(12);
        repeated.extend([0; 100_000]);
        // Pages of 4 KiB are chunks: thousands of them.
        let mut pages = noise(7, 12 << 20);
        pages[..16].copy_from_slice(b"SQLite format 3\0");
        pages[16..18].copy_from_slice(&4096u16.to_be_bytes());
        pages[5 << 20..6 << 20].fill(0);
        let plain = vec![
            Vec::new(),
            noise(1, 100),
            noise(2, 5000),
            noise(3, 300_000),
            noise(8, 3 << 20),
            sparse,
            repeated,
            pages,
        ];
        let (scratch, specs) = Scratch::with(&plain);
        assert!(matches!(specs[7].content, Content::Long { chunks, .. } if chunks > 2000), "{:?}", specs[7]);
        Sample { scratch, plain, specs }
    })
}

fn expected(plain: &[u8], offset: u64, len: u32) -> &[u8] {
    let start = usize::try_from(offset).unwrap().min(plain.len());
    &plain[start..(start + len as usize).min(plain.len())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_reads_are_the_plain_bytes(
        cache_bytes in prop_oneof![Just(0), Just(600_000), Just(64 << 20)],
        reads in prop::collection::vec((0..8usize, 0..=1000u64, 0..(1u32 << 20), any::<bool>()), 1..24),
    ) {
        let sample = sample();
        let reader = Reader::new(&sample.scratch.store, cache_bytes).unwrap();
        for (number, place, len, try_first) in reads {
            let (spec, plain) = (&sample.specs[number], &sample.plain[number]);
            // Now and then past the end.
            let offset = spec.size * place / 990;
            let mut reply = b"before".to_vec();
            if try_first && !reader.try_read(spec, offset, len, &mut reply) {
                prop_assert_eq!(&reply, b"before");
            }
            if reply.len() == 6 {
                reader.read(spec, offset, len, &mut reply).unwrap();
            }
            prop_assert!(reply[6..] == *expected(plain, offset, len), "{} bytes at {}", len, offset);
            // What was read is there now, if it fits.
            reply.clear();
            if cache_bytes == 64 << 20 {
                prop_assert!(reader.try_read(spec, offset, len, &mut reply));
                prop_assert!(reply == *expected(plain, offset, len));
            }
            prop_assert!(reader.figures().0 <= cache_bytes);
        }
    }
}

#[test]
fn a_block_that_many_want_is_decoded_once() {
    let sample = sample();
    let reader = Reader::new(&sample.scratch.store, 64 << 20).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let reader = &reader;
            scope.spawn(move || {
                for step in 0..96u64 {
                    let (offset, mut reply) = ((step + thread * 12) % 96 * (128 << 10), Vec::new());
                    reader.read(&sample.specs[7], offset, 128 << 10, &mut reply).unwrap();
                    assert!(reply == expected(&sample.plain[7], offset, 128 << 10));
                }
            });
        }
    });
    let (bytes, hits, misses) = reader.figures();
    // 11 MiB of data in blocks of 512 KiB.
    assert!(misses <= 30, "{misses} blocks decoded, {hits} hits");
    assert!(bytes <= 64 << 20);
}

#[test]
fn who_reads_on_finds_the_next_blocks_decoded() {
    let sample = sample();
    let reader = Reader::new(&sample.scratch.store, 64 << 20).unwrap();
    for step in 0..4 {
        let mut reply = Vec::new();
        reader.read(&sample.specs[7], step * (128 << 10), 128 << 10, &mut reply).unwrap();
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut reply = Vec::new();
    while !reader.try_read(&sample.specs[7], 1 << 20, 128 << 10, &mut reply) {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    assert!(reply == expected(&sample.plain[7], 1 << 20, 128 << 10));
}
