//! What a reader that shares no code with this one (tests/compat/cairn_reader.py, written from docs/format.md alone)
//! makes of a store: every byte, name, mode and date comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "trees are made and read back as anyone would")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use cairn_store::{
    ArtifactId, IngestOptions, Input, MetadataPolicy, Platform, PublishOptions, Writer, WriterOptions,
};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/compat/cairn_reader.py");

/// Bytes without structure: xorshift64*, of a fixed seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

fn make_tree(root: &Path) {
    for dir in ["bin", "share/doc/deep", "empty-directory", "many"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    write("empty", b"");
    write("tiny", b"tiny\n");
    write("inline-at-most", &noise(128, 1));
    write("chunk-at-least", &noise(129, 2));
    write("bin/tool", &noise(150_000, 3));
    // More chunks than an entry holds.
    write("bin/large", &noise(1_000_000, 4));
    write("share/doc/deep/text", "all work and no play\n".repeat(5_000).as_bytes());
    write("same-again", &noise(150_000, 3));
    for n in 0..600 {
        write(&format!("many/file-{n:04}"), &noise(n, 1_000 + n as u64));
    }
    fs::write(root.join(OsStr::from_bytes(b"\xff not UTF-8")), b"name").unwrap();
    let mut sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all(b"begins").unwrap();
    sparse.seek(SeekFrom::Start(700_000)).unwrap();
    sparse.write_all(b"ends").unwrap();
    sparse.set_len(1_200_000).unwrap();
    symlink("bin/tool", root.join("link")).unwrap();
    symlink("../nowhere", root.join("dangling")).unwrap();
    fs::set_permissions(root.join("bin/tool"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(root.join("tiny"), Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(root, Permissions::from_mode(0o750)).unwrap();
}

#[derive(Debug, PartialEq)]
struct Found {
    what: String,
    mode: u32,
    date: (i64, i64),
    links: u64,
}

/// What there is at each path, the root under the empty one.
fn describe(root: &Path) -> BTreeMap<Vec<u8>, Found> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        let at = root.join(&path);
        let metadata = at.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let what = if kind.is_symlink() {
            format!("link to {:?}", fs::read_link(&at).unwrap())
        } else if kind.is_dir() {
            open.extend(fs::read_dir(&at).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            "directory".to_owned()
        } else if kind.is_file() {
            format!("file {}", ArtifactId::of(&fs::read(&at).unwrap()))
        } else {
            format!("{kind:?}")
        };
        let links = if kind.is_dir() { 0 } else { metadata.nlink() };
        let date = (metadata.mtime(), metadata.mtime_nsec());
        let mode = metadata.mode() & 0o7777;
        found.insert(path.into_os_string().into_vec(), Found { what, mode, date, links });
    }
    found
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn python(arguments: &[&OsStr]) -> Option<Output> {
    for tool in ["python3", "zstd"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("left out: there is no {tool} on this machine");
            return None;
        }
    }
    // -B: nothing is written beside the script.
    Some(Command::new("python3").arg("-B").arg(READER).args(arguments).output().unwrap())
}

fn read(store: &Path, spec: &str, dest: &Path) -> Option<Output> {
    python(&[store.as_os_str(), OsStr::new(spec), dest.as_os_str()])
}

struct Fixture {
    folder: tempfile::TempDir,
    writer: Writer,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        make_tree(&folder.path().join("tree"));
        let options = WriterOptions {
            wait: Duration::ZERO,
            command: "compat".to_owned(),
            who: "tester@here".to_owned(),
        };
        let writer = Writer::open(&folder.path().join("store"), &options, &()).unwrap();
        Self { folder, writer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn publish(&self, version: &str, policy: MetadataPolicy, channel: Option<&str>) -> ArtifactId {
        let mut options = IngestOptions::package("sample".parse().unwrap(), version.parse().unwrap());
        options.policy = policy;
        options.platform = Some(Platform::any());
        options.special_files = policy == MetadataPolicy::Full;
        options.provenance = BTreeMap::from([("url".to_owned(), "https://example.org/ü".to_owned())]);
        let ingested = self.writer.ingest(Input::Paths(vec![self.path("tree")]), &options, &()).unwrap();
        let channel = channel.map(|channel| channel.parse().unwrap());
        self.writer.publish(&ingested, &PublishOptions { replace: false, channel }).unwrap();
        ingested.artifact
    }

    /// Reads with the other reader and compares; the artifact's id as it sees it.
    fn check(&self, spec: &str, policy: MetadataPolicy) -> Option<String> {
        let dest = self.path("dest").join(spec);
        fs::create_dir_all(self.path("dest")).unwrap();
        let output = read(&self.path("store"), spec, &dest)?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut expected = describe(&self.path("tree"));
        if policy == MetadataPolicy::Portable {
            for found in expected.values_mut() {
                (found.date, found.links) = ((315_532_800, 0), found.links.min(1));
            }
            expected.get_mut(b"".as_slice()).unwrap().mode = 0o755;
        }
        assert_eq!(describe(&dest), expected);
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

#[test]
fn an_independent_reader_restores_what_was_added() {
    let fixture = Fixture::new();
    let portable = fixture.publish("1.0.0", MetadataPolicy::Portable, Some("stable"));
    let Some(found) = fixture.check("sample@1.0.0", MetadataPolicy::Portable) else { return };
    assert_eq!(found, portable.to_string());

    // A second pack of each kind, a longer journal, and all that the full policy adds.
    let tree = fixture.path("tree");
    fs::write(tree.join("bin/large"), [noise(500_000, 4), noise(400_000, 5)].concat()).unwrap();
    fs::hard_link(tree.join("bin/tool"), tree.join("bin/tool-by-another-name")).unwrap();
    fs::hard_link(tree.join("bin/tool"), tree.join("a-third-name")).unwrap();
    assert!(Command::new("mkfifo").arg(tree.join("pipe")).status().unwrap().success());
    fs::set_permissions(tree.join("bin/large"), Permissions::from_mode(0o2711)).unwrap();
    let full = fixture.publish("2.0.0", MetadataPolicy::Full, Some("stable"));
    assert_ne!(full, portable);
    assert_eq!(fixture.check("sample@2.0.0", MetadataPolicy::Full), Some(full.to_string()));
    assert_eq!(fixture.check("sample@stable", MetadataPolicy::Full), Some(full.to_string()));
}

#[test]
fn an_independent_reader_notices_damage() {
    let fixture = Fixture::new();
    fixture.publish("1.0.0", MetadataPolicy::Portable, None);
    let packs: Vec<PathBuf> = fs::read_dir(fixture.path("store/packs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new("pack")))
        .collect();
    assert!(packs.len() >= 2, "{packs:?}");
    for (number, pack) in packs.iter().enumerate() {
        let good = fs::read(pack).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 3] ^= 1;
        fs::write(pack, bad).unwrap();
        let Some(output) = read(&fixture.path("store"), "sample@1.0.0", &fixture.path(&number.to_string()))
        else {
            return;
        };
        fs::write(pack, good).unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && message.starts_with("damaged: "),
            "{}: {message}",
            pack.display()
        );
    }
}
