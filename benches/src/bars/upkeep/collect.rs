//! 16: collecting a store of a million chunks, of which nearly a third is garbage: how long it takes to find out what is
//! needed, and what is left of the throughput of those who read through a mount meanwhile.
//!
//! The chunks are made through the library (`src/bin/index/fill.rs`): a command line cuts none as small, and a million of the
//! usual size are 16 GB. Fourteen artifacts overlap, and every other one is removed, so that packs are garbage in parts.

use std::path::PathBuf;

use super::super::Bench;
use crate::corpus;
use crate::error::{Error, Result};
use crate::ground::{Ground, drop_caches, measured_inside};
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Service, Unit, to_f64, walk};
use crate::sites::MountedCairn;
use crate::tools::{Label, Repo, Tool as _};

const MARK_LIMIT_S: f64 = 2.0;
const READS_LIMIT: f64 = 0.8;
/// Reads of the file in one process: some tens of milliseconds.
const ROUNDS: u32 = 20;
/// Measured reads of a turn before anything is collected.
const READS_BEFORE: usize = 5;

pub(in crate::bars) fn rows(bench: &Bench, ground: &Ground) -> Result<Vec<Row>> {
    let repo = ground.repo("collect");
    let corpus = if bench.options.scale.quick { "20 k chunks" } else { "1 M chunks, 3 of 10 garbage" };
    let release = corpus::uv_sources(&bench.options)?.pop();
    let release = release.ok_or_else(|| Error::Usage("the corpus has no release of uv".into()))?;
    ground.cairn().create(&repo)?;
    fill(bench, &repo)?;
    ground.cairn().add(&repo, &release, Label::first(1)).run()?;
    ground.cairn().use_packages(&repo, None, ["bench@1".to_owned()]).run()?;
    let mut rows = vec![mark(bench, ground, &repo, corpus)];
    repo.save()?;
    rows.extend(beside_readers(bench, ground, &repo, &release, corpus)?);
    repo.forget_saved()?;
    repo.remove()?;
    Ok(rows)
}

fn fill(bench: &Bench, repo: &Repo) -> Result<()> {
    let program = bench.programs.index.ok_or_else(|| Error::NotInstalled { program: "index".into() })?;
    let chunks = bench.options.scale.collected_chunks.to_string();
    Line::new(program)
        .args(["--task", "fill", "--chunks", &chunks, "--work"])
        .arg(repo.store())
        .run()
        .map(drop)
}

/// All of the process: start, index, marking, plan, end.
fn mark(bench: &Bench, ground: &Ground, repo: &Repo, corpus: &'static str) -> Row {
    let dry = ground.cairn().collect(repo).arg("--dry-run");
    let walls: Result<Vec<_>> = (0..bench.options.repetitions).map(|_| dry.run()).collect();
    let outcome =
        walls.map_or_else(|error| Outcome::from(&error), |costs| Outcome::Measured(Series::walls(costs)));
    let scores = vec![Score::new("cairn", Role::Candidate, outcome)];
    let limit = Limit::AtMost(MARK_LIMIT_S);
    Row { bar: 16, what: "`gc --dry-run`", corpus, unit: Unit::Seconds, limit, scores }
}

/// In each turn a daemon mounts the store as it was, a file is read again and again, and then again while `gc` runs.
fn beside_readers(
    bench: &Bench,
    ground: &Ground,
    repo: &Repo,
    release: &std::path::Path,
    corpus: &'static str,
) -> Result<Vec<Row>> {
    let (path, bytes) = largest(release)?;
    let (mut alone, mut beside, mut lasted) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cold_alone, mut cold_beside) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.repetitions {
        repo.reset()?;
        let mounted = MountedCairn::start(ground, repo, &[("collect-mount", None)])?;
        let file = mounted.dir(0).join("bench").join("1").join(&path);
        let read = bench.probe("read")?.arg(&file).arg(ROUNDS.to_string());
        let rate = || measured_inside(&read).map(|cost| bytes / cost.wall_s);
        let once = bench.probe("read")?.arg(&file).arg("0");
        let cold_rate = || {
            drop_caches()?;
            measured_inside(&once).map(|cost| bytes / cost.wall_s)
        };
        for _ in 0..READS_BEFORE {
            cold_alone.push(cold_rate()?);
            alone.push(rate()?);
        }
        let started = std::time::Instant::now();
        let mut collecting = Service::start(ground.cairn().collect(repo), ground.janitor())?;
        let mut during = Vec::new();
        while !collecting.has_ended() {
            during.push(rate()?);
        }
        // The last one may have gone on after the end.
        during.pop();
        collecting.ended_well()?;
        lasted.push(started.elapsed().as_secs_f64());
        beside.extend(during);
        mounted.stop()?;
        cold_beside.extend(cold_during(ground, repo, &cold_rate)?);
    }
    let measured = |values: Vec<f64>| match values.is_empty() {
        true => Outcome::Failed("it ended before a file was read".to_owned()),
        false => Outcome::Measured(Series::of_values(values)),
    };
    let reads = vec![
        Score::new("the same, nothing collected", Role::Reference, measured(alone)),
        Score::new("cairn", Role::Candidate, measured(beside)),
    ];
    let cold = vec![
        Score::new("the same, nothing collected", Role::Reference, measured(cold_alone)),
        Score::new("cairn", Role::Candidate, measured(cold_beside)),
    ];
    let limit = Limit::RatioAtLeast(READS_LIMIT);
    let took = vec![Score::new("cairn", Role::Candidate, measured(lasted))];
    Ok(vec![
        Row {
            bar: 16,
            what: "warm reads through a mount while it collects",
            corpus,
            unit: Unit::BytesPerSecond,
            limit,
            scores: reads,
        },
        Row {
            bar: 16,
            what: "cold reads through a mount while it collects",
            corpus,
            unit: Unit::BytesPerSecond,
            limit,
            scores: cold,
        },
        Row {
            bar: 16,
            what: "`gc` beside these reads",
            corpus,
            unit: Unit::Seconds,
            limit: Limit::None,
            scores: took,
        },
    ])
}

/// The same with the kernel's caches dropped before each read, beside a collection of the store as it was.
fn cold_during(ground: &Ground, repo: &Repo, rate: &dyn Fn() -> Result<f64>) -> Result<Vec<f64>> {
    repo.reset()?;
    let mounted = MountedCairn::start(ground, repo, &[("collect-mount", None)])?;
    // The whole file is put together once, before anything is measured.
    rate()?;
    let mut collecting = Service::start(ground.cairn().collect(repo), ground.janitor())?;
    let mut during = Vec::new();
    while !collecting.has_ended() {
        during.push(rate()?);
    }
    during.pop();
    collecting.ended_well()?;
    mounted.stop()?;
    Ok(during)
}

/// The largest file of a tree: its path there, and its bytes.
fn largest(tree: &std::path::Path) -> Result<(PathBuf, f64)> {
    let (mut largest, mut bytes) = (PathBuf::new(), 0);
    walk(tree, &mut |path, metadata| {
        if metadata.len() > bytes {
            (largest, bytes) = (path.strip_prefix(tree).unwrap_or(path).to_owned(), metadata.len());
        }
        Ok(())
    })?;
    Ok((largest, to_f64(bytes)))
}
