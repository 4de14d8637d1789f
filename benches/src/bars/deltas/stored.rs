//! 22: what a store of several releases takes once older ones are told in terms of newer ones, beside restic's repository of
//! the same; what that takes; and whether adding, and reading all of it, is as fast as before.

use std::path::PathBuf;

use crate::bars::exchange::nodes::{NAME, Nodes, last_object};
use crate::bars::{Bench, line_up};
use crate::corpus::stream::Stream;
use crate::error::{Error, Result};
use crate::harness::{
    Cost, Entrant, Limit, Outcome, Role, Row, Score, Series, Unit, empty_folder, take_turns,
};
use crate::tools::{Label, Repo, Restic, Tool as _};

const SIZE_LIMIT: f64 = 0.4;
/// Unchanged: what turns of the same differ by.
const INGEST_LIMIT: f64 = 1.1;
const CORPUS: &str = "uv-all";

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "optimised")?;
    let stream = Stream::named(bench.options(), "uv")?;
    let releases = stream.releases();
    let row = |what, unit, limit, scores| Row { bar: 22, what, corpus: CORPUS, unit, limit, scores };
    let of_cairn = |outcome| vec![Score::new("cairn", Role::Candidate, outcome)];
    let plain = nodes.with_releases("plain", releases)?;
    let optimised = nodes.with_releases("optimised", releases)?;
    let cost = nodes.cairn.optimise(&optimised).run()?;
    // What it has left behind goes.
    nodes.cairn.collect(&optimised).run()?;
    let mut rows = Vec::new();
    for (name, reference) in restic(&nodes, releases) {
        let bytes = |repo: &Repo| Ok(Outcome::Measured(Series::of_bytes(repo.stored_bytes()?)));
        let scores = vec![
            Score::new(name, Role::Reference, reference),
            Score::new("cairn", Role::Candidate, bytes(&optimised)?),
            Score::new("cairn, not optimised", Role::Peer, bytes(&plain)?),
        ];
        let limit = Limit::RatioAtMost(SIZE_LIMIT);
        rows.push(row("stored bytes after `optimise`", Unit::Bytes, limit, scores));
    }
    let time = Outcome::Measured(Series::walls(vec![cost]));
    rows.push(row("time of `optimise`", Unit::Seconds, Limit::None, of_cairn(time)));
    let memory = Outcome::Measured(Series::of_bytes(cost.peak_resident_bytes));
    rows.push(row("peak memory of `optimise`", Unit::Bytes, Limit::None, of_cairn(memory)));
    let scores = reading(bench, &nodes, releases.len() as u64, &plain, &optimised);
    rows.push(row("`export` of every release", Unit::Seconds, Limit::None, scores));
    plain.remove()?;
    optimised.remove()?;
    let scores = adding(bench, &nodes, releases)?;
    rows.push(row("adding the next release", Unit::Seconds, Limit::RatioAtMost(INGEST_LIMIT), scores));
    nodes.close()?;
    Ok(rows)
}

/// Every release out of both stores.
fn reading(bench: &Bench, nodes: &Nodes<'_>, releases: u64, plain: &Repo, optimised: &Repo) -> Vec<Score> {
    let turn = |repo: &Repo| {
        let mut sum = Cost { wall_s: 0.0, cpu_s: 0.0, peak_resident_bytes: 0 };
        for version in 1..=releases {
            let into = nodes.join("out");
            empty_folder(&into)?;
            let cost = nodes.cairn.export(repo, &format!("{NAME}@{version}"), &into.join("tree")).run()?;
            sum.wall_s += cost.wall_s;
            sum.cpu_s += cost.cpu_s;
            sum.peak_resident_bytes = sum.peak_resident_bytes.max(cost.peak_resident_bytes);
        }
        Ok(sum)
    };
    let entrants = line_up(
        Entrant::new("cairn, not optimised", Role::Reference, || turn(plain)),
        std::iter::once(Entrant::new("cairn", Role::Candidate, || turn(optimised))),
    );
    take_turns(entrants, bench.options().repetitions, Series::walls)
}

/// The last release into a store of those before, as they were added and optimised.
fn adding(bench: &Bench, nodes: &Nodes<'_>, releases: &[PathBuf]) -> Result<Vec<Score>> {
    let none = || Error::Unsuitable("no release is the last one".into());
    let (last, before) = releases.split_last().ok_or_else(none)?;
    let (plain, optimised) =
        (nodes.with_releases("before", before)?, nodes.with_releases("before-optimised", before)?);
    nodes.cairn.optimise(&optimised).run()?;
    nodes.cairn.collect(&optimised).run()?;
    plain.save()?;
    optimised.save()?;
    let turn = |repo: &Repo| {
        repo.reset()?;
        nodes.cairn.add_version(repo, last, NAME, 100).run()
    };
    let entrants = line_up(
        Entrant::new("cairn, not optimised", Role::Reference, || turn(&plain)),
        std::iter::once(Entrant::new("cairn", Role::Candidate, || turn(&optimised))),
    );
    Ok(take_turns(entrants, bench.options().repetitions, Series::walls))
}

/// All that is in restic's folder, and what it says that its data takes.
fn restic(nodes: &Nodes<'_>, releases: &[PathBuf]) -> [(&'static str, Outcome); 2] {
    let measured = || {
        let repo = nodes.repo("restic");
        Restic.create(&repo)?;
        for (release, version) in releases.iter().zip(1..) {
            Restic.add(&repo, release, Label::first(version)).run()?;
        }
        let folder = repo.stored_bytes()?;
        let says = last_object(&Restic::stats(&repo))?;
        repo.remove()?;
        Ok((folder, says["total_size"].as_u64().unwrap_or(folder)))
    };
    let both: Result<(u64, u64)> = measured();
    let outcome = |of: fn(&(u64, u64)) -> u64| match &both {
        Ok(both) => Outcome::Measured(Series::of_bytes(of(both))),
        Err(error) => Outcome::from(error),
    };
    [("restic", outcome(|both| both.0)), ("restic, its data alone", outcome(|both| both.1))]
}
