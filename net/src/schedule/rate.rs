//! Bytes a second over the last seconds: an average whose weights halve every [`HALF_LIFE`], so that silence shows. Time
//! without a request counts for nothing.

use std::time::Duration;

const HALF_LIFE: Duration = Duration::from_millis(1000);
/// Before so much time has gone by with requests, nothing is known.
const KNOWN_AFTER: f64 = 0.05;

#[derive(Debug, Clone, Default)]
pub(super) struct Rate {
    /// Bytes, each with its weight.
    bytes: f64,
    /// Seconds, each with its weight.
    seconds: f64,
    /// Up to when both are right.
    at: Duration,
    has_bytes: bool,
}

impl Rate {
    /// A request begins. `seconds` does not grow for the time before it if there was none.
    pub(super) fn begin(&mut self, now: Duration) {
        self.at = self.at.max(now);
    }

    pub(super) fn add(&mut self, bytes: u64, now: Duration) {
        (self.bytes, self.seconds) = self.decayed(now);
        self.bytes += bytes as f64;
        self.at = self.at.max(now);
        self.has_bytes = true;
    }

    /// The rate now, counting the time since the last byte if a request is out.
    pub(super) fn at(&self, now: Duration, is_asked: bool) -> Option<f64> {
        let (bytes, seconds) = if is_asked { self.decayed(now) } else { (self.bytes, self.seconds) };
        (self.has_bytes && seconds >= KNOWN_AFTER).then(|| bytes / seconds)
    }

    fn decayed(&self, now: Duration) -> (f64, f64) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let half_lives = passed / HALF_LIFE.as_secs_f64();
        let weight = 0.5f64.powf(half_lives);
        // The integral of the weights over the time that passed.
        let passed = (1.0 - weight) * HALF_LIFE.as_secs_f64() / std::f64::consts::LN_2;
        (self.bytes * weight, self.seconds * weight + passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_rate_is_measured_and_silence_lowers_it() {
        let mut rate = Rate::default();
        assert_eq!(rate.at(ms(0), false), None);
        rate.begin(ms(5_000));
        for at in (5_010..8_000).step_by(10) {
            rate.add(10_000, ms(at));
        }
        let steady = rate.at(ms(7_990), true).unwrap();
        assert!((0.9e6..1.1e6).contains(&steady), "{steady}");
        assert!(rate.at(ms(9_990), true).unwrap() < steady / 3.0);
        assert_eq!(rate.at(ms(60_000), false), Some(steady), "idle time counts for nothing");
    }
}
