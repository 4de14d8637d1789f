//! What the mount shows is what an export writes, to the last bit that the policy keeps.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use cairn_store::{MetadataPolicy, RestoreOptions, Spec};
use harness::bytes::noise;
use harness::compare::Snapshot;
use harness::user::skip;

use crate::mounted::{LARGE, Mounted};

/// Compares a version with its export by the tools that an operator would use.
fn assert_same(mounted: &Mounted, name: &str, version: &str, policy: MetadataPolicy) {
    let exported = mounted.scratch.join(format!("export-{name}-{version}"));
    let spec: Spec = format!("{name}@{version}").parse().unwrap();
    let (_, artifact) = mounted.writer.names().resolve(&spec, None).unwrap();
    mounted.writer.restore(&artifact, &exported, &RestoreOptions::default(), &()).unwrap();
    let shown = mounted.at(&format!("{name}/{version}"));
    let output =
        Command::new("diff").arg("-r").arg("--no-dereference").args([&exported, &shown]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let attributes = |path: &Path| {
        let dumped =
            Command::new("getfattr").args(["-R", "-h", "-d", "-m", "-", "."]).current_dir(path).output();
        dumped.map(|output| {
            // Where nothing has any, the mount says that they are not supported.
            let is_well = output.status.success() || policy == MetadataPolicy::Portable;
            assert!(is_well, "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    match (attributes(&exported), attributes(&shown)) {
        (Ok(wanted), Ok(found)) => assert_eq!(by_file(&found), by_file(&wanted)),
        _ => skip("extended attributes", "getfattr is not installed"),
    }
    let wanted = Snapshot::of(&exported);
    let found = Snapshot::of(&shown);
    let lines = match policy {
        MetadataPolicy::Portable => wanted.differences(&found, policy),
        MetadataPolicy::Full => wanted.differences(&found, policy),
    };
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// What `getfattr` says, a set of paragraphs: listings come in any order.
fn by_file(dump: &str) -> BTreeSet<String> {
    dump.split("\n\n").map(str::to_owned).filter(|part| !part.trim().is_empty()).collect()
}

#[test]
fn a_version_is_its_export() {
    let Some(mounted) = Mounted::new("a version and its export") else { return };
    let tree = mounted.scratch.folder("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    for (name, len) in
        [("none", 0), ("tiny", 1), ("inline", 128), ("small", 129), ("page", 4096), ("large", LARGE)]
    {
        fs::write(tree.join("a").join(name), noise(len as u64, len)).unwrap();
    }
    std::os::unix::fs::symlink("../a/large", tree.join("a/link")).unwrap();
    std::os::unix::fs::symlink("nowhere", tree.join("dangling")).unwrap();
    fs::write(tree.join("a/b").join("n".repeat(255)), b"long").unwrap();
    fs::write(tree.join("a/b/\u{e4}\n \"'"), b"odd").unwrap();
    let sparse = File::create(tree.join("a/sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    mounted.add_tree("tree", "1", &tree, MetadataPolicy::Portable);
    assert_same(&mounted, "tree", "1", MetadataPolicy::Portable);
}

#[test]
fn a_version_with_all_metadata_is_its_export() {
    let Some(mounted) = Mounted::new("a version with all metadata") else { return };
    let tree = mounted.scratch.folder("tree");
    fs::create_dir(tree.join("dir")).unwrap();
    fs::write(tree.join("dir/file"), noise(1, 5000)).unwrap();
    fs::hard_link(tree.join("dir/file"), tree.join("linked")).unwrap();
    fs::write(tree.join("plain"), noise(2, LARGE)).unwrap();
    std::os::unix::fs::chown(tree.join("plain"), Some(1234), Some(4321)).unwrap();
    for (path, name, value) in
        [("dir/file", "user.one", "1"), ("dir/file", "user.two", "2"), ("dir", "user.d", "x")]
    {
        let set = Command::new("setfattr").args(["-n", name, "-v", value]).arg(tree.join(path)).status();
        if !set.is_ok_and(|status| status.success()) {
            return skip("extended attributes", "setfattr does not work here");
        }
    }
    let times =
        fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 42));
    File::options().write(true).open(tree.join("plain")).unwrap().set_times(times).unwrap();
    mounted.add_tree("state", "1", &tree, MetadataPolicy::Full);
    assert_same(&mounted, "state", "1", MetadataPolicy::Full);
    let linked = fs::metadata(mounted.at("state/1/linked")).unwrap();
    assert_eq!(linked.ino(), fs::metadata(mounted.at("state/1/dir/file")).unwrap().ino());
}

#[test]
fn real_programs_run_from_the_mount() {
    let Some(mounted) = Mounted::new("programs of this machine") else { return };
    let tree = mounted.scratch.folder("tree");
    fs::create_dir(tree.join("bin")).unwrap();
    for program in ["/bin/sh", "/usr/bin/env"] {
        let name = Path::new(program).file_name().unwrap();
        fs::copy(program, tree.join("bin").join(name)).unwrap();
    }
    mounted.add_tree("tools", "1", &tree, MetadataPolicy::Portable);
    mounted.use_(&["tools@1"]);
    for _ in 0..20 {
        let said = Command::new(mounted.at("bin/sh")).args(["-c", "echo $0"]).output().unwrap();
        assert!(said.status.success());
        let said =
            Command::new(mounted.at("current/tools/bin/env")).env_clear().env("A", "b").output().unwrap();
        assert_eq!(said.stdout, b"A=b\n");
    }
}

#[test]
fn unchanged_files_are_one_inode_across_versions() {
    let Some(mounted) = Mounted::new("unchanged files") else { return };
    for version in ["1", "2"] {
        let (same, page) = (noise(1, LARGE), noise(2, 4096));
        mounted.add("data", version, &[("same", &same), ("page", &page), ("other", version.as_bytes())]);
    }
    let number = |path: &str| fs::metadata(mounted.at(path)).unwrap().ino();
    assert_eq!(number("data/1/same"), number("data/2/same"));
    assert_ne!(number("data/1/other"), number("data/2/other"));
    assert_ne!(number("data/1"), number("data/2"));
    // What was read under one name is in the page cache under the other, and what was not read is not.
    let cached = |path: &str| -> Option<String> {
        let output =
            Command::new("fincore").args(["-n", "-o", "PAGES"]).arg(mounted.at(path)).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let Some(before) = cached("data/2/page") else {
        return skip("the page cache of unchanged files", "there is no fincore");
    };
    assert_eq!(before, "0");
    assert_eq!(fs::read(mounted.at("data/1/page")).unwrap().len(), 4096);
    assert_eq!(cached("data/2/page").as_deref(), Some("1"));
}

#[test]
fn any_range_can_be_read_in_any_order() {
    let Some(mounted) = Mounted::new("ranges of files") else { return };
    let whole = noise(3, 3_000_000);
    mounted.add("data", "1", &[("file", &whole)]);
    let file = File::open(mounted.at("data/1/file")).unwrap();
    let mut state = 7_usize;
    for _ in 0..500 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (at, len) = ((state >> 20) % 3_100_000, (state >> 7) % 300_000);
        let mut found = vec![0; len];
        let read = std::os::unix::fs::FileExt::read_at(&file, &mut found, at as u64).unwrap();
        let end = whole.len().min(at + len);
        assert_eq!(read, end.saturating_sub(at));
        assert!(found[..read] == whole[at.min(end)..end]);
    }
    let mut all = Vec::new();
    File::open(mounted.at("data/1/file")).unwrap().read_to_end(&mut all).unwrap();
    assert!(all == whole);
}
