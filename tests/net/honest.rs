//! A peer that does what the protocol says, and places where a test makes it do something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_net::wire::{
    self, End, ErrorBody, Failure, Head, HexId, Item, RefAnswer, RefList, RemoteRef, ids_from_bytes,
};
use cairn_store::delta::DeltaOptions;
use cairn_store::pack::PackKind;
use cairn_store::sending::Piece;
use cairn_store::{ArtifactId, ChannelKey, ChunkId, ChunkRef, Origin, RefKey, RefStatement, Store, Subject};

use crate::fixture::{Reply, Request, Server};

/// An honest peer.
#[derive(Clone)]
pub(crate) struct Honest {
    pub(crate) store: Store,
    pub(crate) origin: Origin,
    pub(crate) seq: u64,
    /// Frames of data that were sent.
    pub(crate) frames: Arc<AtomicU64>,
    /// Whether it tells deltas.
    pub(crate) tells: bool,
}

/// What a test changes of the frames that a peer sends: nothing of it where it gives true.
pub(crate) type Twist = dyn Fn(&mut Reply, &Item) -> bool + Send + Sync;

impl Honest {
    pub(crate) fn new(store: &Store) -> Self {
        Self { store: store.clone(), origin: Origin([7; 16]), seq: 10, frames: Arc::default(), tells: false }
    }

    pub(crate) fn serve(self) -> Server {
        Server::start(move |request, reply| self.answer(request, reply, &|_, _| true))
    }

    /// Serves; each item goes through `twist` first, which may write something else instead and gives whether the item is
    /// to be sent.
    pub(crate) fn serve_twisted(
        self,
        twist: impl Fn(&mut Reply, &Item) -> bool + Send + Sync + 'static,
    ) -> Server {
        Server::start(move |request, reply| self.answer(request, reply, &twist))
    }

    pub(crate) fn answer(&self, request: &Request, reply: &mut Reply, twist: &Twist) {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["v1", "refs"]) => json(reply, 200, &self.list(None)),
            ("GET", ["v1", "refs", name]) => json(reply, 200, &self.list(Some(name))),
            ("GET", ["v1", "refs", name, tag]) => match self.reference(name, tag) {
                Some(answer) => json(reply, 200, &answer),
                None => absent(reply, &[]),
            },
            ("GET", ["v1", "delta", have, want]) => self.delta(reply, have, want, query, twist),
            ("POST", ["v1", "chunks"]) => {
                let ids = ids_from_bytes(&request.body).unwrap();
                self.stream(reply, None, ids, twist);
            }
            ("POST", ["v1", "have"]) => {
                let ids = ids_from_bytes(&request.body).unwrap();
                let bits = self.store.have(&ids).unwrap();
                reply.whole(200, wire::BITMAP_TYPE, &wire::bitmap_to_bytes(&bits));
            }
            _ => absent(reply, &[]),
        }
    }

    fn list(&self, name: Option<&str>) -> RefList {
        let view = self.store.view().unwrap();
        let refs = view.refs.iter().filter(|(key, _)| name.is_none_or(|name| key.name.as_str() == name));
        let refs = refs.map(|(key, record)| RemoteRef {
            name: key.name.clone(),
            version: key.version.clone(),
            platform: key.platform.clone(),
            artifact: HexId(record.artifact),
            files: record.files,
            bytes: record.bytes,
            chunks: record.chunks,
            channels: Vec::new(),
        });
        RefList { refs: refs.collect() }
    }

    fn reference(&self, name: &str, tag: &str) -> Option<RefAnswer> {
        let view = self.store.view().unwrap();
        let spec = format!("{name}@{tag}").parse().ok()?;
        let (key, artifact) = view.resolve(&spec, None).ok()?;
        Some(self.stated(&key?, artifact, tag))
    }

    /// What is stated of a ref, and of a channel if the tag is one.
    pub(crate) fn stated(&self, key: &RefKey, artifact: ArtifactId, tag: &str) -> RefAnswer {
        let envelope = |subject| {
            let (origin, seq) = (self.origin, self.seq);
            RefStatement { origin, seq, time_ms: 1, subject }.to_envelope()
        };
        let channel = (tag != key.version.as_str()).then(|| {
            let (name, platform) = (key.name.clone(), key.platform.clone());
            let channel = ChannelKey { name, channel: tag.parse().unwrap(), platform };
            envelope(Subject::Channel { key: channel, version: key.version.clone(), artifact })
        });
        RefAnswer { reference: envelope(Subject::Ref { key: key.clone(), artifact }), channel }
    }

    fn delta(&self, reply: &mut Reply, have: &str, want: &str, query: &str, twist: &Twist) {
        let have: Option<ArtifactId> = (have != "none").then(|| have.parse().unwrap());
        let want: ArtifactId = want.parse().unwrap();
        for id in have.iter().chain([&want]) {
            if self.store.artifact(id).is_err() {
                return absent(reply, &[(*id).into()]);
            }
        }
        let objects = self.store.lacking_objects(have.as_ref(), &want, &()).unwrap();
        let chunks = self.store.lacking_chunks(have.as_ref(), &want, &()).unwrap();
        let head = Head {
            objects: objects.chunks.len() as u64,
            object_bytes: objects.plain_bytes,
            chunks: chunks.chunks.len() as u64,
            plain_bytes: chunks.plain_bytes,
            stored_bytes: chunks.stored_bytes,
        };
        let ids = |list: Vec<ChunkRef>| list.into_iter().map(|chunk| chunk.id).collect();
        let (part, codecs) = query.split_once('&').unwrap_or((query, ""));
        let wanted = match part {
            "part=objects" => ids(objects.chunks),
            "part=chunks" if codecs.is_empty() => ids(chunks.chunks),
            "part=chunks" if self.tells => return self.tell(reply, &have.unwrap(), &want, twist),
            "part=chunks" => return absent(reply, &[]),
            other => panic!("part {other:?}"),
        };
        self.stream(reply, Some(head), wanted, twist);
    }

    fn tell(&self, reply: &mut Reply, have: &ArtifactId, want: &ArtifactId, twist: &Twist) {
        let gap = self.store.gap(have, want, &()).unwrap().unwrap();
        let (mut units, mut end) = (Vec::new(), End::default());
        let mut keep = |unit: Vec<u8>| {
            end.frames += 1;
            end.bytes += unit.len() as u64;
            units.push(Item::Unit(unit));
            Ok(())
        };
        self.store.encode_delta(&gap, &DeltaOptions::default(), &(), &mut keep).unwrap();
        if !reply.stream_head() {
            return;
        }
        for item in units.into_iter().chain([Item::End(end)]) {
            if twist(reply, &item) && !reply.raw(&item.to_bytes()) {
                return;
            }
        }
    }

    fn stream(&self, reply: &mut Reply, head: Option<Head>, wanted: Vec<ChunkId>, twist: &Twist) {
        if !reply.stream_head() {
            return;
        }
        let mut end = End::default();
        let send = |reply: &mut Reply, item: Item| {
            if twist(reply, &item) { reply.raw(&item.to_bytes()) } else { reply.raw(&[]) }
        };
        if let Some(head) = head
            && !send(reply, Item::Head(head))
        {
            return;
        }
        for piece in self.store.sending(wanted) {
            let items = match piece.unwrap() {
                Piece::Frame(kind, frame) => {
                    end.frames += 1;
                    end.bytes += frame.len() as u64;
                    vec![match kind {
                        PackKind::Metadata => Item::Metadata(frame),
                        PackKind::Data | PackKind::Delta => {
                            self.frames.fetch_add(1, Ordering::Relaxed);
                            Item::Data(frame)
                        }
                    }]
                }
                Piece::Absent(ids) => {
                    ids.chunks(wire::ABSENT_MAX).map(|ids| Item::Absent(ids.to_vec())).collect()
                }
            };
            for item in items {
                if !send(reply, item) {
                    return;
                }
            }
        }
        send(reply, Item::End(end));
    }
}

pub(crate) fn json(reply: &mut Reply, status: u16, body: &impl serde::Serialize) {
    reply.whole(status, "application/json", &serde_json::to_vec(body).unwrap());
}

pub(crate) fn absent(reply: &mut Reply, missing: &[ChunkId]) {
    let missing = missing.iter().map(|id| HexId(*id)).collect();
    let error = Failure { kind: "not_found".into(), message: "not here".into(), hint: None, missing };
    json(reply, 404, &ErrorBody { error, first_round: None, next_round: None });
}
