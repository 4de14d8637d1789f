//! 15: a program that starts before it is here, over a line of 100 Mbit/s and 20 ms each way and back.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::nodes::{NAME, Nodes, THIN_BYTES_PER_S, line_to, two_releases};
use crate::bars::Bench;
use crate::error::Result;
use crate::ground::Ground;
use crate::harness::{
    Cost, Entrant, Limit, Line, Link, Outcome, Quality, Role, Row, Score, Series, Unit, take_turns, to_f64,
    walk,
};
use crate::sites::MountedCairn;
use crate::tools::{Repo, Tool as _};

const LIMIT: f64 = 0.25;
/// One way: a round trip takes twice as long.
const DELAY: Duration = Duration::from_millis(10);
const MOUNT: &str = "lazy-mount";

/// What came from the peer in each turn.
#[derive(Default)]
struct Fetched(RefCell<Vec<f64>>);

impl Fetched {
    fn note(&self, link: &Link) {
        self.0.borrow_mut().push(to_f64(link.passed().down));
    }

    fn outcome(self) -> Outcome {
        Outcome::Measured(Series::of_values(self.0.into_inner()))
    }
}

pub(in crate::bars) fn rows(bench: &Bench, ground: &Ground) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "lazy")?;
    let [_, release] = two_releases(bench)?;
    let program = program_of(&release)?;
    let publisher = nodes.with_releases("publisher", &[release])?;
    let server = nodes.serve(&publisher)?;
    let long = || {
        line_to(&server, Quality { delay: DELAY, bytes_per_s: Some(THIN_BYTES_PER_S), ..Quality::default() })
    };
    let (whole, lazy) = (Fetched::default(), Fetched::default());
    let pull = || {
        let node = nodes.empty("node")?;
        let link = long()?;
        let cost = nodes.cairn.pull(&node, &format!("{NAME}@1"), [link.address()]).run()?;
        whole.note(&link);
        node.remove()?;
        Ok(cost)
    };
    let start = || {
        let repo = ground.repo("lazy");
        nodes.cairn.create(&repo)?;
        // What others have in the profile already is mounted before.
        let mounted = MountedCairn::start(ground, &repo, &[(MOUNT, None)])?;
        let link = long()?;
        let cost = begin(&nodes, &repo, &link, &mounted.dir(0).join("current").join(NAME).join(&program))?;
        lazy.note(&link);
        mounted.stop()?;
        repo.remove()?;
        Ok(cost)
    };
    let entrants = vec![
        Entrant::new("a full pull", Role::Reference, pull),
        Entrant::new("cairn", Role::Candidate, start),
    ];
    let scores = take_turns(entrants, bench.options.repetitions, Series::walls);
    let row = |what, unit, scores| Row {
        bar: 15,
        what,
        corpus: "uv, 100 Mbit/s, 20 ms",
        unit,
        limit: Limit::RatioAtMost(LIMIT),
        scores,
    };
    let bytes = vec![
        Score::new("a full pull", Role::Reference, whole.outcome()),
        Score::new("cairn", Role::Candidate, lazy.outcome()),
    ];
    let rows = vec![
        row("`use --require lazy` and `uv --version`, from nothing", Unit::Seconds, scores),
        row("bytes that came until it had printed its version", Unit::Bytes, bytes),
    ];
    drop(server);
    nodes.close()?;
    Ok(rows)
}

/// Shows the release and runs its program, one after the other.
fn begin(nodes: &Nodes<'_>, repo: &Repo, link: &Link, program: &Path) -> Result<Cost> {
    let shown = nodes.cairn.use_lazily(repo, &format!("{NAME}@1"), [link.address()]).run()?;
    let ran = Line::new(program).arg("--version").run()?;
    Ok(Cost { wall_s: shown.wall_s + ran.wall_s, ..ran })
}

/// Where the program is in a release: it is the largest file.
fn program_of(release: &Path) -> Result<PathBuf> {
    let (mut largest, mut bytes) = (PathBuf::new(), 0);
    walk(release, &mut |path, metadata| {
        if metadata.len() > bytes {
            (largest, bytes) = (path.strip_prefix(release).unwrap_or(path).to_owned(), metadata.len());
        }
        Ok(())
    })?;
    Ok(largest)
}
