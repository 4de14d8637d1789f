//! 8: contents through the mount: one real large program, read, mapped and executed, with everything in memory and with
//! the kernel's caches dropped; and the first read of a file that the daemon has yet to put together.

use std::path::{Path, PathBuf};

use super::Bench;
use crate::corpus;
use crate::error::{Error, Result};
use crate::ground::{Ground, drop_caches, measured_inside};
use crate::harness::{
    Cost, Limit, Line, Outcome, Role, Row, Score, Series, Unit, copy_tree, remove, to_f64, walk,
};
use crate::sites::{MountedCairn, Site, Sites};
use crate::tools::{Label, Repo, Tool as _};

const CORPUS: &str = "uv-one";
const WARM_LIMIT: f64 = 0.95;
const COLD_READ_LIMIT: f64 = 0.9;
const COLD_EXEC_LIMIT: f64 = 1.15;
const FIRST_TOUCH_LIMIT_BYTES_PER_S: f64 = 0.7e9;
/// Reads of the file in one process: each takes some milliseconds.
const ROUNDS: u32 = 10;
/// Starts of the program for each repetition.
const STARTS: usize = 3;

/// The program that is read and run.
struct Subject {
    /// Below the tree.
    path: PathBuf,
    bytes: f64,
}

pub(super) fn rows(bench: &Bench, ground: &Ground) -> Result<Vec<Row>> {
    let releases = corpus::uv_sources(&bench.options)?;
    let newest = releases.last().ok_or_else(|| Error::Usage("the corpus has no release of uv".into()))?;
    let subject = Subject::in_tree(newest)?;
    let sites = Sites::new(ground, bench.options.peers, |tree| {
        remove(tree)?;
        copy_tree(newest, tree)
    })?;
    let mut rows = through_all(bench, &sites, &subject);
    sites.close()?;
    let what = ["first touch, per core that the daemon used", "first touch, as the reader sees it"];
    let measured = first_touch(bench, ground, &releases);
    let outcomes = match measured {
        Ok(all) => all.map(|values| Outcome::Measured(Series::of_values(values))),
        Err(error) => [Outcome::from(&error), Outcome::from(&error)],
    };
    let limits = [Limit::AtLeast(FIRST_TOUCH_LIMIT_BYTES_PER_S), Limit::None];
    rows.extend(what.into_iter().zip(limits).zip(outcomes).map(|((what, limit), outcome)| {
        let scores = vec![Score::new("cairn", Role::Candidate, outcome)];
        Row { bar: 8, what, corpus: "uv-all", unit: Unit::BytesPerSecond, limit, scores }
    }));
    Ok(rows)
}

impl Subject {
    fn in_tree(tree: &Path) -> Result<Subject> {
        let (mut largest, mut bytes) = (PathBuf::new(), 0);
        walk(tree, &mut |path, metadata| {
            if metadata.len() > bytes {
                (largest, bytes) = (path.to_owned(), metadata.len());
            }
            Ok(())
        })?;
        let path = largest.strip_prefix(tree).unwrap_or(&largest).to_owned();
        Ok(Subject { path, bytes: to_f64(bytes) })
    }

    fn on(&self, site: &Site) -> PathBuf {
        site.tree().join(&self.path)
    }
}

fn through_all(bench: &Bench, sites: &Sites, subject: &Subject) -> Vec<Row> {
    let turns = bench.options.repetitions;
    let probe = |site: &Site, task: &str, rounds: u32| -> Result<Cost> {
        let line = bench.probe(task)?.arg(subject.on(site)).arg(rounds.to_string());
        measured_inside(&line)
    };
    let exec = |site: &Site| Line::new(subject.on(site)).arg("--version").run();
    let row = |what, unit, limit, scores| Row { bar: 8, what, corpus: CORPUS, unit, limit, scores };
    let bytes = || Series::rates(subject.bytes);
    let warm = Limit::RatioAtLeast(WARM_LIMIT);
    let rate = Unit::BytesPerSecond;
    vec![
        row("warm read", rate, warm, sites.take_turns(turns, bytes(), |site| probe(site, "read", ROUNDS))),
        row("warm mmap", rate, warm, sites.take_turns(turns, bytes(), |site| probe(site, "map", ROUNDS))),
        row(
            "warm exec",
            Unit::PerSecond,
            warm,
            sites.take_turns(turns * STARTS, Series::rates(1.0), |site| exec(site)),
        ),
        row(
            "cold read",
            rate,
            Limit::RatioAtLeast(COLD_READ_LIMIT),
            sites.take_turns(turns, bytes(), |site| {
                drop_caches()?;
                probe(site, "read", 0)
            }),
        ),
        row(
            "cold exec",
            Unit::Seconds,
            Limit::RatioAtMost(COLD_EXEC_LIMIT),
            sites.take_turns(turns, Series::walls, |site| {
                drop_caches()?;
                exec(site)
            }),
        ),
    ]
}

/// By the processor time of the daemon, and by the clock. Each turn reads another release, since a file is put together
/// once.
fn first_touch(bench: &Bench, ground: &Ground, releases: &[PathBuf]) -> Result<[Vec<f64>; 2]> {
    let repo = ground.repo("first-touch");
    let mounted = show_all(ground, &repo, releases)?;
    let (mut walls, mut cores) = (Vec::new(), Vec::new());
    for (release, version) in releases.iter().zip(1_u32..).take(bench.options.repetitions) {
        let subject = Subject::in_tree(release)?;
        let file = mounted.dir(0).join("bench").join(version.to_string()).join(&subject.path);
        let before = mounted.service().cpu()?;
        let cost = measured_inside(&bench.probe("read")?.arg(&file).arg("0"))?;
        let used = mounted.service().cpu()?.saturating_sub(before);
        walls.push(subject.bytes / cost.wall_s);
        cores.push(subject.bytes / used.as_secs_f64());
    }
    mounted.stop()?;
    Ok([cores, walls])
}

fn show_all(ground: &Ground, repo: &Repo, releases: &[PathBuf]) -> Result<MountedCairn> {
    let cairn = ground.cairn();
    cairn.create(repo)?;
    for (release, version) in releases.iter().zip(1..) {
        cairn.add(repo, release, Label::first(version)).run()?;
    }
    cairn.use_packages(repo, None, ["bench@1".to_owned()]).run()?;
    MountedCairn::start(ground, repo, &[("first-touch-mount", None)])
}
