//! 5: what a store takes, everything in its folder, beside what restic and borg take for the same sequence of adds.

use std::path::PathBuf;

use super::Bench;
use crate::corpus::{self, Corpus, Input};
use crate::error::{Error, Result};
use crate::harness::{Limit, Outcome, Role, Row, Score, Series, Unit};
use crate::tools::{Label, Repo, Tool};

/// The peers that cairn must stay below, both.
const RIVALS: [&str; 2] = ["restic", "borg"];

pub(super) fn row(bench: &Bench, input: &Input) -> Row {
    let mut scores: Vec<Score> = Vec::new();
    // Peers take part even when they are left out of what is about time: without them there is no bar.
    for tool in &bench.tools {
        let repo = bench.repo(tool.as_ref());
        let outcome = match stored_bytes(bench, tool.as_ref(), &repo, input) {
            Ok(bytes) => Outcome::Measured(Series::of_bytes(bytes)),
            Err(error) => Outcome::from(&error),
        };
        scores.push(Score::new(tool.name(), tool.role(), outcome));
        // The work folder is removed in any case.
        let _ = repo.remove();
    }
    scores.insert(0, smaller_rival(&scores));
    let limit = Limit::RatioBelow(1.0);
    Row { bar: 5, what: "stored bytes", corpus: input.corpus.name(), unit: Unit::Bytes, limit, scores }
}

fn stored_bytes(bench: &Bench, tool: &dyn Tool, repo: &Repo, input: &Input) -> Result<u64> {
    tool.create(repo)?;
    let add = |tree: &PathBuf, version: u32| tool.add(repo, tree, Label::first(version)).run();
    match input.corpus {
        Corpus::UvAll => {
            for (release, version) in corpus::uv_releases(input)?.iter().zip(1..) {
                add(release, version)?;
            }
        }
        Corpus::State => {
            let live = bench.scratch.join("live");
            for (state, version) in corpus::states(&bench.options)?.iter().zip(1..) {
                corpus::put_state(state, &live)?;
                add(&live, version)?;
            }
            crate::harness::remove(&live)?;
        }
        Corpus::UvOne | Corpus::Esbuild | Corpus::SmallFiles => drop(add(&input.tree, 1)?),
    }
    repo.stored_bytes()
}

/// To be below the smaller one is to be below both; where one is not installed, the other alone is the reference.
fn smaller_rival(scores: &[Score]) -> Score {
    let rivals = scores.iter().filter(|score| RIVALS.contains(&score.name.as_str()));
    let measured = rivals.filter_map(|score| Some((score, score.outcome.series()?.median())));
    match measured.min_by(|(_, one), (_, other)| one.total_cmp(other)) {
        Some((score, _)) => Score::new(score.name.as_str(), Role::Reference, score.outcome.clone()),
        None => {
            let error = Error::NotInstalled { program: RIVALS.join(" or ") };
            Score::new(RIVALS.join(" or "), Role::Reference, Outcome::from(&error))
        }
    }
}
