//! The example program, a small replicated key-value store: the state and the events of the bars about joining.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Cairn;
use crate::error::{Error, Result};
use crate::harness::Line;

/// The name of its network.
pub(crate) const NETWORK: &str = "kv";
/// Bytes of a value of a state to begin with.
const VALUE_BYTES: u64 = 4000;

#[derive(Clone, Debug)]
pub(crate) struct KvNode {
    program: PathBuf,
}

/// What a producer writes, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Rounds each time, and milliseconds between times.
    pub(crate) burst: u32,
    pub(crate) interval_ms: u32,
    /// Writes of a round, bytes of each, and how many keys there are for them.
    pub(crate) writes: u32,
    pub(crate) value_bytes: u32,
    pub(crate) keys: u64,
    /// After so many rounds it ends.
    pub(crate) rounds: Option<u64>,
}

impl KvNode {
    /// The one beside cairn.
    pub(crate) fn beside(cairn: &Cairn) -> Result<KvNode> {
        let program = cairn.program().with_file_name("kv-node");
        if !program.is_file() {
            return Err(Error::NotInstalled { program: program.display().to_string() });
        }
        Ok(KvNode { program })
    }

    /// Makes a state of about so many bytes, at round 0.
    pub(crate) fn init(&self, dir: &Path, bytes: u64) -> Line {
        let entries = (bytes / VALUE_BYTES).max(1).to_string();
        let line = Line::new(&self.program).arg("init").arg(dir).args(["--entries", &entries]);
        line.args(["--value-bytes", &VALUE_BYTES.to_string()])
    }

    /// A producer.
    pub(crate) fn produce(&self, dir: &Path, at: SocketAddr, token: &Path, pace: &Pace) -> Line {
        let line = self.run("bootstrap", dir, at).arg("--token").arg(token);
        let interval = format!("{}ms", pace.interval_ms);
        let line = line.args(["--burst", &pace.burst.to_string(), "--interval", &interval]);
        let line = line.args(["--writes", &pace.writes.to_string(), "--keys", &pace.keys.to_string()]);
        let line = line.args(["--value-bytes", &pace.value_bytes.to_string()]);
        match pace.rounds {
            Some(rounds) => line.args(["--rounds", &rounds.to_string()]),
            None => line,
        }
    }

    /// One that follows.
    pub(crate) fn listen(&self, dir: &Path, at: SocketAddr) -> Line {
        self.run("listener", dir, at)
    }

    fn run(&self, role: &str, dir: &Path, at: SocketAddr) -> Line {
        let stream = format!("http://{at}/v1/streams/{NETWORK}");
        let line = Line::new(&self.program).keep_from("KV_").args(["run", "--role", role]);
        line.args(["--stream", &stream]).arg("--dir").arg(dir)
    }

    /// The round of a running node; none while it does not answer.
    pub(crate) fn round(&self, dir: &Path) -> Option<u64> {
        let said = Line::new(&self.program).arg("round").arg(socket(dir)).output().ok()?;
        said.split(' ').next()?.parse().ok()
    }

    /// Round and hash of a state that lies still, after all of it was read.
    pub(crate) fn hash(&self, dir: &Path) -> Result<String> {
        Line::new(&self.program).arg("hash").arg(dir).output()
    }

    /// What a snapshot of a running node has it do.
    pub(crate) fn hooks(&self) -> [String; 6] {
        let ask = |word: &str| format!("'{}' {word} \"$CAIRN_DIR.sock\"", self.program.display());
        let [freeze, thaw, round] = ["freeze", "thaw", "round"].map(ask);
        ["--freeze".into(), freeze, "--thaw".into(), thaw, "--round-cmd".into(), round]
    }

    /// What a joiner has it do.
    pub(crate) fn commands(&self) -> [String; 4] {
        let on = |word: &str| format!("'{}' {word} \"$CAIRN_DIR\"", self.program.display());
        ["--verify".into(), on("hash"), "--replay".into(), on("apply")]
    }
}

fn socket(dir: &Path) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(".sock");
    path.into()
}
