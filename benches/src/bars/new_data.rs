//! 1: new data into an empty store, beside compressing the same bytes in one file.

use super::{Bench, line_up, plain, seconds};
use crate::corpus::{Corpus, Input};
use crate::harness::{Entrant, Role, Row, Series, take_turns};
use crate::tools::{Label, Tool, reference};

const LIMIT: f64 = 1.0;
const LIMIT_SMALL_FILES: f64 = 1.2;

pub(super) fn row(bench: &Bench, input: &Input) -> Row {
    let joined = bench.scratch.join("joined");
    let zstd = match input.join_into(&joined) {
        Ok(()) => plain(reference::ZSTD, reference::zstd(&joined, &bench.scratch.join("joined.zst"))),
        Err(error) => Entrant::out(reference::ZSTD, Role::Reference, &error),
    };
    let entrants = line_up(zstd, bench.entrants().map(|tool| entrant(bench, tool, input)));
    let scores = take_turns(entrants, bench.options.repetitions, Series::walls);
    // They were made in this folder, which is removed in any case: this only makes room earlier.
    let _ = std::fs::remove_file(&joined);
    let _ = std::fs::remove_file(bench.scratch.join("joined.zst"));
    let limit = if input.corpus == Corpus::SmallFiles { LIMIT_SMALL_FILES } else { LIMIT };
    seconds(1, "new data", input.corpus, limit, scores)
}

fn entrant<'a>(bench: &Bench, tool: &'a dyn Tool, input: &'a Input) -> Entrant<'a> {
    let repo = bench.repo(tool);
    let turn = move || {
        tool.create(&repo)?;
        let cost = tool.add(&repo, &input.tree, Label::first(1)).run();
        repo.remove()?;
        cost
    };
    Entrant::new(tool.name(), tool.role(), turn)
}
