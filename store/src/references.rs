//! What a single object names, known by nothing but its bytes: how whoever receives objects tells those that belong to an
//! artifact from those that nobody asked for.

use std::sync::Arc;

use crate::artifact::Artifact;
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::object::ObjectSource;
use crate::{content, tree};

/// One object as a source of itself.
struct Alone(Arc<[u8]>);

impl ObjectSource for Alone {
    fn get(&self, _: &ChunkId) -> Result<Arc<[u8]>> {
        Ok(Arc::clone(&self.0))
    }
}

/// The objects that an artifact, a node of a directory or a node of a chunk list names, in its order. Chunks of files are
/// not among them. That `bytes` have this id is for the caller to know.
///
/// # Errors
/// [`Error::Damaged`] when they are none of these, or do not decode; [`Error::NewerFormat`].
pub fn references(id: &ChunkId, bytes: &[u8]) -> Result<Vec<ChunkId>> {
    let source = Alone(bytes.into());
    match bytes.get(..4) {
        Some(magic) if magic == tree::NODE_MAGIC => tree::references(id, &source),
        Some(magic) if magic == content::NODE_MAGIC => content::references(id, &source),
        Some(b"CART") => Ok(vec![Artifact::decode(bytes)?.root.into()]),
        _ => Err(Error::Damaged {
            what: format!("object {id}"),
            chunk: Some(*id),
            pack: None,
            offset: None,
            detail: "it is neither an artifact nor a directory nor a list of chunks".to_owned(),
        }),
    }
}

/// Gives `object` the objects that an object names, as [`references`] does, and `chunk` the chunks of files that it names
/// itself. Holes are none.
pub(crate) fn below(
    id: &ChunkId,
    bytes: &[u8],
    object: &mut dyn FnMut(ChunkId),
    chunk: &mut dyn FnMut(ChunkId),
) -> Result<()> {
    match bytes.get(..4) {
        Some(magic) if magic == tree::NODE_MAGIC => tree::below(id, &Alone(bytes.into()), object, chunk),
        Some(magic) if magic == content::NODE_MAGIC => {
            content::below(id, &Alone(bytes.into()), object, chunk)
        }
        _ => references(id, bytes).map(|found| found.into_iter().for_each(object)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::object::MemoryObjects;
    use crate::testing;
    use crate::tree::TreeBuilder;

    fn objects() -> (MemoryObjects, ChunkId) {
        let mut objects = MemoryObjects::new();
        let mut directory = |names: std::ops::Range<u32>, below: Option<crate::TreeId>| {
            let mut builder = TreeBuilder::new();
            for name in names {
                let long = testing::chunked(&mut objects, 1..200);
                let mut entry = below.map_or(long, testing::dir);
                entry.name = format!("{name:05}").into_bytes();
                builder.push(&entry, &mut objects).unwrap();
            }
            builder.finish(&mut objects).unwrap()
        };
        let leaf = directory(0..3, None);
        let root = directory(0..5_000, Some(leaf));
        let artifact = testing::artifact(root, 15_000);
        let id = artifact.put(&mut objects).unwrap();
        (objects, id.into())
    }

    #[test]
    fn following_references_reaches_every_object() {
        let (objects, artifact) = objects();
        let (mut reached, mut next) = (std::collections::BTreeSet::from([artifact]), vec![artifact]);
        while let Some(id) = next.pop() {
            let found = references(&id, &objects.get(&id).unwrap()).unwrap();
            next.extend(found.into_iter().filter(|id| reached.insert(*id)));
        }
        assert!(reached.len() > 5);
        assert_eq!(reached.len() as u64, objects.count());
    }

    #[test]
    fn other_bytes_name_nothing() {
        for bytes in [&b""[..], b"CART", b"CTRE", b"CCON", b"some text that is no object"] {
            assert!(matches!(references(&ChunkId::of(bytes), bytes), Err(Error::Damaged { .. })));
        }
    }

    proptest! {
        #[test]
        fn mutated_objects_break_nothing(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let (objects, _) = objects();
            for (id, bytes) in objects.iter() {
                let mut bytes = bytes.to_vec();
                for (at, byte) in &edits {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                let _ = references(id, &bytes);
            }
        }
    }
}
