//! Gzip files, taken apart and made again. Those in `made/` are what `gzip` 1.12 and zlib 1.2.13 made of random words.

use std::time::{Duration, Instant};

use cairn_delta::DeltaError;
use cairn_delta::deflate::{PLAIN_MAX, Unpacked, repack, unpack};
use proptest::prelude::*;

macro_rules! made {
    ($($name:literal),*) => { [$(($name, include_bytes!(concat!("made/", $name, ".gz")).as_slice())),*] };
}

const MADE: [(&str, &[u8]); 10] = made![
    "gzip-9",
    "gzip-6",
    "gzip-1",
    "zlib-6",
    "zlib-9-memory",
    "zlib-2",
    "zlib-4",
    "zlib-fixed",
    "stored",
    "runs"
];
/// By an encoder that looks for no matches.
const OTHER: &[u8] = include_bytes!("made/huffman-alone.gz");

fn again(unpacked: &Unpacked, len_max: usize) -> Result<Vec<u8>, DeltaError> {
    repack(&unpacked.plain, &unpacked.recipe, len_max, vec![9; 100])
}

#[test]
fn what_gzip_and_zlib_made_comes_out_the_same_by_a_short_recipe() {
    for (name, file) in MADE {
        let unpacked = unpack(file).unwrap_or_else(|| panic!("{name} does not come apart"));
        assert_eq!(again(&unpacked, file.len()).as_deref(), Ok(file), "{name}");
        assert!(unpacked.recipe.len() < 60, "{name}: {} bytes of recipe", unpacked.recipe.len());
        let len = u32::from_le_bytes(file[file.len() - 4..].try_into().unwrap());
        assert_eq!(unpacked.plain.len(), len as usize, "{name}");
    }
}

#[test]
fn what_another_encoder_made_stays_as_it_is() {
    assert_eq!(unpack(OTHER), None);
}

#[test]
fn what_is_no_single_whole_gzip_file_stays_as_it_is() {
    let file = MADE[3].1;
    assert_eq!(unpack(&[]), None);
    assert_eq!(unpack(&file[1..]), None);
    assert_eq!(unpack(&[file, file].concat()), None);
    assert_eq!(unpack(&[file, b"\0"].concat()), None);
    for len in 0..file.len() {
        assert_eq!(unpack(&file[..len]), None, "{len} bytes");
    }
}

#[test]
fn no_more_bytes_are_made_than_are_allowed() {
    for (name, file) in MADE {
        let unpacked = unpack(file).unwrap();
        for len_max in [0, 5, file.len() / 2, file.len() - 1] {
            assert_eq!(again(&unpacked, len_max), Err(DeltaError::TooLarge("a file")), "{name}");
        }
    }
    let unpacked = unpack(MADE[0].1).unwrap();
    let long = vec![0; PLAIN_MAX + 1];
    assert_eq!(repack(&long, &unpacked.recipe, usize::MAX, Vec::new()), Err(DeltaError::TooLarge("content")));
}

#[test]
fn a_recipe_for_other_content_is_an_error_or_makes_another_file() {
    let unpacked = unpack(MADE[0].1).unwrap();
    for plain in [&[][..], &unpacked.plain[1..], &[&unpacked.plain[..], b"x"].concat()] {
        let made = repack(plain, &unpacked.recipe, 1 << 20, Vec::new());
        assert!(made.is_err() || made.is_ok_and(|made| made != MADE[0].1));
    }
}

/// A chain of every place, all alike for 257 bytes: the most that a search can be made to do.
#[test]
fn content_that_is_hard_to_search_ends_in_time() {
    let recipe = unpack(MADE[0].1).unwrap().recipe;
    for period in [1, 2, 3, 255, 257, 4096] {
        let plain: Vec<u8> =
            (0..1usize << 20).map(|at| u8::try_from(at % period * 7 % 251).unwrap()).collect();
        let begun = Instant::now();
        let _ = repack(&plain, &recipe, usize::MAX, Vec::new());
        assert!(begun.elapsed() < Duration::from_secs(60), "a period of {period}: {:?}", begun.elapsed());
    }
}

fn mutated(bytes: &[u8], changes: &[(usize, u8)], cut: Option<usize>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in changes {
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut % (bytes.len() + 1));
    }
    bytes
}

fn changes() -> impl Strategy<Value = (Vec<(usize, u8)>, Option<usize>)> {
    (prop::collection::vec((any::<usize>(), any::<u8>()), 1..5), prop::option::weighted(0.2, any::<usize>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_recipe_ends_within_its_limits(which in 1..MADE.len(), (changes, cut) in changes()) {
        let file = MADE[which].1;
        let unpacked = unpack(file).unwrap();
        let recipe = mutated(&unpacked.recipe, &changes, cut);
        if let Ok(made) = repack(&unpacked.plain, &recipe, 2 * file.len(), Vec::new()) {
            prop_assert!(made.len() <= 2 * file.len());
        }
    }

    #[test]
    fn a_mutated_file_comes_out_the_same_or_stays(which in 1..MADE.len(), (changes, cut) in changes()) {
        let file = mutated(MADE[which].1, &changes, cut);
        if let Some(unpacked) = unpack(&file) {
            prop_assert_eq!(again(&unpacked, file.len()), Ok(file));
        }
    }

    #[test]
    fn bytes_are_no_recipe(recipe in prop::collection::vec(any::<u8>(), 0..200), plain in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = repack(&plain, &recipe, 1000, Vec::new());
    }
}
