//! How the arguments of a command are written in a request: what has a text form as that text, paths as text or, where
//! they are not UTF-8, as `{"hex":"…"}`, so that every byte survives.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use cairn_store::Spec;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

/// Bytes that mostly are text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Text(Cow<'a, str>),
    Other { hex: Cow<'a, str> },
}

impl<'a> Bytes<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Other { hex: text::hex(bytes).into() },
        }
    }

    fn into_bytes(self) -> Result<Vec<u8>, &'static str> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into_bytes()),
            Self::Other { hex } => text::unhex(&hex).ok_or("it is not in hexadecimal digits"),
        }
    }
}

/// For byte strings.
pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::of(value).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(deserializer)?.into_bytes().map_err(D::Error::custom)
    }
}

/// For one path.
pub(crate) mod path {
    use std::path::PathBuf;

    use super::*;

    #[expect(clippy::ptr_arg, reason = "serde hands a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(value: &PathBuf, serializer: S) -> Result<S::Ok, S::Error> {
        bytes::serialize(value.as_os_str().as_bytes(), serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(bytes::deserialize(deserializer)?).into())
    }
}

/// For one path that may be left out.
pub(crate) mod path_option {
    use std::path::PathBuf;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|path| Bytes::of(path.as_os_str().as_bytes())).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let bytes = Option::<Bytes<'de>>::deserialize(deserializer)?;
        let path = bytes.map(|bytes| Ok(OsString::from_vec(bytes.into_bytes()?).into()));
        path.transpose().map_err(|detail: &str| D::Error::custom(detail))
    }
}

/// For a duration: milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        u64::try_from(value.as_millis()).unwrap_or(u64::MAX).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

/// For a duration that may be left out: milliseconds.
pub(crate) mod millis_option {
    use std::time::Duration;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

/// For lists of paths.
pub(crate) mod paths {
    use std::path::PathBuf;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct One(#[serde(with = "path")] PathBuf);

    pub(crate) fn serialize<S: Serializer>(value: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(|path| Bytes::of(path.as_os_str().as_bytes())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<One>::deserialize(deserializer)?.into_iter().map(|One(path)| path).collect())
    }
}

/// What is written as the text that it is parsed from.
pub(crate) trait Written: FromStr<Err: Display> {
    /// The text.
    fn written(&self) -> String;
}

impl Written for Spec {
    fn written(&self) -> String {
        match self {
            // For people it says that they are digits of an artifact's id.
            Self::Artifact(digits) => digits.clone(),
            Self::Version { .. } => self.to_string(),
        }
    }
}

/// For what is [`Written`].
pub(crate) mod written {
    use super::*;

    pub(crate) fn serialize<T: Written, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.written())
    }

    pub(crate) fn deserialize<'de, T: Written, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// For what is [`Written`] and may be left out.
pub(crate) mod written_option {
    use super::*;

    pub(crate) fn serialize<T: Written, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Written::written).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Written, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// For lists of what is [`Written`].
pub(crate) mod written_list {
    use super::*;

    pub(crate) fn serialize<T: Written, S: Serializer>(
        value: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(Written::written))
    }

    pub(crate) fn deserialize<'de, T: Written, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.into_iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sent {
        #[serde(with = "path")]
        one: PathBuf,
        #[serde(with = "paths")]
        many: Vec<PathBuf>,
    }

    #[test]
    fn a_spec_is_written_as_it_is_read() {
        for text in ["uv@1.0", "uv@stable", "3f2a9c"] {
            assert_eq!(text.parse::<Spec>().unwrap().written(), text);
        }
    }

    #[test]
    fn every_path_survives() {
        let odd = PathBuf::from(OsString::from_vec(b"/a\xff\n".to_vec()));
        let sent = Sent { one: "/x é".into(), many: vec![odd, "-".into()] };
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(text, r#"{"one":"/x é","many":[{"hex":"2f61ff0a"},"-"]}"#);
        assert_eq!(serde_json::from_str::<Sent>(&text).unwrap(), sent);
        for bad in [
            r#"{"one":{"hex":"2f6"},"many":[]}"#,
            r#"{"one":{"hex":"zz"},"many":[]}"#,
            r#"{"one":7,"many":[]}"#,
        ] {
            assert!(serde_json::from_str::<Sent>(bad).is_err(), "{bad}");
        }
    }
}
