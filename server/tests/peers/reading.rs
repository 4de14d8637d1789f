//! What can be read, and that it is what it should be.

use bytes::Buf;
use cairn_net::wire::{Item, ItemDecoder, PeerAnswer, RefAnswer, RefList, bitmap_from_bytes, ids_to_bytes};
use cairn_store::block::{Block, Decompressor};
use cairn_store::refs::RefStatement;
use cairn_store::{ArtifactId, ChunkId};

use crate::http::{Answer, ask, get, get_with};
use crate::served::{Folder, Setup};

/// The items of a stream.
fn items(answer: &Answer) -> Vec<Item> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (mut decoder, mut input, mut items) = (ItemDecoder::new(), &answer.body[..], Vec::new());
    while input.has_remaining() {
        items.extend(decoder.next(&mut input).unwrap());
    }
    decoder.finish().unwrap();
    items
}

/// The chunks of a stream's frames, each verified, in order.
fn received(items: &[Item]) -> Vec<ChunkId> {
    let mut ids = Vec::new();
    for item in items {
        let (Item::Metadata(frame) | Item::Data(frame)) = item else { continue };
        let block = Block::decode(frame, &mut Decompressor::default(), Vec::new()).unwrap();
        for slot in 0..block.header().chunks.len() {
            block.chunk(slot).unwrap();
            ids.push(block.header().chunks[slot].0);
        }
    }
    ids
}

#[test]
fn the_small_answers() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 100_000);
    let served = folder.serve(Setup::default());
    let peer = get(served.address, "/v1/peer");
    let said: PeerAnswer = serde_json::from_slice(&peer.body).unwrap();
    assert_eq!((said.name.as_str(), said.version.as_str(), said.protocol), ("cairn", "1.2.3", 1));
    assert_eq!(peer.header("cairn-protocol"), "1");
    assert!(!peer.header("x-request-id").is_empty());
    let named = get_with(served.address, "/v1/peer", &[("x-request-id", "mine-1")]);
    assert_eq!(named.header("x-request-id"), "mine-1");
    let odd = get_with(served.address, "/v1/peer", &[("x-request-id", "a b\"c")]);
    assert_ne!(odd.header("x-request-id"), "a b\"c");
    assert_eq!(get(served.address, "/healthz").text(), "ok\n");
    assert_eq!(get(served.address, "/readyz").text(), "ready\n");
    for path in ["/v1/refs", "/v1/refs/tool"] {
        let list: RefList = serde_json::from_slice(&get(served.address, path).body).unwrap();
        assert_eq!(list.refs.len(), 1);
        assert_eq!((list.refs[0].artifact.0, list.refs[0].files), (artifact, 3));
    }
    let none = get(served.address, "/v1/refs/other");
    assert_eq!((none.status, none.kind().as_str()), (404, "not_found"));
    assert_eq!(none.header("cache-control"), "no-store");
}

#[test]
fn objects_and_chunks_by_their_hash() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 100_000);
    let served = folder.serve(Setup::default());
    let bytes = get(served.address, &format!("/v1/artifacts/{artifact}"));
    assert_eq!(ArtifactId::of(&bytes.body), artifact);
    assert_eq!(bytes.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(bytes.header("etag"), format!("\"{artifact}\""));
    let chunk = folder.store().lacking_chunks(None, &artifact, &()).unwrap().chunks[0].id;
    let path = format!("/v1/chunks/{chunk}");
    let plain = get(served.address, &path);
    assert_eq!(ChunkId::of(&plain.body), chunk);
    assert_eq!(plain.header("content-length"), plain.body.len().to_string());
    let head = ask(served.address, "HEAD", &path, &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, plain.header("content-length")));
    let tag = plain.header("etag").to_owned();
    for tags in [tag.as_str(), "*", &format!("\"x\", W/{tag}")] {
        let known = get_with(served.address, &path, &[("if-none-match", tags)]);
        assert_eq!((known.status, known.header("etag")), (304, tag.as_str()));
    }
    assert_eq!(get_with(served.address, &path, &[("if-none-match", "\"x\"")]).status, 200);
    let frame = get(served.address, &format!("{path}?frame=1"));
    assert_ne!(frame.header("etag"), tag);
    assert!(received(&[Item::Data(frame.body)]).contains(&chunk));
    let absent = get(served.address, &format!("/v1/chunks/{}", ChunkId([9; 32])));
    assert_eq!((absent.status, absent.kind().as_str()), (404, "not_found"));
    assert_eq!(get(served.address, &format!("/v1/chunks/{}", "A".repeat(64))).status, 400);
}

#[test]
fn refs_have_a_tag_that_changes_with_them() {
    let folder = Folder::new();
    folder.add("tool", "1.0", 1, 1000);
    let served = folder.serve(Setup::default());
    let first = get(served.address, "/v1/refs");
    let tag = first.header("etag").to_owned();
    assert_eq!(first.header("cache-control"), "public, max-age=1");
    assert_eq!(get_with(served.address, "/v1/refs", &[("if-none-match", &tag)]).status, 304);
    folder.add("tool", "1.1", 2, 1000);
    let second = get_with(served.address, "/v1/refs", &[("if-none-match", &tag)]);
    assert_eq!(second.status, 200);
    assert_ne!(second.header("etag"), tag);
}

#[test]
fn a_delta_is_what_lacks_and_nothing_else() {
    let folder = Folder::new();
    let one = folder.add("tool", "1.0", 1, 3_000_000);
    let two = folder.add("tool", "2.0", 2, 5_000_000);
    let store = folder.store();
    let served = folder.serve(Setup::default());
    for have in [None, Some(one)] {
        let have_text = have.map_or("none".to_owned(), |have| have.to_string());
        let ids = |lacking: cairn_store::Lacking| -> Vec<ChunkId> {
            lacking.chunks.iter().map(|chunk| chunk.id).collect()
        };
        let objects = ids(store.lacking_objects(have.as_ref(), &two, &()).unwrap());
        let chunks = ids(store.lacking_chunks(have.as_ref(), &two, &()).unwrap());
        for (part, expected) in [
            ("", [objects.clone(), chunks.clone()].concat()),
            ("?part=objects", objects.clone()),
            ("?part=chunks", chunks.clone()),
        ] {
            let path = format!("/v1/delta/{have_text}/{two}{part}");
            let answer = get(served.address, &path);
            assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
            let items = items(&answer);
            let Item::Head(head) = &items[0] else { panic!("{:?}", items[0]) };
            let counted = if part == "?part=chunks" { 0 } else { objects.len() };
            // The chunks are counted in any case: who asks for objects wants to know what is to come.
            assert_eq!((head.objects, head.chunks), (counted as u64, chunks.len() as u64), "{path}");
            let mut came = received(&items);
            let mut expected = expected;
            came.sort();
            came.dedup();
            expected.sort();
            assert_eq!(came, expected, "{path}");
            let tag = answer.header("etag");
            assert_eq!(get_with(served.address, &path, &[("if-none-match", tag)]).status, 304);
            assert_eq!(ask(served.address, "HEAD", &path, &[], b"").header("etag"), tag);
        }
    }
    assert!(served.metric("cairn_enumerations_total{how=\"kept\"}") > 0.0);
    assert_eq!(served.metric("cairn_enumerations_total{how=\"made\"}"), 4.0);
    let nobody = ArtifactId([3; 32]);
    for path in [format!("/v1/delta/{nobody}/{two}"), format!("/v1/delta/{two}/{nobody}")] {
        let answer = get(served.address, &path);
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains(&nobody.to_string()), "{}", answer.text());
    }
}

#[test]
fn many_ids_at_once() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 2_000_000);
    let served = folder.serve(Setup::default());
    let lacking = folder.store().lacking_chunks(None, &artifact, &()).unwrap();
    let mut ids: Vec<ChunkId> = lacking.chunks.iter().map(|chunk| chunk.id).collect();
    ids.truncate(ids.len() / 2);
    let absent = ChunkId([5; 32]);
    ids.insert(3, absent);
    let body = ids_to_bytes(&ids);
    let have = ask(served.address, "POST", "/v1/have", &[], &body);
    let bits = bitmap_from_bytes(&have.body, ids.len()).unwrap();
    assert_eq!(bits.iter().filter(|bit| !**bit).count(), 1);
    assert!(!bits[3]);
    let items = items(&ask(served.address, "POST", "/v1/chunks", &[], &body));
    let came = received(&items);
    assert!(ids.iter().all(|id| came.contains(id) != (*id == absent)));
    assert!(items.contains(&Item::Absent(vec![absent])));
    for bad in [&body[..33], b"x"] {
        assert_eq!(ask(served.address, "POST", "/v1/have", &[], bad).status, 400);
    }
    let nothing = ask(served.address, "POST", "/v1/chunks", &[], b"");
    assert!(matches!(self::items(&nothing)[..], [Item::End(_)]));
}

#[test]
fn packs_whole_and_in_part() {
    let folder = Folder::new();
    folder.add("tool", "1.0", 1, 1_000_000);
    let served = folder.serve(Setup::default());
    for pack in folder.store().packs().unwrap() {
        let path = format!("/v1/packs/{}", pack.id);
        let expected = std::fs::read(folder.store_path().join(format!("packs/{}.pack", pack.id))).unwrap();
        let whole = get(served.address, &path);
        assert!(whole.body == expected);
        let tag = whole.header("etag").to_owned();
        assert_eq!(whole.header("accept-ranges"), "bytes");
        let len = expected.len();
        let part = get_with(served.address, &path, &[("range", "bytes=100-299")]);
        assert_eq!((part.status, part.header("content-range")), (206, &*format!("bytes 100-299/{len}")));
        assert!(part.body == expected[100..300]);
        let last = get_with(served.address, &path, &[("range", "bytes=-7"), ("if-range", &tag)]);
        assert!(last.status == 206 && last.body == expected[len - 7..]);
        let other = get_with(served.address, &path, &[("range", "bytes=-7"), ("if-range", "\"x\"")]);
        assert!(other.status == 200 && other.body == expected);
        let beyond = get_with(served.address, &path, &[("range", &format!("bytes={len}-"))]);
        assert_eq!((beyond.status, beyond.header("content-range")), (416, &*format!("bytes */{len}")));
        assert_eq!(get_with(served.address, &path, &[("if-none-match", &tag)]).status, 304);
        assert_eq!(get_with(served.address, &path, &[("if-match", "\"x\"")]).status, 412);
        let head = ask(served.address, "HEAD", &path, &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, &*len.to_string()));
    }
    assert_eq!(get(served.address, &format!("/v1/packs/{}", ArtifactId([1; 32]))).status, 404);
}

#[test]
fn a_ref_is_stated_for_its_platform_and_its_channel() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 1000);
    let channel = "stable".parse().unwrap();
    let key = cairn_store::RefKey {
        name: "tool".parse().unwrap(),
        version: "1.0".parse().unwrap(),
        platform: "linux/x86_64".parse().unwrap(),
    };
    folder.writer().tag(&key, &channel).unwrap();
    let served = folder.serve(Setup { writes: true, ..Setup::default() });
    let stated = |path: &str| -> RefAnswer {
        let answer = get(served.address, path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), "public, max-age=1");
        let tag = answer.header("etag");
        assert_eq!(get_with(served.address, path, &[("if-none-match", tag)]).status, 304);
        serde_json::from_slice(&answer.body).unwrap()
    };
    let version = stated("/v1/refs/tool/1.0?platform=linux%2Fx86_64");
    let said = RefStatement::of(&version.reference).unwrap();
    assert_eq!(said.subject.artifact(), artifact);
    assert!(version.channel.is_none());
    let channel = stated("/v1/refs/tool/stable?platform=linux/x86_64");
    assert_eq!(channel.reference, version.reference);
    assert!(channel.channel.is_some());
    for (path, status) in [
        ("/v1/refs/tool/1.0?platform=darwin/aarch64", 404),
        ("/v1/refs/tool/2.0", 404),
        ("/v1/refs/tool/edge", 404),
        ("/v1/refs/tool/..", 400),
        ("/v1/refs/tool/1.0?platform=x", 400),
    ] {
        assert_eq!(get(served.address, path).status, status, "{path}");
    }
}

#[test]
fn one_comparison_serves_all_who_ask() {
    let folder = Folder::new();
    let artifact = folder.add("tool", "1.0", 1, 3_000_000);
    let served = folder.serve(Setup::default());
    let path = format!("/v1/delta/none/{artifact}");
    std::thread::scope(|scope| {
        let threads = [(); 16].map(|()| scope.spawn(|| get(served.address, &path).body));
        let bodies = threads.map(|thread| thread.join().unwrap());
        assert!(bodies.iter().all(|body| *body == bodies[0]));
    });
    assert_eq!(served.metric("cairn_enumerations_total{how=\"made\"}"), 2.0);
}
