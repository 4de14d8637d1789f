//! `cairn ls`: what the store holds.

use std::str::FromStr;

use cairn_store::time::rfc3339;
use cairn_store::usage::Usage;
use cairn_store::{Error, Kind, Name, Platform, RefKey, RefRecord, Spec, View};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::PlatformArg;
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::{OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
UNIQUE is what no other artifact holds, metadata included: the bytes, before compression, that removing this
one would free.

Examples:
  cairn ls
  cairn ls uv
  cairn ls uv@stable --json";

/// List versions, with their platforms, sizes and channels
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct LsArgs {
    /// Only this package, or this version or channel of it
    #[arg(value_name = "NAME[@VERSION]")]
    #[serde(default, with = "wire::written_option")]
    pub(crate) filter: Option<Filter>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

/// Which refs are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    name: Name,
    version_or_channel: Option<String>,
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if !text.contains('@') {
            return Ok(Self { name: text.parse()?, version_or_channel: None });
        }
        match text.parse()? {
            Spec::Version { name, version_or_channel } => {
                Ok(Self { name, version_or_channel: Some(version_or_channel) })
            }
            Spec::Artifact(digits) => Ok(Self { name: digits.parse()?, version_or_channel: None }),
        }
    }
}

impl wire::Written for Filter {
    fn written(&self) -> String {
        let tag = self.version_or_channel.as_ref().map(|tag| format!("@{tag}"));
        format!("{}{}", self.name, tag.unwrap_or_default())
    }
}

impl Filter {
    fn takes(&self, key: &RefKey, channels: &[&str]) -> bool {
        let tag_fits = self
            .version_or_channel
            .as_deref()
            .is_none_or(|tag| key.version.as_str() == tag || channels.contains(&tag));
        key.name == self.name && tag_fits
    }
}

/// The JSON form of one listed ref.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    version: &'a str,
    platform: String,
    artifact: String,
    channels: &'a [&'a str],
    files: u64,
    bytes: u64,
    chunks: u64,
    unique_bytes: Option<u64>,
    new_bytes: u64,
    stored_bytes: u64,
    partial: bool,
    time: String,
}

pub(crate) fn run(app: &mut App, args: &LsArgs) -> anyhow::Result<Outcome> {
    let store = app.store()?;
    let view = store.view()?;
    let listed = select(&view, args.filter.as_ref(), args.platform.platform.as_ref());
    if let (true, Some(filter)) = (listed.is_empty(), &args.filter) {
        let tag = filter.version_or_channel.as_ref().map(|tag| format!("@{tag}")).unwrap_or_default();
        let platform = args.platform.platform.as_ref().map(|p| format!(" for {p}")).unwrap_or_default();
        return Err(Error::Absent { what: format!("{}{tag}{platform}", filter.name) }.into());
    }
    // A damaged store still lists what it has.
    let usage = match store.usage(&app.meter("measuring")) {
        Ok(usage) => Some(usage),
        Err(error) if error.kind() == Kind::Cancelled => return Err(error.into()),
        Err(error) => {
            app.warn(&format!("unique bytes are not known: {error}"));
            None
        }
    };
    print(app, &listed, usage.as_ref())?;
    Ok(Outcome::Done)
}

/// A ref with the channels that name it.
struct Listed<'a> {
    key: &'a RefKey,
    record: &'a RefRecord,
    channels: Vec<&'a str>,
    /// Whether not all of it is here yet.
    is_partial: bool,
}

fn select<'a>(view: &'a View, filter: Option<&Filter>, platform: Option<&Platform>) -> Vec<Listed<'a>> {
    let all = view.refs.iter().map(|(key, record)| Listed {
        key,
        record,
        channels: channels(view, key),
        is_partial: view.partial.contains(&record.artifact),
    });
    all.filter(|listed| {
        platform.is_none_or(|platform| listed.key.platform == *platform)
            && filter.is_none_or(|filter| filter.takes(listed.key, &listed.channels))
    })
    .collect()
}

/// The channels that name a ref, in the order of their names.
pub(crate) fn channels<'a>(view: &'a View, key: &RefKey) -> Vec<&'a str> {
    let of_key = view.channels.iter().filter(|(channel, version)| {
        channel.name == key.name && channel.platform == key.platform && **version == key.version
    });
    of_key.map(|(channel, _)| channel.channel.as_str()).collect()
}

fn print(app: &mut App, listed: &[Listed<'_>], usage: Option<&Usage>) -> OutputResult {
    let unique = |record: &RefRecord| usage.and_then(|usage| usage.get(&record.artifact)).copied();
    if app.json() {
        for Listed { key, record, channels, is_partial } in listed {
            app.out.object(&Row {
                name: key.name.as_str(),
                version: key.version.as_str(),
                platform: key.platform.to_string(),
                artifact: record.artifact.to_string(),
                channels,
                files: record.files,
                bytes: record.bytes,
                chunks: record.chunks,
                unique_bytes: unique(record),
                new_bytes: record.new_bytes,
                stored_bytes: record.stored_bytes,
                partial: *is_partial,
                time: rfc3339(record.time_ms),
            })?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        ("NAME", Left),
        ("VERSION", Left),
        ("PLATFORM", Left),
        ("FILES", Right),
        ("SIZE", Right),
        ("UNIQUE", Right),
        ("ARTIFACT", Left),
        ("CHANNELS", Left),
    ]);
    for Listed { key, record, channels, is_partial } in listed {
        table.row([
            key.name.to_string(),
            key.version.to_string(),
            key.platform.to_string(),
            record.files.to_string(),
            text::size(record.bytes),
            unique(record).map_or_else(|| "?".to_owned(), text::size),
            record.artifact.short(),
            marks(channels, *is_partial),
        ]);
    }
    app.out.table(&table)
}

/// The channels, and whether something lacks.
fn marks(channels: &[&str], is_partial: bool) -> String {
    let names = channels.join(", ");
    match (is_partial, names.is_empty()) {
        (false, _) => names,
        (true, true) => "(not whole)".to_owned(),
        (true, false) => format!("{names} (not whole)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_name_with_perhaps_a_version() {
        let of = |text: &str| text.parse::<Filter>().unwrap();
        assert_eq!(of("uv").version_or_channel, None);
        assert_eq!(of("uv@1").version_or_channel, Some("1".into()));
        assert!("UV".parse::<Filter>().is_err());
        assert!("uv@".parse::<Filter>().is_err());
        let key = RefKey {
            name: "uv".parse().unwrap(),
            version: "1".parse().unwrap(),
            platform: "linux/x86_64".parse().unwrap(),
        };
        assert!(of("uv").takes(&key, &[]));
        assert!(of("uv@1").takes(&key, &[]));
        assert!(of("uv@stable").takes(&key, &["stable"]));
        assert!(!of("uv@stable").takes(&key, &[]));
        assert!(!of("ruff").takes(&key, &[]));
    }
}
