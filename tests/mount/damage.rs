//! What is damaged or lost is an error for those who read it, and for nobody else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cairn_store::{MetadataPolicy, PackId};
use harness::bytes::noise;

use rustix::io::Errno;

use crate::mounted::{LARGE, Mounted, SMALL};

const LEN: usize = 4_000_000;

/// Flips a byte in the middle of the largest pack.
fn damage(mounted: &Mounted) {
    let packs = mounted.writer.packs().unwrap();
    let largest = packs.iter().max_by_key(|pack| pack.file_bytes).unwrap();
    flip(&pack_path(mounted, largest.id));
}

fn flip(pack: &Path) {
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();
}

/// Damages whatever lies in a pack's frames; its tables are as they were.
pub(crate) fn ruin(pack: &Path) {
    let mut bytes = fs::read(pack).unwrap();
    // docs/format.md: the trailer says how long the tables before it are.
    let trailer = bytes.len() - 64;
    let tables = u64::from_le_bytes(bytes[trailer + 8..trailer + 16].try_into().unwrap());
    let end = trailer - usize::try_from(tables).unwrap();
    bytes[16..end].iter_mut().step_by(32).for_each(|byte| *byte ^= 1);
    fs::write(pack, bytes).unwrap();
}

fn pack_path(mounted: &Mounted, id: PackId) -> PathBuf {
    mounted.scratch.join(format!("store/packs/{id}.pack"))
}

/// The packs of data, or of metadata, that something adds.
fn packs_of(mounted: &Mounted, metadata: bool, add: impl FnOnce()) -> Vec<PathBuf> {
    let packs = || -> BTreeSet<PackId> {
        let found = mounted.writer.packs().unwrap().into_iter();
        found.filter(|pack| pack.metadata == metadata).map(|pack| pack.id).collect()
    };
    let before = packs();
    add();
    packs().difference(&before).map(|id| pack_path(mounted, *id)).collect()
}

/// How many bytes of a file can be read from its beginning on, and what comes then, if not its end.
fn read_from_start(path: &Path) -> (Vec<u8>, Option<i32>) {
    let (mut file, mut bytes) = (File::open(path).unwrap(), Vec::new());
    let error = file.read_to_end(&mut bytes).err();
    (bytes, error.map(|error| error.raw_os_error().unwrap()))
}

const EIO: Option<i32> = Some(Errno::IO.raw_os_error());

#[test]
fn damage_is_an_error_for_its_range_alone() {
    let Some(mounted) = Mounted::new("damage under a mount") else { return };
    mounted.add("other", "1", &[("small", &noise(2, SMALL))]);
    let whole = noise(1, LEN);
    mounted.add("data", "1", &[("file", &whole)]);
    damage(&mounted);
    mounted.use_(&["other@1"]);
    for _ in 0..3 {
        let file = File::open(mounted.at("data/1/file")).unwrap();
        let mut bad = 0;
        for at in (0..LEN).step_by(4096) {
            let mut page = [0; 4096];
            match file.read_at(&mut page, at as u64) {
                Ok(read) => assert!(page[..read] == whole[at..at + read], "at {at}"),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
                    bad += 1;
                }
            }
        }
        // One frame of 512 KiB at most, and what one page-cache read of the kernel takes at a time around it.
        assert!((1..=(1 << 20) / 4096).contains(&bad), "{bad} pages");
    }
    assert!(fs::read(mounted.at("other/1/small")).unwrap() == noise(2, SMALL));
    let status = mounted.files().status();
    assert!(!status.damage.is_empty());
    for damage in &status.damage {
        let is_placed = damage.chunk.is_some() || damage.pack.is_some();
        assert!(is_placed && damage.path.ends_with(b"data/1/file"), "{damage:?}");
    }
}

#[test]
fn a_lost_pack_is_an_error_for_the_files_in_it_alone() {
    let Some(mounted) = Mounted::new("a pack that is lost under a mount") else { return };
    let shared = noise(1, LEN);
    mounted.add("kept", "1", &[("small", &noise(2, SMALL)), ("large", &shared)]);
    // The beginning of `grown` lies in the pack that stays.
    let grown = [shared.as_slice(), &noise(3, LEN)].concat();
    let files: [(&str, &[u8]); 4] =
        [("small", &noise(4, SMALL)), ("large", &noise(5, LARGE)), ("grown", &grown), ("inline", b"inline")];
    let lost = packs_of(&mounted, false, || mounted.add("lost", "1", &files));
    assert_eq!(lost.len(), 1);
    let mounted = mounted.anew();
    for pack in &lost {
        fs::remove_file(pack).unwrap();
    }
    // The store is told of other packs in between, and forgets the one that is gone.
    for round in 0..3 {
        for file in ["small", "large"] {
            assert_eq!(read_from_start(&mounted.at("lost/1").join(file)), (Vec::new(), EIO), "{file}");
        }
        let (read, error) = read_from_start(&mounted.at("lost/1/grown"));
        assert_eq!(error, EIO);
        assert!(read == grown[..read.len()]);
        assert!(read.len() > LEN / 2 && read.len() <= LEN, "{} bytes", read.len());
        assert!(fs::read(mounted.at("lost/1/inline")).unwrap() == b"inline");
        assert!(fs::read(mounted.at("kept/1/small")).unwrap() == noise(2, SMALL));
        assert!(fs::read(mounted.at("kept/1/large")).unwrap() == shared);
        mounted.add("more", &format!("{round}"), &[("small", &noise(10 + round, SMALL))]);
        assert!(fs::read(mounted.at(&format!("more/{round}/small"))).unwrap() == noise(10 + round, SMALL));
    }
    let status = mounted.files().status();
    let paths: BTreeSet<_> =
        status.damage.iter().map(|damage| String::from_utf8_lossy(&damage.path).into_owned()).collect();
    assert_eq!(paths, BTreeSet::from(["lost/1/grown", "lost/1/large", "lost/1/small"].map(String::from)));
    assert!(status.damage.iter().any(|damage| damage.times > 1), "each is listed once: {:?}", status.damage);
    let chunks: BTreeSet<_> = status.damage.iter().map(|damage| damage.chunk.unwrap()).collect();
    assert_eq!(chunks.len(), status.damage.len());
    assert_eq!(status.damage_count, status.damage.len() as u64);
}

#[test]
fn a_damaged_directory_is_an_error_for_itself_alone() {
    let Some(mounted) = Mounted::new("a damaged directory") else { return };
    let tree = mounted.scratch.folder("tree");
    let fill = |folder: &str| {
        fs::create_dir_all(tree.join(folder).join("deep")).unwrap();
        fs::write(tree.join(folder).join("file"), noise(1, SMALL)).unwrap();
        fs::write(tree.join(folder).join("deep/file"), folder).unwrap();
    };
    fill("bad");
    // The nodes of `bad` lie in this version's pack, those of all else in the next one's.
    let packs = packs_of(&mounted, true, || mounted.add_tree("data", "1", &tree, MetadataPolicy::Portable));
    fill("good");
    fill("other");
    fs::write(tree.join("top"), "top").unwrap();
    mounted.add_tree("data", "2", &tree, MetadataPolicy::Portable);
    assert_eq!(packs.len(), 1);
    ruin(&packs[0]);
    let mounted = mounted.anew();
    for _ in 0..3 {
        for path in ["data/1", "data/2/bad"] {
            let listed =
                fs::read_dir(mounted.at(path)).and_then(|names| names.collect::<Result<Vec<_>, _>>());
            assert_eq!(listed.unwrap_err().raw_os_error(), EIO, "{path}");
        }
        for path in
            ["data/1/bad", "data/2/bad/file", "data/2/bad/deep", "data/2/bad/deep/file", "data/2/bad/no"]
        {
            assert_eq!(fs::metadata(mounted.at(path)).unwrap_err().raw_os_error(), EIO, "{path}");
        }
        let listed = |path: &str| -> BTreeSet<_> {
            let names = fs::read_dir(mounted.at(path)).unwrap();
            names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(listed("data/2"), BTreeSet::from(["bad", "good", "other", "top"].map(String::from)));
        for folder in ["good", "other"] {
            assert_eq!(
                listed(&format!("data/2/{folder}")),
                BTreeSet::from(["deep", "file"].map(String::from))
            );
            assert!(fs::read(mounted.at(&format!("data/2/{folder}/file"))).unwrap() == noise(1, SMALL));
            assert!(
                fs::read(mounted.at(&format!("data/2/{folder}/deep/file"))).unwrap() == folder.as_bytes()
            );
        }
        assert_eq!(fs::read(mounted.at("data/2/top")).unwrap(), b"top");
        // New versions are added and used as before.
        mounted.add("more", "1", &[("file", b"more")]);
        mounted.use_(&["more@1"]);
        assert_eq!(fs::read(mounted.at("current/more/file")).unwrap(), b"more");
    }
    let status = mounted.status();
    let paths: Vec<_> =
        status.damage.iter().map(|damage| String::from_utf8_lossy(&damage.path).into_owned()).collect();
    assert_eq!(paths, ["data/1", "data/2/bad"]);
    assert!(status.damage.iter().all(|damage| damage.times > 2), "{:?}", status.damage);
    assert_eq!((status.damage_count, mounted.files().status().damage_count), (2, 0));
}
