//! What a server of binaries is asked: a record, and a file as it comes.

use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};

use super::stream::Pace;
use super::{MESSAGE_LEN_MAX, Peer};
use crate::binaries::BinaryRecord;
use crate::error::{Fault, PeerError};

/// The bytes of a file as they come.
pub(crate) struct FileStream {
    peer: Peer,
    response: Response,
    pace: Pace,
}

impl Peer {
    /// The record of a binary; the parts of the path are of letters, digits and `._+-`.
    pub(crate) async fn binary(
        &self,
        program: &str,
        version: &str,
        system: &str,
        arch: &str,
    ) -> Result<BinaryRecord, PeerError> {
        // A plus in a query is a space.
        let program = program.replace('+', "%2B");
        let path = format!("/api/binaries/{version}/{system}/{arch}?name={program}");
        let response = self.send(self.client.get(self.source.url.join(&path)), 0).await?;
        self.json(response, MESSAGE_LEN_MAX).await
    }

    /// A file from an offset on, if it still has this checksum.
    pub(crate) async fn file(&self, record: &BinaryRecord, offset: u64) -> Result<FileStream, PeerError> {
        let mut request = self.client.get(self.source.url.join(&format!("/binaries/{}", record.path)));
        if offset > 0 {
            let tag = format!("\"{}\"", record.checksum);
            request = request.header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, tag);
        }
        let response = self.send(request, 0).await?;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        if is_part != (offset > 0) {
            return Err(self.error(Fault::Conflict, "its file changed while it was sent"));
        }
        let pace = Pace::new(self.timeouts.patience);
        Ok(FileStream { peer: self.clone(), response, pace })
    }
}

impl FileStream {
    /// The next bytes; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PeerError> {
        let idle = self.peer.timeouts.idle;
        let began = Instant::now();
        let received = tokio::time::timeout(idle, self.response.chunk()).await;
        let piece = match received {
            Ok(Ok(Some(piece))) => piece,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(self.peer.transport(&error)),
            Err(_) => {
                let detail = format!("nothing came for {:.1} s", idle.as_secs_f64());
                return Err(self.peer.error(Fault::Stalled, detail));
            }
        };
        self.peer.traffic.add_received(piece.len());
        if let Some(rate) = self.pace.is_too_slow(began.elapsed(), piece.len()) {
            let detail = format!("it sends no more than {rate} bytes a second");
            return Err(self.peer.error(Fault::Stalled, detail));
        }
        Ok(Some(piece))
    }
}
