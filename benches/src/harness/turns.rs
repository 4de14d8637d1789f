//! Entrants take turns, A B C A B C, so that what the machine does meanwhile falls on all of them alike.

use std::time::{Duration, Instant};

use super::command::Cost;
use super::report::{Role, Score};
use super::sample::{Outcome, Series};
use crate::error::{Error, Result};

/// A peer whose turn takes longer than this takes no more turns: what it has is its figure, and nobody waits for more.
const PEER_TURN_MAX: Duration = Duration::from_secs(8);

/// Prepares (not measured), runs one measured process, cleans up (not measured), and says what the process cost.
type Turn<'a> = Box<dyn FnMut() -> Result<Cost> + 'a>;

pub(crate) struct Entrant<'a> {
    name: String,
    role: Role,
    turn: Turn<'a>,
    costs: Vec<Cost>,
    out: Option<Outcome>,
    slow: bool,
}

impl<'a> Entrant<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        role: Role,
        turn: impl FnMut() -> Result<Cost> + 'a,
    ) -> Entrant<'a> {
        Entrant { name: name.into(), role, turn: Box::new(turn), costs: Vec::new(), out: None, slow: false }
    }

    /// One that cannot take part; it keeps its place in the table, with the reason.
    pub(crate) fn out(name: impl Into<String>, role: Role, error: &Error) -> Entrant<'a> {
        let mut entrant =
            Entrant::new(name, role, || Err(Error::Usage("an entrant that is out has no turn".into())));
        entrant.out = Some(Outcome::from(error));
        entrant
    }
}

/// Lets each take `rounds` turns. Who fails is out, with the reason; the others go on. `judged` makes the values that
/// are compared out of the runs' costs.
pub(crate) fn take_turns(
    mut entrants: Vec<Entrant<'_>>,
    rounds: usize,
    judged: impl Fn(Vec<Cost>) -> Series,
) -> Vec<Score> {
    for _ in 0..rounds {
        for entrant in entrants.iter_mut().filter(|entrant| entrant.out.is_none() && !entrant.slow) {
            let begun = Instant::now();
            match (entrant.turn)() {
                Ok(cost) => entrant.costs.push(cost),
                Err(error) => entrant.out = Some(Outcome::from(&error)),
            }
            entrant.slow = entrant.role == Role::Peer && begun.elapsed() > PEER_TURN_MAX;
        }
    }
    let score = |entrant: Entrant<'_>| Score {
        name: entrant.name,
        role: entrant.role,
        outcome: entrant.out.unwrap_or_else(|| Outcome::Measured(judged(entrant.costs))),
    };
    entrants.into_iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const COST: Cost = Cost { wall_s: 1.0, cpu_s: 1.0, peak_resident_bytes: 1 };

    #[test]
    fn turns_are_interleaved_and_a_failure_ends_one_entrant_alone() {
        let order = RefCell::new(String::new());
        let turn = |letter: char, failing_turn: usize| {
            let order = &order;
            let mut turns = 0;
            move || {
                turns += 1;
                order.borrow_mut().push(letter);
                if turns == failing_turn { Err(Error::Usage("broken".into())) } else { Ok(COST) }
            }
        };
        let entrants = vec![
            Entrant::new("a", Role::Candidate, turn('a', 0)),
            Entrant::new("b", Role::Reference, turn('b', 2)),
            Entrant::out("c", Role::Peer, &Error::NotInstalled { program: "c".into() }),
            Entrant::new("d", Role::Peer, turn('d', 0)),
        ];
        let scores = take_turns(entrants, 3, Series::walls);
        assert_eq!(*order.borrow(), "abdabdad");
        assert_eq!(scores[0].outcome.series().map(Series::len), Some(3));
        assert!(matches!(&scores[1].outcome, Outcome::Failed(why) if why == "broken"));
        assert!(matches!(&scores[2].outcome, Outcome::Absent(why) if why == "c is not installed"));
        assert_eq!(scores[3].outcome.series().map(Series::len), Some(3));
    }
}
