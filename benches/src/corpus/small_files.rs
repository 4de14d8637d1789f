//! A tree of many small files as packages have them: source, text, JSON, and a few binaries; the same on every machine.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::random::Random;
use crate::error::{Error, Result};

const SIZE_MEDIAN: u64 = 4096;
const FILES_PER_PACKAGE: u32 = 40;
/// One file in so many is an exact copy of an earlier one, as licences and stubs are.
const COPY_EVERY: u64 = 32;

const SYLLABLES: [&str; 32] = [
    "al", "an", "ar", "be", "co", "de", "di", "en", "er", "fi", "ge", "in", "ka", "la", "le", "lo", "ma",
    "me", "na", "no", "or", "pa", "ra", "re", "ri", "sa", "se", "sta", "te", "ti", "to", "un",
];
const LINES: [&str; 12] = [
    "    let {a} = self.{b}.{c}({d})?;\n",
    "    if {a}.{b} > {n} {\n        return Err(Error::{c});\n    }\n",
    "}\n\n/// Returns the {a} of {b}, or {c} if there is none.\npub fn {d}({a}: &{b}) -> Result<u64> {\n",
    "    // {a} {b} {c} before {d}\n",
    "    for {a} in {b}.iter().filter(|{a}| {a}.{c} != {n}) {\n        {d}.push({a}.clone());\n    }\n",
    "    {a}.insert(\"{b}\", {c}::new({n}));\n",
    "    match {a} {\n        {b} => {c},\n        _ => {d}({n}),\n    }\n",
    "use crate::{a}::{b};\n",
    "    assert_eq!({a}({n}), {b}.{c}());\n",
    "    self.{a} = {b}.max({n});\n",
    "    {a}({b}, {c}, {d});\n",
    "\n",
];

/// Writes `count` files below `root`. Names are short, so that all of them fit on one command line.
pub(super) fn make(root: &Path, count: u32) -> Result<()> {
    let mut random = Random::new(0x0063_6169_726e);
    let words: Vec<String> = (0..4000).map(|_| word(&mut random)).collect();
    let mut last = Vec::new();
    let mut folder = root.to_owned();
    for file in 0..count {
        if file % FILES_PER_PACKAGE == 0 {
            let package = file / FILES_PER_PACKAGE;
            folder = root.join(format!("p{package:04}")).join(words[package as usize % words.len()].as_str());
            fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
        }
        let (extension, bytes) = content(&mut random, &words, &last);
        let path = folder.join(format!("{}.{extension}", file % FILES_PER_PACKAGE));
        fs::write(&path, &bytes).map_err(Error::io("write", &path))?;
        last = bytes;
    }
    Ok(())
}

fn content(random: &mut Random, words: &[String], last: &[u8]) -> (&'static str, Vec<u8>) {
    let size = usize::try_from(random.log_normal(SIZE_MEDIAN)).unwrap_or(0);
    if random.below(COPY_EVERY) == 0 {
        return ("txt", last.to_owned());
    }
    match random.below(100) {
        0..45 => ("rs", cut(source(random, words, size), size)),
        45..65 => ("md", cut(prose(random, words, size), size)),
        65..85 => ("json", json(random, words, size).into_bytes()),
        _ => ("bin", binary(random, size)),
    }
}

fn source(random: &mut Random, words: &[String], size: usize) -> String {
    // A file has its own few names, and uses them again and again.
    let names: Vec<&String> = (0..12).map(|_| common(random, words)).collect();
    let mut text = String::with_capacity(size + 256);
    while text.len() < size {
        let mut rest = *random.pick(&LINES);
        while let Some(place) = rest.find('{') {
            text.push_str(&rest[..place]);
            rest = match rest.as_bytes().get(place + 1..place + 3) {
                Some([b'n', b'}']) => {
                    let _ = write!(text, "{}", random.below(1000));
                    &rest[place + 3..]
                }
                Some([b'a'..=b'd', b'}']) => {
                    text.push_str(random.pick::<&String>(&names));
                    &rest[place + 3..]
                }
                _ => {
                    text.push('{');
                    &rest[place + 1..]
                }
            };
        }
        text.push_str(rest);
    }
    text
}

fn prose(random: &mut Random, words: &[String], size: usize) -> String {
    let mut text = String::with_capacity(size + 256);
    while text.len() < size {
        if random.below(12) == 0 {
            let _ = write!(text, "\n\n## {}\n\n", common(random, words));
        }
        for place in 0..6 + random.below(14) {
            text.push_str(if place == 0 { "" } else { " " });
            text.push_str(common(random, words));
        }
        text.push_str(".\n");
    }
    text
}

fn json(random: &mut Random, words: &[String], size: usize) -> String {
    let keys: Vec<&String> = (0..6).map(|_| common(random, words)).collect();
    let mut text = String::with_capacity(size + 256);
    text.push('[');
    while text.len() < size {
        text.push_str(if text.len() == 1 { "\n  {" } else { ",\n  {" });
        for (place, key) in keys.iter().enumerate() {
            text.push_str(if place == 0 { "" } else { ", " });
            let _ = match random.below(4) {
                0 => write!(text, "\"{key}\": {}", random.below(100_000)),
                1 => write!(text, "\"{key}\": \"{:016x}\"", random.next()),
                2 => write!(text, "\"{key}\": {}", random.below(2) == 0),
                _ => write!(text, "\"{key}\": \"{}\"", common(random, words)),
            };
        }
        text.push('}');
    }
    text.push_str("\n]\n");
    text
}

/// Half of it records with a few changing fields, as tables in executables and fonts have; half noise, as compressed
/// images are.
fn binary(random: &mut Random, size: usize) -> Vec<u8> {
    let mut bytes = b"\x7fBIN\x01\x00\x00\x00".to_vec();
    let mut record = [0; 24];
    random.fill(&mut record[..8]);
    while bytes.len() < size / 2 {
        record[8..12].copy_from_slice(&random.next().to_le_bytes()[..4]);
        record[16] = record[16].wrapping_add(1);
        bytes.extend_from_slice(&record);
    }
    let structured = bytes.len();
    bytes.resize(size.max(structured), 0);
    random.fill(&mut bytes[structured..]);
    bytes
}

fn cut(text: String, size: usize) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.truncate(size);
    bytes
}

/// A word, the first ones of the list much more often than the last, as in languages.
fn common<'a>(random: &mut Random, words: &'a [String]) -> &'a String {
    let bound = random.below(words.len() as u64) + 1;
    let bound = random.below(bound) + 1;
    let place = usize::try_from(random.below(bound)).unwrap_or(0);
    &words[place]
}

fn word(random: &mut Random) -> String {
    (0..2 + random.below(3)).map(|_| *random.pick(&SYLLABLES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Line, tree_bytes};

    #[test]
    fn the_tree_is_the_same_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        make(&one, 200).unwrap();
        make(&two, 200).unwrap();
        Line::new("diff").arg("-r").arg(&one).arg(&two).run().unwrap();
        // Figures of different machines are only comparable while this holds.
        assert_eq!(tree_bytes(&one).unwrap(), 1_311_421);
    }
}
