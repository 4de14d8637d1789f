//! A directory of 100,000 entries, of which one changes.

use std::fs;

use harness::compare::Snapshot;
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, options, restore, writer};

const ENTRIES: usize = 100_000;
/// A changed entry rewrites a node or two of each level, and the artifact.
const GROWTH_MAX: u64 = 12 << 10;

#[test]
fn one_changed_entry_of_very_many_stores_a_few_kilobytes() {
    let scratch = Scratch::in_memory();
    let source = scratch.folder("source");
    let first = scratch.file("source/entry-000000", b"0");
    for number in 1..ENTRIES {
        let path = source.join(format!("entry-{number:06}"));
        // Mostly the same file: links are made faster than files.
        if number % 100 == 0 {
            fs::write(path, number.to_string()).unwrap();
        } else {
            fs::hard_link(&first, path).unwrap();
        }
    }
    let store = writer(&scratch.join("store"));
    let whole = add(&store, &source, &options("large", "1"));
    assert_eq!(whole.files, ENTRIES as u64);
    assert!(whole.metadata_bytes > 5 * GROWTH_MAX, "{whole:?}");
    let changes: [(&str, &dyn Fn()); 4] = [
        ("added in the middle", &|| fs::write(source.join("entry-050000-a"), b"new").unwrap()),
        ("added at the end", &|| fs::write(source.join("zz"), b"new").unwrap()),
        ("changed", &|| fs::write(source.join("entry-077000"), b"changed").unwrap()),
        ("removed", &|| fs::remove_file(source.join("entry-031415")).unwrap()),
    ];
    for (version, (what, change)) in (2..).zip(changes) {
        change();
        let added = add(&store, &source, &options("large", &version.to_string()));
        let grown = added.metadata_bytes + added.stored_bytes;
        assert!(grown > 0 && grown < GROWTH_MAX, "{what}: {grown} bytes");
        println!("{what}: {grown} bytes");
    }
    let last = add(&store, &source, &options("large", "last"));
    let dest = scratch.join("restored");
    restore(&store, &last.artifact, &dest);
    Snapshot::of(&source).assert_restored(&dest, cairn_store::MetadataPolicy::Portable);
    assert_sound(&store);
}
