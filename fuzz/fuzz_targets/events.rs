//! Events: a segment of a log, as it comes and with checksums that hold; and a stream of them between peers, however it is
//! cut.
#![no_main]

use cairn_net::wire::{EventDecoder, EventItem, WireError};
use libfuzzer_sys::fuzz_target;

const HEADER_LEN: usize = 48;
const HEAD_LEN: usize = 60;

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize
}

/// Makes marks, hashes and checksums hold, record by record, as far as there are records.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    bytes[..4].copy_from_slice(b"CEVS");
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..44]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    let (header, records) = bytes.split_at_mut(HEADER_LEN);
    let (first, mut at) = (u64::from_le_bytes(header[16..24].try_into().expect("8 bytes")), 0);
    for round in first..=u64::MAX {
        let Some(head) = records.get(at..at + HEAD_LEN) else { return };
        let hash_len = usize::from(head[13]) % 65;
        let payload_at = at + HEAD_LEN + hash_len;
        let end = payload_at + word(records, at + 8) % 5000;
        if end > records.len() {
            return;
        }
        let hash = *blake3::hash(&records[payload_at..end]).as_bytes();
        let record = &mut records[at..end];
        record[..8].copy_from_slice(&header[32..40]);
        record[8..12].copy_from_slice(&u32::try_from(end - payload_at).expect("it is short").to_le_bytes());
        record[12] &= 1;
        record[13] = u8::try_from(hash_len).expect("it is short");
        record[14..16].fill(0);
        // Some are of another round than is due.
        if record[16] < 250 {
            record[16..24].copy_from_slice(&round.to_le_bytes());
        }
        record[24..56].copy_from_slice(&hash);
        let crc = crc32c::crc32c(&record[..56 + hash_len]);
        record[56 + hash_len..60 + hash_len].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

fn decode(mut pieces: impl Iterator<Item = bytes::Bytes>) -> (Vec<EventItem>, Option<WireError>) {
    let (mut decoder, mut items) = (EventDecoder::new(), Vec::new());
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
    assert_eq!(whole.0, cut.0);
    assert_eq!(whole.1.is_some(), cut.1.is_some());
    let mut again = Vec::new();
    whole.0.iter().for_each(|item| item.encode(&mut again));
    assert!(data.starts_with(&again), "an item has two encodings");
    let _ = cairn_store::fuzzing::event_log(data);
    let mut mended = data.to_vec();
    mend(&mut mended);
    if mended != data {
        let _ = cairn_store::fuzzing::event_log(&mended);
    }
});
