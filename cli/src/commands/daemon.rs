//! `cairn daemon`: own the store, serve its commands and its mounts.

use std::num::NonZero;
use std::time::Duration;

use clap::Args;

use crate::commands::serve::{ServeArgs, ServeOptions};
use crate::daemon::{CollectorArgs, ConfigArgs, MountArg, OptimiserArgs, ScrubArgs};
use crate::text;

const EXAMPLES: &str = "\
While it runs, every command on this store is carried out by it; Ctrl-C of a command stops that command alone.
SIGTERM and SIGINT stop the daemon: commands get --grace to end, then are cancelled. SIGHUP means nothing to it.
--takeover puts a new program in the place of the one that runs: commands get --grace to end, new ones wait for the
new daemon, mounts go on. What the command line does not say stays as it was. Where no daemon runs, one begins.

Examples:
  cairn daemon
  cairn daemon --mount /opt/bins --mount /opt/canary=canary
  cairn daemon --socket-group ops
  cairn daemon --takeover --detach
  cairn daemon --mount /opt/bins --listen 127.0.0.1:7001      serves peers too
  cairn daemon --gc-keep-generations 10 --gc-keep-versions 30d --gc-free 20GB
  curl --unix-socket /var/lib/cairn/daemon.sock http://cairn/v1/health";

/// Own the store, and carry out its commands and mounts until told to stop
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DaemonArgs {
    /// Mount a profile at a directory; may be repeated
    #[arg(
        long,
        env = "CAIRN_MOUNT",
        value_name = "DIR[=PROFILE]",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) mount: Vec<MountArg>,
    /// Let the members of this group give commands too, beside this user and root
    #[arg(long, env = "CAIRN_SOCKET_GROUP", value_name = "GROUP", hide_env_values = true)]
    pub(crate) socket_group: Option<String>,
    /// Commands that run at a time; more wait [default: 16]
    #[arg(long, env = "CAIRN_JOBS", value_name = "N", hide_env_values = true)]
    pub(crate) jobs: Option<NonZero<usize>>,
    /// How long commands may take to end when the daemon stops or is taken over [default: 10s]
    #[arg(long, env = "CAIRN_GRACE", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) grace: Option<Duration>,
    /// Bytes that whole files for the kernel may take on disk [default: a fifth of what is free]
    #[arg(long, env = "CAIRN_CACHE_MAX", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    pub(crate) cache_max: Option<u64>,
    /// How long a read waits for peers that have what is not here [default: 30s]
    #[arg(long, env = "CAIRN_FETCH_MAX", value_name = "DURATION", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) fetch_max: Option<Duration>,
    /// Do not bring what lacks of a version in the background: only what is read comes
    #[arg(long, env = "CAIRN_NO_COMPLETE", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    pub(crate) no_complete: bool,
    /// Show versions in what --mount mounts as soon as their names are here, as `use --lazy` does
    #[arg(long, env = "CAIRN_LAZY", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    pub(crate) lazy: bool,
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
    #[command(flatten)]
    pub(crate) collector: CollectorArgs,
    #[command(flatten)]
    pub(crate) optimiser: OptimiserArgs,
    #[command(flatten)]
    pub(crate) scrub: ScrubArgs,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Take the store and its live mounts over from the daemon that runs, which ends; nobody who uses them notices
    #[arg(long)]
    pub(crate) takeover: bool,
    /// Go on in the background: this command ends when the daemon is ready
    #[arg(long)]
    pub(crate) detach: bool,
    /// This is the process of its own
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
    /// End with the last mount
    #[arg(long)]
    pub(crate) auto: bool,
    /// Whether it serves peers even if nothing says where
    #[arg(skip)]
    pub(crate) serves: bool,
    /// A mount that is made beside these
    #[arg(skip)]
    pub(crate) other: Option<cairn_fusefs::MountOptions>,
}

/// A daemon without mounts that serves peers.
impl From<ServeArgs> for DaemonArgs {
    fn from(args: ServeArgs) -> Self {
        Self {
            mount: Vec::new(),
            socket_group: None,
            jobs: None,
            grace: args.grace,
            takeover: false,
            detach: args.detach,
            detached: args.detached,
            cache_max: None,
            auto: false,
            fetch_max: None,
            no_complete: false,
            lazy: false,
            serve: args.serve,
            collector: args.collector,
            optimiser: args.optimiser,
            scrub: args.scrub,
            config: args.config,
            serves: true,
            other: None,
        }
    }
}
