//! Files of a store that has nothing but their metadata: what a read fetches, and what it does not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_fusefs::{CacheOptions, FileSpec, Files, ReadError, Ready};
use cairn_store::Writer;
use harness::neighbour::{Mood, Neighbour, copy_metadata};
use harness::scratch::Scratch;
use harness::stores::writer;

use super::store;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(3600);

struct Far {
    files: Arc<Files>,
    specs: Vec<FileSpec>,
    plain: Vec<Vec<u8>>,
    neighbour: Arc<Neighbour>,
    _writer: Writer,
    scratch: Scratch,
}

/// A store with the metadata of `count` files of `len` bytes, and a neighbour that has the rest.
fn far(count: u64, len: usize) -> Far {
    let scratch = Scratch::new();
    let (from, specs, plain) = store(&scratch, count, len);
    let (_, artifact) = from.view().unwrap().resolve(&"files@1".parse().unwrap(), None).unwrap();
    let writer = writer(&scratch.join("near"));
    copy_metadata(&from, &writer, &artifact);
    let neighbour = Neighbour::new(from, &writer, FOR_EVER);
    let files = Files::open(writer.store().clone(), CacheOptions::new(cache(&scratch))).unwrap();
    Far { files, specs, plain, neighbour, _writer: writer, scratch }
}

fn cache(scratch: &Scratch) -> PathBuf {
    scratch.join("near-cache")
}

impl Far {
    /// Reads as a request of the kernel does: what is here, and else after it was brought.
    fn read(&self, file: usize, offset: u64, len: u64) -> Result<(), ReadError> {
        let (spec, len) = (&self.specs[file], u32::try_from(len).unwrap());
        let mut reply = Vec::new();
        if let Err(error) = self.files.read(spec, offset, len, &mut reply) {
            assert!(error.is_of_store(), "{error}");
            self.files.bring(spec, offset, len)?;
            reply.clear();
            self.files.read(spec, offset, len, &mut reply)?;
        }
        let plain = &self.plain[file];
        let start = usize::try_from(offset).unwrap().min(plain.len());
        assert!(reply == plain[start..(start + len as usize).min(plain.len())], "{len} at {offset}");
        Ok(())
    }
}

#[test]
fn who_reads_on_fetches_each_byte_once_in_few_requests() {
    let far = far(1, 40 << 20);
    for offset in (0..40 * MIB).step_by(128 << 10) {
        far.read(0, offset, 128 * KIB).unwrap();
    }
    let asked = far.neighbour.asked();
    // A frame may bring a chunk more than was asked for.
    let bytes: u64 = asked.iter().map(|asked| asked.bytes()).sum();
    assert!(bytes <= 40 * MIB && bytes > 39 * MIB, "{bytes} bytes");
    assert!(asked.len() <= 18, "{} requests", asked.len());
    assert!(asked.iter().all(|asked| asked.bytes() < 5 * MIB));
    let fetched = far.files.status().fetch;
    assert_eq!((fetched.requests, fetched.bytes), (asked.len() as u64, bytes));
    // It is here now.
    assert!(!far.files.is_partial(&far.specs[0]));
    far.read(0, 0, 40 * MIB).unwrap();
    assert!(far.neighbour.asked().is_empty());
}

#[test]
fn who_jumps_about_fetches_little_more_than_what_is_read() {
    let far = far(1, 40 << 20);
    for number in 1..=20u64 {
        far.read(0, number * 7919 * 4096 % (40 * MIB), 4 * KIB).unwrap();
    }
    let asked = far.neighbour.asked();
    assert!(asked.len() <= 20, "{} requests", asked.len());
    let bytes: u64 = asked.iter().map(|asked| asked.bytes()).sum();
    // 64 KiB around each, and the chunks at both ends.
    assert!(bytes < 20 * 256 * KIB, "{bytes} bytes");
    assert!(far.files.is_partial(&far.specs[0]));
}

#[test]
fn a_file_that_is_not_here_is_opened_and_never_put_together_before_it_is() {
    let far = far(2, 3 << 20);
    assert_eq!(far.files.ready(&far.specs[0]), Ready::MustMaterialise);
    assert!(far.files.is_partial(&far.specs[0]));
    assert!(far.files.materialise(&far.specs[0], None).unwrap_err().is_of_store());
    far.files.prefetch(&far.specs[0]);
    far.read(1, 0, 3 * MIB).unwrap();
    assert!(!far.files.is_partial(&far.specs[1]));
    far.files.prefetch(&far.specs[1]);
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while far.files.ready(&far.specs[1]) != Ready::Materialised {
        assert!(std::time::Instant::now() < end, "it is not put together");
        std::thread::yield_now();
    }
    assert_eq!(far.files.ready(&far.specs[0]), Ready::MustMaterialise);
    let fetched = far.neighbour.asked();
    assert!(fetched.iter().all(|asked| asked.bytes() <= 3 * MIB), "nothing fetched the first one");
    assert!(far.files.status().fetch.bytes <= 3 * MIB);
}

#[test]
fn a_failure_is_told_and_forgotten() {
    let far = far(1, 3 << 20);
    far.neighbour.set(Mood::OutOfReach);
    for _ in 0..3 {
        let error = far.read(0, MIB, 4 * KIB).unwrap_err();
        let ReadError::Unavailable { source } = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains("the neighbour does not answer"), "{source}");
    }
    assert_eq!(far.neighbour.asked().len(), 3, "each asks anew");
    assert_eq!(far.files.status().fetch.failures, 3);
    far.neighbour.set(Mood::Willing);
    far.read(0, MIB, 4 * KIB).unwrap();
    assert!(far.files.status().damage.is_empty(), "what is not here is not damaged");
}

#[test]
fn nothing_but_what_brings_waits_for_a_silent_neighbour() {
    let far = far(2, 3 << 20);
    far.read(1, 0, 3 * MIB).unwrap();
    far.neighbour.set(Mood::Silent);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| far.read(0, MIB, 4 * KIB));
        far.neighbour.wait_for_waiting(1);
        // All else goes on: what is here is read and put together, and what is not fails at once.
        far.read(1, 0, 3 * MIB).unwrap();
        far.files.materialise(&far.specs[1], None).unwrap();
        let mut reply = Vec::new();
        assert!(far.files.read(&far.specs[0], 0, 4096, &mut reply).unwrap_err().is_of_store());
        assert!(!far.files.try_read(&far.specs[0], 0, 4096, &mut reply));
        assert!(far.files.materialise(&far.specs[0], None).unwrap_err().is_of_store());
        assert!(!waiting.is_finished());
        far.neighbour.set(Mood::Willing);
        waiting.join().unwrap().unwrap();
    });
    assert!(cache(&far.scratch).exists());
}
