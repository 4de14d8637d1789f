//! Bitcode files, taken apart and made again. Those in `made/` are what `opt` and `llvm-lto` of LLVM 14 made of two versions of a module, and of
//! its summary with another one's.

mod synthetic;

use cairn_delta::bitcode::{FILE_MAX, TOKENS_MAX, pack, tokens, unpack};
use cairn_delta::{DeltaError, Effort, prefix};
use proptest::prelude::*;

const MADE: [(&str, &[u8]); 4] = [
    ("tool-1", include_bytes!("made/tool-1.bc")),
    ("tool-2", include_bytes!("made/tool-2.bc")),
    ("index-1", include_bytes!("made/index-1.bc")),
    ("index-2", include_bytes!("made/index-2.bc")),
];

fn again(tokens: &[u8], len_max: usize) -> Result<Vec<u8>, DeltaError> {
    pack(tokens, len_max, vec![9; 100])
}

#[test]
fn what_llvm_made_comes_apart_and_is_made_again() {
    for (name, file) in MADE {
        let tokens = unpack(file).unwrap_or_else(|| panic!("{name} does not come apart"));
        assert_eq!(again(&tokens, file.len()).as_deref(), Ok(file), "{name}");
    }
}

#[test]
fn a_newer_version_is_told_in_less_than_half_of_what_its_bytes_take() {
    for (old, new) in [(MADE[0].1, MADE[1].1), (MADE[1].1, MADE[0].1), (MADE[2].1, MADE[3].1)] {
        let mut encoder = prefix::Encoder::new(Effort::Normal);
        let bytes = encoder.encode(old, new).len();
        let told = encoder.encode(&tokens(old).unwrap(), &tokens(new).unwrap()).len();
        assert!(told * 2 < bytes, "{told} bytes of tokens, {bytes} of bytes");
    }
}

#[test]
fn what_is_no_whole_bitcode_file_stays_as_it_is() {
    let file = MADE[0].1;
    assert_eq!(unpack(&[]), None);
    assert_eq!(unpack(&file[1..]), None);
    assert_eq!(unpack(&[file, b"\0"].concat()), None);
    let long = [file, &vec![0; FILE_MAX]].concat();
    assert_eq!(tokens(&long), None);
    // What is left ends between two blocks, or it does not come apart.
    for len in 0..file.len() {
        if let Some(tokens) = unpack(&file[..len]) {
            assert_eq!(again(&tokens, len).as_deref(), Ok(&file[..len]));
        }
    }
}

#[test]
fn no_more_bytes_are_made_than_are_allowed() {
    for (name, file) in MADE {
        let tokens = unpack(file).unwrap();
        for len_max in [0, 3, 4, file.len() / 2, file.len() - 1] {
            assert_eq!(again(&tokens, len_max), Err(DeltaError::TooLarge("a bitcode file")), "{name}");
        }
    }
    assert_eq!(again(&vec![0; TOKENS_MAX + 1], FILE_MAX), Err(DeltaError::TooLarge("tokens")));
}

#[test]
fn tokens_that_end_early_are_an_error_or_make_a_shorter_file() {
    for (name, file) in MADE {
        let tokens = unpack(file).unwrap();
        for len in 0..tokens.len() {
            let made = again(&tokens[..len], file.len());
            assert!(made.is_err() || made.is_ok_and(|made| made != file), "{name}: {len} bytes");
        }
    }
}

/// There are two of them: the number that lies furthest below zero is written as the second.
#[test]
fn a_zero_with_a_sign_keeps_it() {
    use synthetic::Item::{Block, Record};
    for value in [0, 1, 2, 3] {
        let file = synthetic::file(&[Block(12, 4, vec![Record(16, vec![0, value, 1])])]);
        assert_eq!(again(&unpack(&file).unwrap(), file.len()), Ok(file));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any file: what comes apart is made again, and nothing panics.
    #[test]
    fn damaged_files_are_made_again_or_stay(
        which in 0..MADE.len(), changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
    ) {
        let mut file = MADE[which].1.to_vec();
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] ^= byte;
        }
        if let Some(tokens) = tokens(&file) {
            let _ = again(&tokens, file.len());
        }
        if let Some(tokens) = unpack(&file) {
            prop_assert_eq!(again(&tokens, file.len()), Ok(file));
        }
    }

    /// Any tokens: an error, or a file within bounds.
    #[test]
    fn damaged_tokens_are_an_error_or_make_a_file(
        which in 0..MADE.len(), changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4), cut in 0usize..50,
    ) {
        let (_, file) = MADE[which];
        let mut tokens = unpack(file).unwrap();
        for (at, byte) in changes {
            let at = at % tokens.len();
            tokens[at] ^= byte;
        }
        tokens.truncate(tokens.len() - cut / 25);
        let len_max = file.len() * 2;
        if let Ok(made) = again(&tokens, len_max) {
            prop_assert!(made.len() <= len_max);
        }
    }

    #[test]
    fn noise_is_no_file_and_no_tokens(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let file = [b"BC\xc0\xde", &noise[..]].concat();
        if let Some(tokens) = unpack(&file) {
            prop_assert_eq!(again(&tokens, file.len()), Ok(file));
        }
        for tokens in [noise.clone(), [&[0, 0][..], &noise].concat()] {
            if let Ok(made) = again(&tokens, 1 << 16) {
                prop_assert!(made.len() <= 1 << 16);
            }
        }
    }

    /// Blocks, abbreviations and records that mean nothing, or something wrong.
    #[test]
    fn whatever_keeps_to_the_container_is_made_again(items in synthetic::items()) {
        let file = synthetic::file(&items);
        let tokens = unpack(&file);
        prop_assert!(tokens.is_some(), "it does not come apart: {items:?}");
        prop_assert_eq!(again(&tokens.unwrap(), file.len()), Ok(file));
    }
}
