//! The bars: for each what is run, beside what, and the limit. The numbers are those of the table.
//!
//! 1 [`new_data`], 2 [`held`] and [`next_state`], 3 and 4 [`held`], 5 [`stored`], 6 [`memory`] and [`index`],
//! 7 [`start_up`]; of the mount 8 [`reading`], 9 [`metadata`], 10 [`flip`], 11 [`generations`]; between stores 12 to 15
//! [`exchange`]; 16 to 18 [`upkeep`]; 19 to 22 [`deltas`]; 23 [`snapshots`]; 24 to 26 [`joins`];
//! 27 and 28 [`sources`].

mod deltas;
mod exchange;
mod flip;
mod generations;
mod held;
mod index;
mod joins;
mod memory;
mod metadata;
mod new_data;
mod next_state;
mod reading;
mod snapshots;
mod sources;
mod start_up;
mod stored;
mod upkeep;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use crate::corpus::Corpus;
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::harness::{
    Cost, Entrant, Limit, Line, Machine, Outcome, Role, Row, Score, Scratch, Subject, Unit,
};
use crate::options::Options;
use crate::run::Programs;
use crate::tools::{Borg, Cairn, Casync, Repo, Restic, Tool, reference};

/// What the work folder has room for at least, whatever is measured in it.
const ROOM_BYTES: u64 = 3 << 30;

pub(crate) struct Bench {
    options: Options,
    scratch: Scratch,
    cairn: Cairn,
    /// Cairn, then the peers.
    tools: Vec<Box<dyn Tool>>,
    programs: Programs,
    /// The next time that files are touched to, in seconds since 1970.
    touched_s: Cell<i64>,
}

impl Bench {
    pub(crate) fn new(options: Options, programs: Programs) -> Result<Bench> {
        let scratch = Scratch::new(options.work.as_deref())?;
        if !options.scale.quick {
            scratch.need("the bench", ROOM_BYTES)?;
        }
        let cairn = Cairn::locate()?;
        let tools: Vec<Box<dyn Tool>> =
            vec![Box::new(cairn.clone()), Box::new(Casync), Box::new(Restic), Box::new(Borg)];
        let touched_s = Cell::new(1_500_000_000);
        Ok(Bench { options, scratch, cairn, tools, programs, touched_s })
    }

    pub(crate) fn work(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn machine(&self, cores: usize) -> Machine {
        let first_line = |says: Result<String>| match says {
            Ok(text) => text.lines().next().unwrap_or_default().trim_matches(['*', ' ']).to_owned(),
            Err(error) => error.to_string(),
        };
        let tools = self.tools.iter().map(|tool| (tool.name().to_owned(), first_line(tool.version())));
        let references = reference::versions().into_iter().chain(crate::sites::versions());
        let references = references.map(|(name, line)| (name.to_owned(), first_line(line.output())));
        Machine::describe(self.work(), cores, tools.chain(references).collect())
    }

    /// Measures what was asked for; `say` is told what is going on.
    pub(crate) fn run(&self, say: &dyn Fn(&str)) -> (Vec<Row>, Vec<Subject>) {
        let (mut rows, mut subjects) = (Vec::new(), Vec::new());
        let wanted = |corpus: &Corpus| self.options.wants_corpus(corpus.name());
        if [1, 2, 3, 4, 5].iter().any(|bar| self.wants(*bar)) {
            for corpus in Corpus::ALL.into_iter().filter(wanted) {
                say(&format!("{}: preparing", corpus.name()));
                self.measure_corpus(corpus, say, &mut rows, &mut subjects);
            }
        }
        if self.options.wants_own_bar(6) {
            say("6 memory");
            rows.push(memory::row(self));
            rows.extend(index::rows(self));
        }
        if self.options.wants_own_bar(7) {
            say("7 start-up");
            rows.push(start_up::row(self));
        }
        self.measure_mounts(say, &mut rows);
        self.measure_exchange(say, &mut rows);
        rows.sort_by_key(|row| row.bar);
        (rows, subjects)
    }

    fn measure_corpus(
        &self,
        corpus: Corpus,
        say: &dyn Fn(&str),
        rows: &mut Vec<Row>,
        subjects: &mut Vec<Subject>,
    ) {
        let folder = self.scratch.join("input");
        let input = match corpus.prepare(&self.options, &folder) {
            Ok(input) => input,
            Err(error) => {
                say(&error.chain());
                rows.push(unmeasured(corpus, &error));
                return;
            }
        };
        subjects.push(input.subject());
        if self.wants(1) {
            say(&format!("{}: 1 new data", corpus.name()));
            rows.push(new_data::row(self, &input));
        }
        if [2, 3, 4].iter().any(|bar| self.wants(*bar)) {
            rows.extend(held::rows(self, &input, say));
        }
        if self.wants(2) && corpus == Corpus::State {
            say(&format!("{}: 2 next state", corpus.name()));
            rows.extend(next_state::rows(self));
        }
        if self.wants(5) && matches!(corpus, Corpus::UvAll | Corpus::State | Corpus::SmallFiles) {
            say(&format!("{}: 5 stored bytes", corpus.name()));
            rows.push(stored::row(self, &input));
        }
        if let Err(error) = crate::harness::remove(&folder) {
            say(&error.chain());
        }
    }

    /// The bars of the mount; on a machine where there can be none of them, each with the reason.
    fn measure_mounts(&self, say: &dyn Fn(&str), rows: &mut Vec<Row>) {
        type Measure = fn(&Bench, &Ground) -> Result<Vec<Row>>;
        let bars: [(u8, &'static str, Measure); 6] = [
            (8, "mount: reading", reading::rows),
            (9, "mount: metadata", metadata::rows),
            (10, "mount: flip", flip::rows),
            (11, "mount: generations", generations::rows),
            (15, "exchange: lazy", exchange::lazy),
            (16, "upkeep: collection", upkeep::collect),
        ];
        for (bar, what, measure) in bars.into_iter().filter(|(bar, ..)| self.options.wants_own_bar(*bar)) {
            say(&format!("{bar} {what}"));
            // Each has a ground of its own, so that nothing of one is in the way of the next.
            let ground = Ground::new(&self.options, &self.cairn, self.programs.probe);
            let measured = ground.and_then(|ground| measure(self, &ground));
            rows.extend(measured.unwrap_or_else(|error| vec![failed(bar, what, &error)]));
        }
    }

    /// What moves between stores, and what keeps one sound.
    fn measure_exchange(&self, say: &dyn Fn(&str), rows: &mut Vec<Row>) {
        type Measure = fn(&Bench) -> Result<Vec<Row>>;
        let bars: [(u8, &'static str, Measure); 15] = [
            (12, "exchange: upgrade", exchange::upgrade),
            (13, "exchange: speed", exchange::speed),
            (14, "exchange: swarm", exchange::swarm),
            (17, "upkeep: verify", upkeep::verify),
            (18, "upkeep: recovery", upkeep::recovery),
            (19, "deltas: on the wire", deltas::wire),
            (20, "deltas: codecs", deltas::codecs),
            (21, "deltas: unrelated", deltas::unrelated),
            (22, "deltas: in the store", deltas::stored),
            (23, "snapshots", snapshots::rows),
            (24, "joins: transfer", joins::transfer),
            (25, "joins: beside events", joins::busy),
            (26, "joins: many at once", joins::at_once),
            (27, "sources: build machines", sources::machine),
            (28, "sources: releases", sources::release),
        ];
        for (bar, what, measure) in bars.into_iter().filter(|(bar, ..)| self.options.wants_own_bar(*bar)) {
            say(&format!("{bar} {what}"));
            rows.extend(measure(self).unwrap_or_else(|error| vec![failed(bar, what, &error)]));
        }
    }

    fn wants(&self, bar: u8) -> bool {
        self.options.wants_bar(bar)
    }

    /// Cairn, and the peers unless they are to be left out.
    fn entrants(&self) -> impl Iterator<Item = &dyn Tool> {
        let peers = self.options.peers;
        self.tools.iter().map(Box::as_ref).filter(move |tool| peers || tool.role() == Role::Candidate)
    }

    /// The program that measures from inside a process, told to do `task`.
    fn probe(&self, task: &str) -> Result<Line> {
        Ok(Line::new(self.probe_path()?).arg(task))
    }

    fn probe_path(&self) -> Result<PathBuf> {
        let program = self.programs.probe.ok_or_else(|| Error::NotInstalled { program: "probe".into() })?;
        Ok(program.into())
    }

    fn repo(&self, tool: &dyn Tool) -> Repo {
        Repo::new(self.scratch.join("stores").join(tool.name()))
    }

    /// A time in the past at which nothing was touched yet.
    fn next_touch(&self) -> i64 {
        self.touched_s.set(self.touched_s.get() + 1);
        self.touched_s.get()
    }
}

/// A reference: the same command each turn, nothing to prepare.
fn plain<'a>(name: &str, line: Line) -> Entrant<'a> {
    Entrant::new(name, Role::Reference, move || line.run())
}

/// An entrant whose preparation may have failed: it is out then, with the reason.
fn ready<'a>(tool: &'a dyn Tool, setup: Result<()>, turn: impl FnMut() -> Result<Cost> + 'a) -> Entrant<'a> {
    match setup {
        Ok(()) => Entrant::new(tool.name(), tool.role(), turn),
        Err(error) => Entrant::out(tool.name(), tool.role(), &error),
    }
}

/// In the order of their turns: the reference and cairn next to each other, then the peers.
fn line_up<'a>(reference: Entrant<'a>, tools: impl Iterator<Item = Entrant<'a>>) -> Vec<Entrant<'a>> {
    std::iter::once(reference).chain(tools).collect()
}

fn seconds(bar: u8, what: &'static str, corpus: Corpus, at_most: f64, scores: Vec<Score>) -> Row {
    Row { bar, what, corpus: corpus.name(), unit: Unit::Seconds, limit: Limit::RatioAtMost(at_most), scores }
}

/// The line of a bar that could not be measured at all.
fn failed(bar: u8, what: &'static str, error: &Error) -> Row {
    let scores = vec![Score::new("cairn", Role::Candidate, Outcome::Failed(error.chain()))];
    Row { bar, what, corpus: "–", unit: Unit::Seconds, limit: Limit::AtMost(0.0), scores }
}

/// The line of a corpus that could not be prepared: none of its bars is measured.
fn unmeasured(corpus: Corpus, error: &Error) -> Row {
    let failed = Score::new("cairn", Role::Candidate, Outcome::Failed(error.chain()));
    seconds(1, "all bars of this corpus", corpus, 1.0, vec![failed])
}
