//! 19: the next release to a node that has the one before: bytes on the wire in both directions, as a part of the plain bytes
//! that the node lacks, and of the release; beside tools that make a delta of files, and tools that fetch what is missing.

use super::upgrade::Upgrade;
use crate::bars::exchange::nodes::{NAME, Nodes, last_object};
use crate::bars::exchange::{casync, rsync};
use crate::bars::{Bench, failed};
use crate::corpus::stream::{Pair, Stream};
use crate::error::{Error, Result};
use crate::harness::{
    Limit, Outcome, Passed, Role, Row, Score, Series, Unit, empty_folder, to_f64, tree_bytes,
};
use crate::tools::differ::{DIFFERS, Files};

/// Of its rows 1 % have new random bytes, and nothing tells these: some 0.6 % of the release, which are 4 % of the chunks that they
/// lie in. It is held to its part of the release.
const STATE: &str = "state";
/// Parts of the raw new bytes; None where a package is measured because it was named.
const LIMITS: [(&str, Option<f64>); 5] = [
    ("uv", Some(0.06)),
    ("esbuild", Some(0.06)),
    ("libssl3", Some(0.05)),
    ("postgresql-15", Some(0.05)),
    (STATE, Some(0.012)),
];
/// Of these packages also the executables and libraries alone: beside them they have text in gzip files, and code for LLVM, whose
/// bits no byte begins.
const PROGRAMS: [(&str, &str); 2] =
    [("libssl3", "libssl3, ELF files alone"), ("postgresql-15", "postgresql-15, ELF files alone")];
const PROGRAMS_LIMIT: f64 = 0.05;
/// What `benches/corpus-debian` fetches beside them.
const OTHERS: [&str; 18] = [
    "openssl",
    "libc6",
    "python3.11-minimal",
    "libpython3.11-stdlib",
    "git",
    "curl",
    "libcurl4",
    "openssh-server",
    "sudo",
    "nginx",
    "redis-server",
    "php8.2-cli",
    "bind9-libs",
    "haproxy",
    "mariadb-server-core",
    "libnode108",
    "containerd",
    "linux-perf",
];

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let options = bench.options();
    let others = OTHERS.into_iter().filter(|name| options.names_corpus(name)).map(|name| (name, None));
    let mut rows = Vec::new();
    for (name, limit) in LIMITS.into_iter().filter(|(name, _)| options.wants_corpus(name)).chain(others) {
        match Stream::named(options, name).and_then(|stream| measure(bench, &stream, false)) {
            Ok(all) => rows.extend(table(name, limit, &all)),
            Err(error) => {
                rows.push(Row { corpus: name, ..failed(19, "upgrade", &error) });
            }
        }
    }
    for (package, name) in PROGRAMS.into_iter().filter(|(package, _)| options.wants_corpus(package)) {
        let all = Stream::named(options, package).and_then(|stream| measure(bench, &stream, true))?;
        rows.extend(table(name, Some(PROGRAMS_LIMIT), &all));
    }
    Ok(rows)
}

/// What an upgrade moved, of all entrants in the same order for each pair.
struct Moved {
    raw_new_bytes: u64,
    release_bytes: u64,
    by: Vec<(&'static str, Role, Result<u64>)>,
}

fn measure(bench: &Bench, stream: &Stream, is_programs: bool) -> Result<Vec<Moved>> {
    let mut pairs = stream.pairs();
    if bench.options().scale.quick {
        pairs = vec![stream.last_pair()?];
    }
    if !is_programs {
        return pairs.iter().map(|pair| of_pair(bench, pair)).collect();
    }
    let folder = bench.scratch.join("programs");
    let programs = pairs.iter().map(|pair| {
        empty_folder(&folder)?;
        of_pair(bench, &pair.programs(&folder)?)
    });
    programs.collect()
}

fn of_pair(bench: &Bench, pair: &Pair) -> Result<Moved> {
    let nodes = Nodes::new(bench, "deltas")?;
    let releases = [pair.old.clone(), pair.new.clone()];
    let raw_new_bytes = raw_new_bytes(&nodes, pair)?;
    let mut by = vec![
        ("cairn", Role::Candidate, Upgrade::new(&nodes, pair).and_then(|upgrade| upgrade.with_deltas())),
        ("cairn, chunks alone", Role::Peer, Upgrade::new(&nodes, pair).and_then(|upgrade| upgrade.plain())),
    ];
    if bench.options().peers {
        let files = Files::of(pair, &nodes.join("files"))?;
        by.extend(DIFFERS.iter().map(|differ| (differ.name, Role::Peer, files.delta_bytes(differ))));
        let both_ways = |passed: Vec<Passed>| passed.iter().map(|all| all.down + all.up).sum();
        by.push(("casync", Role::Peer, casync(&nodes, &releases).map(both_ways)));
        by.push(("rsync -z", Role::Peer, rsync(&nodes, &releases).map(both_ways)));
    }
    nodes.close()?;
    Ok(Moved { raw_new_bytes, release_bytes: tree_bytes(&pair.new)?, by })
}

/// The plain bytes of the chunks that a node with the old release lacks of the new one.
fn raw_new_bytes(nodes: &Nodes<'_>, pair: &Pair) -> Result<u64> {
    let both = nodes.with_releases("both", &[pair.old.clone(), pair.new.clone()])?;
    let summary = last_object(&nodes.cairn.difference(&both, &format!("{NAME}@1"), &format!("{NAME}@2")))?;
    let missing =
        || Error::Wrong { program: "cairn".into(), what: format!("no figures of a transfer: {summary}") };
    summary["transfer"]["plain_bytes"].as_u64().ok_or_else(missing)
}

/// Each figure is the median over the pairs.
fn table(corpus: &'static str, limit: Option<f64>, all: &[Moved]) -> Vec<Row> {
    let names: Vec<(&str, Role)> = all
        .first()
        .map(|moved| moved.by.iter().map(|(name, role, _)| (*name, *role)).collect())
        .unwrap_or_default();
    let scores = |of: fn(&Moved) -> f64| {
        let score = |(number, (name, role)): (usize, &(&str, Role))| {
            let values: std::result::Result<Vec<f64>, Outcome> = all
                .iter()
                .map(|moved| match &moved.by[number].2 {
                    Ok(bytes) => Ok(to_f64(*bytes) / of(moved)),
                    Err(error) => Err(Outcome::from(error)),
                })
                .collect();
            let outcome =
                values.map_or_else(|out| out, |values| Outcome::Measured(Series::of_values(values)));
            Score::new(*name, *role, outcome)
        };
        names.iter().enumerate().map(score).collect::<Vec<_>>()
    };
    let row = |what, unit, limit, scores| Row { bar: 19, what, corpus, unit, limit, scores };
    let bytes = |of: fn(&Moved) -> u64| {
        let values = all.iter().map(|moved| to_f64(of(moved))).collect();
        vec![Score::new("cairn", Role::Candidate, Outcome::Measured(Series::of_values(values)))]
    };
    let at_most = limit.map_or(Limit::None, Limit::AtMost);
    let (of_new, of_release) = if corpus == STATE { (Limit::None, at_most) } else { (at_most, Limit::None) };
    vec![
        row(
            "upgrade, wire / raw new bytes",
            Unit::Share,
            of_new,
            scores(|moved| to_f64(moved.raw_new_bytes)),
        ),
        row(
            "upgrade, wire / size of the release",
            Unit::Share,
            of_release,
            scores(|moved| to_f64(moved.release_bytes)),
        ),
        row("raw new bytes", Unit::Bytes, Limit::None, bytes(|moved| moved.raw_new_bytes)),
        row("size of the release", Unit::Bytes, Limit::None, bytes(|moved| moved.release_bytes)),
    ]
}
