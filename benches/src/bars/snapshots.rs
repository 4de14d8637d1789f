//! 23: a snapshot of a state of which one row in a hundred has changed since the last one: which files it reads, how long
//! it takes beside hashing those, and how much the store grows beside what restic adds for the same.
//!
//! The states are that of the corpus, one database of SQLite, and a folder of databases of redb that `chunking` makes, of
//! which first a few change and then all.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Bench, plain};
use crate::corpus;
use crate::error::{Error, Result};
use crate::harness::{
    Entrant, Limit, Line, Outcome, Role, Row, Score, Series, Unit, remove, take_turns, walk,
};
use crate::tools::{Label, Restic, Tool as _, reference};

const TIME_LIMIT: f64 = 2.0;
const GROWTH_LIMIT: f64 = 0.25;
/// Of the folder's databases, so many change at first.
const FEW: u32 = 2;

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let live = bench.scratch.join("live");
    let states = corpus::states(&bench.options)?;
    let [first, second, ..] = states.as_slice() else {
        return Err(Error::Usage("the corpus has fewer than two states".into()));
    };
    corpus::put_state(first, &live)?;
    let file = [PathBuf::from("state.sqlite")];
    let mut rows = measure(bench, &live, "state", &file, &|| corpus::put_state(second, &live))?;
    remove(&live)?;
    let scale = &bench.options.scale;
    for (corpus, changed) in
        [("databases, 2 of 16 changed", FEW), ("databases, all changed", scale.databases)]
    {
        make(bench, &live, "--fill", scale.databases)?.run()?;
        let files: Vec<PathBuf> = (0..changed).map(|file| PathBuf::from(format!("{file:03}.redb"))).collect();
        let change = || make(bench, &live, "--change", changed)?.run().map(drop);
        rows.extend(measure(bench, &live, corpus, &files, &change)?);
        remove(&live)?;
    }
    Ok(rows)
}

/// The program that makes databases.
fn make(bench: &Bench, folder: &Path, task: &str, files: u32) -> Result<Line> {
    let program =
        bench.programs.chunking.ok_or_else(|| Error::NotInstalled { program: "chunking".into() })?;
    let (files, rows) = (files.to_string(), bench.options.scale.database_rows.to_string());
    Ok(Line::new(program).args([task, &files, "--rows", &rows, "--work"]).arg(folder))
}

/// `change` makes the next state of what is in `live`, and changes just `files`.
fn measure(
    bench: &Bench,
    live: &Path,
    corpus: &'static str,
    files: &[PathBuf],
    change: &dyn Fn() -> Result<()>,
) -> Result<Vec<Row>> {
    let repo = bench.repo(&bench.cairn);
    bench.cairn.create(&repo)?;
    bench.cairn.snapshot(&repo, live, 0).run()?;
    repo.save()?;
    let restic = Restic;
    let restic_repo = bench.repo(&restic);
    restic.create(&restic_repo)?;
    restic.add(&restic_repo, live, Label::first(0)).run()?;
    let before = restic_repo.stored_bytes()?;
    change()?;
    warm(live)?;
    restic.add(&restic_repo, live, Label::first(1)).run()?;
    let added = restic_repo.stored_bytes()?.saturating_sub(before);
    restic_repo.remove()?;

    let told = RefCell::new(None);
    let candidate = Entrant::new("cairn", Role::Candidate, || {
        repo.reset()?;
        let before = repo.stored_bytes()?;
        let (cost, printed) = bench.cairn.snapshot(&repo, live, 1).run_reading()?;
        let growth = repo.stored_bytes()?.saturating_sub(before);
        *told.borrow_mut() = Some((growth, printed));
        Ok(cost)
    });
    let reference = plain(reference::B3SUM, reference::b3sum(live, files));
    let times = take_turns(vec![reference, candidate], bench.options.repetitions, Series::walls);
    repo.remove()?;
    repo.forget_saved()?;
    let told = told
        .into_inner()
        .ok_or_else(|| Error::Wrong { program: "cairn".into(), what: "no snapshot was taken".into() })?;
    Ok(vec![
        Row {
            bar: 23,
            what: "snapshot",
            corpus,
            unit: Unit::Seconds,
            limit: Limit::RatioAtMost(TIME_LIMIT),
            scores: times,
        },
        growth(corpus, told.0, added),
        files_read(corpus, &told.1, files.len())?,
    ])
}

fn growth(corpus: &'static str, bytes: u64, restic: u64) -> Row {
    let of = |bytes| Outcome::Measured(Series::of_bytes(bytes));
    let scores = vec![
        Score::new("restic's growth", Role::Reference, of(restic)),
        Score::new("cairn", Role::Candidate, of(bytes)),
    ];
    let limit = Limit::RatioAtMost(GROWTH_LIMIT);
    Row { bar: 23, what: "snapshot, growth", corpus, unit: Unit::Bytes, limit, scores }
}

fn files_read(corpus: &'static str, printed: &str, changed: usize) -> Result<Row> {
    let wrong = || Error::Wrong { program: "cairn".into(), what: format!("it printed {printed:?}") };
    let told: Value = serde_json::from_str(printed).map_err(|_| wrong())?;
    let count = |key: &str| told[key].as_f64().ok_or_else(wrong);
    let read = count("files")? - count("unchanged_files")?;
    let outcome = Outcome::Measured(Series::of_values(vec![read]));
    let scores = vec![Score::new("cairn", Role::Candidate, outcome)];
    let limit = Limit::AtMost(f64::from(u32::try_from(changed).unwrap_or(u32::MAX)));
    Ok(Row { bar: 23, what: "files that a snapshot reads", corpus, unit: Unit::Count, limit, scores })
}

/// Reads all of a tree once, so that everybody finds it in memory.
fn warm(tree: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    walk(tree, &mut |path, _| crate::harness::warm(path, &mut buffer))
}
