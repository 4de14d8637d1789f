//! How versions order: as semantic versions where they are, and sensibly where they nearly are.
//!
//! One key for every text, so that the order is total: mixing two comparisons would not be transitive. The key of a
//! text that begins with a number (after an optional `v`) is its dotted numbers without trailing zeros, then its
//! prerelease (none is greatest), then whatever else it says. For two semantic versions that is exactly the precedence
//! of <https://semver.org>, item 11; prereleases are compared by the `semver` crate itself.

use semver::Prerelease;

/// Words that mark what they begin as coming before the release. `a` and `b` only do when a digit follows, as in
/// Python's `1.0b2`; OpenSSL's `1.1.1b` comes after `1.1.1`.
const PRERELEASE_WORDS: [&str; 8] = ["rc", "alpha", "beta", "pre", "preview", "dev", "nightly", "snapshot"];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    Numbered { numbers: Vec<u64>, prerelease: Prerelease, rest: Vec<Part> },
    Named(Vec<Part>),
}

/// A run of digits, or of anything else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Digits without leading zeros; their count first makes longer ones greater.
    Number(usize, String),
    Text(String),
}

impl Order {
    pub(super) fn of(text: &str) -> Self {
        Self::numbered(text).unwrap_or_else(|| Self::Named(parts(text)))
    }

    pub(super) fn is_prerelease(&self) -> bool {
        matches!(self, Self::Numbered { prerelease, .. } if !prerelease.is_empty())
    }

    fn numbered(text: &str) -> Option<Self> {
        let mut tail = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let mut numbers = Vec::new();
        loop {
            let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            numbers.push(tail[..end].parse::<u64>().ok()?);
            tail = &tail[end..];
            match tail.strip_prefix('.') {
                Some(after) if after.starts_with(|c: char| c.is_ascii_digit()) => tail = after,
                _ => break,
            }
        }
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        let (before, build) = tail.split_once('+').unwrap_or((tail, ""));
        if let Some(marked) = before.strip_prefix(['-', '~']).or_else(|| worded_prerelease(before)) {
            return Some(Self::Numbered { numbers, prerelease: prerelease(marked), rest: parts(build) });
        }
        Some(Self::Numbered { numbers, prerelease: Prerelease::EMPTY, rest: parts(tail) })
    }
}

/// `rc1` of `rc1`, `.rc1`, `_rc1`; nothing of `a` or `-1`.
fn worded_prerelease(tail: &str) -> Option<&str> {
    let tail = tail.strip_prefix(['.', '_']).unwrap_or(tail);
    let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
    let (word, after) = tail.split_at(end);
    let word = word.to_ascii_lowercase();
    let counted = after.starts_with(|c: char| c.is_ascii_digit());
    let marks = PRERELEASE_WORDS.contains(&word.as_str()) || (matches!(&*word, "a" | "b") && counted);
    marks.then_some(tail)
}

/// Whatever was marked as a prerelease, made into one that the `semver` crate takes.
fn prerelease(marked: &str) -> Prerelease {
    let identifiers: Vec<&str> = marked
        .split(['.', '_', '~', '+'])
        .filter(|identifier| !identifier.is_empty())
        .map(|identifier| {
            if identifier.bytes().all(|b| b.is_ascii_digit()) && identifier.len() > 1 {
                let stripped = identifier.trim_start_matches('0');
                if stripped.is_empty() { "0" } else { stripped }
            } else {
                identifier
            }
        })
        .collect();
    // `1.0-` marks nothing: it counts as the release.
    Prerelease::new(&identifiers.join(".")).unwrap_or(Prerelease::EMPTY)
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut tail = text;
    while let Some(first) = tail.chars().next() {
        let digits = first.is_ascii_digit();
        let end = tail.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(tail.len());
        let (part, after) = tail.split_at(end);
        parts.push(if digits {
            let stripped = part.trim_start_matches('0').to_owned();
            Part::Number(stripped.len(), stripped)
        } else {
            Part::Text(part.to_owned())
        });
        tail = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::refs::Version;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_order_as_people_expect() {
        let ordered = [
            "0.20.2",
            "0.21.0-rc1",
            "0.21.0",
            "0.21.0.1",
            "v0.21.1",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0",
            "1.0.0+5",
            "1.0.1a1",
            "1.0.1",
            "1.1.1",
            "1.1.1a",
            "1.1.1w",
            "2~rc1",
            "2",
            "9.9",
            "10.0",
            "25.0rc1",
            "25.0rc2",
            "v25.0",
            "29.0",
            "2026.4",
            "2026.04.1",
            "2026.11",
            "build9",
            "build10",
            "release",
        ];
        let mut sorted: Vec<Version> = ordered.iter().rev().map(|text| version(text)).collect();
        sorted.sort();
        assert_eq!(sorted.iter().map(Version::as_str).collect::<Vec<_>>(), ordered);
    }

    #[test]
    fn prereleases_are_known() {
        for text in ["1.0.0-rc.1", "25.0rc1", "2~beta", "1.0.dev3", "v3.0_pre"] {
            assert!(version(text).is_prerelease(), "{text}");
        }
        for text in ["1.0", "1.1.1b", "1.0.0+rc1", "rc1", "99999999999999999999999"] {
            assert!(!version(text).is_prerelease(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn semantic_versions_order_by_their_precedence(
            a in "[0-3]\\.[0-3]\\.[0-2](-(rc|a|10|9|0)(\\.(x|1|12))?)?",
            b in "[0-3]\\.[0-3]\\.[0-2](-(rc|a|10|9|0)(\\.(x|1|12))?)?",
        ) {
            let (x, y) = (semver::Version::parse(&a).unwrap(), semver::Version::parse(&b).unwrap());
            prop_assert_eq!(version(&a).cmp(&version(&b)), x.cmp_precedence(&y));
        }

        #[test]
        fn the_order_is_total(
            texts in proptest::array::uniform3("v?[0-2a-c](\\.?[0-2ab]){0,3}([-~+._](rc|b)?[0-2]{1,2})?"),
        ) {
            let [a, b, c] = texts.map(|text| version(&text));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a == b, a.cmp(&b).is_eq());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }
    }
}
