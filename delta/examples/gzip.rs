//! What comes apart of gzip files: `cargo run --release -p cairn-delta --example gzip -- FILE...`
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program for the developer's terminal"
)]

use std::time::{Duration, Instant};

use cairn_delta::deflate::{repack, unpack};

fn main() {
    let (mut files, mut apart, mut bytes, mut apart_bytes) = (0u64, 0u64, 0u64, 0u64);
    let (mut plain_bytes, mut recipe_bytes) = (0u64, 0u64);
    let (mut taking, mut making) = (Duration::ZERO, Duration::ZERO);
    for path in std::env::args_os().skip(1) {
        let Ok(file) = std::fs::read(&path) else { continue };
        files += 1;
        bytes += file.len() as u64;
        let begun = Instant::now();
        let unpacked = unpack(&file);
        taking += begun.elapsed();
        let Some(unpacked) = unpacked else {
            println!("as it is: {} ({} bytes)", path.display(), file.len());
            continue;
        };
        let begun = Instant::now();
        let again = repack(&unpacked.plain, &unpacked.recipe, file.len(), Vec::new());
        making += begun.elapsed();
        assert!(again.is_ok_and(|again| again == file), "{}", path.display());
        apart += 1;
        apart_bytes += file.len() as u64;
        plain_bytes += unpacked.plain.len() as u64;
        recipe_bytes += unpacked.recipe.len() as u64;
    }
    println!(
        "{apart} of {files} files, {apart_bytes} of {bytes} bytes; plain {plain_bytes}, recipes {recipe_bytes}"
    );
    println!("taken apart in {taking:.2?}, made again in {making:.2?}");
}
