//! A stream between peers, however it is cut: its items are the same as in one piece, and encode to the same bytes.
#![no_main]

use cairn_net::wire::{Item, ItemDecoder, WireError};
use libfuzzer_sys::fuzz_target;

fn decode(mut pieces: impl Iterator<Item = bytes::Bytes>) -> (Vec<Item>, Option<WireError>) {
    let (mut decoder, mut items) = (ItemDecoder::new(), Vec::new());
    let mut input = bytes::BytesMut::new();
    loop {
        match decoder.next(&mut input) {
            Ok(Some(item)) => items.push(item),
            Ok(None) => match pieces.next() {
                Some(piece) => input.extend_from_slice(&piece),
                None => return (items, decoder.finish().err()),
            },
            Err(error) => return (items, Some(error)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = decode(std::iter::once(bytes::Bytes::copy_from_slice(data)));
    let cut = decode(data.chunks(7).map(bytes::Bytes::copy_from_slice));
    assert_eq!(format!("{:?}", whole.0), format!("{:?}", cut.0));
    assert_eq!(whole.1.is_some(), cut.1.is_some());
    let mut again = Vec::new();
    whole.0.iter().for_each(|item| item.encode(&mut again));
    assert!(data.starts_with(&again), "an item has two encodings");
});
