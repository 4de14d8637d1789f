//! What goes in comes out, and what came out goes in as the same artifact.

use std::path::Path;

use cairn_store::{IngestOptions, MetadataPolicy};
use harness::compare::Snapshot;
use harness::plan::{Folder, all_below, any_folder, date, label, make};
use harness::scratch::Scratch;
use harness::seed::{Chance, cases};
use harness::stores::{add, assert_sound, options, restore, writer};
use harness::user::is_root;
use proptest::prelude::*;

fn with_policy(policy: MetadataPolicy) -> IngestOptions {
    IngestOptions { policy, ..options("tree", "1") }
}

/// Adds a tree, restores it, compares, and adds what was restored to another store.
fn there_and_back(scratch: &Scratch, source: &Path, policy: MetadataPolicy) {
    let before = Snapshot::of(source);
    let first = writer(&scratch.join("store"));
    let added = add(&first, source, &with_policy(policy));
    assert_sound(&first);
    let dest = scratch.join("restored");
    let restored = restore(&first, &added.artifact, &dest);
    before.assert_restored(&dest, policy);
    assert_eq!((restored.files, restored.bytes), (added.files, added.bytes));
    assert_eq!((restored.directories, restored.symlinks), (added.directories, added.symlinks));
    let second = writer(&scratch.join("other-store"));
    assert_eq!(add(&second, &dest, &with_policy(policy)).artifact, added.artifact);
}

/// Owners, times, attributes and hard links by chance, as far as the user may set them.
fn decorate(source: &Path, chance: &mut Chance) {
    let files: Vec<_> = all_below(source);
    for path in &files {
        let stat = path.symlink_metadata().unwrap();
        let (uid, gid) = (u32::try_from(chance.below(70_000)).unwrap(), 12);
        if is_root() {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
            // Which took the set-id bits of files away.
            if !stat.is_symlink() {
                std::fs::set_permissions(path, stat.permissions()).unwrap();
            }
        }
        if !stat.is_symlink() && chance.below(3) == 0 && (is_root() || !stat.permissions().readonly()) {
            label(path, "user.cairn.empty", b"");
            label(path, "user.cairn.long", &harness::bytes::noise(chance.below(9), 1000));
        }
    }
    let mut linked = 0;
    for path in &files {
        if path.is_file() && !path.is_symlink() && chance.below(3) == 0 {
            for _ in 0..=chance.below(2) {
                linked += 1;
                std::fs::hard_link(path, source.join(format!("another name {linked}"))).unwrap();
            }
        }
    }
    for path in all_below(source).iter().rev() {
        let seconds = i64::try_from(chance.below(4_000_000_000)).unwrap() - 1_000_000_000;
        date(path, seconds, i64::try_from(chance.below(1_000_000_000)).unwrap());
    }
    date(source, 1_600_000_000, 123_456_789);
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn portable_trees_come_back(folder in any_folder()) {
        let scratch = Scratch::new();
        let source = scratch.join("source");
        make(&source, &folder);
        there_and_back(&scratch, &source, MetadataPolicy::Portable);
    }

    #[test]
    fn full_trees_come_back(folder in any_folder(), chance: u64) {
        let scratch = Scratch::new();
        let source = scratch.join("source");
        make(&source, &folder);
        decorate(&source, &mut Chance::new(chance));
        there_and_back(&scratch, &source, MetadataPolicy::Full);
    }
}

#[test]
fn an_empty_tree_comes_back() {
    for policy in [MetadataPolicy::Portable, MetadataPolicy::Full] {
        let scratch = Scratch::new();
        let source = scratch.join("source");
        make(&source, &Folder::new());
        there_and_back(&scratch, &source, policy);
    }
}
