//! What travels between peers, byte for byte: streams of frames, lists of ids, bitmaps and JSON messages. Client and
//! server share it; docs/protocol.md is the record for others.
//!
//! A stream is a row of items, each `tag u8 | length u32 | body`. [`ItemDecoder`] is total and incremental: it takes
//! bytes as they come, never holds more than one item, allocates no more than has come (twice that at most), and
//! accepts nothing after the end. It authenticates nothing: what a frame holds is checked by whoever keeps it.

mod events;
mod ids;
mod messages;
mod streams;
mod via;

use bytes::Buf;
use cairn_store::ChunkId;
use cairn_store::block::{BLOCK_CHUNKS_MAX, BLOCK_MAX, FrameHeader};
use cairn_store::delta::UNIT_LEN_MAX;
use serde::{Deserialize, Serialize};

pub use events::{EVENT_ITEM_LEN_MAX, EVENTS_TYPE, EventDecoder, EventItem};
pub use ids::{bitmap_from_bytes, bitmap_to_bytes, ids_from_bytes, ids_to_bytes};
pub use messages::{ErrorBody, Failure, HexId, KeptAnswer, PeerAnswer, RefAnswer, RefList, RemoteRef};
pub use streams::{
    AppendAnswer, RemoteSeries, RemoteSnapshot, SeriesList, SnapshotAnswer, SnapshotList, StreamAnswer,
    StreamList,
};
pub use via::{Step, VIA_HEADER, VIA_STEPS_MAX, via_from_text, via_to_text};

/// Version of this protocol, in the header [`PROTOCOL_HEADER`] of every request and answer.
pub const PROTOCOL: u32 = 1;
/// Name of the header that has the version of the protocol.
pub const PROTOCOL_HEADER: &str = "cairn-protocol";
/// Name of the header by which an answer is found in the server's log.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Content type of a stream.
pub const STREAM_TYPE: &str = "application/vnd.cairn.stream";
/// Content type of a list of ids.
pub const IDS_TYPE: &str = "application/vnd.cairn.ids";
/// Content type of a bitmap.
pub const BITMAP_TYPE: &str = "application/vnd.cairn.bitmap";
/// Content type of one block frame.
pub const FRAME_TYPE: &str = "application/vnd.cairn.frame";
/// Content type of an artifact's canonical bytes, of a chunk's and of a pack's.
pub const BYTES_TYPE: &str = "application/octet-stream";
/// What a client offers that understands all codecs of deltas of this version.
pub const CODECS: &str = "prefix,relocation,bitcode";
/// Ids in one request, at most.
pub const IDS_MAX: usize = 262_144;
/// Ids in one `absent` item, at most: of more, several items are sent.
pub const ABSENT_MAX: usize = 4096;
/// Longest frame that travels, in bytes.
pub const FRAME_LEN_MAX: usize = FIXED_LEN + BLOCK_CHUNKS_MAX * ROW_LEN + CRC_LEN + BLOCK_MAX;
/// Longest text of a failure, in bytes.
pub const FAILURE_LEN_MAX: usize = 4096;
/// Bytes before the body of an item.
pub const ITEM_HEADER_LEN: usize = 5;

const FIXED_LEN: usize = cairn_store::block::format::FIXED_LEN;
const ROW_LEN: usize = 36;
const CRC_LEN: usize = 4;
const ID_LEN: usize = 32;
/// A version byte and five varints.
const HEAD_LEN_MAX: usize = 1 + 5 * 10;
const END_LEN: usize = 16;
/// What is set aside for a body before any of it has come.
const BODY_RESERVE_MAX: usize = 64 << 10;

const TAG_END: u8 = 0;
const TAG_HEAD: u8 = 1;
const TAG_METADATA: u8 = 2;
const TAG_DATA: u8 = 3;
const TAG_ABSENT: u8 = 4;
const TAG_FAILURE: u8 = 5;
const TAG_UNIT: u8 = 6;

/// Why bytes are not what they should be on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A tag that this version does not know.
    #[error("an item of unknown kind {0:#04x}")]
    Tag(u8),
    /// An item whose length its kind does not allow.
    #[error("an item of kind {tag:#04x} with {len} bytes")]
    Length {
        /// Its kind.
        tag: u8,
        /// The bytes it says it has.
        len: u32,
    },
    /// An item that does not decode.
    #[error("an item that does not decode: {0}")]
    Item(&'static str),
    /// A head of a version that this does not know.
    #[error("a stream of version {0}; this reads version 1")]
    Version(u8),
    /// The head is not the first item.
    #[error("a head in the middle of a stream")]
    LateHead,
    /// What the last item adds up is not what came before it.
    #[error(
        "the stream's end speaks of {said_frames} frames with {said_bytes} bytes, and {frames} with {bytes} came"
    )]
    Totals {
        /// Frames, as the end says.
        said_frames: u64,
        /// Their bytes, as the end says.
        said_bytes: u64,
        /// Frames that came.
        frames: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Bytes after the last item.
    #[error("bytes after the end of the stream")]
    Trailing,
    /// The bytes end before the last item does.
    #[error("the stream ends before its end item: {frames} frames came")]
    Truncated {
        /// Frames that came.
        frames: u64,
    },
    /// The bytes of a stream of events end before its last item does.
    #[error("the stream of events ends before its end item: {items} came")]
    EventsTruncated {
        /// Events and heads that came.
        items: u64,
    },
    /// What the last item of a stream of events says is not what came before it.
    #[error("the end speaks of {said} events, and {came} came")]
    EventTotals {
        /// As the end says.
        said: u64,
        /// Events and heads that came.
        came: u64,
    },
    /// A list of ids or a bitmap that does not decode.
    #[error("{0}")]
    List(&'static str),
}

/// What a stream says of itself before its first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// Metadata objects that follow.
    pub objects: u64,
    /// Their plain bytes.
    pub object_bytes: u64,
    /// Data chunks that follow.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// About how many bytes of frames they are.
    pub stored_bytes: u64,
}

/// How a stream ends well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Metadata and data frames in the stream, and units of deltas.
    pub frames: u64,
    /// Their bytes, without the items' own headers.
    pub bytes: u64,
}

/// One item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// What follows; if there is one, it is the first item.
    Head(Head),
    /// A block frame whose chunks are metadata objects.
    Metadata(Vec<u8>),
    /// A block frame whose chunks are data.
    Data(Vec<u8>),
    /// A unit of a delta: the next chunks that lack, told in terms of what is there.
    Unit(Vec<u8>),
    /// Chunks that were asked for and are not here, or do not verify here; at most [`ABSENT_MAX`].
    Absent(Vec<ChunkId>),
    /// The stream ends here, and not well: why, for people.
    Failure(String),
    /// The stream ends here, and all that there is was sent.
    End(End),
}

impl Item {
    /// Appends the item as it travels.
    ///
    /// # Panics
    /// When a frame or a list is longer than items may be.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Head(head) => {
                let body = head_body(*head);
                put(out, TAG_HEAD, &body);
            }
            Self::Metadata(frame) => put(out, TAG_METADATA, frame),
            Self::Data(frame) => put(out, TAG_DATA, frame),
            Self::Unit(unit) => put(out, TAG_UNIT, unit),
            Self::Absent(ids) => put(out, TAG_ABSENT, &ids_to_bytes(ids)),
            Self::Failure(text) => {
                let end = text.floor_char_boundary(FAILURE_LEN_MAX);
                put(out, TAG_FAILURE, &text.as_bytes()[..end]);
            }
            Self::End(End { frames, bytes }) => {
                let mut body = [0; END_LEN];
                body[..8].copy_from_slice(&frames.to_le_bytes());
                body[8..].copy_from_slice(&bytes.to_le_bytes());
                put(out, TAG_END, &body);
            }
        }
    }

    /// The item as it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }
}

const HEAD_VERSION: u8 = 1;

/// Which frames a frame's item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Metadata objects.
    Metadata,
    /// Data chunks.
    Data,
}

/// The bytes before a frame of `len` bytes, for who sends frames without copying them.
///
/// # Panics
/// When the frame is longer than [`FRAME_LEN_MAX`].
#[must_use]
pub fn frame_item_header(kind: FrameKind, len: usize) -> [u8; ITEM_HEADER_LEN] {
    let tag = match kind {
        FrameKind::Metadata => TAG_METADATA,
        FrameKind::Data => TAG_DATA,
    };
    item_header(tag, len)
}

fn item_header(tag: u8, len: usize) -> [u8; ITEM_HEADER_LEN] {
    assert!(len <= len_max(tag), "an item of kind {tag:#04x} with {len} bytes");
    let len = u32::try_from(len).expect("bounded above").to_le_bytes();
    [tag, len[0], len[1], len[2], len[3]]
}

fn put(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.reserve(ITEM_HEADER_LEN + body.len());
    out.extend_from_slice(&item_header(tag, body.len()));
    out.extend_from_slice(body);
}

/// Longest body of an item of this kind; 0 for kinds that there are not.
fn len_max(tag: u8) -> usize {
    match tag {
        TAG_END => END_LEN,
        TAG_HEAD => HEAD_LEN_MAX,
        TAG_METADATA | TAG_DATA => FRAME_LEN_MAX,
        TAG_ABSENT => ABSENT_MAX * ID_LEN,
        TAG_FAILURE => FAILURE_LEN_MAX,
        TAG_UNIT => UNIT_LEN_MAX,
        _ => 0,
    }
}

fn is_len_allowed(tag: u8, len: usize) -> bool {
    let len_min = match tag {
        TAG_END => END_LEN,
        TAG_METADATA | TAG_DATA => FrameHeader::encoded_len(1, 0) + 1,
        TAG_ABSENT => ID_LEN,
        TAG_HEAD | TAG_UNIT => 1,
        _ => 0,
    };
    (len_min..=len_max(tag)).contains(&len) && (tag != TAG_ABSENT || len.is_multiple_of(ID_LEN))
}

/// Turns bytes into items as they come.
#[derive(Debug, Default)]
pub struct ItemDecoder {
    header: [u8; ITEM_HEADER_LEN],
    header_len: usize,
    body: Vec<u8>,
    seen: End,
    has_items: bool,
    has_ended: bool,
}

impl ItemDecoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from `input` up to the end of the next item, and gives the item; nothing when `input` is used up
    /// before that. After an error the stream is of no use any more.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no stream.
    pub fn next(&mut self, input: &mut impl Buf) -> Result<Option<Item>, WireError> {
        while input.has_remaining() {
            if self.has_ended {
                return Err(WireError::Trailing);
            }
            if self.header_len < ITEM_HEADER_LEN {
                self.header[self.header_len] = input.get_u8();
                self.header_len += 1;
                if self.header_len == ITEM_HEADER_LEN {
                    self.begin_item()?;
                }
            } else {
                let wanted = self.body_len() - self.body.len();
                let chunk = input.chunk();
                let taken = wanted.min(chunk.len());
                self.body.extend_from_slice(&chunk[..taken]);
                input.advance(taken);
            }
            if self.header_len == ITEM_HEADER_LEN && self.body.len() == self.body_len() {
                self.header_len = 0;
                let body = std::mem::take(&mut self.body);
                return self.finish_item(self.header[0], body).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether the last item came, and with it all of the stream.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What came so far.
    #[must_use]
    pub fn seen(&self) -> End {
        self.seen
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when the stream has not ended.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.has_ended { Ok(()) } else { Err(WireError::Truncated { frames: self.seen.frames }) }
    }

    fn body_len(&self) -> usize {
        let [_, len @ ..] = self.header;
        u32::from_le_bytes(len) as usize
    }

    fn begin_item(&mut self) -> Result<(), WireError> {
        let (tag, len) = (self.header[0], self.body_len());
        if tag > TAG_UNIT {
            return Err(WireError::Tag(tag));
        }
        if !is_len_allowed(tag, len) {
            let [_, len @ ..] = self.header;
            return Err(WireError::Length { tag, len: u32::from_le_bytes(len) });
        }
        if tag == TAG_HEAD && self.has_items {
            return Err(WireError::LateHead);
        }
        self.has_items = true;
        self.body = Vec::with_capacity(len.min(BODY_RESERVE_MAX));
        Ok(())
    }

    fn finish_item(&mut self, tag: u8, body: Vec<u8>) -> Result<Item, WireError> {
        Ok(match tag {
            TAG_HEAD => Item::Head(decode_head(&body)?),
            TAG_METADATA | TAG_DATA | TAG_UNIT => {
                self.seen.frames += 1;
                self.seen.bytes += body.len() as u64;
                match tag {
                    TAG_METADATA => Item::Metadata(body),
                    TAG_DATA => Item::Data(body),
                    _ => Item::Unit(body),
                }
            }
            TAG_ABSENT => Item::Absent(ids_from_bytes(&body)?),
            TAG_FAILURE => {
                self.has_ended = true;
                Item::Failure(String::from_utf8(body).map_err(|_| WireError::Item("a failure's text"))?)
            }
            _ => {
                self.has_ended = true;
                Item::End(self.decode_end(&body)?)
            }
        })
    }

    fn decode_end(&self, body: &[u8]) -> Result<End, WireError> {
        let word = |at: usize| -> Result<u64, WireError> {
            let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or(WireError::Item("the end"))
        };
        let said = End { frames: word(0)?, bytes: word(8)? };
        if said == self.seen {
            return Ok(said);
        }
        let End { frames, bytes } = self.seen;
        Err(WireError::Totals { said_frames: said.frames, said_bytes: said.bytes, frames, bytes })
    }
}

fn decode_head(body: &[u8]) -> Result<Head, WireError> {
    match body.first() {
        Some(&HEAD_VERSION) => {}
        Some(&version) => return Err(WireError::Version(version)),
        None => return Err(WireError::Item("the head")),
    }
    let head: Head = postcard::from_bytes(&body[1..]).map_err(|_| WireError::Item("the head"))?;
    // A number could be written at greater length than it takes.
    if head_body(head) == body { Ok(head) } else { Err(WireError::Item("the head")) }
}

fn head_body(head: Head) -> Vec<u8> {
    postcard::to_stdvec(&(HEAD_VERSION, head)).expect("memory takes everything")
}

#[cfg(test)]
mod tests;
