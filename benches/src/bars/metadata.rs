//! 9: names through the mount: looking at many files, at names that are not there, listing a large folder, and opening
//! many small files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Bench;
use crate::corpus;
use crate::error::{Error, Result};
use crate::ground::{Ground, drop_caches, measured_inside};
use crate::harness::{Cost, Limit, Line, Row, Series, Unit, to_f64};
use crate::sites::{Site, Sites};

const STAT_LIMIT: f64 = 0.75;
const ABSENT_LIMIT: f64 = 0.8;
const LIST_LIMIT_PER_S: f64 = 200e3;
const OPEN_LIMIT_PER_S: f64 = 40e3;
/// Files that are opened are no shorter: all of this is read of each.
const READ_BYTES: u64 = 4096;
/// Passes over all names in one process.
const ROUNDS: u32 = 5;
/// The folders of the tree: many with some files each, and one with all of them.
const SPREAD: &str = "spread";
const FLAT: &str = "flat";

pub(super) fn rows(bench: &Bench, ground: &Ground) -> Result<Vec<Row>> {
    let names = bench.options.scale.names;
    let mut files = Vec::new();
    let sites = Sites::new(ground, bench.options.peers, |tree| {
        corpus::flat_tree(&tree.join(FLAT), names)?;
        let spread = tree.join(SPREAD);
        for path in corpus::small_tree(&spread, names)? {
            let whole = spread.join(&path);
            let len = std::fs::metadata(&whole).map_err(Error::io("look at", &whole))?.len();
            files.push((path, len));
        }
        Ok(())
    })?;
    let readable: Vec<PathBuf> =
        files.iter().filter(|(_, len)| *len >= READ_BYTES).map(|(path, _)| path.clone()).collect();
    let files: Vec<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
    let absent: Vec<PathBuf> = files.iter().map(|file| file.with_extension("absent")).collect();
    let turns = bench.options.repetitions;
    let probe = |site: &Site, task: &str, paths: &[PathBuf]| -> Result<Cost> {
        let list = write_list(bench.work(), &site.tree().join(SPREAD), paths)?;
        measured_inside(&bench.probe(task)?.arg(list).arg(ROUNDS.to_string()))
    };
    let row = |what, limit, scores| Row {
        bar: 9,
        what,
        corpus: "20 k names",
        unit: Unit::PerSecond,
        limit,
        scores,
    };
    let each = || Series::rates(to_f64(files.len() as u64));
    let rows = vec![
        row(
            "warm stat",
            Limit::RatioAtLeast(STAT_LIMIT),
            sites.take_turns(turns, each(), |site| probe(site, "stat", &files)),
        ),
        row(
            "negative look-up",
            Limit::RatioAtLeast(ABSENT_LIMIT),
            sites.take_turns(turns, each(), |site| probe(site, "absent", &absent)),
        ),
        row(
            "cold list of one folder, a look at each entry",
            Limit::AtLeast(LIST_LIMIT_PER_S),
            sites.take_turns(turns, Series::rates(f64::from(names)), |site| {
                drop_caches()?;
                measured_inside(&bench.probe("list")?.arg(site.tree().join(FLAT)).arg("0"))
            }),
        ),
        row(
            "cold `ls -l` of it, sorting and printing too",
            Limit::AtLeast(LIST_LIMIT_PER_S),
            sites.take_turns(turns, Series::rates(f64::from(names)), |site| {
                drop_caches()?;
                Line::new("ls").arg("-l").arg(site.tree().join(FLAT)).run()
            }),
        ),
        row(
            "warm `ls -l` of it, sorting and printing too",
            Limit::None,
            sites.take_turns(turns, Series::rates(f64::from(names)), |site| {
                Line::new("ls").arg("-l").arg(site.tree().join(FLAT)).run()
            }),
        ),
        row(
            "open, read 4 KiB, close, files of at least that",
            Limit::AtLeast(OPEN_LIMIT_PER_S),
            sites.take_turns(turns, Series::rates(to_f64(readable.len() as u64)), |site| {
                probe(site, "open", &readable)
            }),
        ),
    ];
    sites.close()?;
    Ok(rows)
}

/// The list that a `probe` reads: these paths below `root`.
fn write_list(folder: &Path, root: &Path, paths: &[PathBuf]) -> Result<PathBuf> {
    let mut text = String::new();
    for path in paths {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", root.join(path).display());
    }
    let list = folder.join("paths");
    std::fs::write(&list, text).map_err(Error::io("write", &list))?;
    Ok(list)
}
