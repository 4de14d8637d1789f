//! One request for those who wait: a peer is asked, another one too when it is late or fails, and what comes is handed
//! out frame by frame.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_store::pack::PackKind;
use cairn_store::{ChunkId, Decoder, VerifiedFrame, Why};
use tokio::task::JoinSet;

use super::wants::Wanted;
use super::{Placed, Shared};
use crate::address::Source;
use crate::error::{Fault, PeerError};
use crate::net::Net;
use crate::peer::Peer;
use crate::wire::Item;

/// What is left of a request, for all who try to answer it.
struct Request {
    /// Guards what did not come yet; a leaf lock.
    left: std::sync::Mutex<HashMap<ChunkId, Why>>,
}

impl Request {
    fn left(&self) -> std::sync::MutexGuard<'_, HashMap<ChunkId, Why>> {
        self.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn ids(&self) -> Vec<ChunkId> {
        self.left().keys().copied().collect()
    }
}

/// How a peer ended one attempt.
struct Attempt {
    source: Source,
    result: Result<Vec<ChunkId>, PeerError>,
}

/// Has some chunks brought, or says of those that nobody has that it is so. What did not come otherwise is wanted again.
pub(super) async fn serve(shared: Arc<Shared>, wanted: Vec<Wanted>) {
    let order: Vec<ChunkId> = wanted.iter().map(|wanted| wanted.id).collect();
    let left = wanted.iter().map(|wanted| (wanted.id, wanted.why)).collect();
    let request = Arc::new(Request { left: std::sync::Mutex::new(left) });
    let all = (shared.sources)();
    let mut ready = shared.health.ready(all.clone(), Instant::now()).into_iter();
    let mut tasks = JoinSet::new();
    let mut absent: HashMap<ChunkId, usize> = HashMap::new();
    let mut late = Duration::ZERO;
    loop {
        if request.left().is_empty() {
            return;
        }
        let next = match tokio::time::timeout(late, tasks.join_next()).await {
            Ok(Some(Ok(attempt))) => Some(attempt),
            // Nobody is asked, or the one who was panicked, or is late: the next one is asked too.
            Ok(_) | Err(_) => None,
        };
        if let Some(attempt) = next {
            note(&shared, &attempt);
            for id in attempt.result.unwrap_or_default() {
                *absent.entry(id).or_default() += 1;
            }
            if request.left().is_empty() {
                return;
            }
        }
        let ids: Vec<ChunkId> = {
            let left = request.left();
            order.iter().filter(|id| left.contains_key(id)).copied().collect()
        };
        match ready.next() {
            Some(source) if shared.wants.is_wanted(&ids, Instant::now()) => {
                late = shared.health.late_after(&source.url);
                let (shared, request) = (Arc::clone(&shared), Arc::clone(&request));
                tasks.spawn(async move {
                    let result = ask(&shared, &source, &ids, &request).await;
                    Attempt { source, result }
                });
            }
            _ if tasks.is_empty() => break,
            // Only those who were asked are left.
            _ => late = Duration::from_secs(3600),
        }
    }
    give_up(&shared, &request, &all, &absent).await;
}

/// Nobody was left to be asked. What every peer says it does not have fails; the rest is tried again in a moment.
async fn give_up(shared: &Shared, request: &Request, all: &[Source], absent: &HashMap<ChunkId, usize>) {
    let mut again = Vec::new();
    for id in request.ids() {
        if !all.is_empty() && absent.get(&id).copied().unwrap_or(0) >= all.len() {
            shared.wants.failed(&id, "no peer has it");
        } else {
            again.push(id);
        }
    }
    if !again.is_empty() {
        tokio::time::sleep(shared.health.next_ready(Instant::now())).await;
        shared.wants.again(again);
        shared.more.notify_one();
    }
}

fn note(shared: &Shared, attempt: &Attempt) {
    let url = &attempt.source.url;
    let Err(error) = &attempt.result else { return };
    tracing::debug!(peer = %url, detail = %error.detail, "a fetch failed");
    if matches!(error.fault, Fault::Lied | Fault::Misbehaved) {
        shared.health.lied(url, &error.detail);
        tracing::warn!(peer = %url, detail = %error.detail, "a peer is left alone");
        if let Err(error) = shared.known.note_lie(url, &error.detail) {
            tracing::warn!(peer = %url, %error, "cannot note how a peer did");
        }
    } else {
        shared.health.failed(url, &error.detail, error.retry_after);
    }
}

/// Asks one peer. Gives what it says it does not have.
async fn ask(
    shared: &Arc<Shared>,
    source: &Source,
    ids: &[ChunkId],
    request: &Arc<Request>,
) -> Result<Vec<ChunkId>, PeerError> {
    let began = Instant::now();
    let peer = peer(shared, source)?;
    let mut stream = peer.chunks(ids).await?;
    let mut absent = Vec::new();
    let mut asked: std::collections::HashSet<ChunkId> = ids.iter().copied().collect();
    let mut is_first = true;
    while let Some(item) = stream.next().await? {
        match item {
            Item::Metadata(frame) | Item::Data(frame) if frame.is_empty() => {}
            Item::Metadata(frame) => {
                take(shared, &peer, request, &mut asked, PackKind::Metadata, frame).await?
            }
            Item::Data(frame) => take(shared, &peer, request, &mut asked, PackKind::Data, frame).await?,
            Item::Absent(list) => {
                if list.iter().any(|id| !asked.remove(id)) {
                    return Err(peer.error(
                        Fault::Lied,
                        "it says of chunks that they are absent that were not asked for",
                    ));
                }
                absent.extend(list);
            }
            Item::Unit(_) => {
                return Err(peer.error(Fault::Misbehaved, "it sends a delta that was not asked for"));
            }
            Item::Head(_) | Item::Failure(_) | Item::End(_) => continue,
        }
        if std::mem::take(&mut is_first) {
            shared.health.succeeded(&source.url, began.elapsed());
        }
    }
    if !asked.is_empty() {
        return Err(peer.error(Fault::Misbehaved, "its answer ends before all of it came"));
    }
    Ok(absent)
}

fn peer(shared: &Shared, source: &Source) -> Result<Peer, PeerError> {
    let gone = |detail: String| PeerError::new(&source.url, Fault::Failed, detail);
    let net: Arc<Net> =
        shared.net.upgrade().ok_or_else(|| gone("the exchange with peers has ended".to_owned()))?;
    net.peer(source).map_err(|error| gone(error.to_string()))
}

/// Verifies a frame, keeps what is wanted of it, and lets those go on who wait for it.
async fn take(
    shared: &Arc<Shared>,
    peer: &Peer,
    request: &Arc<Request>,
    asked: &mut std::collections::HashSet<ChunkId>,
    kind: PackKind,
    bytes: Vec<u8>,
) -> Result<(), PeerError> {
    let (shared, request) = (Arc::clone(shared), Arc::clone(request));
    let mut still: std::collections::HashSet<ChunkId> = std::mem::take(asked);
    let done = tokio::task::spawn_blocking(move || {
        let frame =
            VerifiedFrame::verify(bytes, &mut Decoder::default()).map_err(|error| error.to_string())?;
        let before = still.len();
        let ids: Vec<ChunkId> = frame.chunks().iter().map(|(id, _)| *id).collect();
        for id in &ids {
            still.remove(id);
        }
        if still.len() == before {
            return Err("it sends what was not asked for".to_owned());
        }
        hand_out(&shared, &request, &ids, (kind, Arc::new(frame)));
        Ok(still)
    });
    match done.await {
        Ok(Ok(still)) => {
            *asked = still;
            Ok(())
        }
        Ok(Err(detail)) => Err(peer.error(Fault::Lied, detail)),
        Err(error) => Err(peer.error(Fault::Failed, format!("verifying what it sent ended: {error}"))),
    }
}

fn hand_out(shared: &Shared, request: &Request, ids: &[ChunkId], placed: Placed) {
    let came: Vec<(ChunkId, Why)> = {
        let mut left = request.left();
        ids.iter().filter_map(|id| left.remove(id).map(|why| (*id, why))).collect()
    };
    let absent = came.iter().any(|(_, why)| *why == Why::Absent);
    let kept = if absent { shared.intake.keep(placed.0, &placed.1).map(drop) } else { Ok(()) };
    if let Err(error) = kept {
        let text = error.to_string();
        let mut error = Some(error);
        for (id, _) in came {
            match error.take() {
                Some(error) => shared.wants.broken(&id, error),
                None => shared.wants.failed(&id, &text),
            }
        }
        return;
    }
    for (id, why) in came {
        shared.wants.came(&id, (why == Why::Damaged).then_some(&placed));
    }
}
