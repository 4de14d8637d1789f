//! Patterns of names: `*` stands for any characters, `?` for one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name has at most 64 bytes.
const GLOB_LEN_MAX: usize = 64;

/// A pattern of names: `bitcoin*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no pattern of names: 1 to {GLOB_LEN_MAX} of a-z 0-9 . _ + - * ?")]
pub struct GlobError {
    given: String,
}

impl Glob {
    /// Whether all of `name` fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (glob, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut g, mut n) = (0, 0);
        // Where to go on after the last star took too little: behind it, one character further.
        let mut retry = None;
        while n < name.len() {
            match glob.get(g) {
                Some(b'*') => {
                    retry = Some((g + 1, n));
                    g += 1;
                }
                Some(&c) if c == b'?' || c == name[n] => (g, n) = (g + 1, n + 1),
                _ => {
                    let Some((after, taken)) = retry else { return false };
                    retry = Some((after, taken + 1));
                    (g, n) = (after, taken + 1);
                }
            }
        }
        glob[g..].iter().all(|c| *c == b'*')
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._+-*?".contains(c);
        if text.is_empty() || text.len() > GLOB_LEN_MAX || !text.chars().all(allowed) {
            return Err(GlobError { given: text.chars().take(GLOB_LEN_MAX).collect() });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Glob {
    type Error = GlobError;

    fn try_from(text: String) -> Result<Self, GlobError> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        let fits = |glob: &str, name: &str| glob.parse::<Glob>().unwrap().matches(name);
        for (glob, name) in [
            ("bitcoin", "bitcoin"),
            ("bitcoin*", "bitcoin"),
            ("bitcoin*", "bitcoin-cli"),
            ("*", "x"),
            ("*-cli", "a-cli-cli"),
            ("a*b*c", "aXbXbXc"),
            ("u?", "uv"),
            ("**", "x"),
        ] {
            assert!(fits(glob, name), "{glob} {name}");
        }
        for (glob, name) in
            [("bitcoin", "bitcoin2"), ("bitcoin*", "abitcoin"), ("*-cli", "cli"), ("u?", "u"), ("a*b", "abc")]
        {
            assert!(!fits(glob, name), "{glob} {name}");
        }
        for bad in ["", "A", "a/b", "[a]", "a b", &"a".repeat(65)] {
            bad.parse::<Glob>().unwrap_err();
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        // Whoever tried all ways to share out the letters would not end.
        let glob: Glob = format!("{}b", "*a".repeat(31)).parse().unwrap();
        assert!(!glob.matches(&"a".repeat(64)));
        assert!(glob.matches(&format!("{}b", "a".repeat(63))));
    }
}
