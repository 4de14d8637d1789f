//! What joining asks of peers, apart from the transfer: a trait, so that its tests have peers that do what they like.

use std::sync::Arc;
use std::time::Duration;

use cairn_net::{Error, FollowAsk, FollowItem, Following, Net, PeerUrl, Source};
use cairn_store::Name;

use super::choose::{Offer, Offers};

/// Rounds from here on are nobody's: there is room behind every round that is believed.
const ROUND_END: u64 = 1 << 63;

/// Peers by their places in a list.
pub(super) trait Network: Send + Sync {
    /// How many there are.
    fn peers(&self) -> usize;
    /// What a peer is called.
    fn url(&self, peer: usize) -> &PeerUrl;
    /// What a peer offers.
    fn offers(&self, peer: usize, cancelled: &dyn Fn() -> bool) -> Result<Offers, Error>;
    /// Follows a peer's events from a round on; their heads alone, if that is enough.
    fn follow(&self, peer: usize, from_round: u64, heads: bool) -> Result<Box<dyn Follow>, Error>;
}

/// The events of one peer, as they come.
pub(super) trait Follow: Send {
    /// The next thing; none if nothing comes within `wait`.
    fn next(&mut self, wait: Duration, cancelled: &dyn Fn() -> bool) -> Result<Option<FollowItem>, Error>;
}

/// Real peers.
pub(super) struct Peers {
    pub(super) net: Arc<Net>,
    pub(super) name: Name,
    pub(super) sources: Vec<Source>,
}

impl Network for Peers {
    fn peers(&self) -> usize {
        self.sources.len()
    }

    fn url(&self, peer: usize) -> &PeerUrl {
        &self.sources[peer].url
    }

    fn offers(&self, peer: usize, cancelled: &dyn Fn() -> bool) -> Result<Offers, Error> {
        let source = &self.sources[peer];
        let absent = |error: &Error| error.kind() == cairn_net::Kind::Absent;
        let snapshots = match self.net.snapshots(source, &self.name, cancelled) {
            Ok(snapshots) => snapshots,
            // It may have events and no snapshot.
            Err(error) if absent(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let events = match self.net.stream_span(source, &self.name, cancelled) {
            Ok(span) if span.next >= ROUND_END => None,
            Ok(span) => Some((span.first, span.next)),
            Err(error) if absent(&error) => None,
            Err(error) => return Err(error),
        };
        let possible = snapshots.into_iter().filter(|snapshot| snapshot.round < ROUND_END);
        let offers = possible.map(|snapshot| Offer {
            round: snapshot.round,
            artifact: snapshot.artifact.0,
            state_hash: snapshot.state_hash,
        });
        Ok(Offers { peer, snapshots: offers.collect(), events })
    }

    fn follow(&self, peer: usize, from_round: u64, heads: bool) -> Result<Box<dyn Follow>, Error> {
        let ask = FollowAsk { from_round, heads, follow: true };
        Ok(Box::new(self.net.follow(&self.sources[peer], &self.name, ask)?))
    }
}

impl Follow for Following {
    fn next(&mut self, wait: Duration, cancelled: &dyn Fn() -> bool) -> Result<Option<FollowItem>, Error> {
        Following::next(self, wait, cancelled)
    }
}
