//! A network: a store that is served, with snapshots and a stream, and the state of its first node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bars::Bench;
use crate::bars::exchange::nodes::Nodes;
use crate::error::{Error, Result};
use crate::harness::{Service, remove};
use crate::tools::kv_node::{KvNode, NETWORK, Pace};
use crate::tools::{Repo, Server};

/// How long a node may take to be where it is waited for.
const WITHIN: Duration = Duration::from_secs(300);

pub(super) struct Network<'a> {
    pub(super) nodes: Nodes<'a>,
    pub(super) kv: KvNode,
    pub(super) store: Repo,
    pub(super) server: Server,
    token: PathBuf,
}

impl<'a> Network<'a> {
    pub(super) fn new(bench: &'a Bench, name: &str) -> Result<Network<'a>> {
        let nodes = Nodes::new(bench, name)?;
        let kv = KvNode::beside(nodes.cairn)?;
        let store = nodes.empty("founder")?;
        let server = Server::cairn_of_a_network(nodes.cairn, &store, &nodes.janitor)?;
        let token = nodes.join("token");
        let printed = nodes.cairn.token(&store).output()?;
        std::fs::write(&token, printed).map_err(Error::io("write", &token))?;
        Ok(Network { nodes, kv, store, server, token })
    }

    /// The first node's state.
    pub(super) fn dir(&self) -> PathBuf {
        self.nodes.join("kv1")
    }

    /// Starts the first node.
    pub(super) fn produce(&self, pace: &Pace) -> Result<Service> {
        let dir = self.dir();
        let line = self.kv.produce(&dir, self.server.address(), &self.token, pace);
        let mut service = Service::start(line, &self.nodes.janitor)?;
        if pace.rounds.is_none() {
            service.wait_until(WITHIN, || self.kv.round(&dir) > Some(0))?;
        }
        Ok(service)
    }

    /// A snapshot of a state that nobody has open.
    pub(super) fn snapshot_of(&self, dir: &Path, round: u64) -> Result<()> {
        self.nodes
            .cairn
            .snapshot_of_network(&self.store, NETWORK, dir, ["--round", &round.to_string()])
            .run()
            .map(drop)
    }

    /// A snapshot of the first node while it runs.
    pub(super) fn snapshot(&self) -> Result<()> {
        self.nodes
            .cairn
            .snapshot_of_network(&self.store, NETWORK, &self.dir(), self.kv.hooks())
            .run()
            .map(drop)
    }

    /// Lets a joined state have everything; whether it is then what the first node's is, byte for byte.
    pub(super) fn is_equal(&self, joined: &Path) -> Result<bool> {
        let there = self.kv.hash(&self.dir())?;
        let round = there.split(' ').next().and_then(|round| round.parse().ok());
        let mut listener =
            Service::start(self.kv.listen(joined, self.server.address()), &self.nodes.janitor)?;
        listener.wait_until(WITHIN, || self.kv.round(joined) >= round)?;
        listener.stop()?;
        Ok(self.kv.hash(joined)? == there)
    }

    /// A place for a joined state, with nothing there.
    pub(super) fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.nodes.join(name);
        remove(&place)?;
        Ok(place)
    }

    pub(super) fn close(self) -> Result<()> {
        drop(self.server);
        self.nodes.close()
    }
}
