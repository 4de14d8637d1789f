//! Archives of releases, of every format: the first byte says which, and which members are wanted. A tar archive also with checksums that
//! hold. What is written is what is told, and nothing else; after an error nothing is.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cairn_sources::archive::{Bounds, Format, Member, unpack};
use cairn_sources::{NoWatch, Sha256};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(cairn_fuzz::folder);

const BOUNDS: Bounds = Bounds {
    member_bytes_max: 1 << 20,
    total_bytes_max: 8 << 20,
    entries_max: 1000,
    window_bytes_max: 1 << 20,
    ratio_max: 200,
};

/// The same headers, wherever one may be, with checksums that hold.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for header in bytes.chunks_exact_mut(512).filter(|header| header[156..].iter().any(|byte| *byte != 0)) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fn check(data: &[u8], format: Format, strip: usize, wanted: &[&str]) {
    let (archive, to) = (FOLDER.join("archive"), FOLDER.join("to"));
    std::fs::write(&archive, data).expect("a file");
    std::fs::create_dir_all(&to).expect("a folder");
    let files: Vec<PathBuf> = (0..wanted.len()).map(|number| to.join(number.to_string())).collect();
    let members: Vec<Member<'_>> = wanted.iter().zip(&files).map(|(path, to)| Member { path, to }).collect();
    let result = unpack(&archive, "archive", format, strip, &members, &BOUNDS, &NoWatch);
    if let Ok(unpacked) = result {
        assert_eq!(unpacked.len(), wanted.len());
        for (unpacked, file) in unpacked.iter().zip(&files) {
            let bytes = std::fs::read(file).expect("it was written");
            assert!(bytes.len() as u64 == unpacked.size && unpacked.size <= BOUNDS.member_bytes_max);
            assert_eq!(Sha256::of(&bytes), unpacked.sha256);
            std::fs::remove_file(file).expect("it is there");
        }
    }
    check_empty(&to);
}

fn check_empty(folder: &Path) {
    assert_eq!(std::fs::read_dir(folder).expect("it is there").count(), 0, "something is left");
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let formats = [Format::Tar, Format::TarGz, Format::TarXz, Format::TarZst, Format::Zip, Format::Tar];
    let format = formats[usize::from(kind % 6)];
    let strip = usize::from(kind / 6 % 3);
    let wanted: &[&str] = match kind / 18 % 4 {
        0 => &["app"],
        1 => &["bin/app", "tool"],
        2 => &["link", "hard", "tool"],
        _ => &["app/link"],
    };
    check(data, format, strip, wanted);
    if kind % 6 == 5 {
        check(&mended(data), format, strip, wanted);
    }
});
