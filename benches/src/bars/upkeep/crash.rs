//! 18: a writer opens a store of 100 GB after a crash: no index run is left, a pack was being filled, and something small is
//! added. The packs have real footers, and holes for frames: nothing reads these.

use std::fs;
use std::path::Path;

use super::super::Bench;
use crate::corpus;
use crate::error::{Error, Result};
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Unit};
use crate::tools::{Repo, Tool as _};

const LIMIT_S: f64 = 2.0;
/// The footer of a pack begins after its frames; without it the pack is one that was being filled.
const TORN_BYTES: u64 = 48 << 20;

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let scale = bench.options.scale;
    let repo = bench.repo(&bench.cairn);
    let tree = bench.scratch.join("crash-tree");
    bench.cairn.create(&repo)?;
    corpus::big_file(&tree, 60 << 20)?;
    bench.cairn.add_named(&repo, &tree, "big").run()?;
    let torn = bench.scratch.join("torn");
    tear(&repo, &torn)?;
    let program = bench.programs.index.ok_or_else(|| Error::NotInstalled { program: "index".into() })?;
    let chunks = scale.crashed_chunks.to_string();
    Line::new(program).args(["--task", "packs", "--chunks", &chunks, "--work"]).arg(repo.store()).run()?;
    let mut costs = Vec::new();
    for number in 0..bench.options.repetitions {
        crate::harness::remove(&repo.store().join("index"))?;
        let open = repo.store().join("packs").join(format!("{number:016x}.open"));
        fs::copy(&torn, &open).map_err(Error::io("write", &open))?;
        corpus::tiny_tree(&tree, u32::try_from(number).unwrap_or(0))?;
        costs.push(bench.cairn.add_named(&repo, &tree, &format!("after-{number}")).run()?);
    }
    for path in [&tree, &torn] {
        let _ = crate::harness::remove(path);
    }
    repo.remove()?;
    let scores = vec![Score::new("cairn", Role::Candidate, Outcome::Measured(Series::walls(costs)))];
    let corpus = if scale.quick { "1 GB of packs" } else { "100 GB of packs" };
    let (what, limit) = ("`add` of a tiny tree after a crash", Limit::AtMost(LIMIT_S));
    Ok(vec![Row { bar: 18, what, corpus, unit: Unit::Seconds, limit, scores }])
}

/// The beginning of a store's largest pack.
fn tear(repo: &Repo, to: &Path) -> Result<()> {
    let (mut largest, mut bytes) = (std::path::PathBuf::new(), 0);
    crate::harness::walk(&repo.store().join("packs"), &mut |path, metadata| {
        if metadata.len() > bytes {
            (largest, bytes) = (path.to_owned(), metadata.len());
        }
        Ok(())
    })?;
    fs::copy(&largest, to).map_err(Error::io("copy", &largest))?;
    let file = fs::File::options().write(true).open(to).map_err(Error::io("open", to))?;
    file.set_len(TORN_BYTES.min(bytes / 2)).map_err(Error::io("cut", to))
}
