//! What several peers say of one stream becomes one stream: pure. Each round is settled once enough peers say the same of
//! it and nobody as many something else. What is settled stays settled: a peer who says otherwise later is outvoted, or
//! nobody can tell, and that is an error.

use std::collections::{BTreeMap, BTreeSet};

use cairn_store::{EventHash, EventHead, StateHash};

/// Rounds that were settled of which it is still known who said what.
const REMEMBERED: u64 = 4096;
/// Rounds ahead of the settled ones of which claims are kept.
const AHEAD_MAX: u64 = 4096;

/// What somebody says of a round.
pub(super) type Claim = (EventHash, Option<StateHash>);

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is noted.
    Noted,
    /// It is too far ahead to be noted: later.
    Later,
    /// Others, who are more, say something else.
    Outvoted,
    /// As many say something else; one of them.
    Disputed { other: usize },
    /// More say something else than what was settled: what was taken was false.
    Overturned,
}

/// The claims of all peers.
#[derive(Debug)]
pub(super) struct Merge {
    agree: usize,
    /// The first round that is not settled.
    next: u64,
    claims: BTreeMap<u64, BTreeMap<Claim, BTreeSet<usize>>>,
    settled: BTreeMap<u64, Claim>,
}

impl Merge {
    pub(super) fn new(next: u64, agree: usize) -> Self {
        Self { agree: agree.max(1), next, claims: BTreeMap::new(), settled: BTreeMap::new() }
    }

    /// The first round that is not settled.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A peer says what a round was.
    pub(super) fn claim(&mut self, peer: usize, head: &EventHead) -> Verdict {
        let round = head.round;
        if round >= self.next + AHEAD_MAX {
            return Verdict::Later;
        }
        if round + REMEMBERED < self.next {
            return Verdict::Noted;
        }
        let claim = (head.hash, head.state_hash.clone());
        self.claims.entry(round).or_default().entry(claim.clone()).or_default().insert(peer);
        match self.settled.get(&round) {
            Some(settled) if *settled != claim => self.judge(round, settled, &claim),
            _ => Verdict::Noted,
        }
    }

    fn judge(&self, round: u64, settled: &Claim, claim: &Claim) -> Verdict {
        let (for_it, against) = (self.who(round, settled), self.who(round, claim));
        match for_it.len().cmp(&against.len()) {
            std::cmp::Ordering::Greater => Verdict::Outvoted,
            std::cmp::Ordering::Less => Verdict::Overturned,
            std::cmp::Ordering::Equal => match for_it.first() {
                Some(other) => Verdict::Disputed { other: *other },
                None => Verdict::Overturned,
            },
        }
    }

    fn who(&self, round: u64, claim: &Claim) -> Vec<usize> {
        let peers = self.claims.get(&round).and_then(|claims| claims.get(claim));
        peers.into_iter().flatten().copied().collect()
    }

    /// Settles the next round, if enough agree on it and it is clear. Gives who said something else.
    pub(super) fn settle(&mut self) -> Option<Vec<usize>> {
        let claims = self.claims.get(&self.next)?;
        let mut sides: Vec<_> = claims.iter().map(|(claim, peers)| (peers.len(), claim)).collect();
        sides.sort_unstable_by(|a, b| b.cmp(a));
        let (votes, claim) = *sides.first()?;
        let is_clear = sides.get(1).is_none_or(|(others, _)| *others < votes);
        if votes < self.agree || !is_clear {
            return None;
        }
        let claim = claim.clone();
        let others = claims.iter().filter(|(other, _)| **other != claim).flat_map(|(_, peers)| peers);
        let dissenting = others.copied().collect();
        self.settled.insert(self.next, claim);
        self.next += 1;
        let old = self.next.saturating_sub(REMEMBERED);
        self.claims = self.claims.split_off(&old);
        self.settled = self.settled.split_off(&old);
        Some(dissenting)
    }

    /// What a round was settled to be, as far as that is remembered.
    pub(super) fn settled(&self, round: u64) -> Option<&Claim> {
        self.settled.get(&round)
    }

    /// Two peers who contradict each other on the next round while nobody decides it.
    pub(super) fn stalemate(&self) -> Option<(usize, usize)> {
        let claims = self.claims.get(&self.next)?;
        let mut sides = claims.values().filter_map(BTreeSet::first);
        sides.next().copied().zip(sides.next().copied())
    }

    /// How many say something of the next round.
    pub(super) fn votes(&self) -> usize {
        self.claims.get(&self.next).map_or(0, |claims| claims.values().map(BTreeSet::len).sum())
    }

    /// What a peer said is not counted any more.
    pub(super) fn forget(&mut self, peer: usize) {
        for claims in self.claims.values_mut() {
            claims.values_mut().for_each(|peers| {
                peers.remove(&peer);
            });
            claims.retain(|_, peers| !peers.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(round: u64, content: u8) -> EventHead {
        EventHead { round, hash: EventHash([content; 32]), state_hash: None }
    }

    #[test]
    fn one_is_enough_where_one_has_to_agree() {
        let mut merge = Merge::new(5, 1);
        assert_eq!(merge.settle(), None);
        assert_eq!(merge.claim(0, &head(6, 1)), Verdict::Noted);
        assert_eq!(merge.settle(), None, "round 5 is not known");
        merge.claim(0, &head(5, 2));
        assert_eq!(merge.settle(), Some(vec![]));
        assert_eq!(merge.settle(), Some(vec![]));
        assert_eq!(merge.settled(5), Some(&(EventHash([2; 32]), None)));
        assert_eq!(merge.settled(6), Some(&(EventHash([1; 32]), None)));
        assert_eq!(merge.settle(), None);
        assert_eq!(merge.next(), 7);
    }

    #[test]
    fn as_many_as_have_to_agree_are_waited_for() {
        let mut merge = Merge::new(0, 2);
        merge.claim(0, &head(0, 1));
        merge.claim(0, &head(0, 1));
        assert_eq!(merge.settle(), None, "one peer is one, however often he says it");
        merge.claim(1, &head(0, 9));
        assert_eq!((merge.settle(), merge.stalemate(), merge.votes()), (None, Some((0, 1)), 2));
        merge.claim(2, &head(0, 1));
        assert_eq!(merge.settle(), Some(vec![1]), "who is outvoted is named");
        assert_eq!(merge.settled(0), Some(&(EventHash([1; 32]), None)));
    }

    #[test]
    fn who_contradicts_later_is_outvoted_or_nobody_can_tell() {
        let mut merge = Merge::new(0, 1);
        merge.claim(0, &head(0, 1));
        merge.settle().unwrap();
        assert_eq!(merge.claim(1, &head(0, 2)), Verdict::Disputed { other: 0 });
        assert_eq!(merge.claim(2, &head(0, 1)), Verdict::Noted);
        assert_eq!(merge.claim(1, &head(0, 2)), Verdict::Outvoted);
        merge.claim(3, &head(0, 2));
        assert_eq!(merge.claim(4, &head(0, 2)), Verdict::Overturned);
        merge.forget(3);
        merge.forget(4);
        assert_eq!(merge.claim(1, &head(0, 2)), Verdict::Outvoted);
    }

    #[test]
    fn what_is_far_ahead_waits() {
        let mut merge = Merge::new(10, 1);
        assert_eq!(merge.claim(0, &head(10 + AHEAD_MAX, 1)), Verdict::Later);
        assert_eq!(merge.claim(0, &head(9 + AHEAD_MAX, 1)), Verdict::Noted);
        assert_eq!(merge.claim(0, &head(0, 1)), Verdict::Noted, "long ago, and harmless");
    }

    proptest! {
        /// With more honest peers than liars, and as many to agree as there are liars and one, only the truth is settled.
        #[test]
        fn liars_in_the_minority_change_nothing(
            order in prop::collection::vec((0usize..5, 0u64..12, any::<u8>()), 1..400),
        ) {
            let mut merge = Merge::new(0, 3);
            for (peer, round, lie) in order {
                // Peers 3 and 4 lie as they like.
                let content = if peer < 3 { 200 + (round % 50) as u8 } else { lie % 4 };
                let verdict = merge.claim(peer, &head(round, content));
                prop_assert!(peer >= 3 || verdict == Verdict::Noted, "{:?}", verdict);
                while let Some(dissenting) = merge.settle() {
                    let round = merge.next() - 1;
                    let truth = (EventHash([200 + (round % 50) as u8; 32]), None);
                    prop_assert_eq!(merge.settled(round), Some(&truth));
                    prop_assert!(dissenting.iter().all(|peer| *peer >= 3));
                }
            }
        }
    }
}
