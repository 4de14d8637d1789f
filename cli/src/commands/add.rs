//! `cairn add`: publish files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cairn_store::{
    Channel, Error, IngestOptions, Ingested, Input, MetadataPolicy, Name, Platform, Progress, PublishOptions,
    Published, Version,
};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ThreadsArg;
use crate::error::{Outcome, Usage, on_conflict};
use crate::output::{OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
Examples:
  cairn add ./uv-0.8.1 --name uv --version 0.8.1 --channel stable
  cairn add bin/a bin/b --name tools --version 3 --platform linux/aarch64
  cairn add /var/lib/node/data --name state --version 120000 --metadata full
  pg_dump db | cairn add - --name db --version 2026-01-31 --file-name db.sql --platform any/any";

/// The path that stands for standard input.
pub(crate) const INPUT: &str = "-";

/// Add files as a version of a package
///
/// A directory becomes the root of the artifact; single files are put at its root under their own names; `-` reads
/// standard input. Nothing is visible before everything is stored. What the store holds already is not stored again,
/// and files that have not changed since they were last added are not even read.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddArgs {
    /// A directory, or files; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    #[serde(with = "wire::paths")]
    pub(crate) paths: Vec<PathBuf>,
    /// The package's name: a-z 0-9 . _ + -
    #[arg(long)]
    pub(crate) name: Name,
    /// Its version: A-Z a-z 0-9 . _ + ~ -
    #[arg(long)]
    pub(crate) version: Version,
    /// What it runs on, any/any for data [default: what its executables say, else this machine's]
    #[arg(long, env = "CAIRN_PLATFORM", value_name = "OS/ARCH", hide_env_values = true)]
    pub(crate) platform: Option<Platform>,
    /// What to keep of files beside names and bytes
    #[arg(long, value_enum, env = "CAIRN_METADATA", default_value_t, hide_env_values = true)]
    #[serde(default)]
    pub(crate) metadata: Metadata,
    /// Keep named pipes and devices, with --metadata full; they are refused otherwise
    #[arg(long)]
    #[serde(default)]
    pub(crate) special_files: bool,
    /// Let this channel name the version once it is stored
    #[arg(long)]
    pub(crate) channel: Option<Channel>,
    /// Let the version name this content even if it names other content now
    #[arg(long)]
    #[serde(default)]
    pub(crate) replace: bool,
    /// What the bytes of standard input are called in the artifact
    #[arg(long, value_name = "NAME")]
    pub(crate) file_name: Option<String>,
    /// Make the file from standard input executable
    #[arg(long, requires = "file_name")]
    #[serde(default)]
    pub(crate) executable: bool,
    /// Say where it comes from, as part of the artifact; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[serde(default)]
    pub(crate) provenance: Vec<(String, String)>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) threads: ThreadsArg,
}

/// `--metadata`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metadata {
    /// Permission bits and symbolic links: equal files give an equal artifact, whoever owns them
    #[default]
    Portable,
    /// All permission bits, owners, times, extended attributes and hard links too
    Full,
}

impl From<Metadata> for MetadataPolicy {
    fn from(metadata: Metadata) -> Self {
        match metadata {
            Metadata::Portable => Self::Portable,
            Metadata::Full => Self::Full,
        }
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it looks like KEY=VALUE".to_owned()),
    }
}

/// What an `add` did.
pub(crate) struct Added {
    pub(crate) ingested: Ingested,
    pub(crate) published: Published,
    pub(crate) elapsed: Duration,
    channel: Option<Channel>,
    warning: Option<String>,
}

/// The JSON form of [`Added`].
#[derive(Serialize)]
struct Report<'a> {
    artifact: String,
    name: &'a str,
    version: &'a str,
    platform: String,
    channel: Option<&'a str>,
    unchanged: bool,
    replaced: Option<String>,
    seq: Option<u64>,
    files: u64,
    directories: u64,
    symlinks: u64,
    bytes: u64,
    chunks: u64,
    new_chunks: u64,
    new_bytes: u64,
    stored_bytes: u64,
    metadata_bytes: u64,
    unchanged_files: u64,
    elapsed_ms: u128,
    warning: Option<&'a str>,
}

pub(crate) fn run(app: &mut App, args: AddArgs) -> anyhow::Result<Outcome> {
    let added = add(app, args)?;
    if let Some(warning) = &added.warning {
        app.warn(warning);
    }
    if app.json() {
        app.out.object(&report(&added))?;
    } else if !app.quiet() {
        print(app, &added)?;
    }
    Ok(Outcome::Done)
}

/// Stores and publishes; prints nothing.
pub(crate) fn add(app: &App, args: AddArgs) -> anyhow::Result<Added> {
    let input = input(app, args.paths, args.file_name, args.executable)?;
    let options = IngestOptions {
        platform: args.platform.clone(),
        policy: args.metadata.into(),
        special_files: args.special_files,
        provenance: BTreeMap::from_iter(args.provenance),
        threads: args.threads.threads,
        ..IngestOptions::package(args.name, args.version)
    };
    let publish = PublishOptions { replace: args.replace, channel: args.channel.clone() };
    let meter = app.meter("adding");
    let writer = app.writer(&meter)?;
    let started = Instant::now();
    let ingested = writer.ingest(input, &options, &meter).map_err(|error| match error {
        // Standard input that is cut off because the client went away fails as it would otherwise.
        Error::Tree { .. } if meter.cancelled() => Error::Cancelled,
        error => error,
    })?;
    let published = writer
        .publish(&ingested, &publish)
        .map_err(|error| on_conflict(error, "--replace lets the version name this content from now on"))?;
    let elapsed = started.elapsed();
    let warning = args.platform.and_then(|said| wrong_platform(&said, &ingested.platforms_seen));
    Ok(Added { ingested, published, elapsed, channel: args.channel, warning })
}

fn input(
    app: &App,
    paths: Vec<PathBuf>,
    file_name: Option<String>,
    executable: bool,
) -> Result<Input, Usage> {
    let reader = || app.input().map_or_else(|| Box::new(std::io::empty()) as _, |input| Box::new(input) as _);
    what_to_read(paths, file_name, executable, reader)
}

fn what_to_read(
    paths: Vec<PathBuf>,
    file_name: Option<String>,
    executable: bool,
    reader: impl FnOnce() -> Box<dyn Read + Send>,
) -> Result<Input, Usage> {
    let is_stdin = paths.iter().any(|path| path.as_os_str() == INPUT);
    match (is_stdin, file_name) {
        (true, Some(name)) if paths.len() == 1 => Ok(Input::Reader { name, executable, reader: reader() }),
        (false, None) => Ok(Input::Paths(paths)),
        (true, Some(_)) => Err(Usage {
            problem: "standard input stands alone: `-` cannot be mixed with other paths".to_owned(),
            hint: "a file that is called - is ./-",
        }),
        (true, None) => Err(Usage {
            problem: "bytes from standard input have no name".to_owned(),
            hint: "give them one with --file-name NAME; a file that is called - is ./-",
        }),
        (false, Some(_)) => Err(Usage {
            problem: "--file-name names what comes from standard input, and nothing does".to_owned(),
            hint: "leave it out, or add `-`",
        }),
    }
}

/// What is to be said if the executables do not run where the artifact is said to.
fn wrong_platform(said: &Platform, seen: &BTreeSet<Platform>) -> Option<String> {
    if seen.is_empty() || seen.contains(said) {
        return None;
    }
    let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
    Some(format!("it was added for {said}, but holds executables for {}", seen.join(", ")))
}

fn report(added: &Added) -> Report<'_> {
    let Added { ingested, published, elapsed, channel, warning } = added;
    Report {
        artifact: ingested.artifact.to_string(),
        name: ingested.key.name.as_str(),
        version: ingested.key.version.as_str(),
        platform: ingested.key.platform.to_string(),
        channel: channel.as_ref().map(Channel::as_str),
        unchanged: published.unchanged,
        replaced: published.replaced.map(|old| old.to_string()),
        seq: published.seq,
        files: ingested.files,
        directories: ingested.directories,
        symlinks: ingested.symlinks,
        bytes: ingested.bytes,
        chunks: ingested.chunks,
        new_chunks: ingested.new_chunks,
        new_bytes: ingested.new_bytes,
        stored_bytes: ingested.stored_bytes,
        metadata_bytes: ingested.metadata_bytes,
        unchanged_files: ingested.unchanged_files,
        elapsed_ms: elapsed.as_millis(),
        warning: warning.as_deref(),
    }
}

pub(crate) fn print(app: &mut App, added: &Added) -> OutputResult {
    let Added { ingested, published, elapsed, channel, .. } = added;
    let verb = match (published.unchanged, published.replaced) {
        (true, _) => "unchanged",
        (false, Some(_)) => "replaced",
        (false, None) => "added",
    };
    app.out.line(format!("{verb} {}", ingested.key))?;
    let mut facts = Table::facts();
    facts.fact("  artifact", ingested.artifact.to_string());
    if let Some(old) = published.replaced {
        facts.fact("  was", old.to_string());
    }
    if let Some(channel) = channel {
        facts.fact("  channel", channel.as_str());
    }
    let mut files = ingested.files.to_string();
    if ingested.unchanged_files > 0 {
        files += &format!(", {} of them unchanged and not read", ingested.unchanged_files);
    }
    facts.fact("  files", files);
    facts.fact("  bytes", text::size(ingested.bytes));
    facts.fact("  chunks", format!("{}, {} of them new", ingested.chunks, ingested.new_chunks));
    let part = text::percent(ingested.new_bytes, ingested.bytes);
    facts.fact("  new", format!("{} ({part})", text::size(ingested.new_bytes)));
    let metadata = text::size(ingested.metadata_bytes);
    facts.fact("  stored", format!("{} and {metadata} of metadata", text::size(ingested.stored_bytes)));
    let rate = text::rate(ingested.bytes, *elapsed);
    facts.fact("  time", format!("{} ({rate})", text::duration(*elapsed)));
    app.out.table(&facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_stands_alone_and_has_a_name() {
        let of = |paths: &[&str], name: Option<&str>| {
            let paths = paths.iter().map(PathBuf::from).collect();
            what_to_read(paths, name.map(ToOwned::to_owned), false, || Box::new(std::io::empty()))
        };
        assert!(matches!(of(&["-"], Some("x")), Ok(Input::Reader { .. })));
        assert!(matches!(of(&["a", "b"], None), Ok(Input::Paths(paths)) if paths.len() == 2));
        assert!(of(&["-"], None).is_err());
        assert!(of(&["-", "a"], Some("x")).is_err());
        assert!(of(&["a"], Some("x")).is_err());
    }

    #[test]
    fn a_platform_is_wrong_only_if_executables_say_so() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let seen = BTreeSet::from([platform("linux/aarch64")]);
        assert_eq!(wrong_platform(&platform("linux/aarch64"), &seen), None);
        assert_eq!(wrong_platform(&platform("linux/x86_64"), &BTreeSet::new()), None);
        assert!(wrong_platform(&platform("linux/x86_64"), &seen).unwrap().contains("linux/aarch64"));
    }

    #[test]
    fn provenance_is_pairs() {
        assert_eq!(parse_pair("url=https://x/?a=b"), Ok(("url".into(), "https://x/?a=b".into())));
        assert!(parse_pair("url").is_err());
        assert!(parse_pair("=x").is_err());
    }
}
