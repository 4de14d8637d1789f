//! 21: what has nothing to do with what was there before: it must not cost more than without deltas, and be given up early.

use std::path::Path;
use std::time::Duration;

use super::codecs;
use super::upgrade::Upgrade;
use crate::bars::Bench;
use crate::bars::exchange::nodes::Nodes;
use crate::corpus::stream::{Pair, Stream};
use crate::error::{Error, Result};
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Unit, empty_folder, to_f64};

const BYTES_LIMIT: f64 = 1.01;
const TIME_LIMIT: f64 = 0.1;
/// There may never be a delta; so long is waited for one.
const MADE_WITHIN: Duration = Duration::from_secs(60);

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let last = |name| Stream::named(bench.options(), name).and_then(|stream| stream.last_pair());
    let (uv, esbuild, ssl, postgres) =
        (last("uv")?, last("esbuild")?, last("libssl3")?, last("postgresql-15")?);
    let then = |old: &Pair, new: &Pair| Pair { old: old.old.clone(), new: new.new.clone() };
    let mut rows = Vec::new();
    for (corpus, pair) in [
        ("uv, then esbuild", then(&uv, &esbuild)),
        ("esbuild, then libssl3", then(&esbuild, &ssl)),
        ("libssl3, then postgresql-15", then(&ssl, &postgres)),
    ] {
        rows.push(moved(&Nodes::new(bench, "unrelated")?, corpus, &pair)?);
    }
    let nodes = Nodes::new(bench, "unrelated")?;
    let packed = Pair {
        old: packed(&uv.old, &nodes.join("packed-1"))?,
        new: packed(&uv.new, &nodes.join("packed-2"))?,
    };
    rows.push(moved(&nodes, "uv as .tar.zst, then the next", &packed)?);
    nodes.close()?;
    rows.push(given_up(bench, &uv.largest_file()?, &esbuild.largest_file()?)?);
    Ok(rows)
}

fn moved(nodes: &Nodes<'_>, corpus: &'static str, pair: &Pair) -> Result<Row> {
    let upgrade = Upgrade::new(nodes, pair)?;
    upgrade.wait_for_delta(MADE_WITHIN)?;
    let bytes = |bytes: u64| Outcome::Measured(Series::of_bytes(bytes));
    let scores = vec![
        Score::new("cairn, chunks alone", Role::Reference, bytes(upgrade.plain()?)),
        Score::new("cairn", Role::Candidate, bytes(upgrade.bytes()?)),
    ];
    let limit = Limit::RatioAtMost(BYTES_LIMIT);
    Ok(Row { bar: 21, what: "unrelated, bytes on the wire", corpus, unit: Unit::Bytes, limit, scores })
}

/// How long the codec for executables takes to see that two of them have nothing in common, for each byte of both.
fn given_up(bench: &Bench, one: &Pair, other: &Pair) -> Result<Row> {
    let unrelated = Pair { old: one.old.clone(), new: other.new.clone() };
    let (mut related_s, mut unrelated_s) = (Vec::new(), Vec::new());
    let bytes = |pair: &Pair| {
        let len =
            |path: &Path| std::fs::metadata(path).map(|it| it.len()).map_err(Error::io("look at", path));
        Ok::<_, Error>(len(&pair.old)? + len(&pair.new)?)
    };
    for _ in 0..bench.options().repetitions {
        for (pair, all) in [(one, &mut related_s), (&unrelated, &mut unrelated_s)] {
            let figures = codecs::measure(bench, "reloc", pair)?;
            if figures.is_related && std::ptr::eq(pair, &raw const unrelated) {
                return Err(Error::Unsuitable("the pair that should be unrelated is not".into()));
            }
            all.push(figures.encode_s / to_f64(bytes(pair)?) * 1e8);
        }
    }
    let scores = vec![
        Score::new("uv and the next", Role::Reference, Outcome::Measured(Series::of_values(related_s))),
        Score::new("cairn", Role::Candidate, Outcome::Measured(Series::of_values(unrelated_s))),
    ];
    let limit = Limit::RatioAtMost(TIME_LIMIT);
    let what = "giving up, seconds for 100 MB of both files";
    Ok(Row { bar: 21, what, corpus: "uv, then esbuild", unit: Unit::Seconds, limit, scores })
}

/// A folder with all of a release in one compressed file.
fn packed(release: &Path, folder: &Path) -> Result<std::path::PathBuf> {
    empty_folder(folder)?;
    let (tar, to) = (folder.join("release.tar"), folder.join("release.tar.zst"));
    let line = Line::new("tar").args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0"]);
    line.arg("--directory").arg(release).arg("--file").arg(&tar).arg(".").run()?;
    Line::new("zstd").args(["-q", "--rm"]).arg(&tar).arg("-o").arg(&to).run()?;
    Ok(folder.to_owned())
}
