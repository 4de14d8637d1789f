//! 13: how fast new data arrives over loopback, how fast they are served, and what many clients at once cost the server.

use std::cell::Cell;

use serde_json::Value;

use super::nodes::{NAME, Nodes, first_object, two_releases};
use crate::bars::{Bench, line_up, plain};
use crate::corpus;
use crate::error::{Error, Result};
use crate::harness::{Entrant, Limit, Outcome, Role, Row, Score, Series, Unit, take_turns, to_f64};
use crate::tools::{Repo, Server, servers};

const PULL_LIMIT: f64 = 0.8;
const SERVE_LIMIT: f64 = 0.7;
const CLIENTS: usize = 200;
const CLIENTS_MEMORY_LIMIT: f64 = (256 << 20) as f64;
const CURL_NGINX: &str = "`curl` from nginx";

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "speed")?;
    let tree = nodes.join("tree");
    corpus::big_file(&tree, bench.options.scale.pulled_bytes)?;
    let publisher = nodes.with_releases("publisher", std::slice::from_ref(&tree))?;
    crate::harness::remove(&tree)?;
    let listed = first_object(&nodes.cairn.list_json(&publisher))?;
    let packs = packs(&publisher)?;
    let nginx = Server::nginx(&publisher.store().join("packs"), &nodes.join("nginx"), &nodes.janitor)?;
    let server = nodes.serve(&publisher)?;
    let measured = Measured { bench, nodes: &nodes, server: &server, nginx: &nginx, packs };
    let mut rows = measured.pulls()?;
    rows.push(measured.packs());
    rows.push(measured.delta(&listed)?);
    rows.push(measured.many()?);
    drop((server, nginx));
    nodes.close()?;
    Ok(rows)
}

struct Measured<'a> {
    bench: &'a Bench,
    nodes: &'a Nodes<'a>,
    server: &'a Server,
    nginx: &'a Server,
    /// Names of the publisher's packs, and all their bytes.
    packs: (Vec<String>, u64),
}

impl Measured<'_> {
    fn row(&self, what: &'static str, unit: Unit, limit: Limit, scores: Vec<Score>) -> Row {
        Row { bar: 13, what, corpus: "1 GB, a third compresses", unit, limit, scores }
    }

    fn nginx_line(&self) -> crate::harness::Line {
        let address = self.nginx.address();
        servers::curl(self.packs.0.iter().map(|pack| format!("http://{address}/{pack}")))
    }

    /// A pull into an empty store, and how many cores client and server kept busy meanwhile.
    fn pulls(&self) -> Result<Vec<Row>> {
        let busy = Cell::new(Vec::new());
        let pull = || {
            let node = self.nodes.empty("node")?;
            let before = self.server.service().cpu()?;
            let cost = self.nodes.cairn.pull(&node, &format!("{NAME}@1"), [self.server.address()]).run()?;
            let served = (self.server.service().cpu()? - before).as_secs_f64();
            let mut all = busy.take();
            all.push((cost.cpu_s + served) / cost.wall_s);
            busy.set(all);
            node.remove()?;
            Ok(cost)
        };
        let entrants = line_up(
            plain(CURL_NGINX, self.nginx_line()),
            std::iter::once(Entrant::new("cairn", Role::Candidate, pull)),
        );
        let rates = Series::rates(to_f64(self.packs.1));
        let scores = take_turns(entrants, self.bench.options.repetitions, rates);
        let busy = Outcome::Measured(Series::of_values(busy.take()));
        Ok(vec![
            self.row(
                "pull of new data, stored bytes",
                Unit::BytesPerSecond,
                Limit::RatioAtLeast(PULL_LIMIT),
                scores,
            ),
            self.row(
                "cores that client and server keep busy in a pull",
                Unit::Count,
                Limit::None,
                vec![Score::new("cairn", Role::Candidate, busy)],
            ),
        ])
    }

    /// The very files that nginx serves.
    fn packs(&self) -> Row {
        let address = self.server.address();
        let urls =
            self.packs.0.iter().map(|pack| {
                format!("http://{address}/v1/packs/{}", pack.split('.').next().unwrap_or_default())
            });
        let cairn = servers::curl(urls);
        let entrants = line_up(
            plain(CURL_NGINX, self.nginx_line()),
            std::iter::once(Entrant::new("cairn", Role::Candidate, move || cairn.run())),
        );
        let rates = Series::rates(to_f64(self.packs.1));
        let scores = take_turns(entrants, self.bench.options.repetitions, rates);
        self.row("serving packs", Unit::BytesPerSecond, Limit::RatioAtLeast(SERVE_LIMIT), scores)
    }

    /// The frames of all chunks, as peers fetch them.
    fn delta(&self, listed: &Value) -> Result<Row> {
        let cairn = servers::curl([format!("http://{}{}", self.server.address(), delta_path(listed)?)]);
        let entrants = line_up(
            plain(CURL_NGINX, self.nginx_line()),
            std::iter::once(Entrant::new("cairn", Role::Candidate, move || cairn.run())),
        );
        let rates = Series::rates(to_f64(self.packs.1));
        let scores = take_turns(entrants, self.bench.options.repetitions, rates);
        Ok(self.row("serving frames", Unit::BytesPerSecond, Limit::RatioAtLeast(SERVE_LIMIT), scores))
    }

    /// Many clients at once, each of which wants a whole release.
    fn many(&self) -> Result<Row> {
        let [_, release] = two_releases(self.bench)?;
        let publisher = self.nodes.with_releases("many", std::slice::from_ref(&release))?;
        let server = self.nodes.serve(&publisher)?;
        let listed = first_object(&self.nodes.cairn.list_json(&publisher))?;
        let url = format!("http://{}{}", server.address(), delta_path(&listed)?);
        servers::curl_at_once(&url, if self.bench.options.scale.quick { 10 } else { CLIENTS }).run()?;
        let outcome = Outcome::Measured(Series::of_bytes(server.service().peak_resident_bytes()?));
        let row = self.row(
            "peak memory of a server after 200 clients at once",
            Unit::Bytes,
            Limit::AtMost(CLIENTS_MEMORY_LIMIT),
            vec![Score::new("cairn", Role::Candidate, outcome)],
        );
        Ok(Row { corpus: "uv", ..row })
    }
}

/// Where all data of a store's only artifact is.
fn delta_path(listed: &Value) -> Result<String> {
    let artifact = listed["artifact"]
        .as_str()
        .ok_or_else(|| Error::Wrong { program: "cairn".into(), what: "ls names no artifact".into() })?;
    Ok(format!("/v1/delta/none/{artifact}?part=chunks"))
}

/// The names of a store's packs, and the bytes of all.
fn packs(publisher: &Repo) -> Result<(Vec<String>, u64)> {
    let (mut names, mut bytes) = (Vec::new(), 0);
    crate::harness::walk(&publisher.store().join("packs"), &mut |path, metadata| {
        bytes += metadata.len();
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        Ok(())
    })?;
    names.sort();
    Ok((names, bytes))
}
