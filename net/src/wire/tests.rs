//! Tests of the wire: what is sent comes back however it is cut, and no bytes break the decoders.

use proptest::prelude::*;

use super::*;

fn frame(len: usize) -> Vec<u8> {
    vec![7; FrameHeader::encoded_len(1, 0) + 1 + len]
}

fn stream(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut end = End::default();
    for item in items {
        if let Item::Metadata(frame) | Item::Data(frame) = item {
            end.frames += 1;
            end.bytes += frame.len() as u64;
        }
        item.encode(&mut bytes);
    }
    Item::End(end).encode(&mut bytes);
    bytes
}

/// All items of a stream that comes in pieces of these lengths, over and over.
fn decode(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Item>, WireError> {
    let mut decoder = ItemDecoder::new();
    let mut items = Vec::new();
    let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at((*pieces.next().unwrap()).clamp(1, rest.len()));
        rest = after;
        while let Some(item) = decoder.next(&mut piece)? {
            items.push(item);
        }
    }
    decoder.finish().map(|()| items)
}

fn sample() -> Vec<Item> {
    let head = Head { objects: 1, object_bytes: 2, chunks: 3, plain_bytes: u64::MAX, stored_bytes: 5 };
    vec![
        Item::Head(head),
        Item::Metadata(frame(0)),
        Item::Data(frame(100_000)),
        Item::Absent(vec![ChunkId([1; 32]), ChunkId([2; 32])]),
        Item::Data(frame(3)),
    ]
}

#[test]
fn bytes_are_as_documented() {
    let head = Head { objects: 1, object_bytes: 2, chunks: 3, plain_bytes: 300, stored_bytes: 5 };
    assert_eq!(Item::Head(head).to_bytes(), [1, 7, 0, 0, 0, 1, 1, 2, 3, 0xac, 2, 5]);
    assert_eq!(Item::Failure("no".to_owned()).to_bytes(), [5, 2, 0, 0, 0, b'n', b'o']);
    let end = [&[0, 16, 0, 0, 0][..], &2u64.to_le_bytes(), &900u64.to_le_bytes()].concat();
    assert_eq!(Item::End(End { frames: 2, bytes: 900 }).to_bytes(), end);
    let absent = [&[4, 32, 0, 0, 0][..], &[9; 32]].concat();
    assert_eq!(Item::Absent(vec![ChunkId([9; 32])]).to_bytes(), absent);
    let data = frame(200);
    let bytes = Item::Data(data.clone()).to_bytes();
    assert_eq!(bytes[..5], frame_item_header(FrameKind::Data, data.len()));
    assert_eq!(bytes[5..], data);
    assert_eq!(frame_item_header(FrameKind::Metadata, 0x10203), [2, 3, 2, 1, 0]);
}

#[test]
fn what_is_no_stream_is_refused_with_the_reason() {
    let end = Item::End(End::default()).to_bytes();
    let late =
        [stream(&[Item::Data(frame(1))])[..frame(1).len() + 5].to_vec(), sample()[0].to_bytes()].concat();
    let header = |tag: u8, len: u32| [&[tag][..], &len.to_le_bytes()].concat();
    let over = u32::try_from(FRAME_LEN_MAX + 1).unwrap();
    for (bytes, expected) in [
        (vec![], WireError::Truncated { frames: 0 }),
        (end[..4].to_vec(), WireError::Truncated { frames: 0 }),
        (stream(&sample())[..300].to_vec(), WireError::Truncated { frames: 1 }),
        ([&end[..], &[0]].concat(), WireError::Trailing),
        ([Item::Failure(String::new()).to_bytes(), end.clone()].concat(), WireError::Trailing),
        (header(7, 0), WireError::Tag(7)),
        (header(6, 0), WireError::Length { tag: 6, len: 0 }),
        (header(2, over), WireError::Length { tag: 2, len: over }),
        (header(3, u32::MAX), WireError::Length { tag: 3, len: u32::MAX }),
        (header(3, 0), WireError::Length { tag: 3, len: 0 }),
        (header(4, 33), WireError::Length { tag: 4, len: 33 }),
        (header(0, 15), WireError::Length { tag: 0, len: 15 }),
        ([header(5, 1), vec![0xff]].concat(), WireError::Item("a failure's text")),
        ([header(1, 2), vec![2, 0]].concat(), WireError::Version(2)),
        ([header(1, 2), vec![1, 0]].concat(), WireError::Item("the head")),
        ([header(1, 7), vec![1, 0, 0, 0, 0, 0, 0]].concat(), WireError::Item("the head")),
        (late, WireError::LateHead),
        (
            Item::End(End { frames: 1, bytes: 2 }).to_bytes(),
            WireError::Totals { said_frames: 1, said_bytes: 2, frames: 0, bytes: 0 },
        ),
    ] {
        assert_eq!(decode(&bytes, &[bytes.len()]), Err(expected.clone()), "{expected}");
        assert_eq!(decode(&bytes, &[1]), Err(expected.clone()), "{expected}, byte by byte");
    }
}

#[test]
fn a_length_alone_sets_little_aside() {
    let mut decoder = ItemDecoder::new();
    let header = frame_item_header(FrameKind::Data, FRAME_LEN_MAX);
    assert_eq!(decoder.next(&mut &header[..]), Ok(None));
    assert!(decoder.body.capacity() <= BODY_RESERVE_MAX);
}

#[test]
fn lists_and_bitmaps_come_back() {
    for count in [0, 1, 7, 8, 9, 64, 1000] {
        let bits: Vec<bool> = (0..count).map(|n| n % 3 == 0).collect();
        assert_eq!(bitmap_from_bytes(&bitmap_to_bytes(&bits), count), Ok(bits));
        let ids: Vec<_> = (0..count).map(|n| ChunkId::of(&n.to_le_bytes())).collect();
        assert_eq!(ids_from_bytes(&ids_to_bytes(&ids)), Ok(ids));
    }
    assert_eq!(bitmap_to_bytes(&[true, false, false, true, false, false, false, false, true]), [9, 1]);
    assert!(bitmap_from_bytes(&[2], 1).is_err());
    assert!(bitmap_from_bytes(&[1, 0], 8).is_err());
    assert!(bitmap_from_bytes(&[], 1).is_err());
    assert!(ids_from_bytes(&[0; 33]).is_err());
    assert!(ids_from_bytes(&vec![0; (IDS_MAX + 1) * 32]).is_err());
}

#[test]
fn messages_have_their_json_form() {
    let text = r#"{"refs":[{"name":"uv","version":"0.8.1","platform":"linux/x86_64","artifact":"0303030303030303030303030303030303030303030303030303030303030303","files":3,"bytes":60,"chunks":2,"channels":["stable"]}]}"#;
    let list: RefList = serde_json::from_str(text).unwrap();
    assert_eq!(list.refs[0].artifact.0.0, [3; 32]);
    assert_eq!(serde_json::to_string(&list).unwrap(), text);
    for bad in [text.replace("uv", "../uv"), text.replace("03", "0x"), text.replace("linux/", "")] {
        assert!(serde_json::from_str::<RefList>(&bad).is_err(), "{bad}");
    }
    let body: ErrorBody = serde_json::from_str(r#"{"error":{"kind":"busy","message":"later"}}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&body).unwrap(),
        r#"{"error":{"kind":"busy","message":"later","hint":null}}"#
    );
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let ids = prop::collection::vec(any::<[u8; 32]>().prop_map(ChunkId), 1..20);
    let item = prop_oneof![
        (0usize..3000).prop_map(|len| Item::Metadata(frame(len))),
        (0usize..3000).prop_map(|len| Item::Data(frame(len))),
        ids.prop_map(Item::Absent),
    ];
    (any::<Option<[u64; 5]>>(), prop::collection::vec(item, 0..12)).prop_map(|(head, mut items)| {
        if let Some([objects, object_bytes, chunks, plain_bytes, stored_bytes]) = head {
            items.insert(0, Item::Head(Head { objects, object_bytes, chunks, plain_bytes, stored_bytes }));
        }
        items
    })
}

proptest! {
    #[test]
    fn streams_come_back_however_they_are_cut(
        items in items(),
        pieces in prop::collection::vec(1usize..5000, 1..8),
    ) {
        let decoded = decode(&stream(&items), &pieces).unwrap();
        prop_assert_eq!(&decoded[..items.len()], &items[..]);
        prop_assert_eq!(decoded.len(), items.len() + 1);
    }

    #[test]
    fn mutated_streams_decode_alike_however_they_are_cut(
        items in items(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        pieces in prop::collection::vec(1usize..5000, 1..8),
    ) {
        let mut bytes = stream(&items);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let whole = decode(&bytes, &[bytes.len().max(1)]);
        prop_assert_eq!(&decode(&bytes, &pieces), &whole);
        // One value has one encoding, but for varints in the head, whose padding nobody depends on.
        if let Ok(items) = whole && !matches!(items[0], Item::Head(_)) {
            let again: Vec<u8> = items.iter().flat_map(Item::to_bytes).collect();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn random_bytes_break_no_decoder(bytes in prop::collection::vec(any::<u8>(), 0..400), count in 0usize..3000) {
        let _ = decode(&bytes, &[3]);
        let _ = ids_from_bytes(&bytes);
        let _ = bitmap_from_bytes(&bytes, count);
        let _ = serde_json::from_slice::<RefList>(&bytes);
        let _ = serde_json::from_slice::<ErrorBody>(&bytes);
    }
}

/// Found by fuzzing.
#[test]
fn a_head_has_one_encoding() {
    let head = Head { objects: 127, ..Head::default() };
    let mut bytes = Item::Head(head).to_bytes();
    let mut decoder = ItemDecoder::new();
    assert!(matches!(decoder.next(&mut &bytes[..]), Ok(Some(Item::Head(decoded))) if decoded == head));
    let at = bytes.iter().position(|byte| *byte == 127).unwrap();
    bytes.splice(at..=at, [0xff, 0]);
    bytes[1] += 1;
    assert!(matches!(ItemDecoder::new().next(&mut &bytes[..]), Err(WireError::Item("the head"))));
}
