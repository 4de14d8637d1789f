//! 6: the memory of an ingest, whatever its size: one file that is far larger than the limit.

use std::path::Path;

use super::Bench;
use crate::corpus;
use crate::harness::{Entrant, Limit, Outcome, Role, Row, Score, Series, Unit, remove, take_turns, to_f64};
use crate::tools::{Label, Tool};

const LIMIT_BYTES: u64 = 256 << 20;
/// A peak differs little from run to run, and a run takes long.
const CAIRN_TURNS: usize = 3;
/// The file, a store of it, and what a tool puts beside it.
const ROOM_FACTOR_TENTHS: u64 = 22;

pub(super) fn row(bench: &Bench) -> Row {
    let folder = bench.scratch.join("big");
    let bytes = bench.options.scale.big_file_bytes;
    let room = bench.scratch.need("the file of bar 6 with a store of it", bytes / 10 * ROOM_FACTOR_TENTHS);
    let scores = match room.and_then(|()| corpus::big_file(&folder, bytes)) {
        Ok(()) => {
            let entrant = |tool| entrant(bench, tool, &folder);
            let (cairn, peers): (Vec<&dyn Tool>, Vec<&dyn Tool>) =
                bench.entrants().partition(|tool| tool.role() == Role::Candidate);
            let mut scores = take_turns(cairn.into_iter().map(entrant).collect(), CAIRN_TURNS, Series::peaks);
            scores.extend(take_turns(peers.into_iter().map(entrant).collect(), 1, Series::peaks));
            scores
        }
        Err(error) => {
            vec![Score::new("cairn", Role::Candidate, Outcome::Failed(format!("SKIPPED: {}", error.chain())))]
        }
    };
    // The work folder is removed in any case; this only makes room earlier.
    let _ = remove(&folder);
    Row {
        bar: 6,
        what: "peak memory of one big file",
        corpus: "big-file",
        unit: Unit::Bytes,
        limit: Limit::AtMost(to_f64(LIMIT_BYTES)),
        scores,
    }
}

fn entrant<'a>(bench: &Bench, tool: &'a dyn Tool, folder: &'a Path) -> Entrant<'a> {
    let repo = bench.repo(tool);
    let turn = move || {
        tool.create(&repo)?;
        let cost = tool.add(&repo, folder, Label::first(1)).run();
        repo.remove()?;
        cost
    };
    Entrant::new(tool.name(), tool.role(), turn)
}
