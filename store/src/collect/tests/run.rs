//! A plan and its run.

use super::*;

#[test]
fn what_nobody_needs_goes_and_what_is_needed_stays() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    for number in 0..6 {
        trees.add(&writer, number).unwrap();
    }
    assert!(plan(&writer).is_nothing(), "{:?}", plan(&writer));
    for number in [1, 2, 3] {
        writer.remove_ref(&key(number), false).unwrap();
    }
    let left = BTreeSet::from([0, 4, 5]);
    let before = writer.packs().unwrap();
    let plan = plan(&writer);
    assert!(plan.freed_bytes > 60_000 && plan.garbage_chunks > 9, "{plan:?}");
    let collected = writer.collect(&plan, &CollectOptions::default(), &()).unwrap();
    assert!(collected.complete && collected.kept_back.is_empty(), "{collected:?}");
    check(&writer, &left, "by the writer");
    let after = writer.packs().unwrap();
    let bytes = |packs: &[crate::store::PackSummary]| packs.iter().map(|pack| pack.file_bytes).sum::<u64>();
    assert_eq!(bytes(&before) - bytes(&after), collected.freed_bytes - collected.written_bytes);
    // The plan said about what came of it.
    let freed = collected.freed_bytes - collected.written_bytes;
    assert!(freed.abs_diff(plan.freed_bytes) < freed / 10, "{freed} {plan:?}");
    assert!(self::plan(&writer).is_nothing());
    drop(writer);
    let sim = sim.reboot(7);
    check(&Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap(), &left, "after a restart");
    let writer = open(&sim).unwrap();
    for number in left {
        writer.remove_ref(&key(number), false).unwrap();
    }
    collect(&writer);
    assert!(writer.packs().unwrap().is_empty());
    assert!(crate::io::Io::names(&sim, &Path::new(STORE).join("packs")).unwrap().is_empty());
    trees.add(&writer, 3).unwrap();
    check(&writer, &BTreeSet::from([3]), "added again");
}

#[test]
fn a_pack_of_which_little_is_needed_is_written_again() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    // Its packs have what all share.
    trees.add(&writer, 0).unwrap();
    trees.add(&writer, 1).unwrap();
    writer.remove_ref(&key(0), false).unwrap();
    let plan = plan(&writer);
    let verdicts: Vec<&Verdict> = plan.packs.iter().map(|pack| &pack.verdict).collect();
    assert!(verdicts.contains(&&Verdict::Rewrite), "{plan:?}");
    let collected = collect(&writer);
    assert!(!collected.rewritten.is_empty() && !collected.made.is_empty(), "{collected:?}");
    check(&writer, &BTreeSet::from([1]), "written again");
    let all = CollectOptions { live_ratio: 1.0, ..CollectOptions::default() };
    assert!(writer.plan_collection(&all, &()).unwrap().is_nothing());
}

#[test]
fn many_small_packs_become_few() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    for number in 0..12 {
        trees.add(&writer, number).unwrap();
    }
    assert!(writer.packs().unwrap().len() >= 24);
    let collected = collect(&writer);
    assert_eq!(collected.made.len(), 2, "{collected:?}");
    assert_eq!(writer.packs().unwrap().len(), 2);
    check(&writer, &(0..12).collect(), "merged");
    assert!(plan(&writer).is_nothing());
}

/// How many packs with chunks of the trees there are, and that all is well.
fn after(writer: &Writer, left: &[u64], context: &str) -> Collected {
    let collected = collect(writer);
    check(writer, &left.iter().copied().collect(), context);
    collected
}

#[test]
fn what_is_held_stays_until_it_is_let_go() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    let artifact = trees.add(&writer, 0).unwrap();
    let root = writer.artifact(&artifact).unwrap().root;
    let file = crate::tree::lookup(&root, b"own-1", &*writer).unwrap().unwrap();
    let Node::File { size, content } = file.node else { panic!("a file") };
    let Content::Chunks(list) = &content else { panic!("a few chunks") };
    let chunk = list[0].id;
    let before = writer.packs().unwrap().len();
    writer.remove_ref(&key(0), false).unwrap();
    for held in [
        Held::Artifact(artifact),
        Held::Tree(root),
        Held::Content { content: content.clone(), size },
        Held::Chunk(chunk),
        Held::Everything,
    ] {
        let guard = writer.hold(held.clone(), "process 1 has it open".to_owned());
        assert_eq!(
            writer.what_is_held().unwrap(),
            [Hold { held: held.clone(), by: "process 1 has it open".into() }]
        );
        let all = CollectOptions { live_ratio: 0.0, ..CollectOptions::default() };
        let plan = writer.plan_collection(&all, &()).unwrap();
        assert_eq!(plan.holds.len(), 1);
        writer.collect(&plan, &all, &()).unwrap();
        assert_eq!(&*writer.chunk(&chunk).unwrap(), &noise(1, 8000)[..list[0].len as usize], "{held:?}");
        let whole = matches!(held, Held::Artifact(_) | Held::Tree(_) | Held::Everything);
        assert!(!whole || crate::tree::lookup(&root, b"sub/all", &*writer).unwrap().is_some());
        drop(guard);
        if matches!(held, Held::Artifact(_)) {
            assert_eq!(writer.packs().unwrap().len(), before);
        }
        trees.add(&writer, 0).unwrap();
        writer.remove_ref(&key(0), false).unwrap();
    }
    assert!(writer.what_is_held().unwrap().is_empty());
    collect(&writer);
    assert!(writer.packs().unwrap().is_empty());
}

/// Holds one thing, from the nth time on that it is asked.
struct From(std::sync::atomic::AtomicUsize, Held);

impl Holder for From {
    fn holds(&self) -> Vec<Hold> {
        let left = self.0.load(std::sync::atomic::Ordering::SeqCst);
        if left == 0 {
            return vec![Hold { held: self.1.clone(), by: "the tests".to_owned() }];
        }
        self.0.store(left - 1, std::sync::atomic::Ordering::SeqCst);
        Vec::new()
    }
}

#[test]
fn whoever_holds_something_is_asked_again_before_packs_go() {
    for held_from in [0, 1] {
        let (sim, trees) = (Sim::new(1), Trees::new());
        let writer = open(&sim).unwrap();
        let artifact = trees.add(&writer, 0).unwrap();
        writer.remove_ref(&key(0), false).unwrap();
        writer.add_holder(Arc::new(From(held_from.into(), Held::Artifact(artifact))));
        let plan = plan(&writer);
        assert_eq!(plan.is_nothing(), held_from == 0);
        let collected = writer.collect(&plan, &CollectOptions::default(), &()).unwrap();
        assert!(collected.dropped.is_empty(), "{collected:?}");
        let why: Vec<&WhyKept> = collected.kept_back.iter().map(|(_, why)| why).collect();
        assert!(why.iter().all(|why| **why == WhyKept::NeededAgain), "{why:?}");
        assert_eq!(why.is_empty(), held_from == 0);
        assert!(writer.artifact(&artifact).is_ok());
    }
}

#[test]
fn what_was_ingested_stays_until_it_is_named_or_given_up() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    trees.add(&writer, 0).unwrap();
    writer.remove_ref(&key(0), false).unwrap();
    // It finds what it shares with the first, which nothing names.
    let ingested = trees.ingest(&writer, 1).unwrap();
    let unnamed = trees.ingest(&writer, 5).unwrap();
    let collected = collect(&writer);
    assert!(!collected.kept_back.is_empty() && collected.dropped.is_empty(), "{collected:?}");
    drop(unnamed);
    writer.publish(&ingested, &PublishOptions::default()).unwrap();
    after(&writer, &[1], "named");
    assert_eq!(writer.packs().unwrap().len(), 4, "what was given up is gone");
    // It keeps nothing once it was named.
    writer.remove_ref(&key(1), false).unwrap();
    collect(&writer);
    assert!(writer.packs().unwrap().is_empty());
    let gone = writer.publish(&ingested, &PublishOptions::default()).unwrap_err();
    assert_eq!(gone.kind(), crate::error::Kind::Absent, "{gone}");
}

#[test]
fn what_is_named_after_the_plan_stays() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    for number in [0, 7, 12] {
        trees.add(&writer, number).unwrap();
    }
    writer.remove_ref(&key(0), false).unwrap();
    writer.remove_ref(&key(7), false).unwrap();
    let plan = plan(&writer);
    trees.add(&writer, 1).unwrap();
    trees.add(&writer, 7).unwrap();
    let collected = writer.collect(&plan, &CollectOptions::default(), &()).unwrap();
    assert!(collected.kept_back.iter().any(|(_, why)| *why == WhyKept::NeededAgain), "{collected:?}");
    check(&writer, &BTreeSet::from([1, 7, 12]), "named after the plan");
    let stale = writer.collect(&plan, &CollectOptions::default(), &()).unwrap_err();
    assert!(matches!(stale, Error::Conflict { .. }), "{stale}");
    after(&writer, &[1, 7, 12], "once more");
}

#[test]
fn what_cannot_be_read_of_a_version_ends_it_before_anything_goes() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    let artifact = trees.add(&writer, 0).unwrap();
    trees.add(&writer, 5).unwrap();
    writer.remove_ref(&key(5), false).unwrap();
    let root = writer.artifact(&artifact).unwrap().root;
    let placed = writer.place(&root.into()).unwrap().unwrap();
    let path = Path::new(STORE).join(format!("packs/{}.pack", placed.pack));
    let file = sim.open_write(&path).unwrap();
    file.write_all_at(&[0x55; 40], placed.frame_offset + u64::from(placed.frame_stored) - 40).unwrap();
    drop(writer);
    let writer = open(&sim).unwrap();
    let refused = writer.plan_collection(&CollectOptions::default(), &()).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("app@0 for any/any") && text.contains("cairn repair"), "{text}");
    assert!(matches!(refused, Error::Damaged { pack: Some(pack), .. } if pack == placed.pack), "{refused:?}");
    writer.remove_ref(&key(0), false).unwrap();
    let collected = collect(&writer);
    // The damaged one is for a repair, for it might be all that is left of something.
    assert_eq!(collected.kept_back.len(), 1, "{collected:?}");
    assert!(matches!(&collected.kept_back[0], (pack, WhyKept::Damaged(_)) if *pack == placed.pack));
    assert_eq!(writer.packs().unwrap().len(), 1);
}

/// Damages a chunk, which does not compress, in the pack that it lies in.
fn rot(sim: &Sim, writer: &Writer, bytes: &[u8]) -> PackId {
    let placed = writer.place(&ChunkId::of(bytes)).unwrap().unwrap();
    let path = Path::new(STORE).join(format!("packs/{}.pack", placed.pack));
    let file = sim.read(&path).unwrap();
    let at = file.windows(64).position(|window| window == &bytes[..64]).expect("it is stored as it is");
    sim.open_write(&path).unwrap().write_all_at(&[0x55; 8], at as u64 + 100).unwrap();
    placed.pack
}

#[test]
fn the_good_copy_of_a_chunk_is_never_the_one_that_goes() {
    let (mut first, mut tried) = ([0, 0], 0);
    for seed in 0..40 {
        let (sim, trees) = (Sim::new(seed), Trees::new());
        let writer = open(&sim).unwrap();
        trees.add(&writer, seed).unwrap();
        let bytes = noise(seed * 100, 6000);
        let id = ChunkId::of(&bytes);
        if tried == 12 || writer.place(&id).unwrap().is_none() {
            continue;
        }
        tried += 1;
        let rotten = rot(&sim, &writer, &bytes);
        // Somebody heals it: a copy in another pack.
        let mut builder = crate::block::BlockBuilder::default();
        builder.push(id, &bytes);
        let (frame, _) = builder.finish(&mut crate::block::Compressor::default());
        let frame = crate::VerifiedFrame::verify(frame.bytes, &mut crate::Decoder::default()).unwrap();
        assert_eq!(writer.intake().heal(crate::PackKind::Data, &frame).unwrap().chunks, 1);
        writer.intake().flush().unwrap();
        // Which of the two the index finds depends on their names.
        let again = open(&sim.reboot(seed)).unwrap();
        first[usize::from(again.place(&id).unwrap().unwrap().pack == rotten)] += 1;
        for forgets in [false, true] {
            let writer = if forgets { open(&sim.reboot(seed)).unwrap() } else { writer.signed("x".into()) };
            for _ in 0..3 {
                let everything = CollectOptions { live_ratio: 1.0, ..CollectOptions::default() };
                let plan = writer.plan_collection(&everything, &()).unwrap();
                writer.collect(&plan, &everything, &()).unwrap();
                assert_eq!(&*writer.chunk(&id).unwrap(), &bytes[..], "{seed} {forgets}");
            }
        }
    }
    assert!(first[0] > 0 && first[1] > 0, "{first:?}");
}

/// A file may hold the very bytes of a directory: that they are needed as a file's says nothing of what the directory
/// leads to.
#[test]
fn a_file_that_looks_like_a_directory_hides_nothing() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    // A directory deep down, so that a file that looks like it is met first.
    let deep = trees.path(100).join("a/b/c/d");
    Os.create_dir_all(&deep).unwrap();
    for file in 0..10 {
        Os.write_atomic(&deep.join(format!("file {file}")), &noise(file, 5000)).unwrap();
    }
    let artifact = trees.add(&writer, 100).unwrap();
    let root = writer.artifact(&artifact).unwrap().root;
    let found = crate::tree::lookup(&root, b"a/b/c/d", &*writer).unwrap().unwrap();
    let Node::Dir { tree } = found.node else { panic!("a directory") };
    let bytes = writer.chunk(&tree.into()).unwrap().to_vec();
    assert!(bytes.len() > crate::content::INLINE_BYTES_MAX);
    for (nth, name) in ["aaa", "zzz"].into_iter().enumerate() {
        let package = IngestOptions::package(name.parse().unwrap(), nth.to_string().parse().unwrap());
        let reader = Box::new(std::io::Cursor::new(bytes.clone()));
        let input = Input::Reader { name: "file".to_owned(), executable: false, reader };
        let ingested = writer.ingest(input, &package, &()).unwrap();
        writer.publish(&ingested, &PublishOptions::default()).unwrap();
    }
    trees.add(&writer, 5).unwrap();
    writer.remove_ref(&key(5), false).unwrap();
    let everything = CollectOptions { live_ratio: 1.0, ..CollectOptions::default() };
    let plan = writer.plan_collection(&everything, &()).unwrap();
    assert!(!plan.is_nothing());
    writer.collect(&plan, &everything, &()).unwrap();
    assert!(writer.verify(&VerifyOptions::default(), &()).unwrap().is_clean());
    assert!(writer.missing(&artifact, &()).unwrap().is_nothing());
}

#[test]
fn packs_go_when_they_were_without_use_for_long_enough() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    trees.add(&writer, 0).unwrap();
    writer.remove_ref(&key(0), false).unwrap();
    let patient = CollectOptions { grace: Duration::from_secs(3600), ..CollectOptions::default() };
    for _ in 0..2 {
        let collected = writer.collect(&plan(&writer), &patient, &()).unwrap();
        assert!(collected.dropped.is_empty());
        assert!(collected.kept_back.iter().all(|(_, why)| *why == WhyKept::TooYoung), "{collected:?}");
    }
    let short = CollectOptions { grace: Duration::from_nanos(1), ..CollectOptions::default() };
    assert_eq!(writer.collect(&plan(&writer), &short, &()).unwrap().dropped.len(), 2);
}

/// Stops at the nth question.
struct After(std::sync::atomic::AtomicI64);

impl crate::Progress for After {
    fn cancelled(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) <= 0
    }
}

#[test]
fn it_can_be_stopped_between_any_two_steps_and_goes_on() {
    let trees = Trees::new();
    let (mut stopped, mut completed) = (0, 0);
    for questions in 0..60 {
        let sim = Sim::new(questions);
        let writer = open(&sim).unwrap();
        (0..18).for_each(|number| _ = trees.add(&writer, number).unwrap());
        (1..9).for_each(|number| _ = writer.remove_ref(&key(number), false).unwrap());
        let left = (0..18).filter(|number| !(1..9).contains(number)).collect();
        let plan = plan(&writer);
        let progress = After(i64::try_from(questions).unwrap().into());
        match writer.collect(&plan, &CollectOptions::default(), &progress) {
            Ok(collected) if collected.complete => completed += 1,
            Ok(collected) => {
                stopped += 1;
                assert!(!collected.kept_back.is_empty(), "{collected:?}");
            }
            Err(error) => panic!("{error}"),
        }
        check(&writer, &left, &format!("after {questions} questions"));
        let names = sim.names(&Path::new(STORE).join("packs")).unwrap();
        assert!(names.iter().all(|name| name.ends_with(".pack")), "{names:?}");
        collect(&writer);
        assert_eq!(writer.packs().unwrap().len(), 2, "after {questions} questions");
        check(&writer, &left, "done");
    }
    assert!(stopped > 5 && completed > 5, "{stopped} {completed}");
}

#[test]
fn it_keeps_to_its_time_and_its_bandwidth() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    (0..12).for_each(|number| _ = trees.add(&writer, number).unwrap());
    let plan = plan(&writer);
    // Some 500 KB are read and written.
    let slow = CollectOptions { bandwidth: Some(100 << 10), ..CollectOptions::default() };
    let in_time = CollectOptions { max_time: Some(Duration::from_millis(100)), ..slow.clone() };
    let begun = std::time::Instant::now();
    let slow = CollectOptions { bandwidth: Some(1 << 10), max_time: in_time.max_time, ..slow };
    let collected = writer.collect(&plan, &slow, &()).unwrap();
    assert!(!collected.complete && collected.rewritten.is_empty(), "{collected:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    check(&writer, &(0..12).collect(), "stopped");
}

#[test]
fn while_another_process_takes_over_nothing_goes() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    trees.add(&writer, 0).unwrap();
    writer.remove_ref(&key(0), false).unwrap();
    let plan = plan(&writer);
    assert!(writer.hand_over().is_none());
    let refused = writer.collect(&plan, &CollectOptions::default(), &()).unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
    writer.resume();
    assert_eq!(writer.collect(&plan, &CollectOptions::default(), &()).unwrap().dropped.len(), 2);
}

#[test]
fn on_a_full_disk_what_nobody_needs_goes_and_nothing_is_left_half_written() {
    let trees = Trees::new();
    for operations in 1..80 {
        let sim = Sim::new(operations);
        let writer = open(&sim).unwrap();
        (0..18).for_each(|number| _ = trees.add(&writer, number).unwrap());
        (1..9).for_each(|number| _ = writer.remove_ref(&key(number), false).unwrap());
        let left = (0..18).filter(|number| !(1..9).contains(number)).collect();
        let plan = plan(&writer);
        let dropped = plan.packs.iter().filter(|pack| pack.verdict == Verdict::Drop).count();
        assert!(dropped > 4);
        sim.full_from(operations);
        let collected = writer.collect(&plan, &CollectOptions::default(), &()).unwrap();
        assert_eq!(collected.dropped.len(), dropped, "{collected:?}");
        assert!(operations > 1 || collected.disk_full, "{collected:?}");
        let names = sim.names(&Path::new(STORE).join("packs")).unwrap();
        assert!(names.iter().all(|name| name.ends_with(".pack")), "{names:?}");
        check(&writer, &left, &format!("full from operation {operations} on"));
        sim.heal();
        collect(&writer);
        check(&writer, &left, "with room again");
        assert_eq!(writer.packs().unwrap().len(), 2);
    }
}

#[test]
fn readers_that_know_of_packs_that_went_find_what_moved() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let writer = open(&sim).unwrap();
    (0..12).for_each(|number| _ = trees.add(&writer, number).unwrap());
    let left: BTreeSet<u64> = (0..12).collect();
    let reader = || Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap();
    let (reading, sending, sizing, blocks) = (reader(), reader(), reader(), reader());
    let chunks_of = |id: &ArtifactId| writer.lacking_chunks(None, id, &()).unwrap().chunks;
    let chunks: Vec<ChunkRef> = writer.names().artifacts().iter().flat_map(chunks_of).collect();
    let ids: Vec<ChunkId> = chunks.iter().map(|chunk| chunk.id).collect();
    for store in [&reading, &sending, &sizing, &blocks] {
        assert!(store.have(&ids).unwrap().iter().all(|has| *has));
    }
    let mut open_file = reading.open_file(&writer.names().refs[&key(3)].artifact, b"own-1").unwrap();
    let placed: Vec<_> = ids.iter().map(|id| blocks.block_of(id).unwrap().unwrap()).collect();
    let before = writer.packs().unwrap();
    collect(&writer);
    assert!(before.iter().all(|pack| writer.packs().unwrap().iter().all(|now| now.id != pack.id)));
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut open_file, &mut read).unwrap();
    assert!(read == noise(301, 8000));
    check(&reading, &left, "by a reader who was there before");
    for piece in sending.sending(ids.clone()) {
        let crate::Piece::Frame(kind, _) = piece.unwrap() else { panic!("it is all there") };
        assert_eq!(kind, crate::PackKind::Data);
    }
    assert!(sizing.stored_size(&chunks).unwrap() > 100_000);
    for (chunk, (block, _)) in chunks.iter().zip(placed) {
        // The block is gone, and the slow way finds the chunk.
        let (mut decoder, buffers) = (crate::Decoder::default(), crate::BlockBuffers::default());
        if blocks.decode_block(block, &mut decoder, &buffers).is_err() {
            assert_eq!(blocks.whole_chunk(*chunk).unwrap().len(), chunk.len as usize);
        }
    }
    let metadata = reader();
    let artifacts: Vec<ChunkId> = writer.names().artifacts().into_iter().map(ChunkId::from).collect();
    assert!(metadata.have(&artifacts).unwrap().iter().all(|has| *has));
    // The packs go once more under a reader that has just looked.
    (0..12).for_each(|number| _ = trees.add(&writer, 20 + number).unwrap());
    collect(&writer);
    for piece in metadata.sending(artifacts) {
        let crate::Piece::Frame(kind, _) = piece.unwrap() else { panic!("it is all there") };
        assert_eq!(kind, crate::PackKind::Metadata);
    }
}

/// What was brought of an artifact so far stays while its transfer goes on, and what is not here yet is no reason to
/// refuse.
#[test]
fn what_a_transfer_has_brought_stays_while_it_goes_on() {
    let (sim, trees) = (Sim::new(1), Trees::new());
    let from = open(&Sim::new(2)).unwrap();
    let artifact = trees.add(&from, 0).unwrap();
    let to = open(&sim).unwrap();
    let guard = to.hold(Held::Artifact(artifact), "a pull of app@0".to_owned());
    let bring = |ids: Vec<ChunkId>| {
        for piece in from.sending(ids) {
            let crate::Piece::Frame(kind, bytes) = piece.unwrap() else { panic!("it is all there") };
            let frame = crate::VerifiedFrame::verify(bytes, &mut crate::Decoder::default()).unwrap();
            to.intake().keep(kind, &frame).unwrap();
        }
        to.intake().flush().unwrap();
    };
    let objects = from.lacking_objects(None, &artifact, &()).unwrap().chunks;
    let data: Vec<ChunkId> =
        from.lacking_chunks(None, &artifact, &()).unwrap().chunks.iter().map(|chunk| chunk.id).collect();
    // Data first, of which nothing says yet what it is for; then the metadata, then the rest.
    bring(data[..2].to_vec());
    collect(&to);
    bring(objects.iter().map(|object| object.id).collect());
    collect(&to);
    assert!(to.have(&data).unwrap()[..2].iter().all(|has| *has), "{:?}", to.have(&data));
    bring(data[2..].to_vec());
    collect(&to);
    assert!(to.missing(&artifact, &()).unwrap().is_nothing());
    drop(guard);
    collect(&to);
    assert!(to.packs().unwrap().is_empty());
}
