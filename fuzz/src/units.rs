//! Versions whose deltas are fuzzed, in a store in memory that is made once: executables, gzip files, and a file of several chunks.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cairn_delta::Effort;
use cairn_store::delta::Gap;
use cairn_store::io::Sim;
use cairn_store::{ArtifactId, IngestOptions, Input, Store, Writer, WriterOptions};

#[allow(dead_code, reason = "what tests of the codec need more")]
#[path = "../../delta/tests/reloc/program.rs"]
mod program;

/// An old version and a new one, each of one file.
pub struct Pair {
    pub old: Vec<u8>,
    pub new: Vec<u8>,
    pub have: ArtifactId,
    pub want: ArtifactId,
    pub gap: Arc<Gap>,
}

/// Pairs of versions, and the store that they are in.
pub struct Pairs {
    pub store: Store,
    pub pairs: Vec<Pair>,
    _writer: Writer,
}

/// A small program as it is linked; `pad` is how far its code moves.
pub fn executable(arm: bool, fixed: bool, pad: usize) -> Vec<u8> {
    use program::{Function, Step};
    let function = |name: u16| {
        let steps = (0..9).map(|n| match (name + n) % 4 {
            0 => Step::Number(name * 3 + n),
            1 => Step::Call(name + n),
            2 => Step::Data(n),
            _ => Step::Table,
        });
        Function { name: u32::from(name), steps: steps.collect() }
    };
    let functions = (0..24).map(function).collect();
    program::Program { functions, words: (0..20).collect(), arm, fixed, sections: true, pad }.link()
}

/// Bytes that nothing compresses.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The pairs, made when they are first asked for.
pub fn pairs() -> &'static Pairs {
    static PAIRS: OnceLock<Pairs> = OnceLock::new();
    PAIRS.get_or_init(make)
}

fn make() -> Pairs {
    let options =
        WriterOptions { wait: Duration::ZERO, command: "units".to_owned(), who: "units@here".to_owned() };
    let writer = Writer::open_with(Arc::new(Sim::new(0)), Path::new("/store"), &options).expect("a store");
    let long = noise(1, 300_000);
    let mut edited = long.clone();
    edited.iter_mut().step_by(9000).for_each(|byte| *byte ^= 1);
    let files = [
        (executable(false, false, 0), executable(false, false, 64)),
        (executable(true, false, 0), executable(true, false, 64)),
        (
            include_bytes!("../../delta/tests/deflate/made/zlib-6.gz").to_vec(),
            include_bytes!("../../delta/tests/deflate/made/gzip-1.gz").to_vec(),
        ),
        (long, edited),
    ];
    let add = |version: String, bytes: &[u8]| {
        let reader = Box::new(std::io::Cursor::new(bytes.to_vec()));
        let input = Input::Reader { name: "tool".to_owned(), executable: true, reader };
        let platform = Some("linux/x86_64".parse().expect("a platform"));
        let name = "tool".parse().expect("a name");
        let options =
            IngestOptions { platform, ..IngestOptions::package(name, version.parse().expect("a version")) };
        writer.ingest(input, &options, &()).expect("it can be stored").artifact
    };
    let pair = |(number, (old, new)): (usize, (Vec<u8>, Vec<u8>))| {
        let (have, want) = (add(format!("{number}.0"), &old), add(format!("{number}.1"), &new));
        let gap = Arc::new(writer.gap(&have, &want, &()).expect("memory").expect("it is all here"));
        Pair { old, new, have, want, gap }
    };
    let pairs = files.into_iter().enumerate().map(pair).collect();
    Pairs { store: writer.local(), pairs, _writer: writer }
}

impl Pairs {
    /// What a delta between a pair is made of.
    pub fn units(&self, pair: &Pair) -> Vec<Vec<u8>> {
        let mut units = Vec::new();
        let options = cairn_store::delta::DeltaOptions::default();
        let put = &mut |unit| {
            units.push(unit);
            Ok(())
        };
        self.store.encode_delta(&pair.gap, &options, &(), put).expect("it is all here");
        units
    }

    /// The metadata of a pair's new version.
    pub fn objects(&self, pair: &Pair) -> Vec<u8> {
        let unit = self.store.encode_objects(&pair.have, &pair.want, Effort::Normal, &());
        unit.expect("it is all here").expect("few objects")
    }
}
