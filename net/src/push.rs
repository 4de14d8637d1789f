//! Publishes a version to a peer: asked what it lacks, sent that, and then the name.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_store::pack::PackKind;
use cairn_store::{ChunkId, Piece, RefKey, Store};
use futures_util::stream;
use reqwest::Body;
use tokio::sync::mpsc;

use crate::address::Source;
use crate::error::{Error, Fault, PeerError, Result};
use crate::net::Net;
use crate::peer::Peer;
use crate::report::{Cancelling, PushReport, Watch, millis};
use crate::wire::{End, FrameKind, IDS_MAX, Item, KeptAnswer, RefAnswer, frame_item_header};

/// Pieces between the thread that reads the store and the connection.
const PIECES_AHEAD: usize = 8;
/// How often all is asked for and sent, where the peer says that something lacks after all.
const ATTEMPTS_MAX: u32 = 3;
/// How often an upload is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Net {
    /// Publishes a version to a peer. An interrupted push goes on where it was: what came there is there.
    ///
    /// # Errors
    /// [`Error::Peer`] with what the peer says, [`Error::Store`] when the version is not here or not wholly,
    /// [`Error::Cancelled`].
    pub fn push(&self, store: &Store, key: &RefKey, to: &Source, watch: &dyn Watch) -> Result<PushReport> {
        let began = Instant::now();
        let store = store.local();
        let view = store.view()?;
        let absent = || cairn_store::Error::Absent { what: key.to_string() };
        let artifact = view.refs.get(key).ok_or_else(absent)?.artifact;
        let reference = view.statement_of(key).ok_or_else(|| Error::Invalid {
            what: "ref",
            given: key.to_string(),
            reason: "this store has stated no name to anybody yet; open it for writing once".to_owned(),
        })?;
        let peer = self.peer(to)?;
        let objects = store.lacking_objects(None, &artifact, &Cancelling(watch))?;
        let data = store.lacking_chunks(None, &artifact, &Cancelling(watch))?;
        let ids: Vec<ChunkId> = objects.chunks.iter().chain(&data.chunks).map(|chunk| chunk.id).collect();
        let mut report = PushReport { chunks: ids.len() as u64, ..PushReport::default() };
        let answer = RefAnswer { reference, channel: None };
        for attempt in 1.. {
            for window in ids.chunks(IDS_MAX) {
                let lacking = self.lacking_there(&peer, window, watch)?;
                if !lacking.is_empty() {
                    report.sent_chunks += lacking.len() as u64;
                    self.upload(&peer, &store, lacking, watch)?;
                }
            }
            let (there, key, answer) = (peer.clone(), key.clone(), answer.clone());
            let put = self.wait(async move { there.put_ref(&key, &answer).await }, &|| watch.cancelled())?;
            match put {
                Ok(created) => report.created = created,
                // What was sent went away there before it was durable.
                Err(error) if error.fault == Fault::Incomplete && attempt < ATTEMPTS_MAX => continue,
                Err(error) => return Err(error.into()),
            }
            break;
        }
        let traffic = peer.traffic();
        report.sent_bytes = traffic.sent();
        report.received_bytes = traffic.received();
        report.round_trips = traffic.round_trips();
        report.elapsed_ms = millis(began.elapsed());
        Ok(report)
    }

    fn lacking_there(&self, peer: &Peer, ids: &[ChunkId], watch: &dyn Watch) -> Result<Vec<ChunkId>> {
        let (there, asked) = (peer.clone(), ids.to_vec());
        let have = self.wait(async move { there.have(&asked).await }, &|| watch.cancelled())??;
        Ok(ids.iter().zip(have).filter(|(_, have)| !have).map(|(id, _)| *id).collect())
    }

    fn upload(&self, peer: &Peer, store: &Store, ids: Vec<ChunkId>, watch: &dyn Watch) -> Result<KeptAnswer> {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        let sent = Arc::new(AtomicU64::new(0));
        let there = peer.clone();
        let counted = Arc::clone(&sent);
        std::thread::scope(|scope| {
            // It has the only sender, so that the body ends when it does.
            let reading = scope.spawn(move || read(store, ids, &sender));
            let told = AtomicU64::new(0);
            let look = || {
                let now = sent.load(Ordering::Relaxed);
                watch.received(peer.url(), now - told.swap(now, Ordering::Relaxed));
                watch.cancelled()
            };
            let answer = self.wait(async move { send(&there, receiver, counted).await }, &look);
            // The thread ends when its receiver is gone, which the task had.
            let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            look();
            match (answer, read) {
                (Err(error), _) => Err(error),
                // Why the stream ended here is worth more than what the peer says of that.
                (Ok(_), Err(error)) => Err(error),
                (Ok(answer), Ok(())) => Ok(answer?),
            }
        })
    }
}

/// Puts what is to be sent into the channel. Ends well too when nobody takes it any more.
fn read(store: &Store, ids: Vec<ChunkId>, sender: &mpsc::Sender<Result<Bytes, io::Error>>) -> Result<()> {
    let mut end = End::default();
    for piece in store.sending(ids) {
        let failure = match piece {
            Ok(Piece::Frame(kind, frame)) => {
                let kind = match kind {
                    PackKind::Metadata => FrameKind::Metadata,
                    PackKind::Data | PackKind::Delta => FrameKind::Data,
                };
                end.frames += 1;
                end.bytes += frame.len() as u64;
                let header = Bytes::copy_from_slice(&frame_item_header(kind, frame.len()));
                if sender.blocking_send(Ok(header)).is_err()
                    || sender.blocking_send(Ok(frame.into())).is_err()
                {
                    return Ok(());
                }
                continue;
            }
            Ok(Piece::Absent(ids)) => cairn_store::Error::Damaged {
                what: format!("{} chunks that are to be sent", ids.len()),
                chunk: ids.first().copied(),
                pack: None,
                offset: None,
                detail: "they are not here, or not what their ids say; `cairn verify --repair` may help"
                    .to_owned(),
            },
            Err(error) => error,
        };
        // Nobody may listen any more.
        let _ = sender.blocking_send(Err(io::Error::other(failure.to_string())));
        return Err(failure.into());
    }
    let _ = sender.blocking_send(Ok(Item::End(end).to_bytes().into()));
    Ok(())
}

/// Sends it, and gives up where the peer takes nothing any more.
async fn send(
    peer: &Peer,
    receiver: mpsc::Receiver<Result<Bytes, io::Error>>,
    sent: Arc<AtomicU64>,
) -> Result<KeptAnswer, PeerError> {
    let counted = Arc::clone(&sent);
    let pieces = stream::unfold(receiver, move |mut receiver| {
        let sent = Arc::clone(&counted);
        async move {
            let piece = receiver.recv().await?;
            if let Ok(bytes) = &piece {
                sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Some((piece, receiver))
        }
    });
    let answer = peer.upload(Body::wrap_stream(pieces), &sent);
    tokio::pin!(answer);
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        if let Ok(answer) = tokio::time::timeout(LOOK_EVERY, &mut answer).await {
            return answer;
        }
        let now = sent.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() > peer.patience() {
            return Err(peer.error(Fault::Stalled, "it takes nothing of what is sent any more"));
        }
    }
}
