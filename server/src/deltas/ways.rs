//! Ways through versions between: deltas that are kept, one after the other, where the one that is asked for is not. Pure.

use std::collections::HashMap;

use cairn_net::wire::{HexId, Step, VIA_STEPS_MAX};
use cairn_store::ArtifactId;

use super::Pair;
use crate::enumerations::Part;

/// The cheapest way from one artifact to another by deltas that are kept, in bytes; `may_pass` says which others may lie on
/// it.
pub(super) fn cheapest(
    kept: &[(Pair, u64)],
    have: ArtifactId,
    want: ArtifactId,
    may_pass: &dyn Fn(&ArtifactId) -> bool,
) -> Option<Vec<Step>> {
    let is_step = |pair: &Pair| pair.part == Part::Chunks && (pair.want == want || may_pass(&pair.want));
    let edges: Vec<(Pair, u64)> = kept.iter().filter(|(pair, _)| is_step(pair)).copied().collect();
    // With each round the ways may be one step longer. A way that comes back to where it was is never cheaper.
    let mut ways: HashMap<ArtifactId, (u64, Vec<Step>)> = HashMap::from([(have, (0, Vec::new()))]);
    for _ in 0..VIA_STEPS_MAX {
        let mut longer = ways.clone();
        for (pair, bytes) in &edges {
            let Some((so_far, steps)) = ways.get(&pair.have) else { continue };
            let sum = so_far.saturating_add(*bytes);
            if longer.get(&pair.want).is_some_and(|(known, _)| *known <= sum) {
                continue;
            }
            let step = Step { artifact: HexId(pair.want), bytes: *bytes };
            longer.insert(pair.want, (sum, steps.iter().copied().chain([step]).collect()));
        }
        ways = longer;
    }
    ways.remove(&want).map(|(_, steps)| steps).filter(|steps| steps.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ArtifactId {
        ArtifactId([number; 32])
    }

    fn kept(pairs: &[(u8, u8, u64)]) -> Vec<(Pair, u64)> {
        let pair = |(have, want)| Pair { have: id(have), want: id(want), part: Part::Chunks };
        pairs.iter().map(|(have, want, bytes)| (pair((*have, *want)), *bytes)).collect()
    }

    fn way(kept: &[(Pair, u64)]) -> Option<Vec<u8>> {
        let steps = cheapest(kept, id(1), id(9), &|_| true)?;
        Some(steps.iter().map(|step| step.artifact.0.0[0]).collect())
    }

    #[test]
    fn the_cheapest_of_several_ways_is_taken() {
        let kept = kept(&[(1, 2, 10), (2, 9, 10), (1, 3, 5), (3, 4, 5), (4, 9, 5), (9, 1, 1), (2, 1, 1)]);
        assert_eq!(way(&kept), Some(vec![3, 4, 9]));
    }

    #[test]
    fn a_way_has_few_steps_and_more_than_one() {
        let far = kept(&[(1, 2, 1), (2, 3, 1), (3, 4, 1), (4, 5, 1), (5, 9, 1)]);
        assert_eq!(way(&far), None);
        assert_eq!(way(&[&far[..], &kept(&[(1, 3, 100)])].concat()), Some(vec![3, 4, 5, 9]));
        assert_eq!(way(&kept(&[(1, 9, 1)])), None, "that is no way round");
        assert_eq!(way(&kept(&[(1, 2, 1), (3, 9, 1)])), None);
    }

    #[test]
    fn it_leads_over_nothing_that_is_not_shown_and_by_chunks_alone() {
        let mut kept = kept(&[(1, 2, 10), (2, 9, 10)]);
        assert_eq!(cheapest(&kept, id(1), id(9), &|between| *between != id(2)), None);
        kept[0].0.part = Part::Objects;
        assert_eq!(way(&kept), None);
    }
}
