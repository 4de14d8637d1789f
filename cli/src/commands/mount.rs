//! `cairn mount`: show a profile at a directory.

use std::path::PathBuf;
use std::time::Duration;

use cairn_fusefs::{MountOptions, Passthrough};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::changes::of_profile;
use crate::commands::daemon::DaemonArgs;
use crate::commands::serve::{ListenArg, ServeOptions};
use crate::daemon::{CollectorArgs, ConfigArgs, OptimiserArgs, ScrubArgs};
use crate::error::{Outcome, Usage};
use crate::output::JsonPath;
use crate::{text, wire};

const EXAMPLES: &str = "\
A daemon that has the store mounts it. Where none runs, one is started, which ends with its last mount.

Examples:
  cairn mount /opt/bins
  cairn mount /opt/canary --profile canary
  cairn mount /opt/bins --lazy           what peers have is fetched when it is read
  cairn mount /opt/bins --foreground     until Ctrl-C; log on standard error
  export PATH=/opt/bins/bin:$PATH";

/// Show a profile, and every version of every package, at a directory
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct MountArgs {
    /// The directory, which has to be there
    #[serde(with = "wire::path")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
    /// Let other users see it too; as root they always do
    #[arg(long)]
    #[serde(default)]
    pub(crate) allow_other: bool,
    /// Read every file through the daemon, never by the kernel itself
    #[arg(long)]
    #[serde(default)]
    pub(crate) no_passthrough: bool,
    /// Serve it in this process until told to stop
    #[arg(long)]
    #[serde(default)]
    pub(crate) foreground: bool,
    /// Show versions as soon as their names are here: `use` pulls a file's bytes when they are read
    #[arg(long)]
    #[serde(default)]
    pub(crate) lazy: bool,
    /// How long a read waits for peers that have what is not here, for a daemon that is started [default: 30s]
    #[arg(long, env = "CAIRN_FETCH_MAX", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    #[serde(default, with = "wire::millis_option")]
    pub(crate) fetch_max: Option<Duration>,
    /// Bytes that whole files for the kernel may take on disk, for a daemon that is started
    #[arg(long, env = "CAIRN_CACHE_MAX", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    #[serde(default)]
    pub(crate) cache_max: Option<u64>,
}

impl MountArgs {
    /// What the mount is to be.
    pub(crate) fn options(&self) -> MountOptions {
        let mut options = MountOptions::new(self.dir.clone(), self.profile.profile.clone());
        options.allow_other = self.allow_other;
        options.passthrough = if self.no_passthrough { Passthrough::Off } else { Passthrough::Auto };
        options
    }
}

/// A daemon for this mount alone, in this process.
impl From<MountArgs> for DaemonArgs {
    fn from(args: MountArgs) -> Self {
        Self {
            mount: Vec::new(),
            socket_group: None,
            jobs: None,
            grace: None,
            takeover: false,
            detach: false,
            detached: false,
            cache_max: args.cache_max,
            auto: true,
            fetch_max: args.fetch_max,
            no_complete: false,
            lazy: args.lazy,
            serve: ServeOptions { listen: Some(ListenArg::Off), ..ServeOptions::default() },
            collector: CollectorArgs::default(),
            optimiser: OptimiserArgs::default(),
            scrub: ScrubArgs::default(),
            config: ConfigArgs::default(),
            serves: false,
            other: Some(args.options()),
        }
    }
}

/// The JSON form of a mount.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    dir: JsonPath<'a>,
    profile: &'a str,
    generation: Option<u64>,
    passthrough: bool,
    pid: u32,
}

pub(crate) fn run(app: &mut App, args: &MountArgs) -> anyhow::Result<Outcome> {
    let Some(daemon) = app.daemon().cloned() else {
        let problem = "only a daemon mounts, and none runs".to_owned();
        return Err(Usage { problem, hint: "start `cairn daemon --mount DIR`" }.into());
    };
    let status = daemon.mount(args.options())?;
    daemon.mounts().set_lazy(&status.profile, args.lazy);
    let generation = app.store()?.view()?.profiles.get(&status.profile).map(|profile| profile.current);
    let generation = generation.filter(|number| *number != 0);
    if app.json() {
        app.out.object(&Report {
            dir: JsonPath::of(&status.dir),
            profile: status.profile.as_str(),
            generation,
            passthrough: status.passthrough,
            pid: std::process::id(),
        })?;
    } else if !app.quiet() {
        let dir = text::path(JsonPath::of(&status.dir).0);
        let of = of_profile(&status.profile);
        app.out.line(match generation {
            Some(number) => format!("mounted generation {number}{of} at {dir}"),
            None => format!("mounted at {dir}; `cairn use SPEC` makes the first generation{of}"),
        })?;
    }
    Ok(Outcome::Done)
}
