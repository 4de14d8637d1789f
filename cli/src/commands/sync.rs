//! `cairn sync`: what `cairn.toml` declares, from where it comes to the store, and shown.
//!
//! It runs in the command line's own process, since variables, tokens and the agent of `ssh` are the user's; what changes the store
//! it asks of whoever has that, like any other command (`cairn add`, `cairn pull`, `cairn use`). `file` finds the configuration,
//! `package` brings one package, `build` one that is built, `facts` is what its provenance says, `shelf` is what the store has already, `staging` where files lie on their way into it, `tell`
//! what is said meanwhile, `report` what is said at the end.

mod build;
mod facts;
mod file;
mod package;
mod report;
mod shelf;
mod staging;
mod tell;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use cairn_sources::choice::Flags;
use cairn_sources::config::Package;
use cairn_sources::{Http, HttpOptions};
use cairn_store::{Name, Platform};
use clap::Args;

use self::package::{Row, Status, Work};
use self::shelf::Shelf;
use self::staging::Staging;
use self::tell::Tell;
use super::use_::UseArgs;
use crate::args::{Command, Global, PlatformArg, ProfileArg};
use crate::client;
use crate::error::Usage;
use crate::exchange::FromArgs;

pub(crate) use self::file::{FILE, load};

const EXAMPLES: &str = "\
cairn.toml is --config, else $CAIRN_CONFIG, else the first one in this folder or one above it, else the one in the store.
`cairn init` writes one. Flags win over variables, and both over the file:
  SYNC_STRATEGY_<NAME>   the strategy of a package: SYNC_STRATEGY_MY_APP=vm for my-app
  <NAME>_VERSION         its version: BITCOIN_VERSION=29.0
  VM_NAME                the build machine, or several with commas between

An official release is never guessed: it needs a version. A development build is named after its commit and its bytes.

Examples:
  BITCOIN_VERSION=29.0 cairn sync bitcoin
  cairn sync bitcoin --version 29.0 --use       and shown at once
  cairn sync app --strategy vm --machine builder
  cairn sync --use                              everything that cairn.toml declares, in one generation
  cairn sync bitcoin --version 29.0 --dry-run   what would come, and from where";

/// Packages that are brought at a time.
const PARALLEL_MAX: usize = 8;
/// How often the bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Bytes of downloads that are kept for the next time.
const DOWNLOADS_MAX: &str = "4G";

/// Bring packages from where they are made: official releases, build machines, folders, peers
///
/// Only the programs that `cairn.toml` names are kept. What is here already is not fetched again; a package is added whole and
/// verified, or not at all.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SyncArgs {
    /// The packages [default: all that the file declares]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<Name>,
    /// Where from: release, vm, ssh, dir or peer
    #[arg(long, value_name = "S")]
    pub(crate) strategy: Option<String>,
    /// Which version; of one package
    #[arg(long, value_name = "V")]
    pub(crate) version: Option<String>,
    /// The build machine, in place of those that the file names; may be repeated, by preference
    #[arg(long, value_name = "MACHINE")]
    pub(crate) machine: Vec<String>,
    /// Show what was synced, in one generation
    #[arg(long = "use")]
    pub(crate) show: bool,
    #[command(flatten)]
    pub(crate) profile: ProfileArg,
    /// Say what would come, and bring nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Let a version name other content than it does
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
    /// The file that declares the packages
    #[arg(long, env = "CAIRN_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Where downloads lie [default: /var/cache/cairn for root, else cairn/ in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, env = "CAIRN_CACHE", value_name = "DIR", hide_env_values = true)]
    pub(crate) cache: Option<PathBuf>,
    /// Bytes of downloads that are kept for packages that need the same files
    #[arg(long, env = "CAIRN_DOWNLOADS_MAX", value_name = "SIZE", default_value = DOWNLOADS_MAX, value_parser = crate::text::parse_size, hide_env_values = true)]
    pub(crate) downloads_max: u64,
    /// How long a rate limit of GitHub is waited out
    #[arg(long, env = "CAIRN_RATE_WAIT", value_name = "DURATION", default_value = "60s", value_parser = crate::text::parse_duration, hide_env_values = true)]
    pub(crate) rate_wait: Duration,
}

pub(crate) fn run(global: &Global, args: &SyncArgs) -> anyhow::Result<u8> {
    let packages = wanted(global, args)?;
    let tell = Tell::new(global)?;
    let staging = Staging::open(args.cache.clone())?;
    let http = Http::start(HttpOptions {
        cache: Some(staging.answers().to_owned()),
        rate_wait_max: args.rate_wait,
        ..HttpOptions::default()
    })?;
    let work = Work {
        global,
        args,
        platform: args.platform.platform.as_ref(),
        flags: Flags {
            strategy: args.strategy.as_deref(),
            version: args.version.as_deref(),
            machines: &args.machine,
        },
        shelf: Shelf::open(global),
        staging: &staging,
        http,
        tell: &tell,
    };
    let mut rows = all(&work, &packages);
    if let Err(error) = cairn_sources::release::prune(staging.downloads(), args.downloads_max) {
        tell.warn(None, &format!("old downloads are not removed: {error}"));
    }
    let shown = if args.show && !args.dry_run { show(&work, &mut rows) } else { Ok(()) };
    tell.end();
    report::print(global, &rows, args.dry_run)?;
    let mut code = shown.map_or_else(|error| tell.fail(None, &error), |()| 0);
    for row in &rows {
        if let Status::Failed(error) = &row.status {
            let failed = tell.fail(Some(&row.package), error);
            code = if code == 0 { failed } else { code };
        }
    }
    Ok(code)
}

/// The packages that are asked for, as the file declares them.
fn wanted(global: &Global, args: &SyncArgs) -> anyhow::Result<Vec<Package>> {
    let (path, mut packages) = load(global, args.config.as_deref())?;
    for name in &args.names {
        if packages.iter().all(|package| package.name != *name) {
            let known: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
            let problem = format!(
                "{} declares no package {name}; it has {}",
                path.display(),
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            );
            return Err(Usage {
                problem,
                hint: "a section [packages.NAME] declares one; `cairn init` shows how",
            }
            .into());
        }
    }
    if !args.names.is_empty() {
        packages.retain(|package| args.names.contains(&package.name));
    }
    if packages.is_empty() {
        let problem = format!("{} declares no packages", path.display());
        return Err(Usage {
            problem,
            hint: "a section [packages.NAME] declares one; `cairn init` shows how",
        }
        .into());
    }
    if args.version.is_some() && packages.len() > 1 {
        let problem = "--version is of one package, and several are meant".to_owned();
        return Err(Usage { problem, hint: "name the package, or say <NAME>_VERSION for each" }.into());
    }
    Ok(packages)
}

/// Brings all of them, several at a time; draws the bar meanwhile.
fn all(work: &Work<'_>, packages: &[Package]) -> Vec<Row> {
    let (next, (done, rows)) = (AtomicUsize::new(0), std::sync::mpsc::channel());
    std::thread::scope(|scope| {
        for _ in 0..packages.len().min(PARALLEL_MAX) {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                while let Some(package) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if done.send(package::sync(work, package)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut all = Vec::with_capacity(packages.len());
        loop {
            match rows.recv_timeout(DRAW_EVERY) {
                Ok(row) => all.push(row),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => work.tell.draw(),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        all.sort_by(|a: &Row, b: &Row| a.package.cmp(&b.package));
        all
    })
}

/// Shows all that is here now, in one generation.
fn show(work: &Work<'_>, rows: &mut [Row]) -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Switched {
        to: u64,
    }
    let here = |row: &&mut Row| matches!(row.status, Status::Added | Status::Current);
    let specs: Result<Vec<_>, _> =
        rows.iter_mut().filter(here).map(|row| format!("{}@{}", row.package, row.version).parse()).collect();
    let specs = specs?;
    if specs.is_empty() {
        return Ok(());
    }
    let platform = rows.iter().find_map(|row| row.platform.clone()).filter(|_| work.has_one_platform(rows));
    let command = Command::Use(UseArgs {
        specs,
        profile: ProfileArg { profile: work.args.profile.profile.clone() },
        prefer: Vec::new(),
        if_current: None,
        platform: PlatformArg { platform },
        from: FromArgs::default(),
        lazy: false,
        require: None,
    });
    let answer = client::call(work.global, command, &|| work.tell.is_cancelled())?;
    let switched: Switched =
        serde_json::from_slice(&answer).context("the answer to `use` is not understood")?;
    rows.iter_mut().filter(here).for_each(|row| row.generation = Some(switched.to));
    Ok(())
}

impl Work<'_> {
    /// Whether all are for one platform, which is then said.
    fn has_one_platform(&self, rows: &[Row]) -> bool {
        let mut platforms = rows.iter().filter_map(|row| row.platform.as_ref());
        let first: Option<&Platform> = platforms.next();
        platforms.all(|other| Some(other) == first)
    }
}

/// The client of web servers that all packages share.
type SharedHttp = Arc<Http>;
