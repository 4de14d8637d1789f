//! 11: many generations of a large package: how soon after its start a daemon answers through the mount, and what it has
//! in memory for each inode that the kernel knows.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Bench;
use crate::corpus;
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Unit, to_f64};
use crate::sites::MountedCairn;
use crate::tools::{Label, Repo, Tool as _};

const FIRST_LOOKUP_LIMIT_S: f64 = 0.1;
const INODE_LIMIT_BYTES: f64 = 200.0;
/// One file in so many is another in each version.
const CHANGED_EVERY: usize = 100;
const PACKAGE: &str = "bench";
const MOUNT: &str = "generations-mount";

/// What the daemon had more in memory after everything was looked at, and what that was.
struct Walked {
    resident_bytes: f64,
    paths: f64,
    inodes: f64,
}

pub(super) fn rows(bench: &Bench, ground: &Ground) -> Result<Vec<Row>> {
    let repo = ground.repo("generations");
    let file = fill(bench, ground, &repo)?;
    let mut waits = Vec::new();
    for _ in 0..bench.options.repetitions {
        let started = Instant::now();
        let mounted = MountedCairn::start(ground, &repo, &[(MOUNT, None)])?;
        look_up(&mounted.dir(0).join("current").join(PACKAGE).join(&file))?;
        waits.push(started.elapsed().as_secs_f64());
        mounted.stop()?;
    }
    let walked = walk_all(ground, &repo)?;
    let row = |what, unit, limit, values| {
        let scores = vec![Score::new("cairn", Role::Candidate, Outcome::Measured(Series::of_values(values)))];
        Row { bar: 11, what, corpus: "100 generations", unit, limit, scores }
    };
    Ok(vec![
        row(
            "start of the daemon to the first look-up",
            Unit::Seconds,
            Limit::AtMost(FIRST_LOOKUP_LIMIT_S),
            waits,
        ),
        row(
            "resident memory per inode known",
            Unit::Bytes,
            Limit::AtMost(INODE_LIMIT_BYTES),
            vec![walked.resident_bytes / walked.inodes],
        ),
        row("inodes known", Unit::Count, Limit::None, vec![walked.inodes]),
        row("paths looked at", Unit::Count, Limit::None, vec![walked.paths]),
    ])
}

/// Adds and uses all versions; returns a file that every one of them has.
fn fill(bench: &Bench, ground: &Ground, repo: &Repo) -> Result<PathBuf> {
    let cairn = ground.cairn();
    cairn.create(repo)?;
    let tree = ground.join("package");
    let files = corpus::small_tree(&tree, bench.options.scale.names)?;
    for version in 1..=bench.options.scale.generations {
        // Others each time.
        for file in files.iter().skip(version as usize).step_by(CHANGED_EVERY) {
            let path = tree.join(file);
            let text = format!("{} of version {version}\n", file.display());
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        cairn.add(repo, &tree, Label::first(version)).run()?;
        cairn.use_packages(repo, None, [format!("{PACKAGE}@{version}")]).run()?;
    }
    crate::harness::remove(&tree)?;
    files.into_iter().next().ok_or_else(|| Error::Usage("the package has no file".into()))
}

fn look_up(path: &Path) -> Result<()> {
    std::fs::metadata(path).map(drop).map_err(Error::io("look at", path))
}

/// Looks at every file of every version. An inode is known to the kernel by its number, which is what `find` prints.
fn walk_all(ground: &Ground, repo: &Repo) -> Result<Walked> {
    let mounted = MountedCairn::start(ground, repo, &[(MOUNT, None)])?;
    let versions = mounted.dir(0).join(PACKAGE);
    look_up(&versions)?;
    let before = mounted.service().resident_bytes()?;
    let (_, printed) = Line::new("find").arg(&versions).args(["-printf", "%i %s\\n"]).run_reading()?;
    let after = mounted.service().resident_bytes()?;
    mounted.stop()?;
    let number = |line: &str| line.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    let inodes: HashSet<u64> = printed.lines().filter_map(number).collect();
    Ok(Walked {
        resident_bytes: to_f64(after) - to_f64(before),
        paths: to_f64(printed.lines().count() as u64),
        inodes: to_f64(inodes.len() as u64),
    })
}
