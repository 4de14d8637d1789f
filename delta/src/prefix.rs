//! Codec 2: zstd that may also copy from a prefix, which the reader has already.
//!
//! The prefix is the bytes of base chunks of the caller's choice, one after the other; it is given again for decoding, byte for
//! byte. The payload is one zstd frame (RFC 8878) in the "magicless" form, without content size, checksum and dictionary
//! id: a block that hardly changed is told in some tens of bytes, and whoever decodes knows how long it is and hashes it.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, FrameFormat, Strategy, compress_bound};

use crate::{DeltaError, Effort};

/// Bytes of prefix, at most.
pub const PREFIX_MAX: usize = 8 << 20;
/// Plain bytes of a payload, at most.
pub const PLAIN_MAX: usize = 4 << 20;

/// The window has to reach from the last plain byte to the first of the prefix; zstd knows none below this.
const WINDOW_LOG_MIN: u32 = 10;

/// Encodes blocks, each against a prefix of its own.
#[derive(Debug)]
pub struct Encoder {
    effort: Effort,
}

impl Encoder {
    /// An encoder that tries so hard.
    #[must_use]
    pub fn new(effort: Effort) -> Self {
        Self { effort }
    }

    /// The payload for `plain`, of which nothing says that it is shorter.
    ///
    /// # Panics
    /// With more than [`PREFIX_MAX`] or [`PLAIN_MAX`] bytes.
    #[must_use]
    pub fn encode(&mut self, prefix: &[u8], plain: &[u8]) -> Vec<u8> {
        assert!(prefix.len() <= PREFIX_MAX && plain.len() <= PLAIN_MAX, "prefix or block out of bounds");
        // zstd takes what lies in the same memory for overwritten, and leaves it out of the prefix.
        let (old, new) = (prefix.as_ptr_range(), plain.as_ptr_range());
        let copied = (old.start < new.end && new.start < old.end).then(|| plain.to_vec());
        let plain = copied.as_deref().unwrap_or(plain);
        // A context keeps its prefix for as long as it lives, so each block has one of its own: what that costs is
        // hardly seen beside the tables, which have to be filled anew in any case.
        let mut context = CCtx::create();
        for parameter in parameters(self.effort, prefix.len() + plain.len()) {
            context.set_parameter(parameter).expect("the parameters are within zstd's bounds");
        }
        context.ref_prefix(prefix).expect("a new context takes a prefix");
        let mut payload = Vec::with_capacity(compress_bound(plain.len()));
        context.compress2(&mut payload, plain).expect("zstd fails only for want of room or memory");
        payload.shrink_to_fit();
        payload
    }
}

/// Tables grow with the window, or large prefixes are found no more. Measured per core on blocks of 512 KiB with up to 1 MiB of
/// bases, bytes as a share of the new ones: a Rust program of 37 MB, a rebuilt release: fast 11.4 % at 260 MB/s, normal 10.7 % at
/// 65, max 9.7 % at 3; a database of 150 MB with 1 % of its rows changed, by pages: 5.0 % at 600, 4.8 % at 160, 4.8 % at 20
/// (`examples/prefix.rs`). Binary trees gain less than 1 % where hash chains would be eight times as fast.
fn parameters(effort: Effort, reach: usize) -> [CParameter; 10] {
    let window = reach.next_power_of_two().ilog2().max(WINDOW_LOG_MIN);
    let (level, strategy, hash, chain, matched) = match effort {
        Effort::Fast => (3, Strategy::ZSTD_dfast, window.min(20), window.min(20), 5),
        Effort::Normal => (9, Strategy::ZSTD_lazy2, window.min(23), window.min(23), 5),
        Effort::Max => (19, Strategy::ZSTD_btultra2, window.min(22), (window + 1).min(23), 3),
    };
    [
        CParameter::CompressionLevel(level),
        CParameter::Format(FrameFormat::Magicless),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
        CParameter::WindowLog(window),
        CParameter::Strategy(strategy),
        CParameter::HashLog(hash.max(6)),
        CParameter::ChainLog(chain.max(6)),
        CParameter::MinMatch(matched),
    ]
}

/// Decodes payloads.
#[derive(Debug, Default)]
pub struct Decoder;

impl Decoder {
    /// A decoder.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// The `plain_len` bytes that `payload` stands for, in `out`, whose capacity is used again. Takes memory for them
    /// and for a context of some 100 KiB, whatever the payload says.
    ///
    /// # Errors
    /// [`DeltaError::TooLarge`] past the limits, [`DeltaError::Decompress`] for what no encoder made with this prefix,
    /// as far as that shows.
    pub fn decode(
        &mut self,
        prefix: &[u8],
        payload: &[u8],
        plain_len: usize,
        mut out: Vec<u8>,
    ) -> Result<Vec<u8>, DeltaError> {
        if prefix.len() > PREFIX_MAX {
            return Err(DeltaError::TooLarge("a prefix"));
        }
        if plain_len > PLAIN_MAX {
            return Err(DeltaError::TooLarge("a block"));
        }
        out.clear();
        out.reserve_exact(plain_len);
        let mut context = DCtx::create();
        let set = context.set_parameter(DParameter::Format(FrameFormat::Magicless));
        set.and_then(|_| context.ref_prefix(prefix)).map_err(|_| DeltaError::Decompress)?;
        // All at once: zstd then copies out of what it has written, and keeps no window of its own.
        context.decompress(&mut out, payload).map_err(|_| DeltaError::Decompress)?;
        if out.len() == plain_len { Ok(out) } else { Err(DeltaError::Decompress) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Normal, Effort::Max];

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(len)
        .collect()
    }

    fn round_trip(effort: Effort, prefix: &[u8], plain: &[u8]) -> usize {
        let payload = Encoder::new(effort).encode(prefix, plain);
        let decoded = Decoder::new().decode(prefix, &payload, plain.len(), vec![1; 3]).unwrap();
        assert!(decoded == plain);
        payload.len()
    }

    #[test]
    fn what_is_in_the_prefix_costs_next_to_nothing() {
        for effort in EFFORTS {
            for (before, len) in [(0, 5000), (1 << 20, 300_000), (3 << 20, 1 << 20)] {
                let prefix = noise(before + len + 1000, 1);
                let cost = round_trip(effort, &prefix, &prefix[before..before + len]);
                assert!(cost < 100 + len / 800, "{effort:?}: {len} bytes {before} deep took {cost}");
            }
        }
    }

    #[test]
    fn lengths_at_the_bounds() {
        for effort in EFFORTS {
            for (prefix, plain) in [(0, 0), (0, 1), (1, 1), (7, 9), (8, 0), (100, 100_000)] {
                round_trip(effort, &noise(prefix, 1), &noise(plain, 2));
            }
        }
        let (prefix, plain) = (noise(PREFIX_MAX, 1), noise(PLAIN_MAX, 2));
        round_trip(Effort::Fast, &prefix, &plain);
        // The prefix's first bytes are in reach of the last ones of the block.
        let mut plain = plain;
        plain[PLAIN_MAX - 100_000..].copy_from_slice(&prefix[..100_000]);
        let cost = round_trip(Effort::Normal, &prefix, &plain);
        assert!(cost < PLAIN_MAX - 90_000, "{cost}");
        let more = noise(PREFIX_MAX + 1, 1);
        let mut decoder = Decoder::new();
        assert_eq!(decoder.decode(&more, &[], 1, Vec::new()), Err(DeltaError::TooLarge("a prefix")));
        assert_eq!(decoder.decode(&[], &[], PLAIN_MAX + 1, Vec::new()), Err(DeltaError::TooLarge("a block")));
    }

    #[test]
    fn a_prefix_that_looks_like_a_dictionary_is_bytes_all_the_same() {
        let mut prefix = vec![0x37, 0xa4, 0x30, 0xec];
        prefix.extend(noise(10_000, 3));
        for effort in EFFORTS {
            assert!(round_trip(effort, &prefix, &prefix[..9000]) < 100);
        }
    }

    #[test]
    fn another_length_or_prefix_is_no_panic() {
        let (prefix, plain) = (noise(50_000, 1), noise(20_000, 2));
        let payload = Encoder::new(Effort::Normal).encode(&prefix, &plain);
        let mut decoder = Decoder::new();
        for len in [0, 19_999, 20_001, PLAIN_MAX] {
            assert_eq!(decoder.decode(&prefix, &payload, len, Vec::new()), Err(DeltaError::Decompress));
        }
        // More room than is asked for is not filled either.
        let roomy = Vec::with_capacity(100_000);
        assert_eq!(decoder.decode(&prefix, &payload, 10_000, roomy), Err(DeltaError::Decompress));
        let payload = Encoder::new(Effort::Normal).encode(&prefix, &prefix);
        if let Ok(other) = decoder.decode(&prefix[1..], &payload, prefix.len(), Vec::new()) {
            assert!(other != prefix);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn damage_ends_in_an_error_or_in_as_many_bytes(
            seed: u64, at in 0_usize..3000, byte: u8, cut in 0_usize..3000, any in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let prefix = noise(4000, seed);
            let plain = [&prefix[1000..3000], &noise(1000, seed ^ 1)].concat();
            let mut payload = Encoder::new(Effort::Fast).encode(&prefix, &plain);
            let at = at % payload.len();
            payload[at] ^= byte;
            payload.truncate(payload.len() - cut % payload.len());
            let mut decoder = Decoder::new();
            for payload in [&payload, &any] {
                if let Ok(bytes) = decoder.decode(&prefix, payload, plain.len(), Vec::new()) {
                    prop_assert_eq!(bytes.len(), plain.len());
                }
            }
        }
    }
}
