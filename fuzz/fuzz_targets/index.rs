//! Index runs: a look-up never leads to a pack that the run does not name, whatever it holds.
#![no_main]

use cairn_store::ChunkId;
use cairn_store::index::Run;
use cairn_store::io::Bytes;
use libfuzzer_sys::fuzz_target;

const HEADER_LEN: usize = 64;
const ENTRY_LEN: usize = 38;

fn check(data: Vec<u8>) {
    let named: Vec<ChunkId> = data
        .get(HEADER_LEN..)
        .unwrap_or_default()
        .chunks_exact(ENTRY_LEN)
        .take(32)
        .map(|entry| ChunkId(entry[..32].try_into().expect("32 bytes")))
        .collect();
    let Ok(run) = Run::open(Bytes::Owned(data)) else { return };
    let holds = run.checksum_holds();
    let others = [ChunkId([0; 32]), ChunkId([0xff; 32]), ChunkId::of(b"nothing")];
    for id in named.iter().chain(&others) {
        if let Some(place) = run.lookup(id) {
            assert!(run.packs().contains(&place.pack));
        }
    }
    let _ = (holds, run.len(), run.is_empty(), run.bytes());
}

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    let mut mended = data.to_vec();
    if mended.len() >= HEADER_LEN {
        let hash = *blake3::hash(&mended[HEADER_LEN..]).as_bytes();
        mended[32..HEADER_LEN].copy_from_slice(&hash);
        check(mended);
    }
});
