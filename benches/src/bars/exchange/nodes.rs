//! Two stores: one that serves releases, and one that fetches them.

use std::path::{Path, PathBuf};

use crate::bars::Bench;
use crate::corpus;
use crate::error::{Error, Result};
use crate::harness::{Janitor, Line, Link, Quality, empty_folder};
use crate::tools::{Cairn, Repo, Server, Tool as _};

pub(in crate::bars) const NAME: &str = "uv";
/// 100 Mbit/s.
pub(in crate::bars) const THIN_BYTES_PER_S: f64 = 12.5e6;

/// The stores of a bar, in a folder of their own that goes with them.
pub(in crate::bars) struct Nodes<'a> {
    folder: PathBuf,
    pub(in crate::bars) cairn: &'a Cairn,
    // Dropped last: whatever still runs is ended by it.
    pub(in crate::bars) janitor: Janitor,
}

impl<'a> Nodes<'a> {
    pub(in crate::bars) fn new(bench: &'a Bench, name: &str) -> Result<Nodes<'a>> {
        let folder = bench.scratch.join(name);
        empty_folder(&folder)?;
        Ok(Nodes { folder, cairn: &bench.cairn, janitor: Janitor::start(&bench.probe_path()?)? })
    }

    pub(in crate::bars) fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(in crate::bars) fn repo(&self, name: &str) -> Repo {
        Repo::new(self.join(name))
    }

    /// A store of this name with nothing in it.
    pub(in crate::bars) fn empty(&self, name: &str) -> Result<Repo> {
        let repo = self.repo(name);
        self.cairn.create(&repo)?;
        Ok(repo)
    }

    /// A store with these releases, versions 1 and on.
    pub(in crate::bars) fn with_releases(&self, name: &str, releases: &[PathBuf]) -> Result<Repo> {
        let repo = self.empty(name)?;
        for (release, version) in releases.iter().zip(1..) {
            self.cairn.add_version(&repo, release, NAME, version).run()?;
        }
        Ok(repo)
    }

    pub(in crate::bars) fn serve(&self, repo: &Repo) -> Result<Server> {
        Server::cairn(self.cairn, repo, &self.janitor)
    }

    /// Forgets everything; the folder of the bench goes in any case.
    pub(in crate::bars) fn close(self) -> Result<()> {
        crate::harness::remove(&self.folder)
    }
}

/// A line to a server.
pub(in crate::bars) fn line_to(server: &Server, quality: Quality) -> Result<Link> {
    Link::to(server.address(), quality).map_err(Error::io("make", Path::new("a line")))
}

/// The last two releases of uv.
pub(in crate::bars) fn two_releases(bench: &Bench) -> Result<[PathBuf; 2]> {
    let mut releases = corpus::uv_sources(&bench.options)?.into_iter().rev();
    let (new, old) = (releases.next(), releases.next());
    let missing = || Error::NoCorpus { name: "uv-all", path: bench.options.corpus.clone() };
    Ok([old.ok_or_else(missing)?, new.ok_or_else(missing)?])
}

/// What a command says in JSON: its first line.
pub(in crate::bars) fn first_object(line: &Line) -> Result<serde_json::Value> {
    let (_, printed) = line.run_reading()?;
    let wrong = |what: String| Error::Wrong { program: line.program_name(), what };
    serde_json::from_str(printed.lines().next().unwrap_or_default())
        .map_err(|error| wrong(format!("no figures: {error}")))
}

/// The sum of two figures of the last object that a command prints in JSON.
pub(in crate::bars) fn last_object(line: &Line) -> Result<serde_json::Value> {
    let (_, printed) = line.run_reading()?;
    let wrong = |what: String| Error::Wrong { program: line.program_name(), what };
    serde_json::from_str(printed.lines().last().unwrap_or_default())
        .map_err(|error| wrong(format!("no figures: {error}")))
}
