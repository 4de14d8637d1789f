//! Files of SHA-256 checksums, as `sha256sum`, BSD's `sha256` and `openssl` write them.
//!
//! A line that is not understood is an error, since it may be the one that counts; lines of other hashes and comments are passed over.
//! Who wrote the file, and whether it is signed, is not known here.

use std::collections::BTreeMap;

use crate::sha256::Sha256;

/// What is not understood, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Malformed {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// How a hash of another kind is told from a SHA-256: by its digits (MD5, SHA-1, SHA-224, SHA-384, SHA-512).
const OTHER_DIGITS: [usize; 5] = [32, 40, 56, 96, 128];
/// Characters of a line that are shown.
const SHOWN_MAX: usize = 60;

/// The hashes by the name of the file, without `./` before it. One that stands alone, or is of standard input, has the empty name.
///
/// # Errors
/// Text that is not UTF-8, a line that is no checksum, a name with two different hashes; also where there is none at all.
pub fn parse(text: &[u8]) -> Result<BTreeMap<String, Sha256>, Malformed> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = BTreeMap::new();
    let mut lines = 0;
    for line in text.split(|&byte| byte == b'\n') {
        lines += 1;
        let fail = |problem: String| Malformed { line: lines, problem };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = str::from_utf8(line).map_err(|_| fail("it is not UTF-8".to_owned()))?;
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, hash)) = entry(line).map_err(fail)? else { continue };
        let name = plain(&name).to_owned();
        if let Some(other) = found.insert(name, hash)
            && other != hash
        {
            return Err(fail(format!("{:?} has another checksum above", shown(line))));
        }
    }
    if found.is_empty() {
        return Err(Malformed { line: lines, problem: "it has no SHA-256 at all".to_owned() });
    }
    Ok(found)
}

/// The name and hash of a line; nothing for one of another kind of hash.
fn entry(line: &str) -> Result<Option<(String, Sha256)>, String> {
    let refuse = || format!("{:?} is no checksum", shown(line));
    let (is_escaped, plain) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let digits = plain.bytes().take_while(u8::is_ascii_hexdigit).count();
    let (name, hash) = match plain[digits..].chars().next() {
        None if digits > 0 => ("", &plain[..digits]),
        Some(' ' | '\t') if digits >= 32 => (named(&plain[digits..]), &plain[..digits]),
        _ => match tagged(plain).ok_or_else(refuse)? {
            ("SHA256" | "SHA2-256" | "SHA-256" | "sha256", name, hash) => (name, hash),
            _ => return Ok(None),
        },
    };
    if !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) || hash.is_empty() {
        return Err(refuse());
    }
    if OTHER_DIGITS.contains(&hash.len()) {
        return Ok(None);
    }
    let hash = hash.parse().map_err(|_| refuse())?;
    let name = if is_escaped { unescape(name).ok_or_else(refuse)? } else { name.to_owned() };
    Ok(Some((name, hash)))
}

/// The name behind the hash: after two blanks, or a blank and the star of a binary file, or a single blank or tab.
fn named(rest: &str) -> &str {
    let name = ["  ", " *"].iter().find_map(|mark| rest.strip_prefix(mark));
    match name.unwrap_or(&rest[1..]) {
        "-" => "",
        name => name,
    }
}

/// `SHA256 (name) = hash`, as BSD writes it, or `SHA2-256(name)= hash`, as openssl does.
fn tagged(line: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = line.split_once('(')?;
    let (name, hash) = rest.rsplit_once(')')?;
    let kind = kind.strip_suffix(' ').unwrap_or(kind);
    let is_kind = |c: char| c.is_ascii_alphanumeric() || "-/_".contains(c);
    let hash = hash.strip_prefix(' ').unwrap_or(hash).strip_prefix('=')?.trim();
    (!kind.is_empty() && kind.chars().all(is_kind)).then_some((kind, name, hash))
}

/// What coreutils' escapes in a name stand for.
fn unescape(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

fn plain(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.trim_start_matches('/');
    }
    name
}

fn shown(line: &str) -> &str {
    &line[..line.floor_char_boundary(SHOWN_MAX)]
}

#[cfg(test)]
mod tests;
