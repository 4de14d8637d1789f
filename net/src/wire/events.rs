//! Streams of events, byte for byte: what `GET /v1/streams/{name}` answers and `POST /v1/streams/{name}/events` takes. A row
//! of items like those of frames, each `tag u8 | length u32 | body`, with tags of their own.
//!
//! [`EventDecoder`] is total and incremental: it takes bytes as they come, never holds more than one item, allocates no more
//! than has come (twice that at most), and accepts nothing after the end. It knows nothing of order: that rounds follow one
//! another is for whoever reads to see.

use bytes::Buf;
use cairn_store::event::{EVENT_LEN_MAX, Event, EventHash, EventHead, STATE_HASH_LEN_MAX, StateHash};

use super::{BODY_RESERVE_MAX, FAILURE_LEN_MAX, ITEM_HEADER_LEN, TAG_END, TAG_FAILURE, WireError};

/// Content type of a stream of events.
pub const EVENTS_TYPE: &str = "application/vnd.cairn.events";
/// Longest item of an event, in bytes.
pub const EVENT_ITEM_LEN_MAX: usize = ITEM_HEADER_LEN + ROUND_LEN + 1 + STATE_HASH_LEN_MAX + EVENT_LEN_MAX;

const ROUND_LEN: usize = 8;
const HASH_LEN: usize = 32;
const SPAN_LEN: usize = 16;
const END_LEN: usize = 8;

const TAG_SPAN: u8 = 0x10;
const TAG_EVENT: u8 = 0x11;
const TAG_HEAD: u8 = 0x12;

/// One item of a stream of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventItem {
    /// What is kept now: the rounds from `first` on, before `next`. The first item of an answer, and a sign of life later.
    Span {
        /// The oldest round that is kept.
        first: u64,
        /// The round after the newest.
        next: u64,
    },
    /// The event of a round.
    Event(Event),
    /// The same without its payload.
    Head(EventHead),
    /// The stream ends here, and not well: why, for people.
    Failure(String),
    /// The stream ends here, in order; whoever wants more asks again.
    End {
        /// Events and heads that came before it.
        items: u64,
    },
}

impl EventItem {
    /// Appends the item as it travels.
    ///
    /// # Panics
    /// When a payload is longer than [`EVENT_LEN_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Span { first, next } => {
                header(out, TAG_SPAN, SPAN_LEN);
                out.extend(first.to_le_bytes());
                out.extend(next.to_le_bytes());
            }
            Self::Event(Event { round, state_hash, payload }) => {
                assert!(payload.len() <= EVENT_LEN_MAX, "an event with {} bytes", payload.len());
                let state_hash = bytes_of(state_hash.as_ref());
                header(out, TAG_EVENT, ROUND_LEN + 1 + state_hash.len() + payload.len());
                out.extend(round.to_le_bytes());
                put_hash(out, state_hash);
                out.extend(payload);
            }
            Self::Head(EventHead { round, hash, state_hash }) => {
                let state_hash = bytes_of(state_hash.as_ref());
                header(out, TAG_HEAD, ROUND_LEN + HASH_LEN + 1 + state_hash.len());
                out.extend(round.to_le_bytes());
                out.extend(hash.0);
                put_hash(out, state_hash);
            }
            Self::Failure(text) => {
                let end = text.floor_char_boundary(FAILURE_LEN_MAX);
                header(out, TAG_FAILURE, end);
                out.extend(&text.as_bytes()[..end]);
            }
            Self::End { items } => {
                header(out, TAG_END, END_LEN);
                out.extend(items.to_le_bytes());
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

fn bytes_of(hash: Option<&StateHash>) -> &[u8] {
    hash.map_or(&[], StateHash::as_bytes)
}

fn header(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.reserve(ITEM_HEADER_LEN + len);
    out.push(tag);
    out.extend(u32::try_from(len).expect("payloads are bounded").to_le_bytes());
}

fn put_hash(out: &mut Vec<u8>, hash: &[u8]) {
    out.push(u8::try_from(hash.len()).expect("state hashes are short"));
    out.extend(hash);
}

/// How long an item's body may be; nothing for kinds that there are not.
fn len_range(tag: u8) -> Option<std::ops::RangeInclusive<usize>> {
    let head_len = ROUND_LEN + HASH_LEN + 1;
    Some(match tag {
        TAG_END => END_LEN..=END_LEN,
        TAG_FAILURE => 0..=FAILURE_LEN_MAX,
        TAG_SPAN => SPAN_LEN..=SPAN_LEN,
        TAG_EVENT => ROUND_LEN + 1..=EVENT_ITEM_LEN_MAX - ITEM_HEADER_LEN,
        TAG_HEAD => head_len..=head_len + STATE_HASH_LEN_MAX,
        _ => return None,
    })
}

/// Turns bytes into items as they come.
#[derive(Debug, Default)]
pub struct EventDecoder {
    header: [u8; ITEM_HEADER_LEN],
    header_len: usize,
    body: Vec<u8>,
    /// Events and heads that came.
    items: u64,
    has_ended: bool,
}

impl EventDecoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from `input` up to the end of the next item, and gives the item; nothing when `input` is used up before
    /// that. After an error the stream is of no use any more.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no stream of events.
    pub fn next(&mut self, input: &mut impl Buf) -> Result<Option<EventItem>, WireError> {
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
                let chunk = input.chunk();
                let taken = (self.body_len() - self.body.len()).min(chunk.len());
                self.body.extend_from_slice(&chunk[..taken]);
                input.advance(taken);
            }
            if self.header_len == ITEM_HEADER_LEN && self.body.len() == self.body_len() {
                self.header_len = 0;
                let body = std::mem::take(&mut self.body);
                return self.finish_item(body).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether a part of an item came, and not the rest.
    #[must_use]
    pub fn is_within_item(&self) -> bool {
        self.header_len > 0
    }

    /// Whether the last item came, and with it all of the stream.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// [`WireError::Truncated`] when the stream has not ended.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.has_ended { Ok(()) } else { Err(WireError::EventsTruncated { items: self.items }) }
    }

    fn body_len(&self) -> usize {
        let [_, len @ ..] = self.header;
        u32::from_le_bytes(len) as usize
    }

    fn begin_item(&mut self) -> Result<(), WireError> {
        let (tag, len) = (self.header[0], self.body_len());
        let allowed = len_range(tag).ok_or(WireError::Tag(tag))?;
        if !allowed.contains(&len) {
            let [_, len @ ..] = self.header;
            return Err(WireError::Length { tag, len: u32::from_le_bytes(len) });
        }
        self.body = Vec::with_capacity(len.min(BODY_RESERVE_MAX));
        Ok(())
    }

    fn finish_item(&mut self, body: Vec<u8>) -> Result<EventItem, WireError> {
        Ok(match self.header[0] {
            TAG_SPAN => {
                let (first, next) = (u64_at(&body, 0)?, u64_at(&body, 8)?);
                if first > next {
                    return Err(WireError::Item("a span that ends before it begins"));
                }
                EventItem::Span { first, next }
            }
            TAG_EVENT => {
                self.items += 1;
                EventItem::Event(event(body)?)
            }
            TAG_HEAD => {
                self.items += 1;
                EventItem::Head(head(&body)?)
            }
            TAG_FAILURE => {
                self.has_ended = true;
                let text = String::from_utf8(body).map_err(|_| WireError::Item("a failure's text"))?;
                EventItem::Failure(text)
            }
            _ => {
                self.has_ended = true;
                let said = u64_at(&body, 0)?;
                if said != self.items {
                    return Err(WireError::EventTotals { said, came: self.items });
                }
                EventItem::End { items: said }
            }
        })
    }
}

fn u64_at(body: &[u8], at: usize) -> Result<u64, WireError> {
    let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_le_bytes).ok_or(WireError::Item("a number"))
}

/// A state hash behind its length, and where it ends.
fn state_hash(body: &[u8], at: usize) -> Result<(Option<StateHash>, usize), WireError> {
    let bad = WireError::Item("a state hash");
    let len = usize::from(*body.get(at).ok_or(bad.clone())?);
    let end = at + 1 + len;
    let bytes = body.get(at + 1..end).ok_or(bad.clone())?;
    let hash = (len > 0).then(|| StateHash::new(bytes)).transpose().map_err(|_| bad)?;
    Ok((hash, end))
}

fn event(mut body: Vec<u8>) -> Result<Event, WireError> {
    let round = u64_at(&body, 0)?;
    let (state_hash, end) = state_hash(&body, ROUND_LEN)?;
    if body.len() - end > EVENT_LEN_MAX {
        return Err(WireError::Item("an event that is too long"));
    }
    body.drain(..end);
    Ok(Event { round, state_hash, payload: body })
}

fn head(body: &[u8]) -> Result<EventHead, WireError> {
    let bad = WireError::Item("the head of an event");
    let round = u64_at(body, 0)?;
    let hash = body[ROUND_LEN..].first_chunk::<HASH_LEN>().ok_or(bad.clone())?;
    let (state_hash, end) = state_hash(body, ROUND_LEN + HASH_LEN)?;
    if end != body.len() {
        return Err(bad);
    }
    Ok(EventHead { round, hash: EventHash(*hash), state_hash })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn hash() -> Option<StateHash> {
        Some(StateHash::new(&[7; 5]).unwrap())
    }

    fn items() -> Vec<EventItem> {
        let event = |round, state_hash, len| Event { round, state_hash, payload: vec![3; len] };
        vec![
            EventItem::Span { first: 1, next: 9 },
            EventItem::Event(event(4, None, 0)),
            EventItem::Event(event(5, hash(), 70_000)),
            EventItem::Head(event(6, hash(), 2).head()),
            EventItem::Head(event(7, None, 2).head()),
            EventItem::Span { first: 2, next: 2 },
            EventItem::End { items: 4 },
        ]
    }

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<EventItem>, WireError> {
        let mut decoder = EventDecoder::new();
        let mut items = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(item) = decoder.next(&mut input)? {
                items.push(item);
            }
        }
        decoder.finish().map(|()| items)
    }

    fn encode(items: &[EventItem]) -> Vec<u8> {
        items.iter().flat_map(EventItem::to_bytes).collect()
    }

    #[test]
    fn what_is_sent_comes_in_pieces_of_any_size() {
        let bytes = encode(&items());
        for piece in [1, 7, 4096, usize::MAX] {
            assert_eq!(decode(&bytes, piece).unwrap(), items());
        }
        let failed = [EventItem::Failure("x".repeat(5000))];
        let expected = [EventItem::Failure("x".repeat(FAILURE_LEN_MAX))];
        assert_eq!(decode(&encode(&failed), 100).unwrap(), expected);
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        let cut = encode(&items()[..3]);
        assert_eq!(decode(&cut, 99), Err(WireError::EventsTruncated { items: 2 }));
        assert_eq!(decode(&[&encode(&items()), &[0][..]].concat(), 99), Err(WireError::Trailing));
        let few = encode(&[EventItem::End { items: 1 }]);
        assert_eq!(decode(&few, 99), Err(WireError::EventTotals { said: 1, came: 0 }));
        let raw = |tag: u8, body: &[u8]| {
            let mut bytes = Vec::new();
            header(&mut bytes, tag, body.len());
            bytes.extend(body);
            decode(&bytes, 50)
        };
        let reversed = [5_u64.to_le_bytes(), 4_u64.to_le_bytes()].concat();
        assert!(matches!(raw(TAG_SPAN, &reversed), Err(WireError::Item(_))));
        assert!(matches!(raw(0x13, &[]), Err(WireError::Tag(0x13))));
        assert!(matches!(raw(2, &[]), Err(WireError::Tag(2))));
        assert!(matches!(raw(TAG_EVENT, &[0; 8]), Err(WireError::Length { .. })));
        // A state hash that is longer than what follows, or than any may be.
        assert!(matches!(raw(TAG_EVENT, &[9; 9]), Err(WireError::Item(_))));
        assert!(matches!(raw(TAG_EVENT, &[80; 200]), Err(WireError::Item(_))));
        assert!(matches!(raw(TAG_HEAD, &[0; 42]), Err(WireError::Item(_))));
        let mut long = vec![TAG_EVENT];
        long.extend(u32::try_from(EVENT_ITEM_LEN_MAX).unwrap().to_le_bytes());
        assert!(matches!(decode(&long, 50), Err(WireError::Length { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_decodes_encodes_to_the_same(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            at in 0..300_usize,
        ) {
            let mut bytes = encode(&items()[..2]);
            let at = at.min(bytes.len());
            bytes.truncate(at);
            bytes.extend(noise);
            if let Ok(items) = decode(&bytes, 64) {
                prop_assert_eq!(encode(&items), bytes);
            }
        }
    }
}
