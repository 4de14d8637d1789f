//! 7: what it takes to start, list a store of many artifacts, and end.

use super::{Bench, line_up, plain, ready};
use crate::corpus::tiny_tree;
use crate::error::Result;
use crate::harness::{Limit, Row, Series, Unit, take_turns};
use crate::tools::{Repo, Tool as _, reference};

const LIMIT: f64 = 8.0;

pub(super) fn row(bench: &Bench) -> Row {
    let repo = bench.repo(&bench.cairn);
    let list = bench.cairn.list(&repo);
    let cairn = ready(&bench.cairn, fill(bench, &repo), move || list.run());
    let reference = plain(reference::GIT, reference::git_version());
    let turns = bench.options.repetitions * bench.options.scale.starts;
    let scores = take_turns(line_up(reference, std::iter::once(cairn)), turns, Series::walls);
    // The work folder is removed in any case.
    let _ = repo.remove();
    let limit = Limit::RatioAtMost(LIMIT);
    Row { bar: 7, what: "`ls`", corpus: "1,000 artifacts", unit: Unit::Seconds, limit, scores }
}

fn fill(bench: &Bench, repo: &Repo) -> Result<()> {
    bench.cairn.create(repo)?;
    let tree = bench.scratch.join("tiny");
    for number in 0..bench.options.scale.artifacts {
        tiny_tree(&tree, number)?;
        bench.cairn.add_named(repo, &tree, &format!("package-{number:04}")).run()?;
    }
    crate::harness::remove(&tree)
}
