//! Trees at the limits of the formats and of the system.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use cairn_store::{IngestOptions, MetadataPolicy};
use harness::compare::Snapshot;
use harness::plan::{EDGES, Fill, Folder, Plan, date, label, make, special};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, options, read_file, restore, writer};
use harness::user::{is_root, skip};
use rustix::fs::FileType;

const POLICIES: [MetadataPolicy; 2] = [MetadataPolicy::Portable, MetadataPolicy::Full];

fn comes_back(folder: &Folder) {
    let scratch = Scratch::new();
    let source = scratch.join("source");
    make(&source, folder);
    let before = Snapshot::of(&source);
    let store = writer(&scratch.join("store"));
    for policy in POLICIES {
        let version = format!("{policy:?}");
        let added = add(&store, &source, &IngestOptions { policy, ..options("limits", &version) });
        let dest = scratch.join(version);
        restore(&store, &added.artifact, &dest);
        before.assert_restored(&dest, policy);
    }
    assert_sound(&store);
}

#[test]
fn files_of_every_length_at_an_edge() {
    let fills = [Fill::Noise(1), Fill::Text(1), Fill::Zeros, Fill::Sparse(1), Fill::Periodic(1, 4096)];
    let files = EDGES.iter().flat_map(|len| {
        fills.iter().map(move |fill| (format!("{fill:?} {len}").into_bytes(), Plan::File(*fill, *len, 0o644)))
    });
    comes_back(&files.collect());
}

#[test]
fn files_around_the_edges_of_windows() {
    const WINDOW: usize = 4 << 20;
    let lens = [WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + 65_536, 2 * WINDOW, 2 * WINDOW + 1];
    let fills = [Fill::Noise(2), Fill::Sparse(2)];
    let files = lens.iter().flat_map(|len| {
        fills.iter().map(move |fill| (format!("{fill:?} {len}").into_bytes(), Plan::File(*fill, *len, 0o644)))
    });
    comes_back(&files.collect());
}

#[test]
fn names_of_every_byte_and_of_the_longest_length() {
    let bytes = (1..=255u8).filter(|byte| ![b'/', b'.'].contains(byte)).map(|byte| vec![byte]);
    let odd = [
        &b"..."[..],
        b".hidden",
        b"..x",
        b" ",
        b"\n",
        b"\xff\xfe\xfd",
        "\u{202e}gpj.exe".as_bytes(),
        b"-rf",
        b"a\\b",
    ];
    let long = [vec![b'n'; 255], vec![0xff; 255], [&b"e\xcc\x81"[..]; 85].concat()];
    let names = bytes.chain(odd.iter().map(|name| name.to_vec())).chain(long);
    comes_back(&names.map(|name| (name.clone(), Plan::Bytes(name))).collect());
}

#[test]
fn links_that_dangle_loop_or_lead_out() {
    let targets: [&[u8]; 8] = [
        b"nowhere",
        b"loop",
        b"../../../../etc/passwd",
        b"/",
        b".",
        b"\xff\xff",
        &[b't'; 4095],
        b"to/../loop",
    ];
    let mut folder: Folder = targets
        .iter()
        .enumerate()
        .map(|(number, target)| (format!("link {number}").into_bytes(), Plan::Link(target.to_vec())))
        .collect();
    folder.insert(b"loop".to_vec(), Plan::Link(b"loop".to_vec()));
    folder.insert(b"to".to_vec(), Plan::Link(b".".to_vec()));
    comes_back(&folder);
}

#[test]
fn every_permission_bit() {
    let modes = (0..12).map(|bit| 1 << bit).chain([0, 0o777, 0o7777, 0o644, 0o755]);
    let modes: Vec<u32> = if is_root() { modes.collect() } else { modes.map(|mode| mode | 0o400).collect() };
    let files =
        modes.iter().map(|mode| (format!("f{mode:o}").into_bytes(), Plan::File(Fill::Text(1), 200, *mode)));
    let folders = modes
        .iter()
        .map(|mode| (format!("d{mode:o}").into_bytes(), Plan::Dir(BTreeMap::new(), *mode | 0o500)));
    comes_back(&files.chain(folders).collect());
}

#[test]
fn hundreds_of_levels() {
    let bottom = Plan::Bytes(b"far down".to_vec());
    let mut folder: Folder = BTreeMap::from([(b"bottom".to_vec(), bottom)]);
    for level in 0..600 {
        let beside = Plan::Bytes(format!("level {level}").into_bytes());
        folder = BTreeMap::from([(b"d".to_vec(), Plan::Dir(folder, 0o755)), (b"f".to_vec(), beside)]);
    }
    comes_back(&folder);
}

#[test]
fn hard_links_are_one_file_again_and_each_counts() {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    std::fs::create_dir(source.join("sub")).unwrap();
    for (name, len) in [("small", 10), ("middle", 50_000), ("long", 9 << 20)] {
        let first = source.join(format!("z {name}"));
        std::fs::write(&first, harness::bytes::noise(5, len)).unwrap();
        std::fs::hard_link(&first, source.join(format!("a {name}"))).unwrap();
        std::fs::hard_link(&first, source.join(format!("sub/{name}"))).unwrap();
    }
    // Its other name lies outside, so that here it is a file like any other.
    std::fs::write(scratch.join("outside"), b"outside").unwrap();
    std::fs::hard_link(scratch.join("outside"), source.join("inside")).unwrap();
    let before = Snapshot::of(&source);
    let store = writer(&scratch.join("store"));
    for policy in POLICIES {
        let version = format!("{policy:?}");
        let added = add(&store, &source, &IngestOptions { policy, ..options("links", &version) });
        assert_eq!(added.files, 10);
        let dest = scratch.join(version);
        restore(&store, &added.artifact, &dest);
        before.assert_restored(&dest, policy);
        let one_file = policy == MetadataPolicy::Full;
        assert_eq!(dest.join("a long").metadata().unwrap().nlink(), if one_file { 3 } else { 1 });
        assert_eq!(dest.join("inside").metadata().unwrap().nlink(), 1);
    }
}

#[test]
fn pipes_and_devices_come_back_where_they_are_asked_for() {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    special(&source.join("pipe"), FileType::Fifo, 0, 0);
    if is_root() {
        special(&source.join("char"), FileType::CharacterDevice, 1, 3);
        special(&source.join("block"), FileType::BlockDevice, 7, 259);
        special(&source.join("far"), FileType::CharacterDevice, 4095, 1_048_575);
    } else {
        skip("devices", "only root may make them");
    }
    date(&source.join("pipe"), 1_000_000_000, 1);
    let before = Snapshot::of(&source);
    let store = writer(&scratch.join("store"));
    let policy = MetadataPolicy::Full;
    let options = IngestOptions { policy, special_files: true, ..options("special", "1") };
    let added = add(&store, &source, &options);
    let dest = scratch.join("restored");
    restore(&store, &added.artifact, &dest);
    before.assert_restored(&dest, policy);
}

#[test]
fn attributes_and_times_to_the_nanosecond() {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    let file = scratch.file("source/file", b"bytes");
    std::fs::create_dir(source.join("folder")).unwrap();
    std::os::unix::fs::symlink("file", source.join("link")).unwrap();
    for number in 0..40 {
        label(&file, &format!("user.number-{number}"), &harness::bytes::noise(number, 50));
    }
    label(&source.join("folder"), "user.folder", b"\0\xff");
    label(&source, "user.root", b"of the tree");
    for (path, seconds, nanos) in
        [("file", 1, 999_999_999), ("folder", -1, 1), ("link", 4_000_000_000, 7), ("", 0, 0)]
    {
        date(&source.join(path), seconds, nanos);
    }
    let before = Snapshot::of(&source);
    let store = writer(&scratch.join("store"));
    let policy = MetadataPolicy::Full;
    let added = add(&store, &source, &IngestOptions { policy, ..options("attributes", "1") });
    let dest = scratch.join("restored");
    restore(&store, &added.artifact, &dest);
    before.assert_restored(&dest, policy);
}

#[test]
fn holes_stay_holes() {
    const MIB: usize = 1 << 20;
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    // Noise and holes in turn, holes at both ends, and one file that is nothing else.
    let layouts: [(&str, usize, &[usize]); 4] = [
        ("both ends", 40 * MIB, &[10 * MIB, 20 * MIB + 12_345]),
        ("at the start", 9 * MIB, &[0]),
        ("at the end", 9 * MIB + 77, &[9 * MIB - 77]),
        ("nothing", 1 << 30, &[]),
    ];
    for (name, len, islands) in layouts {
        let path = source.join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(len as u64).unwrap();
        for (seed, at) in (0..).zip(islands) {
            let bytes = harness::bytes::noise(seed, 154.min(len - at));
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, *at as u64).unwrap();
        }
    }
    let before = Snapshot::of(&source);
    let store = writer(&scratch.join("store"));
    let added = add(&store, &source, &options("sparse", "1"));
    assert!(added.new_bytes < 1 << 20, "{added:?}");
    let dest = scratch.join("restored");
    let restored = restore(&store, &added.artifact, &dest);
    before.assert_restored(&dest, MetadataPolicy::Portable);
    assert!(restored.hole_bytes > (1 << 30) + (50 << 20), "{restored:?}");
    for (name, len, _) in layouts {
        let stat = dest.join(name).metadata().unwrap();
        assert_eq!(stat.len(), len as u64);
        assert!(stat.blocks() * 512 <= 512 << 10, "{name} takes {} blocks", stat.blocks());
    }
    let bytes = read_file(&store, &added.artifact, b"at the end").unwrap();
    assert_eq!(bytes, std::fs::read(source.join("at the end")).unwrap());
}
