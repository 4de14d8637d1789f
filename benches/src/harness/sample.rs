//! Samples, what is made of them, and what they are held to.

use serde::Serialize;

use super::command::Cost;
use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    BytesPerSecond,
    PerSecond,
    Count,
    /// A part of a whole.
    Share,
    /// How many of another one it is.
    Times,
}

/// The samples of one entrant in the order they were taken.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Series {
    values: Vec<f64>,
    /// What each run cost, beside the value that is judged; empty where the value is not of a run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    costs: Vec<Cost>,
}

impl Series {
    pub(crate) fn of_bytes(bytes: u64) -> Series {
        Series::of_value(to_f64(bytes))
    }

    pub(crate) fn of_value(value: f64) -> Series {
        Series { values: vec![value], costs: Vec::new() }
    }

    pub(crate) fn walls(costs: Vec<Cost>) -> Series {
        Series { values: costs.iter().map(|cost| cost.wall_s).collect(), costs }
    }

    /// `amount` done in each run's time, a second.
    pub(crate) fn rates(amount: f64) -> impl Fn(Vec<Cost>) -> Series {
        move |costs| Series { values: costs.iter().map(|cost| amount / cost.wall_s).collect(), costs }
    }

    /// Each value times `factor`.
    pub(crate) fn scaled(self, factor: f64) -> Series {
        Series { values: self.values.iter().map(|value| value * factor).collect(), costs: self.costs }
    }

    pub(crate) fn of_values(values: Vec<f64>) -> Series {
        Series { values, costs: Vec::new() }
    }

    pub(crate) fn peaks(costs: Vec<Cost>) -> Series {
        Series { values: costs.iter().map(|cost| to_f64(cost.peak_resident_bytes)).collect(), costs }
    }

    /// NaN if there is no sample.
    pub(crate) fn median(&self) -> f64 {
        median(self.values.clone())
    }

    /// The median absolute deviation from the median: half of the samples lie within it. Not scaled to a normal
    /// distribution's sigma.
    pub(crate) fn spread(&self) -> f64 {
        let middle = self.median();
        median(self.values.iter().map(|value| (value - middle).abs()).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Measured(Series),
    /// Nothing to measure, and nothing wrong: a program that is not installed, a command that a peer does not have.
    Absent(String),
    Failed(String),
}

impl Outcome {
    pub(crate) fn series(&self) -> Option<&Series> {
        match self {
            Outcome::Measured(series) => Some(series),
            Outcome::Absent(_) | Outcome::Failed(_) => None,
        }
    }
}

impl From<&Error> for Outcome {
    fn from(error: &Error) -> Outcome {
        match error {
            Error::NotInstalled { .. } => Outcome::Absent(error.to_string()),
            _ => Outcome::Failed(error.chain()),
        }
    }
}

/// What the candidate is held to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    /// The candidate's median divided by the reference's.
    RatioAtMost(f64),
    RatioBelow(f64),
    RatioAtLeast(f64),
    /// The candidate's median itself.
    AtMost(f64),
    AtLeast(f64),
    /// A figure that explains others.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    NotMeasured,
    NoLimit,
}

impl Limit {
    pub(crate) fn needs_reference(self) -> bool {
        matches!(self, Limit::RatioAtMost(_) | Limit::RatioBelow(_) | Limit::RatioAtLeast(_))
    }

    /// `reference` is not looked at where the limit is on the candidate alone.
    pub(crate) fn judge(self, candidate: Option<f64>, reference: Option<f64>) -> Verdict {
        let Some(value) = candidate else { return Verdict::NotMeasured };
        let passed = match self {
            Limit::None => return Verdict::NoLimit,
            Limit::AtMost(limit) => value <= limit,
            Limit::AtLeast(limit) => value >= limit,
            Limit::RatioAtMost(_) | Limit::RatioBelow(_) | Limit::RatioAtLeast(_) => {
                match (self, reference) {
                    (Limit::RatioAtMost(limit), Some(reference)) => value <= limit * reference,
                    (Limit::RatioBelow(limit), Some(reference)) => value < limit * reference,
                    (Limit::RatioAtLeast(limit), Some(reference)) => value >= limit * reference,
                    _ => return Verdict::NotMeasured,
                }
            }
        };
        if passed { Verdict::Pass } else { Verdict::Fail }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of bytes below 2^53 are exact, and larger ones near enough"
)]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series { values: values.to_vec(), costs: Vec::new() }
    }

    #[test]
    fn medians_and_spreads() {
        let odd = series(&[9.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.spread()), (2.0, 1.0));
        let even = series(&[4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median(), even.spread()), (2.5, 1.0));
        assert!(series(&[]).median().is_nan());
    }

    #[test]
    fn limits_are_inclusive_but_for_below() {
        assert_eq!(Limit::RatioAtMost(1.5).judge(Some(3.0), Some(2.0)), Verdict::Pass);
        assert_eq!(Limit::RatioAtMost(1.5).judge(Some(3.1), Some(2.0)), Verdict::Fail);
        assert_eq!(Limit::RatioBelow(1.0).judge(Some(2.0), Some(2.0)), Verdict::Fail);
        assert_eq!(Limit::RatioAtLeast(0.5).judge(Some(1.0), Some(2.0)), Verdict::Pass);
        assert_eq!(Limit::RatioAtLeast(0.5).judge(Some(0.9), Some(2.0)), Verdict::Fail);
        assert_eq!(Limit::AtMost(1.0).judge(Some(1.0), None), Verdict::Pass);
        assert_eq!(Limit::AtLeast(1.0).judge(Some(0.9), None), Verdict::Fail);
    }

    #[test]
    fn nothing_passes_unmeasured() {
        assert_eq!(Limit::AtMost(1.0).judge(None, None), Verdict::NotMeasured);
        assert_eq!(Limit::RatioAtMost(1.0).judge(Some(1.0), None), Verdict::NotMeasured);
        assert_eq!(Limit::AtLeast(1.0).judge(Some(f64::NAN), None), Verdict::Fail);
        assert_eq!(Limit::None.judge(None, None), Verdict::NotMeasured);
        assert_eq!(Limit::None.judge(Some(1.0), None), Verdict::NoLimit);
    }
}
