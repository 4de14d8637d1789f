//! Artifacts that no writer would make, and a peer that has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_net::wire::{End, Head, Item};
use cairn_store::artifact::{Chunking, RootMeta};
use cairn_store::block::{BlockBuilder, Codec, Compressor, FrameHeader};
use cairn_store::{
    Artifact, ArtifactId, ArtifactKind, ChunkId, ChunkRef, ContentBuilder, Entry, MemoryObjects,
    MetadataPolicy, Node, ObjectSource, Origin, RefKey, RefStatement, Subject, TreeBuilder, TreeId,
};

use crate::fixture::{Reply, Request, Server};
use crate::honest::json;

/// An artifact `app@1` of this root, whatever it is.
pub(crate) fn artifact(root: TreeId, entries: u64) -> Artifact {
    Artifact {
        kind: ArtifactKind::Package,
        name: "app".parse().unwrap(),
        version: "1".parse().unwrap(),
        platform: "any/any".parse().unwrap(),
        policy: MetadataPolicy::Portable,
        chunking: Chunking { min: 1, avg: 1, max: 1, paged: false },
        root,
        root_meta: RootMeta { mode: 0o755, full: None },
        entries,
        files: entries,
        bytes: 0,
        chunks: 0,
        provenance: BTreeMap::new(),
    }
}

pub(crate) fn file(name: &str) -> Entry {
    let content = cairn_store::Content::Inline(b"inline".to_vec());
    Entry { name: name.into(), node: Node::File { size: 6, content }, mode: 0o644, full: None }
}

pub(crate) fn dir(name: &str, tree: TreeId) -> Entry {
    Entry { name: name.into(), node: Node::Dir { tree }, mode: 0o755, full: None }
}

/// A file of one chunk.
pub(crate) fn chunked(name: &str, chunk: ChunkRef, objects: &mut MemoryObjects) -> Entry {
    let mut builder = ContentBuilder::new();
    builder.push(chunk, objects).unwrap();
    let node = Node::File { size: chunk.len.into(), content: builder.finish(objects).unwrap() };
    Entry { name: name.into(), node, mode: 0o644, full: None }
}

pub(crate) fn directory(entries: &[Entry], objects: &mut MemoryObjects) -> TreeId {
    let mut builder = TreeBuilder::new();
    for entry in entries {
        builder.push(entry, objects).unwrap();
    }
    builder.finish(objects).unwrap()
}

/// A frame of these bytes under their right ids.
pub(crate) fn frame(chunks: &[&[u8]]) -> Vec<u8> {
    let mut builder = BlockBuilder::default();
    for bytes in chunks {
        builder.push(ChunkId::of(bytes), bytes);
    }
    builder.finish(&mut Compressor::default()).0.bytes
}

/// A frame whose checksums hold, and which says of its payload whatever it says.
pub(crate) fn frame_that_says(
    codec: Codec,
    chunks: Vec<(ChunkId, u32)>,
    plain_len: u32,
    payload: &[u8],
) -> Vec<u8> {
    let header = FrameHeader {
        codec,
        chunks,
        bases: Vec::new(),
        plain_len,
        stored_len: u32::try_from(payload.len()).unwrap(),
        payload_crc: crc32c::crc32c(payload),
    };
    let mut bytes = header.encode();
    bytes.extend_from_slice(payload);
    bytes
}

/// A peer that has one artifact, with objects that need not be any.
#[derive(Clone)]
pub(crate) struct Forged {
    pub(crate) artifact: Artifact,
    pub(crate) objects: Arc<Vec<Vec<u8>>>,
}

impl Forged {
    pub(crate) fn new(artifact: Artifact, objects: Vec<Vec<u8>>) -> Self {
        Self { artifact, objects: Arc::new(objects) }
    }

    /// Of an artifact whose objects are all there.
    pub(crate) fn of(artifact: Artifact, objects: &MemoryObjects) -> Self {
        Self::new(artifact, objects.iter().map(|(_, bytes)| bytes.to_vec()).collect())
    }

    pub(crate) fn id(&self) -> ArtifactId {
        self.artifact.id()
    }

    /// Its metadata as it is sent, the end included.
    pub(crate) fn metadata(&self) -> Vec<u8> {
        let mut bytes = Item::Head(Head::default()).to_bytes();
        let mut end = End::default();
        let artifact = self.artifact.encode();
        let all: Vec<&[u8]> =
            std::iter::once(&artifact[..]).chain(self.objects.iter().map(|o| &o[..])).collect();
        let mut left = &all[..];
        while !left.is_empty() {
            let mut len = 0;
            let fits = left.iter().take_while(|object| {
                len += object.len();
                len <= 400 << 10
            });
            let (now, after) = left.split_at(fits.count().max(1));
            left = after;
            let frame = frame(now);
            end.frames += 1;
            end.bytes += frame.len() as u64;
            Item::Metadata(frame).encode(&mut bytes);
        }
        Item::End(end).encode(&mut bytes);
        bytes
    }

    /// Serves refs and metadata; whatever else is asked for goes to `data`.
    pub(crate) fn serve(self, data: impl Fn(&Request, &mut Reply) + Send + Sync + 'static) -> Server {
        Server::start(move |request, reply| {
            if request.path.starts_with("/v1/refs/") {
                json(reply, 200, &self.answer());
            } else if request.path.ends_with("part=objects") {
                let _ = reply.stream_head() && reply.raw(&self.metadata());
            } else {
                data(request, reply);
            }
        })
    }

    pub(crate) fn answer(&self) -> cairn_net::wire::RefAnswer {
        let Artifact { name, version, platform, .. } = self.artifact.clone();
        let subject = Subject::Ref { key: RefKey { name, version, platform }, artifact: self.id() };
        let statement = RefStatement { origin: Origin([1; 16]), seq: 1, time_ms: 1, subject };
        cairn_net::wire::RefAnswer { reference: statement.to_envelope(), channel: None }
    }
}

/// An artifact with one file of one chunk, and the chunk's bytes.
pub(crate) fn simple(bytes: &[u8]) -> Forged {
    let mut objects = MemoryObjects::new();
    let chunk = ChunkRef { id: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap() };
    let entry = chunked("file", chunk, &mut objects);
    let root = directory(&[entry], &mut objects);
    Forged::of(artifact(root, 1), &objects)
}

/// The bytes of an object.
pub(crate) fn bytes_of(objects: &MemoryObjects, id: TreeId) -> Vec<u8> {
    objects.get(&id.into()).unwrap().to_vec()
}
