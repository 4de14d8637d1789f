//! Where chance comes from: a number that is shown when a test fails, and can be given back.

use std::hash::{BuildHasher, Hasher, RandomState};

use proptest::test_runner::{Config, RngSeed};

/// Sets the seed of every test that has one.
const VARIABLE: &str = "CAIRN_TEST_SEED";

/// The seed that is given, or a fresh one; printed, so that a failed test shows it.
///
/// # Panics
/// If the one that is given is no number.
#[must_use]
pub fn seed() -> u64 {
    let seed = match std::env::var(VARIABLE) {
        Ok(given) => given.parse().expect("a seed is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    println!("to repeat this: {VARIABLE}={seed}");
    seed
}

/// So many cases of a property, from a seed that is shown.
#[must_use]
pub fn cases(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        // Each step adds and restores a whole tree.
        max_shrink_iters: 200,
        ..Config::default()
    }
}

/// Numbers by chance, from a seed.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `bound`, which is not 0 (SplitMix64: Steele et al., "Fast Splittable Pseudorandom Number
    /// Generators", 2014).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
