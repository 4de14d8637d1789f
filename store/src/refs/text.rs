//! The texts that refs are made of, and what they may be. Clones of one share its bytes: a view names each many times.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::order::Order;
use crate::{Error, Result};

const NAME_LEN_MAX: usize = 64;
const VERSION_LEN_MAX: usize = 128;
const PLATFORM_PART_LEN_MAX: usize = 32;

/// Names that a mount's root keeps for itself.
const NAMES_RESERVED: [&str; 3] = ["bin", "current", "generations"];

fn invalid(what: &'static str, given: &str, reason: impl Into<String>) -> Error {
    // What was given may be anything, of any length: say enough of it to be recognised.
    let given = given.chars().take(VERSION_LEN_MAX).collect();
    Error::Invalid { what, given, reason: reason.into() }
}

/// What both names and versions must be, besides the characters that `allowed` takes.
fn check(what: &'static str, text: &str, len_max: usize, allowed: fn(char) -> bool, set: &str) -> Result<()> {
    let refuse = |reason: String| Err(invalid(what, text, reason));
    let Some(first) = text.chars().next() else { return refuse("it is empty".into()) };
    if text.len() > len_max {
        return refuse(format!("it has {} bytes; at most {len_max} are allowed", text.len()));
    }
    if let Some(bad) = text.chars().find(|&c| !allowed(c)) {
        let lower = text.to_ascii_lowercase();
        if bad.is_ascii_uppercase() && lower.chars().all(allowed) {
            return refuse(format!(
                "upper-case letters are not used, since some file systems do not tell them apart: write {lower:?}"
            ));
        }
        return refuse(format!("{bad:?} is not one of {set}"));
    }
    if !first.is_ascii_alphanumeric() {
        return refuse(format!("it begins with {first:?}; the first character is a letter or a digit"));
    }
    if text.contains("..") {
        return refuse("it contains \"..\"".into());
    }
    if text.ends_with('.') {
        return refuse("it ends with a dot, which some file systems drop".into());
    }
    Ok(())
}

fn name_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || "._+-".contains(c)
}

fn version_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._+~-".contains(c)
}

const NAME_SET: &str = "a-z 0-9 . _ + -";
const VERSION_SET: &str = "A-Z a-z 0-9 . _ + ~ -";

/// Whether `text` could stand after the `@` of a spec: as a version or as a channel.
pub(super) fn check_tag(text: &str) -> Result<()> {
    check("version or channel", text, VERSION_LEN_MAX, version_char, VERSION_SET)
}

/// What the text types share, once they have `check_text` and `from_checked`.
macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.text
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::check_text(&text)?;
                Ok(Self::from_checked(text))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                (*value.text).to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.text, f)
            }
        }
    };
}

/// What is stored: a package, or a series of snapshots. `a-z 0-9 . _ + -`, at most 64 bytes, beginning with a letter or
/// a digit. Lower case only, since some file systems do not tell cases apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name {
    text: Arc<str>,
}

impl Name {
    fn check_text(text: &str) -> Result<()> {
        check("name", text, NAME_LEN_MAX, name_char, NAME_SET)?;
        if NAMES_RESERVED.contains(&text) {
            return Err(invalid("name", text, "a mount uses it for itself"));
        }
        Ok(())
    }

    fn from_checked(text: String) -> Self {
        Self { text: text.into() }
    }
}
text_type!(Name);

/// A movable name for one version of a package, such as `stable`. The characters of a [`Name`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel {
    text: Arc<str>,
}

impl Channel {
    fn check_text(text: &str) -> Result<()> {
        check("channel", text, NAME_LEN_MAX, name_char, NAME_SET)
    }

    fn from_checked(text: String) -> Self {
        Self { text: text.into() }
    }
}
text_type!(Channel);

/// A named series of generations. The characters of a [`Name`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName {
    text: Arc<str>,
}

impl ProfileName {
    fn check_text(text: &str) -> Result<()> {
        check("profile", text, NAME_LEN_MAX, name_char, NAME_SET)
    }

    fn from_checked(text: String) -> Self {
        Self { text: text.into() }
    }
}
text_type!(ProfileName);

impl Default for ProfileName {
    /// `default`, which commands mean that are told of no other.
    fn default() -> Self {
        Self { text: "default".into() }
    }
}

/// One version of what a [`Name`] names. `A-Z a-z 0-9 . _ + ~ -`, at most 128 bytes, beginning with a letter or a
/// digit.
///
/// Versions order as semantic versions do, prereleases before their release. Texts that are nearly semantic versions
/// (`v1.2.3`, `29.0`, `2026.04`, `25.0rc1`, `0.21.0.1`) take their place among them; any other text comes after all
/// of these, in the order in which people count (`build9` before `build10`).
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: Arc<str>,
    order: Arc<Order>,
}

impl Version {
    fn check_text(text: &str) -> Result<()> {
        check("version", text, VERSION_LEN_MAX, version_char, VERSION_SET)?;
        match text {
            "latest" => Err(invalid(
                "version",
                text,
                "it would name another artifact tomorrow: give the real version, and move a channel",
            )),
            "current" => Err(invalid("version", text, "a mount uses it for itself")),
            _ => Ok(()),
        }
    }

    fn from_checked(text: String) -> Self {
        let order = Arc::new(Order::of(&text));
        Self { text: text.into(), order }
    }

    /// The version that none sorts before: no numbers but zeros, and the first of all prereleases.
    pub(super) fn least() -> Self {
        Self::from_checked("0-0".to_owned())
    }

    /// Whether it is marked as coming before a release (`1.0.0-rc.1`, `25.0rc1`).
    #[must_use]
    pub fn is_prerelease(&self) -> bool {
        self.order.is_prerelease()
    }
}
text_type!(Version);

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order).then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What an artifact runs on: `linux/x86_64`, or `any/any` for data. Operating system and architecture are named as
/// Rust names them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    text: Arc<str>,
}

impl Platform {
    fn check_text(text: &str) -> Result<()> {
        let part_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let part_fits = |part: &str| {
            (1..=PLATFORM_PART_LEN_MAX).contains(&part.len())
                && part.chars().all(part_char)
                && !part.starts_with('_')
        };
        match text.split_once('/') {
            Some((os, arch)) if part_fits(os) && part_fits(arch) => Ok(()),
            _ => Err(invalid(
                "platform",
                text,
                "it is not of the form OS/ARCH, such as linux/x86_64, each of a-z 0-9 _ and at most 32 bytes",
            )),
        }
    }

    fn from_checked(text: String) -> Self {
        Self { text: text.into() }
    }

    /// The machine that this runs on.
    #[must_use]
    pub fn current() -> Self {
        Self { text: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH).into() }
    }

    /// The platform of data, which every machine can use.
    #[must_use]
    pub fn any() -> Self {
        Self { text: "any/any".into() }
    }

    /// The platform that none sorts before.
    #[must_use]
    pub fn least() -> Self {
        Self { text: "0/0".into() }
    }

    /// The operating system's name.
    #[must_use]
    pub fn os(&self) -> &str {
        self.text.split_once('/').map_or("", |(os, _)| os)
    }

    /// The architecture's name.
    #[must_use]
    pub fn arch(&self) -> &str {
        self.text.split_once('/').map_or("", |(_, arch)| arch)
    }
}
text_type!(Platform);

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: FromStr<Err = Error> + fmt::Debug>(text: &str) -> String {
        match text.parse::<T>() {
            Err(Error::Invalid { reason, .. }) => reason,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn good_texts_are_taken_as_they_are() {
        for text in ["uv", "7zip", "libstdc++", "a", "foo-bar_baz.qux", &"n".repeat(64)] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
            assert_eq!(text.parse::<Channel>().unwrap().as_str(), text);
        }
        for text in ["29.0", "v1.2.3", "1.0.0-rc.1+build.5", "1:2"].map(|t| t.replace(':', "~")) {
            assert_eq!(text.parse::<Version>().unwrap().as_str(), text);
        }
        let platform: Platform = "linux/x86_64".parse().unwrap();
        assert_eq!((platform.os(), platform.arch()), ("linux", "x86_64"));
        assert_eq!("latest".parse::<Channel>().unwrap().as_str(), "latest");
        Platform::current().to_string().parse::<Platform>().unwrap();
        Platform::any().to_string().parse::<Platform>().unwrap();
    }

    proptest::proptest! {
        #[test]
        fn nothing_sorts_before_the_least(
            version in "[A-Za-z0-9][A-Za-z0-9._+~-]{0,12}|[0v.~-]{1,6}[0-9a]{0,2}",
            platform in "[a-z0-9][a-z0-9_]{0,3}/[a-z0-9][a-z0-9_]{0,3}",
        ) {
            if let Ok(version) = version.parse::<Version>() {
                assert!(Version::least() <= version, "{version}");
            }
            let platform: Platform = platform.parse().unwrap();
            assert!(Platform::least() <= platform, "{platform}");
        }
    }

    #[test]
    fn bad_texts_are_refused_with_the_reason() {
        assert_eq!(reason::<Name>(""), "it is empty");
        assert_eq!(reason::<Name>(&"n".repeat(65)), "it has 65 bytes; at most 64 are allowed");
        assert_eq!(reason::<Name>("a/b"), "'/' is not one of a-z 0-9 . _ + -");
        assert_eq!(reason::<Name>("é"), "'é' is not one of a-z 0-9 . _ + -");
        assert_eq!(reason::<Name>("a\0"), "'\\0' is not one of a-z 0-9 . _ + -");
        assert!(reason::<Name>("Firefox").contains("write \"firefox\""));
        assert!(reason::<Name>(".git").contains("begins with '.'"));
        assert!(reason::<Name>("-rf").contains("begins with '-'"));
        assert!(reason::<Name>("a..b").contains("\"..\""));
        assert!(reason::<Name>("a.").contains("ends with a dot"));
        for name in NAMES_RESERVED {
            assert_eq!(reason::<Name>(name), "a mount uses it for itself");
        }
        assert!(reason::<Version>("latest").contains("channel"));
        assert_eq!(reason::<Version>("current"), "a mount uses it for itself");
        assert_eq!(reason::<Version>("1 2"), "' ' is not one of A-Z a-z 0-9 . _ + ~ -");
        assert_eq!(reason::<Version>(&"1".repeat(129)), "it has 129 bytes; at most 128 are allowed");
        for text in ["", "linux", "linux/", "/x86_64", "linux/x86/64", "Linux/x86_64", "linux/_", "l/é"] {
            assert!(reason::<Platform>(text).contains("OS/ARCH"), "{text}");
        }
    }

    #[test]
    fn what_is_refused_when_typed_is_refused_when_decoded() {
        let good = postcard::to_stdvec("29.0").unwrap();
        assert_eq!(postcard::from_bytes::<Version>(&good).unwrap().as_str(), "29.0");
        let bad = postcard::to_stdvec("../../etc").unwrap();
        assert!(postcard::from_bytes::<Version>(&bad).is_err());
        assert!(postcard::from_bytes::<Name>(&bad).is_err());
        assert!(postcard::from_bytes::<Channel>(&bad).is_err());
        assert!(postcard::from_bytes::<Platform>(&bad).is_err());
    }
}
