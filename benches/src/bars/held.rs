//! What is held already: restored (4), verified (4), added again after every file was touched (2), and added again
//! with nothing changed (3). Each tool's store is made once for all of them.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::{Bench, line_up, plain, seconds};
use crate::corpus::{Corpus, Input};
use crate::error::{Error, Result};
use crate::harness::{Cost, Entrant, Line, Role, Row, Score, Series, empty_folder, remove, take_turns};
use crate::tools::{Label, Repo, Tool, reference};

const RESTORE_LIMIT: f64 = 1.3;
const VERIFY_LIMIT: f64 = 1.5;
const TOUCHED_LIMIT: f64 = 1.5;
const UNCHANGED_LIMIT: f64 = 3.0;
const VERSION: u32 = 1;

/// Longer than the coarsest time stamps that a tool may assume. A file that changed about when it was read is read
/// again by careful tools, and the bar is about files that are unchanged for long; no event tells that time passed.
const SETTLE: Duration = Duration::from_millis(2500);

/// A tool with the input in its store, or why not.
struct Holder<'a> {
    tool: &'a dyn Tool,
    repo: Repo,
    held: Result<()>,
    /// Adds so far.
    turn: u32,
}

pub(super) fn rows(bench: &Bench, input: &Input, say: &dyn Fn(&str)) -> Vec<Row> {
    let say = |what: &str| say(&format!("{}: {what}", input.corpus.name()));
    say("filling the stores");
    let mut holders: Vec<Holder<'_>> =
        bench.entrants().map(|tool| Holder::fill(bench, tool, input)).collect();
    let mut rows = Vec::new();
    // The stores are read before they are added to again: every add leaves a little more to read.
    if bench.wants(4) {
        say("4 restore");
        rows.push(seconds(4, "restore", input.corpus, RESTORE_LIMIT, restore(bench, input, &holders)));
        say("4 verify");
        rows.push(seconds(4, "verify", input.corpus, VERIFY_LIMIT, verify(bench, input, &holders)));
    }
    if bench.wants(2) {
        say("2 held, touched");
        rows.push(seconds(
            2,
            "held, touched",
            input.corpus,
            TOUCHED_LIMIT,
            touched(bench, input, &mut holders),
        ));
    }
    if bench.wants(3) && input.corpus == Corpus::SmallFiles {
        say("3 unchanged");
        rows.push(seconds(
            3,
            "unchanged",
            input.corpus,
            UNCHANGED_LIMIT,
            unchanged(bench, input, &mut holders),
        ));
    }
    for holder in &holders {
        if let Err(error) = holder.repo.remove() {
            say(&error.chain());
        }
    }
    rows
}

impl<'a> Holder<'a> {
    fn fill(bench: &Bench, tool: &'a dyn Tool, input: &Input) -> Holder<'a> {
        let repo = bench.repo(tool);
        let held =
            tool.create(&repo).and_then(|()| tool.add(&repo, &input.tree, Label::first(VERSION)).run());
        Holder { tool, repo, held: held.map(drop), turn: 0 }
    }

    /// An entrant of the tool, out if the tool's store could not be filled.
    fn enter<'b>(&'b self, turn: impl FnMut() -> Result<Cost> + 'b) -> Entrant<'b> {
        match &self.held {
            Ok(()) => Entrant::new(self.tool.name(), self.tool.role(), turn),
            Err(error) => Entrant::out(self.tool.name(), self.tool.role(), error),
        }
    }

    fn enter_adding<'b>(
        &'b mut self,
        input: &'b Input,
        mut prepare: impl FnMut() -> Result<()> + 'b,
    ) -> Entrant<'b> {
        let Holder { tool, repo, held, turn } = self;
        if let Err(error) = held {
            return Entrant::out(tool.name(), tool.role(), error);
        }
        Entrant::new(tool.name(), tool.role(), move || {
            prepare()?;
            *turn += 1;
            tool.add(repo, &input.tree, Label { version: VERSION, turn: *turn }).run()
        })
    }
}

fn restore(bench: &Bench, input: &Input, holders: &[Holder<'_>]) -> Vec<Score> {
    let into = bench.scratch.join("restored");
    let cp = reference::cp(&input.tree, &into);
    let reference = Entrant::new(reference::CP, Role::Reference, || into_fresh(&into, &cp, None));
    let tools = holders.iter().map(|holder| {
        let line = holder.tool.restore(&holder.repo, VERSION, &into);
        let into = &into;
        // Proves once that cairn restores what was added; peers are believed.
        let mut unchecked = holder.tool.role() == Role::Candidate;
        holder.enter(move || into_fresh(into, &line, std::mem::take(&mut unchecked).then_some(input)))
    });
    take_turns(line_up(reference, tools), bench.options.repetitions, Series::walls)
}

/// Runs `line`, which writes into the folder `into`: made before and removed after, neither measured.
fn into_fresh(into: &Path, line: &Line, equal_to: Option<&Input>) -> Result<Cost> {
    empty_folder(into)?;
    let cost = line.run()?;
    if let Some(input) = equal_to {
        let diff =
            Line::new("diff").arg("-r").arg("--no-dereference").arg(&input.tree).arg(into.join("tree"));
        if diff.run().is_err() {
            return Err(Error::Wrong { program: line.program_name(), what: "restored other bytes".into() });
        }
    }
    remove(into)?;
    Ok(cost)
}

fn verify(bench: &Bench, input: &Input, holders: &[Holder<'_>]) -> Vec<Score> {
    let reference = plain(reference::B3SUM, reference::b3sum(&input.tree, &input.files));
    let tools = holders.iter().map(|holder| {
        let line = holder.tool.verify(&holder.repo);
        holder.enter(move || line.run())
    });
    take_turns(line_up(reference, tools), bench.options.repetitions, Series::walls)
}

fn touched(bench: &Bench, input: &Input, holders: &mut [Holder<'_>]) -> Vec<Score> {
    let reference = plain(reference::B3SUM, reference::b3sum(&input.tree, &input.files));
    let tools =
        holders.iter_mut().map(|holder| holder.enter_adding(input, || input.touch(bench.next_touch())));
    take_turns(line_up(reference, tools), bench.options.repetitions, Series::walls)
}

fn unchanged(bench: &Bench, input: &Input, holders: &mut [Holder<'_>]) -> Vec<Score> {
    sleep(SETTLE);
    // So that every tool has seen the files as they are now, and after they settled.
    for holder in holders.iter_mut().filter(|holder| holder.held.is_ok()) {
        holder.turn += 1;
        let label = Label { version: VERSION, turn: holder.turn };
        holder.held = holder.tool.add(&holder.repo, &input.tree, label).run().map(drop);
    }
    let reference = plain(reference::FIND, reference::find(&input.tree));
    let tools = holders.iter_mut().map(|holder| holder.enter_adding(input, || Ok(())));
    take_turns(line_up(reference, tools), bench.options.repetitions, Series::walls)
}
