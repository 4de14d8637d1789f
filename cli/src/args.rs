//! The command line: what is global, and the list of commands. What a command takes is in its own file.

use std::ffi::OsString;
use std::num::NonZero;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use cairn_store::{Platform, ProfileName, Spec};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::commands::{
    add, cat, completions, daemon, demo, diff, export, fetch, gc, generations, hold, import, init, install,
    join, log, ls, mount, optimise, peers, pin, prune, ps, pull, push, remove, repair, rm, rollback, serve,
    show, snapshot, stats, status, stream, switch, sync, tag, token, umount, unpin, use_, verify,
};
use crate::exchange::AccessArgs;
use crate::{shim, text, wire};

const EXIT_CODES: &str = "\
Exit codes:
  0 done   1 failed   2 wrong usage   3 not found   4 damaged   5 busy or conflict
  6 no peer answers or has it   7 a peer does not let us in   130 interrupted

A SPEC is NAME@VERSION, NAME@CHANNEL, or the first digits (4 or more) of an artifact's id.
The store is --store, else $CAIRN_STORE, else /var/lib/cairn for root, else cairn/ in $XDG_DATA_HOME
or ~/.local/share. It is made when something is first added.

Examples:
  cairn add ./release --name uv --version 0.8.1 --channel stable
  cairn ls
  cairn export uv@stable /opt/uv
  cairn serve                          and on another machine
  cairn pull uv@stable --from http://10.0.0.5:7001
  cairn demo";

/// A content-addressed artifact store: releases in, byte-exact releases out, stored once.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, after_help = EXIT_CODES, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Invocation,
}

/// What this process is asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Invocation {
    #[command(flatten)]
    Job(Command),
    Daemon(daemon::DaemonArgs),
    Serve(serve::ServeArgs),
    Hold(hold::HoldArgs),
    Sync(sync::SyncArgs),
    Init(init::InitArgs),
    Completions(completions::CompletionsArgs),
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The store's directory
    #[arg(long, global = true, env = "CAIRN_STORE", value_name = "DIR", hide_env_values = true)]
    pub(crate) store: Option<PathBuf>,
    /// Where the store's daemon listens [default: daemon.sock in the store]
    #[arg(long, global = true, env = "CAIRN_SOCKET", value_name = "PATH", hide_env_values = true)]
    pub(crate) socket: Option<PathBuf>,
    /// Results and errors as JSON: one object, or one a line (docs/cli.md has every field)
    #[arg(long, global = true, env = "CAIRN_JSON", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    pub(crate) json: bool,
    /// Say more on standard error: -v what happens, -vv and -vvv for whoever looks for a fault
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Say nothing but results that were asked for, and errors
    #[arg(short, long, global = true, env = "CAIRN_QUIET", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    pub(crate) quiet: bool,
    /// How long to wait for another process that writes the store: 10s, 500ms, 2m
    #[arg(long, global = true, env = "CAIRN_WAIT", value_name = "DURATION", default_value = "10s", value_parser = text::parse_duration, hide_env_values = true)]
    pub(crate) wait: Duration,
}

/// The commands that are jobs of the router, here or in a daemon.
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    Add(add::AddArgs),
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Cat(cat::CatArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Diff(diff::DiffArgs),
    Rm(rm::RmArgs),
    Tag(tag::TagArgs),
    Use(use_::UseArgs),
    Remove(remove::RemoveArgs),
    Generations(generations::GenerationsArgs),
    Switch(switch::SwitchArgs),
    Rollback(rollback::RollbackArgs),
    Pin(pin::PinArgs),
    Unpin(unpin::UnpinArgs),
    Prune(prune::PruneArgs),
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Status(status::StatusArgs),
    Ps(ps::PsArgs),
    Log(log::LogArgs),
    Stats(stats::StatsArgs),
    Verify(verify::VerifyArgs),
    Repair(repair::RepairArgs),
    Fetch(fetch::FetchArgs),
    Gc(gc::GcArgs),
    Optimise(optimise::OptimiseArgs),
    Pull(pull::PullArgs),
    Push(push::PushArgs),
    Join(join::JoinArgs),
    #[command(subcommand)]
    Peers(peers::PeersCommand),
    #[command(subcommand)]
    Token(token::TokenCommand),
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    #[command(subcommand)]
    Stream(stream::StreamCommand),
    Install(install::InstallArgs),
    Demo(demo::DemoArgs),
}

impl Command {
    /// Whether it runs in the process of the command line even if a daemon could run it.
    pub(crate) fn is_of_this_process(&self) -> bool {
        matches!(self, Self::Demo(_) | Self::Fetch(_) | Self::Install(_))
    }

    /// Whether it does something at paths that its caller names: reads or writes there, or covers what is there.
    pub(crate) fn acts_on_paths(&self) -> bool {
        let is_add_of_paths = matches!(self, Self::Add(_) if !self.takes_input());
        is_add_of_paths
            || matches!(self, Self::Export(args) if args.acts_on_paths())
            || matches!(self, Self::Import(_) if !self.takes_input())
            || matches!(self, Self::Mount(_) | Self::Umount(_) | Self::Join(_))
            || matches!(self, Self::Snapshot(command) if command.acts_on_paths())
            || matches!(self, Self::Token(command) if command.file().is_some())
            || matches!(self, Self::Stream(command) if command.file().is_some() && !self.takes_input())
            || matches!(self, Self::Verify(args) if args.from.folders().next().is_some())
            || matches!(self, Self::Repair(args) if args.from.folders().next().is_some())
            || self.access().is_some_and(|access| access.ca.is_some())
    }

    /// What lets us in at peers, where the command talks with any.
    fn access(&self) -> Option<&AccessArgs> {
        match self {
            Self::Peers(command) => command.access(),
            Self::Stream(command) => Some(command.access()),
            Self::Fetch(args) => Some(&args.access),
            Self::Pull(args) => Some(&args.from.access),
            Self::Join(args) => Some(&args.from.access),
            Self::Push(args) => Some(&args.access),
            Self::Snapshot(command) => command.access(),
            Self::Verify(args) => Some(&args.from.access),
            Self::Repair(args) => Some(&args.from.access),
            Self::Use(args) => Some(&args.from.access),
            _ => None,
        }
    }

    fn access_mut(&mut self) -> Option<&mut AccessArgs> {
        match self {
            Self::Peers(command) => command.access_mut(),
            Self::Stream(command) => Some(command.access_mut()),
            Self::Fetch(args) => Some(&mut args.access),
            Self::Pull(args) => Some(&mut args.from.access),
            Self::Join(args) => Some(&mut args.from.access),
            Self::Push(args) => Some(&mut args.access),
            Self::Snapshot(command) => command.access_mut(),
            Self::Verify(args) => Some(&mut args.from.access),
            Self::Repair(args) => Some(&mut args.from.access),
            Self::Use(args) => Some(&mut args.from.access),
            _ => None,
        }
    }

    /// Whether it reads standard input.
    pub(crate) fn takes_input(&self) -> bool {
        match self {
            Self::Add(args) => args.paths.iter().any(|path| path.as_os_str() == add::INPUT),
            Self::Import(args) => args.file.as_os_str() == add::INPUT,
            Self::Stream(command) => command.file().is_some_and(|file| file.as_os_str() == stream::INPUT),
            _ => false,
        }
    }

    /// Adds what only the process of the command line knows, and makes paths mean the same to one that runs in another
    /// folder.
    pub(crate) fn prepare(&mut self) -> anyhow::Result<()> {
        if let Some(access) = self.access_mut() {
            access.complete()?;
        }
        self.make_paths_absolute()
    }

    fn make_paths_absolute(&mut self) -> anyhow::Result<()> {
        let takes_input = self.takes_input();
        let paths: Vec<&mut PathBuf> = match self {
            Self::Add(args) => args.paths.iter_mut().filter(|path| path.as_os_str() != add::INPUT).collect(),
            Self::Export(args) => args.paths_mut(),
            Self::Import(args) if args.file.as_os_str() != add::INPUT => vec![&mut args.file],
            Self::Mount(args) => vec![&mut args.dir],
            Self::Join(args) => args.paths_mut().collect(),
            Self::Umount(args) => vec![&mut args.dir],
            Self::Install(args) => vec![&mut args.to],
            Self::Demo(args) => args.from.iter_mut().collect(),
            Self::Fetch(args) => {
                [&mut args.to].into_iter().chain(&mut args.cache).chain(&mut args.access.ca).collect()
            }
            Self::Snapshot(command) => command.paths_mut(),
            Self::Token(command) => command.file_mut().iter_mut().collect(),
            Self::Stream(command) if !takes_input && command.file().is_some() => {
                command.file_mut().into_iter().collect()
            }
            Self::Verify(args) => args.from.paths_mut().collect(),
            Self::Repair(args) => args.from.paths_mut().collect(),
            _ => self.access_mut().into_iter().flat_map(|access| &mut access.ca).collect(),
        };
        for path in paths.into_iter().filter(|path| path.is_relative() && !path.as_os_str().is_empty()) {
            *path = std::path::absolute(&*path).context("cannot tell which folder this is")?;
        }
        Ok(())
    }
}

/// Which platform's artifact a SPEC means.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PlatformArg {
    /// The platform that is meant where there are several; else this machine's, any/any, or the only one
    #[arg(long, env = "CAIRN_PLATFORM", value_name = "OS/ARCH", hide_env_values = true)]
    pub(crate) platform: Option<Platform>,
}

/// Which profile is meant.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ProfileArg {
    /// The profile
    #[arg(long, env = "CAIRN_PROFILE", value_name = "PROFILE", default_value_t, hide_env_values = true)]
    pub(crate) profile: ProfileName,
}

/// How many threads work.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ThreadsArg {
    /// Worker threads [default: one a core]
    #[arg(long, env = "CAIRN_THREADS", value_name = "N", hide_env_values = true)]
    pub(crate) threads: Option<NonZero<usize>>,
}

/// `SPEC:PATH`, a file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSpec {
    #[serde(with = "wire::written")]
    pub(crate) spec: Spec,
    /// Names joined by `/`, as the artifact has them.
    #[serde(with = "wire::bytes")]
    pub(crate) path: Vec<u8>,
}

impl FileSpec {
    /// Splits at the first colon, which no spec contains. A leading `/` or `./` of the path is dropped.
    pub(crate) fn parse(text: OsString) -> Result<Self, String> {
        let bytes = text.into_vec();
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
            return Err("it names no file: write SPEC:PATH".to_owned());
        };
        let spec = std::str::from_utf8(&bytes[..colon]).map_err(|_| "the SPEC is not UTF-8".to_owned())?;
        let spec = spec.parse::<Spec>().map_err(|error| error.to_string())?;
        let mut path = &bytes[colon + 1..];
        while let Some(rest) = path.strip_prefix(b"/").or_else(|| path.strip_prefix(b"./")) {
            path = rest;
        }
        if path.is_empty() {
            return Err("the PATH is empty".to_owned());
        }
        Ok(Self { spec, path: path.to_vec() })
    }
}

/// Reads the command line of this process. A variable that is set but empty counts as unset.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let is_empty =
        |(name, value): (OsString, OsString)| value.is_empty() && name.as_bytes().starts_with(b"CAIRN_");
    let mut command = Cli::command();
    if std::env::vars_os().any(is_empty) {
        command = without_empty_variables(command);
    }
    let mut matches = command.try_get_matches_from(shim::expand(std::env::args_os()))?;
    Cli::from_arg_matches_mut(&mut matches)
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let forget = |argument: clap::Arg| match argument.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => argument.env(None),
        _ => argument,
    };
    command.mut_args(forget).mut_subcommands(without_empty_variables)
}

/// Whether JSON was asked for, for the errors of a command line that does not parse.
pub(crate) fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let set = std::env::var_os("CAIRN_JSON").is_some_and(|value| {
        !matches!(value.to_ascii_lowercase().as_bytes(), b"" | b"0" | b"n" | b"no" | b"f" | b"false" | b"off")
    });
    set || arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("cairn {name}")), "{name} has no example");
        }
    }

    #[test]
    fn every_global_setting_has_a_variable() {
        for argument in Cli::command().get_arguments().filter(|argument| argument.is_global_set()) {
            let has = argument.get_env().is_some();
            // Logging has CAIRN_LOG, which names a level.
            assert!(has || argument.get_id() == "verbose", "{}", argument.get_id());
        }
    }

    #[test]
    fn globals_stand_before_or_after_the_command() {
        let before =
            Cli::try_parse_from(["cairn", "--store", "/s", "--wait", "500ms", "--json", "ls"]).unwrap();
        let after = Cli::try_parse_from(["cairn", "ls", "--json", "--wait=500ms", "--store=/s"]).unwrap();
        for cli in [before, after] {
            assert!(cli.global.json);
            assert_eq!(cli.global.wait, Duration::from_millis(500));
            assert_eq!(cli.global.store, Some("/s".into()));
        }
        assert!(Cli::try_parse_from(["cairn", "-v", "-q", "ls"]).is_err());
        assert!(Cli::try_parse_from(["cairn", "--wait", "soon", "ls"]).is_err());
    }

    #[test]
    fn a_file_of_an_artifact_splits_at_the_first_colon() {
        let parse = |text: &[u8]| FileSpec::parse(OsString::from_vec(text.to_vec()));
        let spec: Spec = "uv@1".parse().unwrap();
        assert_eq!(parse(b"uv@1:/bin/a:b"), Ok(FileSpec { spec: spec.clone(), path: b"bin/a:b".to_vec() }));
        assert_eq!(parse(b"uv@1:./\xff"), Ok(FileSpec { spec, path: b"\xff".to_vec() }));
        for bad in [b"uv@1".as_slice(), b"uv@1:", b"uv@1:/", b"\xff@1:x", b"uv:x"] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn json_is_wanted_only_before_the_separator() {
        let wants = |arguments: &[&str]| wants_json(arguments.iter().map(OsString::from));
        assert!(wants(&["cairn", "ls", "--json"]));
        assert!(!wants(&["cairn", "add", "--", "--json"]));
    }
}
