//! 12: the next release to a node that has the one before: bytes on the wire, and round trips.

use std::net::SocketAddr;
use std::path::Path;

use super::nodes::{NAME, Nodes, last_object, line_to, two_releases};
use crate::bars::Bench;
use crate::error::{Error, Result};
use crate::harness::{
    Limit, Line, Link, Outcome, Passed, Quality, Role, Row, Score, Series, Unit, empty_folder, to_f64,
};
use crate::tools::{Casync, Repo, Server, Tool as _, servers};

const BYTES_LIMIT: f64 = 1.02;
const ROUND_TRIPS_LIMIT: f64 = 4.0;

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "upgrade")?;
    let releases = two_releases(bench)?;
    let publisher = nodes.with_releases("publisher", &releases)?;
    let least = least_bytes(&nodes, &publisher)?;
    let mut passed = vec![("cairn", Role::Candidate, cairn(bench, &nodes, &publisher, &releases[0]))];
    if bench.options.peers {
        passed.push(("casync", Role::Peer, casync(&nodes, &releases)));
        passed.push(("rsync -z", Role::Peer, rsync(&nodes, &releases)));
    }
    let row = |what, unit, limit, reference: Option<Score>, of: fn(&Passed) -> u64| {
        let score = |(name, role, passed): &(&str, Role, Result<Vec<Passed>>)| {
            let values = |passed: &Vec<Passed>| passed.iter().map(|passed| to_f64(of(passed))).collect();
            let outcome = passed
                .as_ref()
                .map_or_else(Outcome::from, |passed| Outcome::Measured(Series::of_values(values(passed))));
            Score::new(*name, *role, outcome)
        };
        let scores = reference.into_iter().chain(passed.iter().map(score)).collect();
        Row { bar: 12, what, corpus: "uv, next release", unit, limit, scores }
    };
    let least = Outcome::Measured(Series::of_bytes(least));
    let least = Score::new("chunks that lack, as stored, and metadata", Role::Reference, least);
    let rows = vec![
        row(
            "upgrade, bytes on the wire",
            Unit::Bytes,
            Limit::RatioAtMost(BYTES_LIMIT),
            Some(least),
            |passed| passed.down + passed.up,
        ),
        row("upgrade, round trips", Unit::Count, Limit::AtMost(ROUND_TRIPS_LIMIT), None, |passed| {
            passed.round_trips
        }),
    ];
    nodes.close()?;
    Ok(rows)
}

/// What has to travel: the missing chunks' part of the frames that they are stored in, and the metadata's.
fn least_bytes(nodes: &Nodes<'_>, publisher: &Repo) -> Result<u64> {
    let (old, new) = (format!("{NAME}@1"), format!("{NAME}@2"));
    let summary = last_object(&nodes.cairn.difference(publisher, &old, &new))?;
    let figure = |field: &str| summary["transfer"][field].as_u64();
    figure("stored_bytes").zip(figure("metadata_bytes")).map(|(data, metadata)| data + metadata).ok_or_else(
        || Error::Wrong { program: "cairn".into(), what: format!("no figures of a transfer: {summary}") },
    )
}

fn cairn(bench: &Bench, nodes: &Nodes<'_>, publisher: &Repo, old: &Path) -> Result<Vec<Passed>> {
    let server = nodes.serve(publisher)?;
    let node = nodes.with_releases("node", &[old.to_owned()])?;
    node.save()?;
    let measure = || {
        node.reset()?;
        through(&server, |address| nodes.cairn.pull(&node, &format!("{NAME}@2"), [address]))
    };
    (0..bench.options.repetitions).map(|_| measure()).collect()
}

/// An index and one file for each chunk, over nginx; the old release is the seed.
pub(in crate::bars) fn casync(nodes: &Nodes<'_>, releases: &[std::path::PathBuf; 2]) -> Result<Vec<Passed>> {
    let repo = nodes.repo("casync");
    Casync.create(&repo)?;
    Casync.add(&repo, &releases[1], crate::tools::Label::first(2)).run()?;
    let server = Server::nginx(&repo.store(), &nodes.join("casync-nginx"), &nodes.janitor)?;
    let out = nodes.join("casync-out");
    empty_folder(&out)?;
    let fetched = |address: SocketAddr| {
        let mut seed = std::ffi::OsString::from("--seed=");
        seed.push(&releases[0]);
        Line::new("casync")
            .arg("extract")
            .arg(seed)
            .arg(format!("--store=http://{address}/chunks"))
            .arg(format!("http://{address}/2.caidx"))
            .arg(out.join("tree"))
    };
    Ok(vec![through(&server, fetched)?])
}

/// Over an rsync daemon, into a copy of the old release.
pub(in crate::bars) fn rsync(nodes: &Nodes<'_>, releases: &[std::path::PathBuf; 2]) -> Result<Vec<Passed>> {
    let server = Server::rsync(&releases[1], &nodes.join("rsyncd"), &nodes.janitor)?;
    let out = nodes.join("rsync-out");
    // Its folders carry the version in their names: the files are put where rsync finds them.
    crate::harness::copy_tree(&releases[0], &out)?;
    rename_like(&out, &releases[0], &releases[1])?;
    Ok(vec![through(&server, |address| servers::rsync(address, &out))?])
}

/// Gives the folders at the top of a copy of `old` the names that they have in `new`: their versions differ.
fn rename_like(copy: &Path, old: &Path, new: &Path) -> Result<()> {
    let version = |release: &Path| {
        release.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let (old, new) = (version(old), version(new));
    for entry in std::fs::read_dir(copy).map_err(Error::io("list", copy))? {
        let from = entry.map_err(Error::io("list", copy))?.path();
        let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let to = copy.join(name.replace(&old, &new));
        if to != from {
            std::fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
        }
    }
    Ok(())
}

/// Runs a command through a line of its own, and says what passed.
pub(in crate::bars) fn through(server: &Server, command: impl FnOnce(SocketAddr) -> Line) -> Result<Passed> {
    let link: Link = line_to(server, Quality::default())?;
    command(link.address()).run()?;
    Ok(link.passed())
}
