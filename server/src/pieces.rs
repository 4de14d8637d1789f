//! A range of a file as a body: one piece is read while the one before is on its way.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::peer_api::PeerApi;
use crate::peer_error::{Chain, PeerRefusal};
use crate::work::Started;

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 256 << 10;

/// What can be read from any place.
pub(crate) trait ReadAt: Send + Sync + 'static {
    /// Fills `buffer` with the bytes from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), PeerRefusal>;
}

/// The body.
pub(crate) struct Pieces<F> {
    api: Arc<PeerApi>,
    file: Arc<F>,
    /// What is not being read yet.
    left: Range<u64>,
    reading: VecDeque<Reading>,
}

struct Reading {
    len: u64,
    bytes: Started<Result<Bytes, PeerRefusal>>,
}

impl<F: ReadAt> Pieces<F> {
    pub(crate) fn new(api: &Arc<PeerApi>, file: Arc<F>, bytes: Range<u64>) -> Self {
        Self { api: Arc::clone(api), file, left: bytes, reading: VecDeque::new() }
    }

    fn begin(&mut self) {
        let len = PIECE_BYTES.min(self.left.end - self.left.start);
        if len == 0 {
            return;
        }
        let (file, at) = (Arc::clone(&self.file), self.left.start);
        self.left.start += len;
        let read = move || {
            // Bounded by the piece.
            let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
            file.read_at(&mut bytes, at).map(|()| Bytes::from(bytes))
        };
        self.reading.push_back(Reading { len, bytes: self.api.work.start(read) });
    }
}

impl<F: ReadAt> HttpBody for Pieces<F> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.reading.is_empty() {
            this.begin();
        }
        let Some(first) = this.reading.front_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(&mut first.bytes).poll(context));
        this.reading.pop_front();
        let bytes = read.and_then(|bytes| bytes).map_err(|refusal| {
            tracing::error!(error = %Chain(&refusal), "a file cannot be read");
            io::Error::other(refusal.to_string())
        })?;
        if this.api.has_room_ahead(PIECE_BYTES) {
            this.begin();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.reading.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let reading: u64 = self.reading.iter().map(|reading| reading.len).sum();
        SizeHint::with_exact(self.left.end - self.left.start + reading)
    }
}
