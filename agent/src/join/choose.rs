//! Which snapshot is taken: pure, from what peers offer.
//!
//! Peers take snapshots by themselves, so that one state may be several artifacts (files are dated differently): what
//! peers agree on is a round and its state hash, or, where no hash is known, the artifact.

use std::collections::{BTreeMap, BTreeSet};

use cairn_store::{ArtifactId, StateHash};

/// One snapshot of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) round: u64,
    pub(super) artifact: ArtifactId,
    pub(super) state_hash: Option<StateHash>,
}

/// What one peer offers.
#[derive(Debug, Clone)]
pub(super) struct Offers {
    /// Which peer, by its place in the list.
    pub(super) peer: usize,
    pub(super) snapshots: Vec<Offer>,
    /// The first round of which it has the event, and the one after the last; none if it has no such stream.
    pub(super) events: Option<(u64, u64)>,
}

/// What is asked of a snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes<'a> {
    /// How many peers have to agree on it.
    pub(super) agree: usize,
    /// The first round that will do.
    pub(super) round_min: u64,
    /// What was tried and is not tried again.
    pub(super) excluded: &'a BTreeSet<ArtifactId>,
}

/// What is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) round: u64,
    pub(super) artifact: ArtifactId,
    pub(super) state_hash: Option<StateHash>,
    /// Who has this very artifact.
    pub(super) holders: Vec<usize>,
    /// Who says that the state is this one at this round.
    pub(super) agreeing: Vec<usize>,
    /// Who says otherwise, outvoted.
    pub(super) dissenting: Vec<usize>,
}

/// Why nothing is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NoChoice {
    /// For people.
    pub(super) reason: String,
    /// The newest round on which as many say one thing as another, and who: one of each side.
    pub(super) disagree: Option<(u64, usize, usize)>,
}

/// What a state is to those who compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Hash(StateHash),
    Artifact(ArtifactId),
}

/// Who says what of a round.
type States<'a> = BTreeMap<State, Vec<(usize, &'a Offer)>>;

/// The newest snapshot that will do.
pub(super) fn choose(offers: &[Offers], wishes: &Wishes<'_>) -> Result<Choice, NoChoice> {
    let mut rounds: BTreeMap<u64, States<'_>> = BTreeMap::new();
    for (peer, offer) in offers.iter().flat_map(|of| of.snapshots.iter().map(|offer| (of.peer, offer))) {
        let state = offer.state_hash.clone().map_or(State::Artifact(offer.artifact), State::Hash);
        rounds.entry(offer.round).or_default().entry(state).or_default().push((peer, offer));
    }
    let mut no = NoChoice::default();
    if rounds.is_empty() {
        no.reason = "no peer offers a snapshot".to_owned();
    }
    for (round, states) in rounds.iter().rev() {
        match of_round(offers, wishes, *round, states) {
            Ok(choice) => return Ok(choice),
            Err(refused) => {
                no.disagree = no.disagree.or(refused.disagree);
                // The newest is what people look for.
                if no.reason.is_empty() {
                    no.reason = refused.reason;
                }
            }
        }
    }
    Err(no)
}

fn of_round(
    offers: &[Offers],
    wishes: &Wishes<'_>,
    round: u64,
    states: &States<'_>,
) -> Result<Choice, NoChoice> {
    let no = |reason: String| Err(NoChoice { reason, disagree: None });
    if round < wishes.round_min {
        return no(format!(
            "the newest snapshot is of round {round}, and events are known from round {} on",
            wishes.round_min + 1
        ));
    }
    let mut sides: Vec<_> = states.iter().collect();
    sides.sort_by_key(|(_, side)| std::cmp::Reverse(side.len()));
    let Some((state, side)) = sides.first() else { return no("nobody offers it".to_owned()) };
    if let Some((_, other)) = sides.get(1)
        && other.len() == side.len()
    {
        let disagree = side.first().zip(other.first()).map(|((a, _), (b, _))| (round, *a, *b));
        return Err(NoChoice { reason: format!("peers disagree on the state at round {round}"), disagree });
    }
    if side.len() < wishes.agree {
        return no(format!(
            "of round {round} {} offer the same state, and {} have to agree",
            side.len(),
            wishes.agree
        ));
    }
    let mut events = offers.iter().filter_map(|of| of.events).peekable();
    if events.peek().is_some() && !events.any(|(first, _)| first <= round + 1) {
        return no(format!("the events after round {round} are not kept any more"));
    }
    // Of several artifacts the one that most have.
    let mut holders: BTreeMap<ArtifactId, Vec<usize>> = BTreeMap::new();
    for (peer, offer) in side.iter().filter(|(_, offer)| !wishes.excluded.contains(&offer.artifact)) {
        holders.entry(offer.artifact).or_default().push(*peer);
    }
    let Some((artifact, holders)) =
        holders.into_iter().max_by_key(|(id, holders)| (holders.len(), std::cmp::Reverse(*id)))
    else {
        return no(format!("the snapshot of round {round} was tried already"));
    };
    let state_hash = if let State::Hash(hash) = state { Some(hash.clone()) } else { None };
    let agreeing = side.iter().map(|(peer, _)| *peer).collect();
    let dissenting = sides[1..].iter().flat_map(|(_, side)| side.iter().map(|(peer, _)| *peer)).collect();
    Ok(Choice { round, artifact, state_hash, holders, agreeing, dissenting })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> Option<StateHash> {
        Some(StateHash::new(&[byte]).unwrap())
    }

    fn offer(round: u64, artifact: u8, state: u8) -> Offer {
        Offer { round, artifact: ArtifactId([artifact; 32]), state_hash: hash(state) }
    }

    fn offers(all: &[&[Offer]]) -> Vec<Offers> {
        let of = |(peer, snapshots): (usize, &&[Offer])| Offers {
            peer,
            snapshots: snapshots.to_vec(),
            events: Some((100, 200)),
        };
        all.iter().enumerate().map(of).collect()
    }

    fn wishes(agree: usize, excluded: &BTreeSet<ArtifactId>) -> Wishes<'_> {
        Wishes { agree, round_min: 0, excluded }
    }

    #[test]
    fn the_newest_that_enough_agree_on_is_taken() {
        let none = BTreeSet::new();
        let all = offers(&[
            &[offer(150, 1, 1), offer(160, 2, 2)],
            &[offer(150, 3, 1), offer(170, 4, 3)],
            &[offer(150, 1, 1), offer(160, 2, 2)],
        ]);
        let choice = choose(&all, &wishes(1, &none)).unwrap();
        assert_eq!((choice.round, choice.holders), (170, vec![1]));
        let choice = choose(&all, &wishes(2, &none)).unwrap();
        assert_eq!((choice.round, choice.holders), (160, vec![0, 2]));
        // One state in two artifacts: the one that more have.
        let choice = choose(&all, &wishes(3, &none)).unwrap();
        assert_eq!((choice.round, choice.artifact), (150, ArtifactId([1; 32])));
        assert_eq!((choice.holders, choice.agreeing), (vec![0, 2], vec![0, 1, 2]));
        let refused = choose(&all, &wishes(4, &none)).unwrap_err();
        assert!(refused.reason.contains("4 have to agree"), "{refused:?}");
        let late = Wishes { round_min: 171, ..wishes(1, &none) };
        assert!(choose(&all, &late).unwrap_err().reason.contains("round 170"));
    }

    #[test]
    fn a_tie_is_a_disagreement_and_a_minority_is_outvoted() {
        let none = BTreeSet::new();
        let tie = offers(&[&[offer(150, 1, 1)], &[offer(150, 2, 2)]]);
        assert_eq!(choose(&tie, &wishes(1, &none)).unwrap_err().disagree, Some((150, 0, 1)));
        // An older one on which nobody disagrees is taken rather than none.
        let older = offers(&[&[offer(150, 1, 1), offer(140, 5, 5)], &[offer(150, 2, 2)]]);
        assert_eq!(choose(&older, &wishes(1, &none)).unwrap().round, 140);
        let outvoted = offers(&[&[offer(150, 1, 1)], &[offer(150, 2, 2)], &[offer(150, 1, 1)]]);
        let choice = choose(&outvoted, &wishes(1, &none)).unwrap();
        assert_eq!((choice.agreeing, choice.dissenting), (vec![0, 2], vec![1]));
    }

    #[test]
    fn what_was_tried_or_has_no_events_after_it_is_not_taken() {
        let tried = BTreeSet::from([ArtifactId([2; 32])]);
        let all = offers(&[&[offer(150, 1, 1), offer(160, 2, 2), offer(98, 3, 3)]]);
        assert_eq!(choose(&all, &wishes(1, &tried)).unwrap().round, 150);
        let tried = BTreeSet::from([ArtifactId([2; 32]), ArtifactId([1; 32])]);
        // The first event that is kept is that of round 100: the snapshot of round 98 leads to nothing.
        choose(&all, &wishes(1, &tried)).unwrap_err();
        let mut without = all;
        without[0].events = None;
        assert_eq!(choose(&without, &wishes(1, &tried)).unwrap().round, 98, "there are no events at all");
        assert!(choose(&[], &wishes(1, &tried)).unwrap_err().reason.contains("no peer"));
    }
}
