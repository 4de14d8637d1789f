//! 20: from one release of 60 MB to the next, over loopback, with the delta made: until the new one is shown.

use std::time::Duration;

use super::upgrade::Upgrade;
use crate::bars::Bench;
use crate::bars::exchange::nodes::{NAME, Nodes};
use crate::corpus::stream::{Pair, Stream};
use crate::error::{Error, Result};
use crate::harness::{
    Cost, Entrant, Limit, Line, Role, Row, Series, Unit, copy_tree, empty_folder, take_turns,
};

const LIMIT_S: f64 = 2.0;
const MADE_WITHIN: Duration = Duration::from_secs(600);
/// About 60 MB together.
const PROGRAMS: [&str; 4] = ["uv", "esbuild", "libssl3", "haproxy"];

pub(super) fn row(bench: &Bench) -> Result<Row> {
    let nodes = Nodes::new(bench, "flip")?;
    let pair = release(bench, &nodes)?;
    let upgrade = Upgrade::new(&nodes, &pair)?;
    nodes.cairn.use_packages(upgrade.node(), None, [format!("{NAME}@1")]).run()?;
    upgrade.node().save()?;
    if !upgrade.wait_for_delta(MADE_WITHIN)? {
        return Err(Error::Wrong { program: "cairn".into(), what: "no delta was made".into() });
    }
    let (node, address) = (upgrade.node(), upgrade.server().address());
    let spec = format!("{NAME}@2");
    let flip = |pull: &Line| {
        node.reset()?;
        let pulled = pull.run()?;
        let shown = nodes.cairn.use_packages(node, None, [spec.clone()]).run()?;
        Ok(Cost {
            wall_s: pulled.wall_s + shown.wall_s,
            cpu_s: pulled.cpu_s + shown.cpu_s,
            peak_resident_bytes: pulled.peak_resident_bytes.max(shown.peak_resident_bytes),
        })
    };
    let (with, without) =
        (nodes.cairn.pull(node, &spec, [address]), nodes.cairn.pull_plain(node, &spec, address));
    let entrants = vec![
        Entrant::new("cairn", Role::Candidate, || flip(&with)),
        Entrant::new("cairn, chunks alone", Role::Peer, || flip(&without)),
    ];
    let scores = take_turns(entrants, bench.options().repetitions, Series::walls);
    drop(upgrade);
    nodes.close()?;
    Ok(Row {
        bar: 20,
        what: "`pull` and `use`, the delta being made",
        corpus: "60 MB: uv, esbuild, libssl3, haproxy",
        unit: Unit::Seconds,
        limit: Limit::AtMost(LIMIT_S),
        scores,
    })
}

/// Several programs as one release, and the next.
fn release(bench: &Bench, nodes: &Nodes<'_>) -> Result<Pair> {
    let pair = Pair { old: nodes.join("release-1"), new: nodes.join("release-2") };
    empty_folder(&pair.old)?;
    empty_folder(&pair.new)?;
    for program in PROGRAMS {
        let of = Stream::named(bench.options(), program)?.last_pair()?;
        copy_tree(&of.old, &pair.old.join(program))?;
        copy_tree(&of.new, &pair.new.join(program))?;
    }
    Ok(pair)
}
