//! Nodes of directories: several, which name one another as the input likes.
#![no_main]

use std::sync::Arc;

use cairn_fuzz::parts;
use cairn_store::tree::{self, TreeBuilder, entries, find, walk};
use cairn_store::{ChunkId, Entry, Error, MemoryObjects, ObjectSource, Result, TreeId, references};
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
    let nodes = Nodes(parts(data));
    let root = TreeId([0; 32]);
    for bytes in &nodes.0 {
        let _ = references(&ChunkId::of(bytes), bytes);
    }
    let mut last: Option<Vec<u8>> = None;
    let mut listed: Vec<Entry> = Vec::new();
    let mut whole = true;
    for entry in entries(&root, &nodes).take(10_000) {
        let Ok(entry) = entry else {
            whole = false;
            break;
        };
        assert!(last.as_ref().is_none_or(|last| *last < entry.name), "names do not ascend");
        last = Some(entry.name.clone());
        listed.push(entry);
    }
    if let Some(entry) = listed.first() {
        assert_eq!(find(&root, &entry.name, &nodes).ok().flatten().as_ref(), Some(entry));
    }
    let _ = tree::lookup(&root, b"a/b/c", &nodes);
    for entry in walk(&root, &nodes).with_limit(1000) {
        if entry.is_err() {
            break;
        }
    }
    // A directory of one node has one encoding.
    let mut objects = MemoryObjects::new();
    if whole && nodes.0.first().is_some_and(|root| root.get(5) == Some(&0)) {
        let mut builder = TreeBuilder::new();
        listed.iter().for_each(|entry| builder.push(entry, &mut objects).expect("it was decoded"));
        builder.finish(&mut objects).expect("memory takes everything");
        if objects.count() == 1 {
            assert!(objects.iter().all(|(_, bytes)| bytes == nodes.0[0]), "a directory has two encodings");
        }
    }
});
