//! 10: the flip: whether anybody ever sees what it must not show, and how long it takes, by itself and as a whole command.
//!
//! Readers are four processes, flips whole `cairn switch` commands against the daemon, each with its entry in the journal
//! made durable. How long look-ups are held back by a flip only the daemon knows: its `status` says it.

mod packages;
mod stress;
mod told;

use std::path::Path;

use super::Bench;
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::harness::{Cost, Limit, Line, Outcome, Role, Row, Score, Series, Unit, to_f64};
use crate::sites::MountedCairn;
use crate::tools::{Repo, Tool as _};
use packages::PACKAGE;
use stress::{Extent, Stressed, stress};

/// Generations that take turns.
const GENERATIONS: u64 = 32;
const COMMAND_LIMIT_S: f64 = 5e-3;
/// "The same": within what two runs of the same differ by.
const MANY_PACKAGES_LIMIT: f64 = 1.15;
const FEW: Option<&str> = Some("few");
const MANY: Option<&str> = Some("many");
/// Commands of each kind that are timed, for each repetition.
const COMMANDS: usize = 15;

pub(super) fn rows(bench: &Bench, ground: &Ground) -> Result<Vec<Row>> {
    let repo = fill(bench, ground)?;
    let mounted = MountedCairn::start(ground, &repo, &[("few", FEW), ("many", MANY)])?;
    let mut rows = Vec::new();
    rows.push(by_size(bench, "`cairn switch`, many packages", |profile, generation| {
        ground.cairn().switch(&repo, profile, generation).run()
    })?);
    rows.push(by_size(bench, "`cairn use`, many packages", |profile, version| {
        ground.cairn().use_packages(&repo, profile, [format!("{PACKAGE}@{version}")]).run()
    })?);
    rows.extend(commands(bench, ground, &repo)?);
    rows.extend(told::rows(ground, &repo, mounted.dir(0), told::ALONE)?);
    let scale = bench.options.scale;
    let extent = Extent { generations: GENERATIONS, flips: scale.flips, lookups: scale.lookups };
    let switch = |to| ground.cairn().switch(&repo, FEW, to).run().map(drop);
    switch(1)?;
    let stressed = stress(&bench.probe_path()?, mounted.dir(0), &ground.join("counters"), extent, switch)?;
    rows.extend(seen(bench, &stressed));
    rows.extend(told::rows(ground, &repo, mounted.dir(0), told::BESIDE_READERS)?);
    mounted.stop()?;
    Ok(rows)
}

/// A store with a profile of one package, and one of many, each with generations in which the one that is watched has
/// another version.
fn fill(bench: &Bench, ground: &Ground) -> Result<Repo> {
    let repo = ground.repo("flips");
    let cairn = ground.cairn();
    cairn.create(&repo)?;
    let tree = ground.join("package");
    let mut others = Vec::new();
    for number in 1..bench.options.scale.packages {
        let name = format!("package-{number:04}");
        packages::small(&tree, &name)?;
        cairn.add_named(&repo, &tree, &name).run()?;
        others.push(format!("{name}@1"));
    }
    for version in 1..=GENERATIONS {
        packages::version(&tree, version)?;
        cairn.add_version(&repo, &tree, PACKAGE, version).run()?;
        let spec = format!("{PACKAGE}@{version}");
        cairn.use_packages(&repo, FEW, [spec.clone()]).run()?;
        cairn.use_packages(&repo, MANY, others.drain(..).chain([spec])).run()?;
    }
    crate::harness::remove(&tree)?;
    Ok(repo)
}

/// Changing the profile of many packages, beside changing that of one; one of so many generations or versions is next.
fn by_size(
    bench: &Bench,
    what: &'static str,
    change: impl Fn(Option<&str>, u64) -> Result<Cost>,
) -> Result<Row> {
    let turns = bench.options.repetitions * COMMANDS;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for turn in 0..turns as u64 {
        let next = turn % GENERATIONS + 1;
        few.push(change(FEW, next)?);
        many.push(change(MANY, next)?);
    }
    let score = |name, role, costs| Score::new(name, role, Outcome::Measured(Series::walls(costs)));
    Ok(Row {
        bar: 10,
        what,
        corpus: packages_name(bench),
        unit: Unit::Seconds,
        limit: Limit::RatioAtMost(MANY_PACKAGES_LIMIT),
        scores: vec![score("one package", Role::Reference, few), score("cairn", Role::Candidate, many)],
    })
}

/// What readers saw while flips went on.
fn seen(bench: &Bench, stressed: &Stressed) -> Vec<Row> {
    let tally = &stressed.tally;
    let scale = bench.options.scale;
    let count = |what, limit, value: u64| row(what, Unit::Count, limit, Ok(vec![to_f64(value)]));
    let none = Limit::AtMost(0.0);
    let mut rows = vec![
        count("flips", Limit::AtLeast(to_f64(scale.flips)), stressed.flips),
        count("look-ups meanwhile", Limit::AtLeast(to_f64(scale.lookups)), tally.lookups),
        count("programs run meanwhile", Limit::None, tally.execs),
        count("stale look-ups", none, tally.stale),
        count("backwards", none, tally.backwards),
        count("torn files", none, tally.torn),
        count("changes in open files", none, tally.changed),
        count("look-ups that cannot be judged", none, tally.undecided),
    ];
    let failed = match &tally.first_failure {
        None => Ok(vec![0.0]),
        Some(first) => Err(Error::Wrong {
            program: "cairn".into(),
            what: format!("{} look-ups failed, the first: {first}", tally.failed),
        }),
    };
    rows.push(row("failed look-ups", Unit::Count, none, failed));
    rows.push(row(
        "`cairn switch` beside the readers",
        Unit::Seconds,
        Limit::None,
        Ok(stressed.flip_s.clone()),
    ));
    rows
}

/// A new generation by `use`, with nothing else going on, beside a write and an fsync of a small file.
fn commands(bench: &Bench, ground: &Ground, repo: &Repo) -> Result<Vec<Row>> {
    let turns = bench.options.repetitions * COMMANDS;
    let (mut synced, mut used) = (Vec::new(), Vec::new());
    for turn in 0..turns as u64 {
        synced.push(sync_once(&ground.join("synced"))?.wall_s);
        let spec = format!("{PACKAGE}@{}", turn % GENERATIONS + 1);
        used.push(ground.cairn().use_packages(repo, FEW, [spec]).run()?.wall_s);
    }
    let slowest = percentile(&used, 99);
    Ok(vec![
        row("`cairn use`, median", Unit::Seconds, Limit::AtMost(COMMAND_LIMIT_S), Ok(used)),
        row("`cairn use`, p99", Unit::Seconds, Limit::None, Ok(vec![slowest])),
        row("`dd conv=fsync` of 512 bytes", Unit::Seconds, Limit::None, Ok(synced)),
    ])
}

/// What a process with one durable write takes here.
fn sync_once(path: &Path) -> Result<Cost> {
    let mut to = std::ffi::OsString::from("of=");
    to.push(path);
    let dd = Line::new("dd").arg("if=/dev/zero").arg(to);
    dd.args(["bs=512", "count=1", "conv=fsync,notrunc", "status=none"]).run()
}

fn packages_name(bench: &Bench) -> &'static str {
    if bench.options.scale.quick { "10 packages" } else { "1,000 packages" }
}

fn row(what: &'static str, unit: Unit, limit: Limit, values: Result<Vec<f64>>) -> Row {
    let outcome = match values {
        Ok(values) => Outcome::Measured(Series::of_values(values)),
        Err(error) => Outcome::from(&error),
    };
    Row {
        bar: 10,
        what,
        corpus: "flips",
        unit,
        limit,
        scores: vec![Score::new("cairn", Role::Candidate, outcome)],
    }
}

/// The value that `percent` of all are not above.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let place = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(place).copied().unwrap_or(f64::NAN)
}
