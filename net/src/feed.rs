//! The items of one answer for a thread that does not know async: a task reads ahead a little, and ends when nobody
//! listens any more.

use cairn_store::{ArtifactId, ChunkId};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::{Error, PeerError, Result};
use crate::net::{Net, PAUSE};
use crate::peer::{ItemStream, Part, Peer, TellAsk};
use crate::wire::Item;

/// Items that are read ahead.
const AHEAD: usize = 4;

/// What a peer is asked that answers with a stream.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Delta {
        have: Option<ArtifactId>,
        want: ArtifactId,
        part: Part,
    },
    Chunks(Vec<ChunkId>),
    /// The chunks that `want` has and `have` has not, told in terms of those of `have`.
    Told(TellAsk),
}

impl Ask {
    pub(crate) async fn open(&self, peer: &Peer) -> Result<ItemStream, PeerError> {
        match self {
            Self::Delta { have, want, part } => peer.delta(have.as_ref(), want, *part).await,
            Self::Chunks(ids) => peer.chunks(ids).await,
            Self::Told(ask) => peer.told(ask).await,
        }
    }
}

/// One answer on its way.
pub(crate) struct Feed {
    items: Receiver<Result<Item, PeerError>>,
    task: AbortHandle,
}

impl Net {
    pub(crate) fn feed(&self, peer: &Peer, ask: Ask) -> Result<Feed> {
        let (sender, items) = channel(AHEAD);
        let peer = peer.clone();
        let task = self.runtime()?.spawn(async move {
            let mut stream = match ask.open(&peer).await {
                Ok(stream) => stream,
                // Nobody listens any more, here and below.
                Err(error) => return drop(sender.send(Err(error)).await),
            };
            while let Some(next) = stream.next().await.transpose() {
                let is_last = next.is_err();
                if sender.send(next).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Feed { items, task: task.abort_handle() })
    }
}

impl Feed {
    /// The next item; nothing after the last.
    pub(crate) fn next(&mut self, net: &Net, cancelled: &dyn Fn() -> bool) -> Result<Option<Item>> {
        loop {
            match net.runtime()?.block_on(async { timeout(PAUSE, self.items.recv()).await }) {
                Ok(Some(item)) => return Ok(Some(item?)),
                Ok(None) => return Ok(None),
                Err(_) if cancelled() => return Err(Error::Cancelled),
                Err(_) => {}
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
