//! A damaged chunk is an error for those who read its bytes, and for nobody else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use crate::mounted::{Mounted, SMALL, bytes};

const LEN: usize = 4_000_000;

/// Flips a byte in the middle of the largest pack.
fn damage(mounted: &Mounted) {
    let packs = mounted.writer.packs().unwrap();
    let largest = packs.iter().max_by_key(|pack| pack.file_bytes).unwrap();
    let path = mounted.scratch.join(format!("store/packs/{}.pack", largest.id));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn damage_is_an_error_for_its_range_alone() {
    let Some(mounted) = Mounted::new("damage under a mount") else { return };
    mounted.add("other", "1", &[("small", &bytes(2, SMALL))]);
    let whole = bytes(1, LEN);
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
    assert!(fs::read(mounted.at("other/1/small")).unwrap() == bytes(2, SMALL));
    let status = mounted.files().status();
    assert!(!status.damage.is_empty());
}
