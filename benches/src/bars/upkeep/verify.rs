//! 17: full verification, on both cores: as many plain bytes a second as `b3sum` hashes on them, times the part of them that is
//! left after compression: what compresses well has to be decompressed too.

use super::super::{Bench, line_up, plain, ready};
use crate::corpus::Corpus;
use crate::error::Result;
use crate::harness::{Entrant, Limit, Outcome, Role, Row, Score, Series, Unit, take_turns, to_f64};
use crate::tools::{Label, Tool as _, reference};

const LIMIT: f64 = 0.8;
const REFERENCE: &str = "`b3sum --num-threads 2` x stored ratio";

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let corpora = [Corpus::UvAll, Corpus::Esbuild, Corpus::State, Corpus::SmallFiles];
    corpora.into_iter().map(|corpus| row(bench, corpus)).collect()
}

fn row(bench: &Bench, corpus: Corpus) -> Result<Row> {
    let folder = bench.scratch.join("verified");
    let input = corpus.prepare(&bench.options, &folder)?;
    let repo = bench.repo(&bench.cairn);
    bench.cairn.create(&repo)?;
    bench.cairn.add(&repo, &input.tree, Label::first(1)).run()?;
    let packs = crate::harness::tree_bytes(&repo.store().join("packs"))?;
    let (bytes, ratio) = (to_f64(input.bytes), to_f64(packs) / to_f64(input.bytes));
    let verify = bench.cairn.verify(&repo);
    let entrants = line_up(
        plain(REFERENCE, reference::b3sum_on(2, &input.tree, &input.files)),
        std::iter::once::<Entrant<'_>>(ready(&bench.cairn, Ok(()), move || verify.run())),
    );
    let scores = take_turns(entrants, bench.options.repetitions, Series::rates(bytes));
    let scores = scores.into_iter().map(|score| scaled(score, ratio)).collect();
    repo.remove()?;
    crate::harness::remove(&folder)?;
    let limit = Limit::RatioAtLeast(LIMIT);
    Ok(Row { bar: 17, what: "full verify", corpus: corpus.name(), unit: Unit::BytesPerSecond, limit, scores })
}

/// The reference is held to the part that is stored.
fn scaled(score: Score, ratio: f64) -> Score {
    let Score { name, role, outcome } = score;
    let outcome = match outcome {
        Outcome::Measured(series) if role == Role::Reference => {
            Outcome::Measured(series.scaled(ratio.min(1.0)))
        }
        outcome => outcome,
    };
    Score { name, role, outcome }
}
