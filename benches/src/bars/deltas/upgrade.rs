//! Two releases at a server, the first of them at a node, and the way from one to the other.

use std::time::{Duration, Instant};

use crate::bars::exchange::nodes::{NAME, Nodes, last_object};
use crate::bars::exchange::through;
use crate::corpus::stream::Pair;
use crate::error::{Error, Result};
use crate::tools::{Repo, Server};

/// How long a server may take to make a delta.
const MADE_WITHIN: Duration = Duration::from_secs(600);
/// Between pulls that ask whether it is made.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A server that has two releases, and a node that has the first of them.
pub(super) struct Upgrade<'a> {
    nodes: &'a Nodes<'a>,
    server: Server,
    node: Repo,
    spec: String,
}

impl<'a> Upgrade<'a> {
    pub(super) fn new(nodes: &'a Nodes<'a>, pair: &Pair) -> Result<Upgrade<'a>> {
        let publisher = nodes.with_releases("publisher", &[pair.old.clone(), pair.new.clone()])?;
        let node = nodes.with_releases("node", std::slice::from_ref(&pair.old))?;
        node.save()?;
        let server = Server::cairn_prepared(nodes.cairn, &publisher, &nodes.janitor, 2)?;
        let spec = format!("{}@2", NAME);
        Ok(Upgrade { nodes, server, node, spec })
    }

    pub(super) fn node(&self) -> &Repo {
        &self.node
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Pulls until the server answers with a delta, which it has then; whether it came to that in time. The node is as it
    /// was before.
    pub(super) fn wait_for_delta(&self, within: Duration) -> Result<bool> {
        let begun = Instant::now();
        loop {
            self.node.reset()?;
            let pull = self.nodes.cairn.pull_json(&self.node, &self.spec, self.server.address());
            let is_made = last_object(&pull)?["delta"].is_object();
            if is_made || begun.elapsed() > within {
                self.node.reset()?;
                return Ok(is_made);
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// Bytes of an upgrade, once the delta is made.
    pub(super) fn with_deltas(&self) -> Result<u64> {
        if !self.wait_for_delta(MADE_WITHIN)? {
            let what = format!("no delta within {} s", MADE_WITHIN.as_secs());
            return Err(Error::Wrong { program: "cairn".into(), what });
        }
        self.bytes()
    }

    /// Bytes of an upgrade by chunks alone.
    pub(super) fn plain(&self) -> Result<u64> {
        self.node.reset()?;
        let passed =
            through(&self.server, |address| self.nodes.cairn.pull_plain(&self.node, &self.spec, address))?;
        Ok(passed.down + passed.up)
    }

    /// Bytes of an upgrade as it comes, with a delta or without.
    pub(super) fn bytes(&self) -> Result<u64> {
        self.node.reset()?;
        let passed =
            through(&self.server, |address| self.nodes.cairn.pull(&self.node, &self.spec, [address]))?;
        Ok(passed.down + passed.up)
    }
}
