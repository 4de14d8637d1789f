//! Texts with words in braces: `bitcoin-{version}-{platform}.tar.gz`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The words that a template may have.
const WORDS: [&str; 5] = ["asset", "binary", "name", "platform", "version"];

/// A text in which `{version}` and the like stand for what they are of the case at hand. There is no way to write a brace that is
/// meant as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(String);

/// What the words stand for. One that is not said stays as it is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Words<'a> {
    /// The package.
    pub name: Option<&'a str>,
    /// The version.
    pub version: Option<&'a str>,
    /// The platform, as the project calls it.
    pub platform: Option<&'a str>,
    /// The program.
    pub binary: Option<&'a str>,
    /// A file of the release.
    pub asset: Option<&'a str>,
}

impl Template {
    /// With the words replaced.
    #[must_use]
    pub fn fill(&self, words: &Words<'_>) -> String {
        let mut filled = String::new();
        let mut rest = self.0.as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            filled.push_str(before);
            let (word, behind) = behind.split_once('}').unwrap_or((behind, ""));
            match words.get(word) {
                Some(value) => filled.push_str(value),
                None => filled.extend(["{", word, "}"]),
            }
            rest = behind;
        }
        filled + rest
    }

    /// Whether it has this word.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.0.contains(&format!("{{{word}}}"))
    }

    /// What stands where `{word}` does in `text`, if all around it is as the template says; other words must have been
    /// filled in before.
    #[must_use]
    pub fn find<'a>(&self, word: &str, text: &'a str) -> Option<&'a str> {
        let (before, behind) = self.0.split_once(&format!("{{{word}}}"))?;
        text.strip_prefix(before)?.strip_suffix(behind).filter(|found| !found.is_empty())
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> Words<'a> {
    fn get(&self, word: &str) -> Option<&'a str> {
        match word {
            "name" => self.name,
            "version" => self.version,
            "platform" => self.platform,
            "binary" => self.binary,
            "asset" => self.asset,
            _ => None,
        }
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let word = rest[brace..].strip_prefix('{').and_then(|behind| behind.split_once('}'));
            let Some((word, behind)) = word else {
                return Err(format!("a brace of {text:?} has no other"));
            };
            if !WORDS.contains(&word) {
                let known = WORDS.map(|word| format!("{{{word}}}")).join(", ");
                return Err(format!("{{{word}}} in {text:?} stands for nothing; there are {known}"));
            }
            rest = behind;
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced_once() {
        let template: Template = "{name}-{version}/{binary}-{platform}".parse().unwrap();
        let words =
            Words { name: Some("a"), version: Some("{binary}"), binary: Some("b"), ..Words::default() };
        assert_eq!(template.fill(&words), "a-{binary}/b-{platform}");
        assert!(template.has("platform") && !template.has("asset"));
    }

    #[test]
    fn what_stands_for_a_word_is_found() {
        let template: Template = "bitcoin-core-{version}/".parse().unwrap();
        assert_eq!(template.find("version", "bitcoin-core-29.0/"), Some("29.0"));
        assert_eq!(template.find("version", "bitcoin-core-/"), None);
        assert_eq!(template.find("version", "other-29.0/"), None);
    }

    #[test]
    fn braces_and_words_are_checked() {
        for bad in ["{", "}", "a}b", "{versoin}", "{version", "{}", "{{version}}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
