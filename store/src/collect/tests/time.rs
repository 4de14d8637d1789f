//! How long marking takes: `cargo test --release -p cairn-store --lib collect::tests::time -- --ignored --nocapture`.

use super::*;
use crate::chunker::CdcBounds;

#[test]
#[ignore = "it writes 700 MB, and says how long marking takes"]
fn marking_a_million_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        WriterOptions { wait: Duration::ZERO, command: "a test".to_owned(), who: "tests".to_owned() };
    let writer = Writer::open(dir.path(), &options, &()).unwrap();
    for number in 0..10u64 {
        let mut options = IngestOptions::package("app".parse().unwrap(), number.to_string().parse().unwrap());
        options.bounds = CdcBounds { min: 256, avg: 512, max: 2048 };
        let mut hasher = blake3::Hasher::new();
        let bytes = hasher.update(&number.to_le_bytes()).finalize_xof();
        let reader = Box::new(std::io::Read::take(bytes, 70 << 20));
        let input = Input::Reader { name: "noise".to_owned(), executable: false, reader };
        let ingested = writer.ingest(input, &options, &()).unwrap();
        writer.publish(&ingested, &PublishOptions::default()).unwrap();
    }
    for number in [2, 5, 8] {
        let view = writer.names();
        let named = view.refs.keys().find(|key| key.version.as_str() == number.to_string());
        writer.remove_ref(named.unwrap(), false).unwrap();
    }
    for threads in [None, std::num::NonZero::new(1)] {
        let options = CollectOptions { threads, ..CollectOptions::default() };
        let begun = std::time::Instant::now();
        let plan = writer.plan_collection(&options, &()).unwrap();
        let chunks = plan.needed_chunks + plan.garbage_chunks;
        println!("{chunks} chunks, {} needed: {:?} on {threads:?}", plan.needed_chunks, begun.elapsed());
    }
    let plan = plan(&writer);
    let begun = std::time::Instant::now();
    let collected = writer.collect(&plan, &CollectOptions::default(), &()).unwrap();
    println!("{} bytes went in {:?}", collected.freed_bytes, begun.elapsed());
    assert!(collected.complete);
}
