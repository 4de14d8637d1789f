//! What is kept, what is read of it, and what becomes of it.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::blocks::Decoder;
use crate::content::ChunkRef;
use crate::error::Error;
use crate::io::Sim;
use crate::writer::{Writer, WriterOptions};

pub(super) fn frame(chunks: &[&[u8]]) -> VerifiedFrame {
    let mut builder = BlockBuilder::default();
    chunks.iter().for_each(|bytes| builder.push(ChunkId::of(bytes), bytes));
    let (frame, _) = builder.finish(&mut Compressor::default());
    VerifiedFrame::verify(frame.bytes, &mut Decoder::default()).unwrap()
}

pub(super) fn writer_on(sim: &Sim) -> Writer {
    let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
    Writer::open_with(Arc::new(sim.clone()), Path::new("/srv/store"), &options).unwrap()
}

fn writer() -> Writer {
    writer_on(&Sim::new(1))
}

#[test]
fn what_is_kept_is_here_and_only_once() {
    let writer = writer();
    let intake = writer.intake();
    let kept = intake.keep(PackKind::Data, &frame(&[b"one", b"two", b"one"])).unwrap();
    assert_eq!((kept.chunks, kept.plain_bytes), (2, 6));
    let again = intake.keep(PackKind::Data, &frame(&[b"two", b"three"])).unwrap();
    assert_eq!((again.chunks, again.plain_bytes), (1, 5));
    intake.flush().unwrap();
    assert_eq!(intake.keep(PackKind::Metadata, &frame(&[b"one", b"three"])).unwrap(), Kept::default());
    for bytes in [&b"one"[..], b"two", b"three"] {
        assert_eq!(&*writer.chunk(&ChunkId::of(bytes)).unwrap(), bytes);
    }
    let wanted = [&b"one"[..], b"four", b"four"]
        .map(|bytes| ChunkRef { id: ChunkId::of(bytes), len: u32::try_from(bytes.len()).unwrap() });
    assert_eq!(writer.lacks(&wanted).unwrap(), wanted[1..2]);
    assert!(matches!(writer.ensure(&wanted), Err(Error::Unavailable { .. })));
}

#[test]
fn what_is_kept_can_be_read_before_it_is_sealed_and_while_it_is() {
    let writer = writer();
    let (intake, store) = (writer.intake(), writer.store().clone());
    let texts: Vec<Vec<u8>> = (0..200u32).map(|n| n.to_le_bytes().repeat(50)).collect();
    let mut placed = Vec::new();
    for texts in texts.chunks(10) {
        let kind = if texts[0][0] % 20 == 0 { PackKind::Metadata } else { PackKind::Data };
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        intake.keep(kind, &frame(&texts)).unwrap();
        placed.push(store.block_of(&ChunkId::of(texts[0])).unwrap().unwrap());
    }
    assert!(writer.packs().unwrap().is_empty());
    let read_all = || {
        for text in &texts {
            assert_eq!(&*store.chunk(&ChunkId::of(text)).unwrap(), &text[..]);
            assert!(store.place(&ChunkId::of(text)).unwrap().is_some());
        }
    };
    read_all();
    intake.flush().unwrap();
    assert_eq!(writer.packs().unwrap().len(), 2);
    read_all();
    // Whoever asked where a block is before it was sealed still gets it.
    let mut decoder = Decoder::default();
    for (block, _) in &placed {
        store.decode_block(*block, &mut decoder, &crate::blocks::BlockBuffers::default()).unwrap();
    }
    store.refresh_index();
    read_all();
    // By now the index has them all.
    assert!(store.overlay().sealed_packs().is_empty());
    let reader = Store::open_with(Arc::clone(store.io()), Path::new("/srv/store")).unwrap();
    assert!(texts.iter().all(|text| reader.chunk(&ChunkId::of(text)).is_ok()));
}

#[test]
fn packs_are_sealed_when_nothing_comes_any_more() {
    let writer = writer();
    writer.intake().keep(PackKind::Data, &frame(&[b"alone"])).unwrap();
    let begun = std::time::Instant::now();
    while writer.packs().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody sealed it");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(writer.chunk(&ChunkId::of(b"alone")).is_ok());
}

#[test]
fn a_writer_that_ends_seals_what_was_kept_and_its_intake_takes_nothing_more() {
    let sim = Sim::new(1);
    let first = writer_on(&sim);
    let intake = first.intake();
    intake.keep(PackKind::Data, &frame(&[b"kept"])).unwrap();
    drop(first);
    let error = intake.keep(PackKind::Data, &frame(&[b"late"])).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let second = writer_on(&sim);
    assert!(second.chunk(&ChunkId::of(b"kept")).is_ok());
    assert!(second.chunk(&ChunkId::of(b"late")).is_err());
}

#[test]
fn frames_wait_while_another_process_may_take_over() {
    let writer = writer();
    let intake = writer.intake();
    intake.keep(PackKind::Data, &frame(&[b"before"])).unwrap();
    assert!(writer.hand_over().is_none());
    assert_eq!(writer.packs().unwrap().len(), 1, "nothing is left open");
    let waiting = std::thread::spawn({
        let intake = writer.intake();
        move || intake.keep(PackKind::Data, &frame(&[b"after"])).map(|kept| kept.chunks)
    });
    assert!(writer.chunk(&ChunkId::of(b"after")).is_err());
    writer.resume();
    assert_eq!(waiting.join().unwrap().unwrap(), 1);
    assert!(writer.chunk(&ChunkId::of(b"after")).is_ok());
}

#[test]
fn many_keep_the_same_chunks_at_once_and_many_read_them() {
    const CHUNKS: u32 = 2000;
    const THREADS: u32 = 4;
    let writer = &writer();
    let text = |n: u32| n.to_le_bytes().repeat(20);
    let kept: u64 = std::thread::scope(|scope| {
        let keep = |thread: u32| {
            let (intake, mut kept) = (writer.intake(), 0);
            for at in 0..CHUNKS / 5 {
                // Frames of several threads overlap in part.
                let first = (at * 7 * (thread + 1)) % CHUNKS;
                let texts: Vec<_> = (first..first + 5).map(|n| text(n % CHUNKS)).collect();
                let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                kept += intake.keep(PackKind::Data, &frame(&texts)).unwrap().chunks;
                for text in texts {
                    assert_eq!(&*writer.chunk(&ChunkId::of(text)).unwrap(), text);
                }
                if at % 100 == thread {
                    intake.flush().unwrap();
                }
            }
            kept
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || keep(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    writer.intake().flush().unwrap();
    let stored: u64 = writer.packs().unwrap().iter().map(|pack| pack.chunks).sum();
    let here = (0..CHUNKS).filter(|n| writer.local().chunk(&ChunkId::of(&text(*n))).is_ok()).count() as u64;
    assert_eq!((kept, stored), (here, here));
}
