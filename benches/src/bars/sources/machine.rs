//! 27: what passes between a build machine and a node, both ways and with all that SSH adds, when nothing was built, when the program was
//! built again, and when little of it was changed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::bars::Bench;
use crate::bars::exchange::nodes::{Nodes, two_releases};
use crate::bars::exchange::through;
use crate::corpus;
use crate::error::{Error, Result};
use crate::harness::{Limit, Line, Outcome, Role, Row, Score, Series, Unit, empty_folder, to_f64, walk};
use crate::tools::{Repo, Server};

/// What the program is made of.
const CORPUS: &str = "60 MB: uv, esbuild and filling";
/// What may pass when nothing was built.
const UNCHANGED_BYTES_MAX: f64 = 65_536.0;
const PROGRAM: &str = "uv";
/// As long as the bar says, in bytes.
const PROGRAM_BYTES: u64 = 60_000_000;
/// What is put into the middle of the program that is changed a little, in bytes.
const INSERTED: usize = 1000;

/// A machine that has a program, and what is in between.
struct Machine<'a> {
    nodes: Nodes<'a>,
    server: Server,
    /// Where `sshd` and its clients have their keys.
    keys: PathBuf,
    /// Where the programs lie on the machine.
    folder: PathBuf,
}

pub(in crate::bars) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let nodes = Nodes::new(bench, "machine")?;
    let (old, new) = (nodes.join("old"), nodes.join("new"));
    let [older, newer] = two_releases(bench)?;
    let [older_part, newer_part] = corpus::last_two(bench.options(), "esbuild")?;
    make_program(&old, &[older, older_part])?;
    make_program(&new, &[newer, newer_part])?;
    let (keys, folder) = (nodes.join("ssh"), nodes.join("built"));
    empty_folder(&folder)?;
    let server = Server::sshd(&keys, &nodes.janitor)?;
    let machine = Machine { nodes, server, keys, folder };
    let patched = machine.nodes.join("patched");
    patch(&old, &patched)?;
    let turns = bench.options().repetitions;
    let rows = vec![
        machine.row(
            "sync of an unchanged build, bytes both ways",
            Limit::AtMost(UNCHANGED_BYTES_MAX),
            &old,
            &old,
            turns,
        )?,
        machine.row(
            "sync of a rebuilt program, bytes both ways",
            Limit::RatioBelow(1.0),
            &old,
            &new,
            turns,
        )?,
        machine.row(
            "sync of a patched program, bytes both ways",
            Limit::RatioBelow(1.0),
            &old,
            &patched,
            turns,
        )?,
        machine.peak(&old, &new)?,
    ];
    machine.nodes.close()?;
    Ok(rows)
}

/// A program of 60 MB as a build makes it: the programs of releases, one behind the other, and up to that length bytes that are the
/// same in every build, as what is embedded is.
fn make_program(to: &Path, releases: &[PathBuf]) -> Result<()> {
    let mut bytes = Vec::new();
    for release in releases {
        let program = program_of(release)?;
        bytes.extend(std::fs::read(&program).map_err(Error::io("read", &program))?);
    }
    let filling = to.with_extension("filling");
    corpus::write_random(&filling, PROGRAM_BYTES, 7)?;
    let same = std::fs::read(&filling).map_err(Error::io("read", &filling))?;
    std::fs::remove_file(&filling).map_err(Error::io("remove", &filling))?;
    bytes.extend(&same[..same.len().saturating_sub(bytes.len())]);
    std::fs::write(to, bytes).map_err(Error::io("write", to))
}

/// The longest file of a release: its program.
fn program_of(release: &Path) -> Result<PathBuf> {
    let mut longest = (0, PathBuf::new());
    walk(release, &mut |path, metadata| {
        if metadata.is_file() && metadata.len() > longest.0 {
            longest = (metadata.len(), path.to_owned());
        }
        Ok(())
    })?;
    Ok(longest.1)
}

/// Puts some bytes into the middle, so that all behind them moves.
fn patch(from: &Path, to: &Path) -> Result<()> {
    let mut bytes = std::fs::read(from).map_err(Error::io("read", from))?;
    let middle = bytes.len() / 2;
    bytes.splice(middle..middle, (0..INSERTED).map(|nth| u8::try_from(nth % 251).unwrap_or(0)));
    std::fs::write(to, bytes).map_err(Error::io("write", to))
}

impl Machine<'_> {
    /// Puts a program on the machine.
    fn build(&self, program: &Path) -> Result<()> {
        let to = self.folder.join(PROGRAM);
        std::fs::copy(program, &to).map(drop).map_err(Error::io("copy", program))
    }

    fn sync(&self, repo: &Repo, at: SocketAddr) -> Result<Line> {
        let config = self.nodes.join("cairn.toml");
        let (keys, folder) = (self.keys.display(), self.folder.display());
        let text = format!(
            "[packages.{PROGRAM}]\nbinaries = [\"{PROGRAM}\"]\n[packages.{PROGRAM}.ssh]\nmachines = [\"builder\"]\n\
             path = \"{folder}/{{binary}}\"\nssh = [\"ssh\", \"-F\", \"{keys}/config\", \"-p\", \"{}\"]\n",
            at.port()
        );
        std::fs::write(&config, text).map_err(Error::io("write", &config))?;
        Ok(self.nodes.cairn.sync(repo, &config, [PROGRAM]))
    }

    fn rsync(&self, copy: &Path, at: SocketAddr) -> Line {
        let shell = format!("ssh -F {}/config -p {}", self.keys.display(), at.port());
        // What is compared is content: the times of a build say nothing.
        let line = Line::new("rsync").args(["--compress", "--checksum", "--rsh", &shell]);
        line.arg(format!("builder:{}/{PROGRAM}", self.folder.display())).arg(copy)
    }

    /// What passes when `old` is here and `new` is there.
    fn row(&self, what: &'static str, limit: Limit, old: &Path, new: &Path, turns: usize) -> Result<Row> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            let node = self.nodes.empty("node")?;
            self.build(old)?;
            self.sync(&node, self.server.address())?.run()?;
            self.build(new)?;
            let mut failed = None;
            let passed = through(&self.server, |at| {
                self.sync(&node, at).unwrap_or_else(|error| {
                    failed = Some(error);
                    Line::new("false")
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            let passed = passed?;
            ours.push(to_f64(passed.down + passed.up));
            node.remove()?;
            let copy = self.nodes.join("copy");
            std::fs::copy(old, &copy).map_err(Error::io("copy", old))?;
            let passed = through(&self.server, |at| self.rsync(&copy, at))?;
            theirs.push(to_f64(passed.down + passed.up));
            std::fs::remove_file(&copy).map_err(Error::io("remove", &copy))?;
        }
        let score = |name, role, values| Score::new(name, role, Outcome::Measured(Series::of_values(values)));
        let role = if limit.needs_reference() { Role::Reference } else { Role::Peer };
        Ok(Row {
            bar: 27,
            what,
            corpus: CORPUS,
            unit: Unit::Bytes,
            limit,
            scores: vec![score("`rsync -z`", role, theirs), score("cairn", Role::Candidate, ours)],
        })
    }

    /// What it takes of memory.
    fn peak(&self, old: &Path, new: &Path) -> Result<Row> {
        let node = self.nodes.empty("node")?;
        self.build(old)?;
        self.sync(&node, self.server.address())?.run()?;
        self.build(new)?;
        let cost = self.sync(&node, self.server.address())?.run()?;
        node.remove()?;
        Ok(super::release::peak_row(27, "peak memory of that sync", CORPUS, vec![cost]))
    }
}
