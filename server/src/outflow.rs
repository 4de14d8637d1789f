//! A stream of frames as the body of an answer: read a batch at a time by a thread for that, while the batch before is
//! on its way.
//!
//! A frame is given on as it was read, behind the five bytes that announce it, and is not copied on its way. How much is
//! read ahead depends on how many transfers run, so that all of them together stay within their bound. A client that
//! takes nothing holds no thread: the next batch is read when the one before is taken.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use cairn_net::wire::{ABSENT_MAX, End, FrameKind, Head, Item, frame_item_header};
use cairn_store::pack::PackKind;
use cairn_store::{ChunkId, Error, Piece, Sending, Store};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use crate::metrics::Metrics;
use crate::peer_api::PeerApi;
use crate::peer_error::{Chain, PeerRefusal};
use crate::work::Started;

/// Ids that are asked of the store at a time: some 64 MiB of files.
const WINDOW: usize = 4096;
/// Bytes that are read ahead for one transfer.
const BATCH_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;

/// What is to be sent.
pub(crate) struct Outflow {
    pub(crate) head: Option<Head>,
    /// Lists of ids, one after the other.
    pub(crate) wanted: Vec<Arc<[ChunkId]>>,
    /// Whether a cache keeps the answer: then one that lacks something is broken off after its end.
    pub(crate) is_immutable: bool,
    /// Memory that the lists take.
    pub(crate) held: Option<OwnedSemaphorePermit>,
}

impl Outflow {
    pub(crate) fn into_body(self, api: &Arc<PeerApi>) -> Body {
        let mut ready = VecDeque::new();
        if let Some(head) = self.head {
            ready.push_back(Bytes::from(Item::Head(head).to_bytes()));
        }
        let reader = Reader {
            store: api.store().clone(),
            lists: self.wanted.into(),
            at: 0,
            sending: None,
            sent: End::default(),
            lacks: false,
            _held: self.held,
        };
        Body::new(Flow {
            api: Arc::clone(api),
            ready,
            reader: Some(reader),
            reading: None,
            last: None,
            is_immutable: self.is_immutable,
        })
    }
}

/// The body.
struct Flow {
    api: Arc<PeerApi>,
    ready: VecDeque<Bytes>,
    /// Where reading goes on, when nobody reads.
    reader: Option<Reader>,
    reading: Option<Started<Batch>>,
    /// How it ends, once everything was read.
    last: Option<Last>,
    is_immutable: bool,
}

enum Last {
    Well,
    /// So that no cache takes it for whole.
    BrokenOff,
}

struct Batch {
    parts: VecDeque<Bytes>,
    frames: u64,
    /// None after the last.
    reader: Option<Reader>,
    lacks: bool,
    /// What went wrong.
    failure: Option<Error>,
}

impl Flow {
    fn begin(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let transfers = self.api.transfers().load(Ordering::Relaxed).max(1);
        let share = self.api.limits().answers_bytes_max / (2 * transfers);
        let bytes_max = share.clamp(*BATCH_BYTES.start(), *BATCH_BYTES.end());
        self.reading = Some(self.api.work.start(move || reader.read(bytes_max)));
    }

    fn take(&mut self, batch: Result<Batch, PeerRefusal>) {
        let failure = match batch {
            Ok(mut batch) => {
                Metrics::add(&self.api.metrics().frames_sent, batch.frames);
                self.ready.append(&mut batch.parts);
                if batch.lacks && self.is_immutable && batch.reader.is_none() {
                    self.last = Some(Last::BrokenOff);
                } else if batch.reader.is_none() {
                    self.last = Some(Last::Well);
                }
                self.reader = batch.reader;
                batch.failure.map(PeerRefusal::from)
            }
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = failure {
            tracing::error!(error = %Chain(&refusal), "a stream to a peer ends early");
            self.ready.push_back(Bytes::from(Item::Failure(refusal.to_string()).to_bytes()));
            self.reader = None;
            self.last = Some(Last::BrokenOff);
        }
    }
}

impl HttpBody for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.ready.pop_front() {
                if this.ready.is_empty()
                    && this.reading.is_none()
                    && this.api.has_room_ahead(*BATCH_BYTES.end() as u64)
                {
                    this.begin();
                }
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(reading) = &mut this.reading {
                let batch = ready!(Pin::new(&mut *reading).poll(context));
                this.reading = None;
                this.take(batch);
                continue;
            }
            match this.last.take() {
                Some(Last::Well) => {
                    this.last = Some(Last::Well);
                    return Poll::Ready(None);
                }
                Some(Last::BrokenOff) => {
                    this.last = Some(Last::Well);
                    let why = "the stream is not what caches may keep";
                    return Poll::Ready(Some(Err(io::Error::other(why))));
                }
                None => this.begin(),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && matches!(self.last, Some(Last::Well))
    }
}

/// Reads what is wanted, window by window.
struct Reader {
    store: Store,
    lists: VecDeque<Arc<[ChunkId]>>,
    /// Ids of the first list that were asked for.
    at: usize,
    sending: Option<Sending>,
    sent: End,
    lacks: bool,
    _held: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// Reads until there are so many bytes, or no more.
    fn read(mut self, bytes_max: usize) -> Batch {
        let mut batch =
            Batch { parts: VecDeque::new(), frames: 0, reader: None, lacks: false, failure: None };
        let mut bytes = 0;
        while bytes < bytes_max {
            match self.next_piece() {
                Ok(Some(Piece::Frame(kind, frame))) => {
                    let kind = match kind {
                        PackKind::Metadata => FrameKind::Metadata,
                        PackKind::Data | PackKind::Delta => FrameKind::Data,
                    };
                    batch.parts.push_back(Bytes::copy_from_slice(&frame_item_header(kind, frame.len())));
                    bytes += frame.len();
                    batch.frames += 1;
                    self.sent.frames += 1;
                    self.sent.bytes += frame.len() as u64;
                    batch.parts.push_back(Bytes::from(frame));
                }
                Ok(Some(Piece::Absent(ids))) => {
                    self.lacks = true;
                    for ids in ids.chunks(ABSENT_MAX) {
                        let item = Item::Absent(ids.to_vec()).to_bytes();
                        bytes += item.len();
                        batch.parts.push_back(Bytes::from(item));
                    }
                }
                Ok(None) => {
                    batch.parts.push_back(Bytes::from(Item::End(self.sent).to_bytes()));
                    batch.lacks = self.lacks;
                    return batch;
                }
                Err(error) => {
                    batch.failure = Some(error);
                    return batch;
                }
            }
        }
        batch.lacks = self.lacks;
        batch.reader = Some(self);
        batch
    }

    fn next_piece(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            if let Some(sending) = &mut self.sending {
                if let Some(piece) = sending.next() {
                    return piece.map(Some);
                }
                self.sending = None;
            }
            let Some(list) = self.lists.front() else { return Ok(None) };
            let end = self.window_end(list)?;
            let window = list[self.at..end].to_vec();
            if end == list.len() {
                self.lists.pop_front();
                self.at = 0;
            } else {
                self.at = end;
            }
            self.sending = Some(self.store.sending(window));
        }
    }

    /// Where the next window ends: at the end of a frame, so that none is sent in two halves, if one ends soon.
    fn window_end(&self, list: &[ChunkId]) -> Result<usize, Error> {
        let mut end = list.len().min(self.at + WINDOW);
        let last = list.len().min(end + WINDOW);
        let frame_of = |at: usize| -> Result<_, Error> {
            let place = list.get(at).map(|id| self.store.place(id)).transpose()?.flatten();
            Ok(place.map(|place| (place.pack, place.frame_offset)))
        };
        if end == list.len() || end == 0 {
            return Ok(end);
        }
        let frame = frame_of(end - 1)?;
        while end < last && frame.is_some() && frame_of(end)? == frame {
            end += 1;
        }
        Ok(end)
    }
}
