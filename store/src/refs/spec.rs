//! What a person types to say which artifact: `name@version`, `name@channel`, or the first digits of an artifact's id.

use std::fmt;
use std::str::FromStr;

use super::Name;
use super::text::check_tag;
use crate::id::ID_LEN;
use crate::{Error, Result};

/// The fewest digits of an id that are taken for one.
const PREFIX_DIGITS_MIN: usize = 4;

/// Which artifact is meant; [`View::resolve`](super::View::resolve) finds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Spec {
    /// `name@version` or `name@channel`: which of them is known only from what the store holds.
    Version {
        /// The package.
        name: Name,
        /// What stands after the `@`.
        version_or_channel: String,
    },
    /// The first digits of an artifact's id: 4 to 64 lower-case hexadecimal digits.
    Artifact(String),
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((name, tag)) = text.split_once('@') {
            let name = name.parse()?;
            check_tag(tag)?;
            return Ok(Self::Version { name, version_or_channel: tag.to_owned() });
        }
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        if digits && (PREFIX_DIGITS_MIN..=ID_LEN * 2).contains(&text.len()) {
            return Ok(Self::Artifact(text.to_ascii_lowercase()));
        }
        let reason = match text.parse::<Name>() {
            Ok(name) => format!("it names no version: write {name}@VERSION or {name}@CHANNEL"),
            Err(_) => format!(
                "it is neither NAME@VERSION nor NAME@CHANNEL nor {PREFIX_DIGITS_MIN} to {} hexadecimal digits of an \
                 artifact's id",
                ID_LEN * 2
            ),
        };
        Err(Error::Invalid { what: "spec", given: text.chars().take(200).collect(), reason })
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { name, version_or_channel } => write!(f, "{name}@{version_or_channel}"),
            Self::Artifact(prefix) => write!(f, "artifact {prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_told_apart() {
        let named = |name: &str, tag: &str| Spec::Version {
            name: name.parse().unwrap(),
            version_or_channel: tag.to_owned(),
        };
        assert_eq!("uv@0.8.1".parse::<Spec>().unwrap(), named("uv", "0.8.1"));
        assert_eq!("uv@latest".parse::<Spec>().unwrap(), named("uv", "latest"));
        assert_eq!("DEAD".parse::<Spec>().unwrap(), Spec::Artifact("dead".into()));
        assert_eq!("dead@1".parse::<Spec>().unwrap(), named("dead", "1"));
        assert_eq!("uv@0.8.1".parse::<Spec>().unwrap().to_string(), "uv@0.8.1");
    }

    #[test]
    fn what_is_no_spec_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", "neither"),
            ("abc", "write abc@VERSION"),
            ("uv", "write uv@VERSION"),
            ("uv@", "empty"),
            ("@1", "empty"),
            ("uv@1/2", "'/'"),
            ("uv@1@2", "'@'"),
            ("U v", "neither"),
        ] {
            let error = text.parse::<Spec>().unwrap_err();
            assert!(
                matches!(&error, Error::Invalid { reason, .. } if reason.contains(expected)),
                "{text}: {error}"
            );
        }
        assert!("0".repeat(65).parse::<Spec>().is_err());
    }
}
