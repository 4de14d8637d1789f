//! What is gained on pairs of bitcode files of equal paths: `cargo run --release -p cairn-delta --example bitcode -- OLD_DIR NEW_DIR [BLOCK]`,
//! one by one and in blocks of BLOCK bytes (1048576).
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program for the developer's terminal"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cairn_delta::bitcode::{pack, unpack};
use cairn_delta::{Effort, prefix};

fn files(dir: &Path, under: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = under.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files(&entry.path(), &path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "bc") {
            into.push(path);
        }
    }
    Ok(())
}

/// Bytes of the files numbered `new` of each pair, compressed in blocks, behind those numbered `old` if there are such.
fn compressed(
    pairs: &[[Vec<u8>; 4]],
    effort: Effort,
    (old, new): (Option<usize>, usize),
    block: usize,
) -> usize {
    let (mut bytes, mut at) = (0, 0);
    while at < pairs.len() {
        let (mut before, mut plain) = (Vec::new(), Vec::new());
        while at < pairs.len() && (plain.is_empty() || plain.len() + pairs[at][new].len() <= block) {
            before.extend_from_slice(old.map_or(&[][..], |old| &pairs[at][old]));
            plain.extend_from_slice(&pairs[at][new]);
            at += 1;
        }
        bytes += prefix::Encoder::new(effort).encode(&before, &plain).len();
    }
    bytes
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [old_dir, new_dir, rest @ ..] = &arguments[..] else { return Err("OLD_DIR NEW_DIR [BLOCK]".into()) };
    let block = rest.first().map_or(Ok(1 << 20), |block| block.parse())?;
    let mut paths = Vec::new();
    files(Path::new(new_dir), Path::new(""), &mut paths)?;
    let (mut raw, mut apart, mut tokens) = (0, 0, 0);
    let (mut taking, mut making) = (Duration::ZERO, Duration::ZERO);
    let mut pairs: Vec<[Vec<u8>; 4]> = Vec::new();
    for path in paths {
        let new = std::fs::read(Path::new(new_dir).join(&path))?;
        let Ok(old) = std::fs::read(Path::new(old_dir).join(&path)) else { continue };
        if old == new {
            continue;
        }
        raw += new.len();
        let begun = Instant::now();
        let unpacked = unpack(&new);
        taking += begun.elapsed();
        let Some((new_tokens, old_tokens)) = unpacked.zip(unpack(&old)) else {
            println!("as it is: {}", path.display());
            continue;
        };
        let begun = Instant::now();
        let again = pack(&new_tokens, new.len(), Vec::new());
        making += begun.elapsed();
        assert!(again.is_ok_and(|again| again == new), "{}", path.display());
        apart += new.len();
        tokens += new_tokens.len();
        pairs.push([old, new, old_tokens, new_tokens]);
    }
    println!(
        "{apart} of {raw} bytes come apart, to {tokens} of tokens; in {taking:.2?}, made again in {making:.2?}"
    );
    for effort in [Effort::Normal, Effort::Max] {
        for (name, which) in [
            ("bytes alone", (None, 1)),
            ("bytes", (Some(0), 1)),
            ("tokens alone", (None, 3)),
            ("tokens", (Some(2), 3)),
        ] {
            let [single, joined] = [1, block].map(|block| compressed(&pairs, effort, which, block));
            println!("{effort:?}, {name}: {single} one by one, {joined} in blocks");
        }
    }
    Ok(())
}
