//! 28: a release of four files over a line of 100 Mbit/s, beside the same by `curl`, and what that takes of memory.

use std::net::SocketAddr;
use std::path::Path;

use crate::bars::Bench;
use crate::bars::exchange::nodes::{Nodes, THIN_BYTES_PER_S, line_to};
use crate::error::{Error, Result};
use crate::harness::{
    Cost, Entrant, Limit, Line, Outcome, Quality, Role, Row, Score, Series, Unit, empty_folder, take_turns,
    to_f64,
};
use crate::tools::{Repo, Server};

const SPEED_LIMIT: f64 = 0.9;
const MEMORY_MAX: f64 = 268_435_456.0;
const PROGRAMS: [&str; 4] = ["validator", "listener", "signer", "wallet"];
/// Bytes of each file.
const FILE_BYTES: u64 = 16 << 20;
const FILE_BYTES_QUICK: u64 = 64 << 10;

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "release")?;
    let (site, state) = (nodes.join("site"), nodes.join("nginx"));
    let bytes = if bench.options().scale.quick { FILE_BYTES_QUICK } else { FILE_BYTES };
    make_release(&site.join("v1"), bytes)?;
    let server = Server::nginx(&site, &state, &nodes.janitor)?;
    let thin = Quality { bytes_per_s: Some(THIN_BYTES_PER_S), ..Quality::default() };
    let link = line_to(&server, thin)?;
    let sync = |at: SocketAddr| {
        let node = nodes.empty("node")?;
        let cost = sync_line(&nodes, &node, at)?.run()?;
        node.remove()?;
        Ok(cost)
    };
    let curl = |at: SocketAddr| fetch_all(at, &nodes.join("curl"))?.run();
    let total = to_f64(bytes) * 4.0;
    let turns = bench.options().repetitions;
    let race = |at: SocketAddr| {
        let entrants = vec![
            Entrant::new("`curl`, four at once", Role::Reference, move || curl(at)),
            Entrant::new("cairn", Role::Candidate, move || sync(at)),
        ];
        take_turns(entrants, turns, Series::rates(total))
    };
    let row = |corpus, limit, scores| Row {
        bar: 28,
        what: "sync of a release of four files",
        corpus,
        unit: Unit::BytesPerSecond,
        limit,
        scores,
    };
    let thin = race(link.address());
    let costs: Vec<Cost> = vec![sync(server.address())?];
    let rows = vec![
        row("100 Mbit/s", Limit::RatioAtLeast(SPEED_LIMIT), thin),
        row("loopback", Limit::None, race(server.address())),
        peak_row(28, "peak memory of that sync", "loopback", costs),
    ];
    drop(server);
    nodes.close()?;
    Ok(rows)
}

/// Four programs of bytes that no compression shortens, and their checksums.
fn make_release(folder: &Path, bytes: u64) -> Result<()> {
    empty_folder(folder)?;
    let mut sums = String::new();
    for (program, seed) in PROGRAMS.iter().zip(1_u64..) {
        let path = folder.join(program);
        crate::corpus::write_random(&path, bytes, seed)?;
        let said = Line::new("sha256sum").arg(program).folder(folder).output()?;
        sums += &said;
        if !said.ends_with('\n') {
            sums.push('\n');
        }
    }
    let path = folder.join("SHA256SUMS");
    std::fs::write(&path, sums).map_err(Error::io("write", &path))
}

fn sync_line(nodes: &Nodes<'_>, node: &Repo, at: SocketAddr) -> Result<Line> {
    let config = nodes.join("cairn.toml");
    let programs = PROGRAMS.map(|program| format!("\"{program}\"")).join(", ");
    let text = format!(
        "[packages.app]\nbinaries = [{programs}]\n[packages.app.release]\nurl = \"http://{at}/v{{version}}/{{asset}}\"\n\
         asset = \"{{binary}}\"\nchecksums = \"SHA256SUMS\"\n"
    );
    std::fs::write(&config, text).map_err(Error::io("write", &config))?;
    Ok(nodes.cairn.sync(node, &config, ["app", "--version", "1"]))
}

/// The same four files into a folder, over four connections.
fn fetch_all(at: SocketAddr, folder: &Path) -> Result<Line> {
    empty_folder(folder)?;
    let line =
        Line::new("curl").args(["--silent", "--show-error", "--fail", "--parallel", "--parallel-immediate"]);
    Ok(PROGRAMS.iter().fold(line, |line, program| {
        line.arg(format!("http://{at}/v1/{program}")).arg("--output").arg(folder.join(program))
    }))
}

pub(super) fn peak_row(bar: u8, what: &'static str, corpus: &'static str, costs: Vec<Cost>) -> Row {
    Row {
        bar,
        what,
        corpus,
        unit: Unit::Bytes,
        limit: Limit::AtMost(MEMORY_MAX),
        scores: vec![Score::new("cairn", Role::Candidate, Outcome::Measured(Series::peaks(costs)))],
    }
}
