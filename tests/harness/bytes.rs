//! File contents that are the same on every machine.

/// So many bytes that look random; each seed gives its own.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that repeat every `period`, which content-defined chunking either cuts regularly or never.
#[must_use]
pub fn periodic(seed: u64, period: usize, len: usize) -> Vec<u8> {
    noise(seed, period.max(1)).into_iter().cycle().take(len).collect()
}

/// Lines of words: bytes that compress about as well as text.
#[must_use]
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["stone ", "path ", "moor ", "rain ", "way ", "marker ", "hill ", "\n"];
    let choices = noise(seed, len / 4 + 1);
    let mut bytes: Vec<u8> =
        choices.iter().flat_map(|choice| WORDS[usize::from(choice % 8)].bytes()).take(len).collect();
    bytes.resize(len, b'.');
    bytes
}

/// A file that is an SQLite database of 4 KiB pages as far as its header tells.
#[must_use]
pub fn sqlite(seed: u64, pages: usize) -> Vec<u8> {
    let mut bytes = noise(seed, pages * 4096);
    bytes[..16].copy_from_slice(b"SQLite format 3\0");
    bytes[16..18].copy_from_slice(&4096u16.to_be_bytes());
    bytes
}
