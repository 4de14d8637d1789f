//! Any range of any file.

use std::io::{Read, Seek, SeekFrom};

use cairn_store::Error;
use harness::bytes::{noise, sqlite, text};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::seed::{Chance, seed};
use harness::stores::{add, options, writer};

#[test]
fn every_range_is_that_of_the_file() {
    let mut chance = Chance::new(seed());
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    let mixed =
        [noise(1, 700_000), vec![0; 900_000], text(2, 300_000), vec![0; 70_000], noise(3, 1)].concat();
    let files = [
        ("long", noise(4, 5 << 20)),
        ("mixed", mixed),
        ("zeros", vec![0; 1 << 20]),
        ("database", sqlite(5, 100)),
        ("chunk", noise(6, 4096)),
        ("inline", noise(7, 100)),
        ("empty", Vec::new()),
    ];
    for (name, bytes) in &files {
        std::fs::write(source.join(name), bytes).unwrap();
    }
    let store = writer(&scratch.join("store"));
    let artifact = add(&store, &source, &options("ranges", "1")).artifact;
    for (name, bytes) in &files {
        let mut reader = store.open_file(&artifact, name.as_bytes()).unwrap();
        assert_eq!((reader.len(), reader.is_empty()), (bytes.len() as u64, bytes.is_empty()));
        for _ in 0..300 {
            let start = usize::try_from(chance.below(bytes.len() as u64 + 10)).unwrap();
            let wanted = match chance.below(3) {
                0 => chance.below(20),
                1 => chance.below(5000),
                _ => chance.below(200_000),
            };
            let mut buffer = vec![0xaa; usize::try_from(wanted).unwrap()];
            let read = reader.read_at(start as u64, &mut buffer).unwrap();
            let expected = &bytes[start.min(bytes.len())..bytes.len().min(start + buffer.len())];
            assert!(buffer[..read] == *expected, "{wanted} bytes of {name} from {start}");
        }
        assert_eq!(reader.read_at(u64::MAX, &mut [0; 10]).unwrap(), 0);
        let mut whole = Vec::new();
        reader.rewind().unwrap();
        reader.read_to_end(&mut whole).unwrap();
        assert!(whole == *bytes, "{name}");
        for from in [SeekFrom::Start(7), SeekFrom::End(-3), SeekFrom::Current(1), SeekFrom::End(5)] {
            let mut plain = std::io::Cursor::new(bytes);
            plain.set_position(bytes.len() as u64 / 2);
            reader.seek(SeekFrom::Start(bytes.len() as u64 / 2)).unwrap();
            match (reader.seek(from), plain.seek(from)) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (found, expected) => assert_eq!(found.is_err(), expected.is_err(), "{name} {from:?}"),
            }
            let (mut found, mut expected) = (Vec::new(), Vec::new());
            reader.read_to_end(&mut found).unwrap();
            plain.read_to_end(&mut expected).unwrap();
            assert!(found == expected, "{name} {from:?}");
        }
    }
}

#[test]
fn only_files_can_be_read() {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    let below = Folder::from([(b"file".to_vec(), Plan::File(Fill::Text(1), 500, 0o644))]);
    make(
        &source,
        &Folder::from([
            (b"dir".to_vec(), Plan::Dir(below, 0o755)),
            (b"link".to_vec(), Plan::Link(b"dir/file".to_vec())),
        ]),
    );
    let store = writer(&scratch.join("store"));
    let artifact = add(&store, &source, &options("kinds", "1")).artifact;
    let open = |path: &[u8]| store.open_file(&artifact, path).map(drop);
    assert!(open(b"dir/file").is_ok());
    assert!(matches!(open(b"dir"), Err(Error::Invalid { .. })));
    assert!(matches!(open(b"link"), Err(Error::Invalid { .. })));
    for path in [&b"nothing"[..], b"dir/nothing", b"dir/file/further", b"nothing/at/all"] {
        let opened = open(path);
        assert!(matches!(opened, Err(Error::Absent { .. })), "{}: {opened:?}", path.escape_ascii());
    }
    for path in [&b""[..], b"/", b"dir/", b"/dir/file", b"dir//file", b"./dir", b"dir/../dir/file"] {
        assert!(open(path).is_err(), "{}", path.escape_ascii());
    }
}
