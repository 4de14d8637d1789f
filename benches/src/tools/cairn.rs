//! The candidate: the release binary, as a user has it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Label, Repo, Tool};
use crate::error::{Error, Result};
use crate::harness::{Line, Role};
use crate::options::workspace;

const NAME: &str = "bench";

#[derive(Clone, Debug)]
pub(crate) struct Cairn {
    program: PathBuf,
}

impl Cairn {
    /// `CAIRN_BIN`, else this workspace's release binary, which is built first: a binary that is there may be stale.
    pub(crate) fn locate() -> Result<Cairn> {
        if let Some(program) = env::var_os("CAIRN_BIN") {
            return Ok(Cairn { program: workspace().join(program) });
        }
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Line::new(cargo)
            .args(["build", "--release", "--workspace", "--bin", "cairn", "--bin", "kv-node"])
            .folder(&workspace())
            .run()?;
        // A bench runs as <target>/release/deps/bars-<hash>.
        let bench = env::current_exe().map_err(Error::io("find", Path::new("this program")))?;
        let profile = bench.ancestors().find(|folder| folder.ends_with("release"));
        let program =
            profile.map_or_else(|| workspace().join("target/release"), Path::to_owned).join("cairn");
        if !program.is_file() {
            return Err(Error::NotInstalled { program: program.display().to_string() });
        }
        Ok(Cairn { program })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Serves a store with a stream of which all that a bar produces is kept.
    pub(crate) fn serve_network(&self, repo: &Repo, address: SocketAddr) -> Line {
        self.serve(repo, address).args(["--stream-bytes-max", "4GiB"])
    }

    /// A token that lets producers in, printed.
    pub(crate) fn token(&self, repo: &Repo) -> Line {
        self.on(repo).args(["token", "create", "--scope", "publish"])
    }

    /// Takes a snapshot of a state; `how` is the rest of the command.
    pub(crate) fn snapshot_of_network<A: AsRef<OsStr>>(
        &self,
        repo: &Repo,
        name: &str,
        dir: &Path,
        how: impl IntoIterator<Item = A>,
    ) -> Line {
        self.on(repo).args(["snapshot", "create", name]).arg(dir).args(how)
    }

    /// Brings what a file declares; downloads lie beside the store, so that they are as new as that.
    pub(crate) fn sync<'a>(
        &self,
        repo: &Repo,
        config: &Path,
        how: impl IntoIterator<Item = &'a str>,
    ) -> Line {
        self.on(repo)
            .arg("sync")
            .arg("--config")
            .arg(config)
            .args(how)
            .env("CAIRN_CACHE", repo.store().join("cache"))
    }

    /// Gets the newest state of a network, into a folder.
    pub(crate) fn join(
        &self,
        repo: &Repo,
        name: &str,
        from: impl IntoIterator<Item = SocketAddr>,
        to: &Path,
    ) -> Line {
        self.from(self.on(repo).args(["join", name]), from).arg("--to").arg(to)
    }

    /// Lists everything that is in the store.
    pub(crate) fn list(&self, repo: &Repo) -> Line {
        self.on(repo).arg("ls")
    }

    /// Adds under a name of its own.
    pub(crate) fn add_named(&self, repo: &Repo, tree: &Path, name: &str) -> Line {
        self.on(repo).arg("add").arg(tree).args(["--name", name, "--version", "1"])
    }

    pub(crate) fn add_version(&self, repo: &Repo, tree: &Path, name: &str, version: u64) -> Line {
        self.on(repo).arg("add").arg(tree).args(["--name", name, "--version", &version.to_string()])
    }

    /// A generation with these packages more.
    pub(crate) fn use_packages(
        &self,
        repo: &Repo,
        profile: Option<&str>,
        specs: impl IntoIterator<Item = String>,
    ) -> Line {
        of_profile(self.on(repo).arg("use").args(specs), profile)
    }

    pub(crate) fn switch(&self, repo: &Repo, profile: Option<&str>, generation: u64) -> Line {
        of_profile(self.on(repo).arg("switch").arg(generation.to_string()), profile)
    }

    /// Takes a snapshot, and says what it came to as JSON.
    pub(crate) fn snapshot(&self, repo: &Repo, state: &Path, round: u64) -> Line {
        let line = self.on(repo).args(["--json", "snapshot", "create", NAME]).arg(state);
        line.args(["--round", &round.to_string()])
    }

    /// Runs until it is told to end. `mounts` are folders, each with `=PROFILE` or without.
    pub(crate) fn daemon(&self, repo: &Repo, mounts: &[OsString]) -> Line {
        mounts.iter().fold(self.on(repo).arg("daemon"), |line, mount| line.arg("--mount").arg(mount))
    }

    /// What a daemon says of itself and its mounts, as JSON.
    pub(crate) fn status(&self, repo: &Repo) -> Line {
        self.on(repo).arg("--json").arg("status")
    }

    /// Serves the store to peers until it is told to end.
    pub(crate) fn serve(&self, repo: &Repo, address: SocketAddr) -> Line {
        let line = self.on(repo).arg("serve").arg("--listen").arg(address.to_string());
        // All clients are one to it here, and it is asked for more than one of many should have.
        line.args(["--rate", "100000", "--transfers", "256", "--transfers-client", "256"])
    }

    /// Brings an artifact and its name from peers.
    pub(crate) fn pull(&self, repo: &Repo, spec: &str, from: impl IntoIterator<Item = SocketAddr>) -> Line {
        self.from(self.on(repo).arg("pull").arg(spec), from)
    }

    /// The same from one peer, for what it says of it in JSON.
    pub(crate) fn pull_json(&self, repo: &Repo, spec: &str, from: SocketAddr) -> Line {
        self.from(self.on(repo).args(["--json", "pull", spec]), [from])
    }

    /// As if the server and the client knew no deltas.
    pub(crate) fn pull_plain(&self, repo: &Repo, spec: &str, from: SocketAddr) -> Line {
        self.from(self.on(repo).args(["pull", spec, "--delta", "never"]), [from])
    }

    /// Serves the store, with deltas to the newest versions made ahead from so many before.
    pub(crate) fn serve_prepared(&self, repo: &Repo, address: SocketAddr, versions: u32) -> Line {
        self.serve(repo, address).args(["--prepare-deltas", &versions.to_string()])
    }

    /// Shows an artifact whose bytes come when they are read.
    pub(crate) fn use_lazily(
        &self,
        repo: &Repo,
        spec: &str,
        from: impl IntoIterator<Item = SocketAddr>,
    ) -> Line {
        self.from(self.on(repo).args(["use", spec, "--require", "lazy"]), from)
    }

    fn from(&self, line: Line, from: impl IntoIterator<Item = SocketAddr>) -> Line {
        from.into_iter().fold(line, |line, address| line.args(["--from", &format!("http://{address}")]))
    }

    /// Frees what nothing needs; by the daemon, where one runs.
    pub(crate) fn collect(&self, repo: &Repo) -> Line {
        self.on(repo).arg("gc")
    }

    /// Tells older versions in terms of newer ones.
    pub(crate) fn optimise(&self, repo: &Repo) -> Line {
        self.on(repo).arg("optimise")
    }

    /// Writes all of an artifact to a folder that is not there.
    pub(crate) fn export(&self, repo: &Repo, spec: &str, into: &Path) -> Line {
        self.on(repo).args(["export", spec]).arg(into)
    }

    /// Mends what is damaged, with what a peer has.
    pub(crate) fn repair(&self, repo: &Repo, from: SocketAddr) -> Line {
        self.from(self.on(repo).arg("repair"), [from])
    }

    /// Verifies everything, as JSON.
    pub(crate) fn verify_json(&self, repo: &Repo) -> Line {
        self.on(repo).args(["--json", "verify"])
    }

    /// What a node that has one version lacks of another, as JSON.
    pub(crate) fn difference(&self, repo: &Repo, from: &str, to: &str) -> Line {
        self.on(repo).args(["--json", "diff", from, to, "--bytes"])
    }

    /// What is in the store, as JSON.
    pub(crate) fn list_json(&self, repo: &Repo) -> Line {
        self.on(repo).args(["--json", "ls"])
    }

    fn on(&self, repo: &Repo) -> Line {
        repo.line(&self.program).arg("--store").arg(repo.store())
    }
}

fn of_profile(line: Line, profile: Option<&str>) -> Line {
    match profile {
        Some(profile) => line.args(["--profile", profile]),
        None => line,
    }
}

impl Tool for Cairn {
    fn name(&self) -> &'static str {
        "cairn"
    }

    fn role(&self) -> Role {
        Role::Candidate
    }

    fn version(&self) -> Result<String> {
        let says = Line::new(&self.program).arg("--version").output()?;
        if env::var_os("CAIRN_BIN").is_some() {
            return Ok(format!("{says} (CAIRN_BIN)"));
        }
        // The commit is only known in a clone.
        let git =
            |args: &[&str]| Line::new("git").args(args.iter().map(OsStr::new)).folder(&workspace()).output();
        match (git(&["rev-parse", "--short=12", "HEAD"]), git(&["status", "--porcelain"])) {
            (Ok(commit), Ok(changes)) if changes.is_empty() => Ok(format!("{says}, commit {commit}")),
            (Ok(commit), _) => Ok(format!("{says}, commit {commit} with changes")),
            _ => Ok(says),
        }
    }

    /// The first `add` makes the store.
    fn create(&self, repo: &Repo) -> Result<()> {
        repo.fresh()
    }

    fn add(&self, repo: &Repo, tree: &Path, label: Label) -> Line {
        let version = label.version.to_string();
        self.on(repo).arg("add").arg(tree).args(["--name", NAME, "--version", &version])
    }

    fn restore(&self, repo: &Repo, version: u32, into: &Path) -> Line {
        self.on(repo).arg("export").arg(format!("{NAME}@{version}")).arg(into.join("tree"))
    }

    fn verify(&self, repo: &Repo) -> Line {
        self.on(repo).arg("verify")
    }
}
