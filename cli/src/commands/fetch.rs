//! `cairn fetch`: one program from a server into its place, for agents and scripts.
//!
//! `wish` finds and brings it; `cache` keeps what was fetched before, as a store of its own, so that of a new version only
//! what is new travels; `place` is the file that is replaced.

mod cache;
mod place;
mod wish;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use cairn_net::{Net, NetOptions, PeerUrl};
use cairn_store::Platform;
use clap::Args;
use serde::{Deserialize, Serialize};

use self::cache::Cache;
pub(crate) use self::cache::cache_folder;
use self::place::{Found, Place, Placed, Sha256Hex};
use self::wish::{Wish, is_damage};
use crate::app::App;
use crate::error::Outcome;
use crate::exchange::AccessArgs;
use crate::output::{JsonPath, OutputResult, Table};
use crate::{text, wire};

const EXAMPLES: &str = "\
The platform is this machine's, and the version the latest release there, if none is named. Only what the cache lacks
travels; every chunk is verified, and the file as a whole by its SHA-256. PATH is replaced in one step, also while the
program in it runs, or left as it is.

Examples:
  cairn fetch tool --from http://10.0.0.5:7001 --to /usr/local/bin/tool
  cairn fetch tool@1.4.2 --from https://bins.example --to ./tool --sha256 9f86d081…
  cairn fetch tool --from http://10.0.0.5:7001 --to ./tool.exe --platform windows/x86_64";

/// Bring a program from a server to PATH: only what is missing, verified, replaced in one step
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchArgs {
    /// NAME, for the latest release, NAME@VERSION or NAME@CHANNEL
    #[arg(value_name = "NAME[@VERSION]")]
    #[serde(with = "wire::written")]
    pub(crate) program: Program,
    /// The server
    #[arg(long, value_name = "URL")]
    pub(crate) from: PeerUrl,
    /// The file to make or to replace
    #[arg(long, value_name = "PATH")]
    #[serde(with = "wire::path")]
    pub(crate) to: PathBuf,
    /// The platform that it is for, such as linux/x86_64 or darwin/arm64 [default: this machine's]
    #[arg(long, env = "CAIRN_PLATFORM", value_name = "OS/ARCH", value_parser = platform, hide_env_values = true)]
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    /// Take it only if this is the SHA-256 of the file
    #[arg(long, value_name = "HEX")]
    #[serde(default)]
    pub(crate) sha256: Option<Sha256Hex>,
    /// The file's permissions, in octal digits
    #[arg(long, value_name = "MODE", default_value = "755", value_parser = mode)]
    pub(crate) mode: u32,
    /// Where what was fetched is kept [default: /var/cache/cairn for root, else cairn/ in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, env = "CAIRN_CACHE", value_name = "DIR", hide_env_values = true)]
    #[serde(default, with = "wire::path_option")]
    pub(crate) cache: Option<PathBuf>,
    /// Bytes from which on the cache is emptied before more comes
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = text::parse_size)]
    pub(crate) cache_max: u64,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
}

/// `NAME` or `NAME@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    name: String,
    /// A version or a channel.
    tag: Option<String>,
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, tag) = match text.split_once('@') {
            Some((name, tag)) => (name, Some(tag)),
            None => (text, None),
        };
        let fits = |text: &str, more: &str| {
            (1..=128).contains(&text.len())
                && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if !fits(name, "._+-") || tag.is_some_and(|tag| !fits(tag, "._+~-")) {
            return Err("a program is NAME or NAME@VERSION, of letters, digits and . _ + -".to_owned());
        }
        Ok(Self { name: name.to_owned(), tag: tag.map(ToOwned::to_owned) })
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}@{tag}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl wire::Written for Program {
    fn written(&self) -> String {
        self.to_string()
    }
}

/// A platform by the names that other programs have for it too.
fn platform(text: &str) -> Result<Platform, cairn_store::Error> {
    let text = text.to_ascii_lowercase();
    let Some((os, arch)) = text.split_once('/') else { return text.parse() };
    let os = match os {
        "darwin" | "osx" => "macos",
        "win32" | "win64" => "windows",
        other => other,
    };
    let arch = match arch {
        "amd64" | "x64" | "x86-64" => "x86_64",
        "arm64" => "aarch64",
        "armv6l" | "armv7" | "armv7l" | "armhf" => "arm",
        "i386" | "i486" | "i586" | "i686" | "386" => "x86",
        other => other,
    };
    format!("{os}/{arch}").parse()
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
    mode.ok_or_else(|| "permissions are three or four octal digits, such as 755".to_owned())
}

/// Why what came is not put into its place.
#[derive(Debug, thiserror::Error)]
#[error("{what} has the SHA-256 {found}, and {expected} is wanted")]
pub(crate) struct FetchError {
    what: String,
    found: String,
    expected: String,
}

/// What was fetched.
struct Fetched {
    version: String,
    placed: Placed,
    /// Bytes that came over the wire for it.
    wire_bytes: u64,
    elapsed: Duration,
}

/// The JSON form of [`Fetched`].
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    version: &'a str,
    platform: &'a str,
    #[serde(flatten)]
    path: JsonPath<'a>,
    sha256: &'a str,
    size_bytes: u64,
    mode: String,
    changed: bool,
    wire_bytes: u64,
    elapsed_ms: u128,
}

pub(crate) fn run(app: &mut App, args: &FetchArgs) -> anyhow::Result<Outcome> {
    let platform = args.platform.clone().unwrap_or_else(Platform::current);
    let fetched = fetch(app, args, &platform)?;
    if app.json() {
        app.out.object(&Report {
            name: &args.program.name,
            version: &fetched.version,
            platform: platform.as_str(),
            path: JsonPath::of(&args.to),
            sha256: fetched.placed.sha256.as_str(),
            size_bytes: fetched.placed.size,
            mode: format!("{:o}", args.mode),
            changed: fetched.placed.is_changed,
            wire_bytes: fetched.wire_bytes,
            elapsed_ms: fetched.elapsed.as_millis(),
        })?;
    } else if !app.quiet() {
        print(app, args, &platform, &fetched)?;
    }
    Ok(Outcome::Done)
}

fn fetch(app: &mut App, args: &FetchArgs, platform: &Platform) -> anyhow::Result<Fetched> {
    let began = Instant::now();
    let place = Place::new(&args.to, args.mode)?;
    let source = args.access.source(args.from.clone());
    let mut wish = Wish {
        args,
        platform,
        source,
        net: Net::start(NetOptions::default())?,
        record: None,
        expected: args.sha256.clone(),
    };
    wish.record = wish.find_record(app)?;
    if let Some(record) = &wish.record {
        let found: Sha256Hex = record.checksum.parse().map_err(anyhow::Error::msg)?;
        if wish.expected.as_ref().is_some_and(|expected| *expected != found) {
            return Err(wish.mismatch(format!("{} there", args.program), &found).into());
        }
        wish.expected = Some(found);
    }
    if let Some(expected) = &wish.expected
        && let Some(placed) = place.is_current(expected)?
    {
        let version = wish.record.as_ref().map(|record| record.version.to_string());
        let version = version.or_else(|| args.program.tag.clone()).unwrap_or_default();
        return Ok(Fetched { version, placed, wire_bytes: 0, elapsed: began.elapsed() });
    }
    let cache = Cache::open(args.cache.clone(), args.cache_max, app)?;
    app.use_store(cache.store());
    let brought = match wish.bring(app, &place) {
        // Nothing in a cache is worth more than what it is for.
        Err(error) if is_damage(&error) => {
            app.warn("the cache is damaged, and begun anew");
            cache.clear()?;
            wish.bring(app, &place)
        }
        brought => brought,
    };
    let (version, placed, wire_bytes) = brought?;
    Ok(Fetched { version, placed, wire_bytes, elapsed: began.elapsed() })
}

fn print(app: &mut App, args: &FetchArgs, platform: &Platform, fetched: &Fetched) -> OutputResult {
    let Fetched { version, placed, wire_bytes, elapsed } = fetched;
    let (name, path) = (&args.program.name, text::path(JsonPath::of(&args.to).0));
    if !placed.is_changed {
        return app.out.line(format!("already current: {path} is {name} {version} for {platform}"));
    }
    app.out.line(format!("fetched {name} {version} for {platform} to {path}"))?;
    let mut facts = Table::facts();
    facts.fact("  sha256", placed.sha256.to_string());
    facts.fact("  bytes", text::size(placed.size));
    let saved = text::percent(placed.size.saturating_sub(*wire_bytes), placed.size);
    facts.fact("  transferred", format!("{} ({saved} saved)", text::size(*wire_bytes)));
    if placed.found == Found::Replaced {
        facts.fact("  replaced", "the file that was there");
    }
    facts.fact("  time", text::duration(*elapsed));
    app.out.table(&facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_names_with_or_without_a_version() {
        let parse = |text: &str| text.parse::<Program>().ok().map(|program| (program.name, program.tag));
        assert_eq!(parse("my-tool"), Some(("my-tool".to_owned(), None)));
        assert_eq!(parse("tool@1.2.3-rc.1+b"), Some(("tool".to_owned(), Some("1.2.3-rc.1+b".to_owned()))));
        for bad in ["", "@1", "tool@", "a b", "../x", "tool@../x", "tool@1/2", "tool@1@2", "-x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for text in ["tool", "tool@1.0"] {
            assert_eq!(text.parse::<Program>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn platforms_go_by_several_names() {
        for (text, expected) in [
            ("linux/x86_64", "linux/x86_64"),
            ("linux/amd64", "linux/x86_64"),
            ("Darwin/ARM64", "macos/aarch64"),
            ("windows/i686", "windows/x86"),
        ] {
            assert_eq!(platform(text).unwrap().as_str(), expected);
        }
        assert!(platform("linux").is_err());
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(mode("755"), Ok(0o755));
        assert_eq!(mode("4711"), Ok(0o4711));
        for bad in ["", "888", "+755", "77777", "rwx"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
