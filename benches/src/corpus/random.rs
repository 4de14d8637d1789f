//! Random numbers that are the same everywhere: SplitMix64 (Steele, Lea, Flood 2014), and integers alone, so that no
//! machine's floating point changes a corpus.

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Below `bound`, which is not 0; the bias is below `bound` / 2^64.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        &of[place]
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes()[..word.len()]);
        }
    }

    /// Log-normal around `median`, with a sigma of one and a half doublings (1.04): two thirds of the values are within
    /// a factor of 2.8 of the median. The normal deviate is a sum of twelve uniform ones, so within 6 sigma.
    pub(super) fn log_normal(&mut self, median: u64) -> u64 {
        // In sixteenths of a doubling: twelve values of 0 to 23 have the mean 138 and the deviation 24.
        let sum: u64 = (0..12).map(|_| self.below(24)).sum();
        let (doublings, sixteenths) = (sum / 16, sum % 16);
        // Within a doubling, linear is near enough. The mean is 8 doublings and 10 sixteenths.
        (median << doublings) * (16 + sixteenths) / (256 * (16 + 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        let mut random = Random::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn sizes_are_around_their_median() {
        let mut random = Random::new(1);
        let mut sizes: Vec<u64> = (0..10_001).map(|_| random.log_normal(4096)).collect();
        sizes.sort_unstable();
        assert!((3900..4300).contains(&sizes[5000]), "{}", sizes[5000]);
        assert!((1300..1600).contains(&sizes[1587]), "{}", sizes[1587]);
        assert!((11_000..12_500).contains(&sizes[8413]), "{}", sizes[8413]);
        assert!(sizes[10_000] < 3 << 20);
    }
}
