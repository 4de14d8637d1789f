//! Nodes of lists of chunks: several, which name one another as the input likes.
#![no_main]

use std::sync::Arc;

use cairn_fuzz::parts;
use cairn_store::content::{chunks, chunks_from};
use cairn_store::{ChunkId, Content, ContentId, Error, ObjectSource, Result, references};
use libfuzzer_sys::fuzz_target;

/// Objects that are named by the first byte of an id.
struct Nodes<'a>(Vec<&'a [u8]>);

impl ObjectSource for Nodes<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        let node = self.0.get(usize::from(id.0[0]));
        node.map(|bytes| Arc::from(*bytes)).ok_or_else(|| Error::Absent { what: format!("object {id}") })
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<16>() else { return };
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let (size, count) = (word(0), word(8));
    // No other is found in a directory.
    if !(33..=size).contains(&count) || size > i64::MAX as u64 {
        return;
    }
    let nodes = Nodes(parts(rest));
    for bytes in &nodes.0 {
        let _ = references(&ChunkId::of(bytes), bytes);
    }
    let content = Content::Long { root: ContentId([0; 32]), chunks: count };
    let (mut at, mut met, mut failed) = (0, 0, false);
    for chunk in chunks(&content, size, &nodes).take(10_000) {
        let Ok((offset, chunk)) = chunk else {
            failed = true;
            break;
        };
        assert_eq!(offset, at, "chunks follow one another");
        at += u64::from(chunk.len);
        met += 1;
    }
    assert!(failed || met == 10_000 || (met, at) == (count, size), "what a list says of itself holds");
    if let Some(Ok((offset, chunk))) = chunks_from(&content, size, size / 2, &nodes).next() {
        assert!(offset <= size / 2 && size / 2 < offset + u64::from(chunk.len));
    }
});
