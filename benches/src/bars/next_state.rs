//! 2: the next state of a database, about one row in a hundred changed, over the state before it: how long adding it
//! takes, and how much the store grows.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::{Bench, plain, ready, seconds};
use crate::corpus::{self, Corpus};
use crate::error::{Error, Result};
use crate::harness::{Cost, Entrant, Limit, Outcome, Role, Row, Score, Series, Unit, take_turns};
use crate::tools::{Label, Repo, Tool, reference};

const TIME_LIMIT: f64 = 4.0;
const GROWTH_LIMIT: f64 = 0.3;
/// Whose growth the growth is compared with.
const GROWTH_REFERENCE: &str = "restic";
const TIME: &str = "next state";

pub(super) fn rows(bench: &Bench) -> Vec<Row> {
    measure(bench).unwrap_or_else(|error| {
        let failed = Score::new("cairn", Role::Candidate, Outcome::Failed(error.chain()));
        vec![seconds(2, TIME, Corpus::State, TIME_LIMIT, vec![failed])]
    })
}

fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let states = corpus::states(&bench.options)?;
    let [first, second, ..] = states.as_slice() else {
        return Err(Error::Usage("the corpus has fewer than two states".into()));
    };
    let live = bench.scratch.join("live");
    let tools: Vec<&dyn Tool> = bench.entrants().collect();
    let repos: Vec<Repo> = tools.iter().map(|tool| bench.repo(*tool)).collect();
    let growths: Vec<Cell<Option<u64>>> = tools.iter().map(|_| Cell::new(None)).collect();

    corpus::put_state(first, &live)?;
    let filled: Vec<Result<()>> =
        tools.iter().zip(&repos).map(|(tool, repo)| fill(*tool, repo, &live)).collect();
    corpus::put_state(second, &live)?;
    let b3sum = reference::b3sum(&live, &[PathBuf::from("state.sqlite")]);
    let mut entrants = vec![plain(reference::B3SUM, b3sum)];
    for (((tool, repo), growth), filled) in tools.iter().zip(&repos).zip(&growths).zip(filled) {
        entrants.push(enter(*tool, repo, &live, growth, filled));
    }
    let times = take_turns(entrants, bench.options.repetitions, Series::walls);
    for repo in &repos {
        repo.remove()?;
        repo.forget_saved()?;
    }
    crate::harness::remove(&live)?;
    let growths = growth_scores(&times, &growths);
    let limit = Limit::RatioAtMost(GROWTH_LIMIT);
    Ok(vec![
        seconds(2, TIME, Corpus::State, TIME_LIMIT, times),
        Row {
            bar: 2,
            what: "next state, growth",
            corpus: Corpus::State.name(),
            unit: Unit::Bytes,
            limit,
            scores: growths,
        },
    ])
}

/// Puts the first state into a store, and keeps the store for every turn to start from.
fn fill(tool: &dyn Tool, repo: &Repo, live: &Path) -> Result<()> {
    tool.create(repo)?;
    tool.add(repo, live, Label::first(0)).run()?;
    repo.save()
}

fn enter<'a>(
    tool: &'a dyn Tool,
    repo: &'a Repo,
    live: &'a Path,
    growth: &'a Cell<Option<u64>>,
    filled: Result<()>,
) -> Entrant<'a> {
    ready(tool, filled, move || -> Result<Cost> {
        repo.reset()?;
        let before = repo.stored_bytes()?;
        let cost = tool.add(repo, live, Label::first(1)).run()?;
        growth.set(Some(repo.stored_bytes()?.saturating_sub(before)));
        Ok(cost)
    })
}

/// `times` has the reference and then the tools.
fn growth_scores(times: &[Score], growths: &[Cell<Option<u64>>]) -> Vec<Score> {
    let mut scores = Vec::new();
    for (time, growth) in times.iter().skip(1).zip(growths) {
        let outcome = match (&time.outcome, growth.get()) {
            (Outcome::Measured(_), Some(bytes)) => Outcome::Measured(Series::of_bytes(bytes)),
            (other, _) => other.clone(),
        };
        if time.name == GROWTH_REFERENCE {
            scores.insert(
                0,
                Score::new(format!("{GROWTH_REFERENCE}'s growth"), Role::Reference, outcome.clone()),
            );
        }
        scores.push(Score::new(time.name.as_str(), time.role, outcome));
    }
    scores
}
