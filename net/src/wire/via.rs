//! Ways through versions between: which deltas, one after the other, lead to what is wanted. In the header of an answer
//! that says that the delta itself is not there yet.

use std::fmt::Write;

use cairn_store::ArtifactId;
use serde::Serialize;

use super::{HexId, WireError};

/// Name of the header that has a way.
pub const VIA_HEADER: &str = "cairn-via";
/// Steps of a way, at most.
pub const VIA_STEPS_MAX: usize = 4;

/// One delta of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// To which artifact.
    pub artifact: HexId<ArtifactId>,
    /// Bytes of the answer that tells it.
    pub bytes: u64,
}

/// A way as it travels: `ID=BYTES, ID=BYTES`.
#[must_use]
pub fn via_to_text(steps: &[Step]) -> String {
    let mut text = String::new();
    for (number, Step { artifact, bytes }) in steps.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        // A string takes everything.
        let _ = write!(text, "{comma}{}={bytes}", artifact.0);
    }
    text
}

/// A way from one artifact to another: two steps or more, and no artifact twice.
///
/// # Errors
/// [`WireError::List`].
pub fn via_from_text(text: &str, have: &ArtifactId, want: &ArtifactId) -> Result<Vec<Step>, WireError> {
    let step = |part: &str| {
        let (id, bytes) = part.split_once('=')?;
        Some(Step { artifact: HexId(id.parse().ok()?), bytes: bytes.parse().ok()? })
    };
    let steps: Option<Vec<Step>> =
        text.split(',').take(VIA_STEPS_MAX + 1).map(|part| step(part.trim())).collect();
    let steps = steps.ok_or(WireError::List("a way that does not decode"))?;
    if !(2..=VIA_STEPS_MAX).contains(&steps.len()) {
        return Err(WireError::List("a way of too few steps or too many"));
    }
    let comes_before = |number: usize| {
        let id = steps[number].artifact.0;
        id == *have || steps[..number].iter().any(|step| step.artifact.0 == id)
    };
    if (0..steps.len()).any(comes_before) {
        return Err(WireError::List("a way that goes in a circle"));
    }
    if steps.last().is_none_or(|last| last.artifact.0 != *want) {
        return Err(WireError::List("a way that leads elsewhere"));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ArtifactId {
        ArtifactId([number; 32])
    }

    fn way(ids: &[u8]) -> Vec<Step> {
        ids.iter()
            .map(|number| Step { artifact: HexId(id(*number)), bytes: u64::from(*number) * 1000 })
            .collect()
    }

    fn read(text: &str) -> Result<Vec<Step>, WireError> {
        via_from_text(text, &id(1), &id(9))
    }

    #[test]
    fn a_way_is_read_as_it_is_written() {
        for ids in [&[2, 9][..], &[2, 3, 9], &[5, 4, 3, 9]] {
            assert_eq!(read(&via_to_text(&way(ids))).unwrap(), way(ids));
        }
    }

    #[test]
    fn circles_and_ways_elsewhere_or_without_end_are_refused() {
        for ids in [&[][..], &[9], &[2, 3], &[2, 1, 9], &[2, 2, 9], &[9, 2, 9], &[2, 3, 4, 5, 9]] {
            assert!(read(&via_to_text(&way(ids))).is_err(), "{ids:?}");
        }
        let good = via_to_text(&way(&[2, 9]));
        for text in
            ["", ",", "2=3, 9=4", &good.replace('=', ":"), &good.replace("2000", "-1"), &format!("{good},")]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
