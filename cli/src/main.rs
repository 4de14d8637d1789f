//! `cairn`, the command line of the store. A command is a request to the router of `cairn-server`, in this process or
//! over the socket of a daemon; `commands` is what the router runs, `client` what the user sees of it. They decide
//! nothing that the library could. Only this crate prints: data to standard output, everything else to standard error.

mod app;
mod args;
mod changes;
mod client;
mod commands;
mod daemon;
mod error;
mod exchange;
mod job;
mod meter;
mod output;
mod priority;
mod probe;
mod progress;
mod shim;
mod start;
mod text;
mod wire;

use std::process::ExitCode;

use tracing::Level;

use crate::args::{Cli, Command, Invocation};
use crate::commands::{completions, hold, init, sync};

fn main() -> ExitCode {
    let Cli { global, command } = match args::parse() {
        Ok(cli) => cli,
        Err(refused) => return error::report_usage(&refused, args::wants_json(std::env::args_os())),
    };
    let json = global.json;
    // Whoever reads a daemon's log wants to know what it does.
    let is_foreground = matches!(&command, Invocation::Job(Command::Mount(args)) if args.foreground);
    let is_daemon = is_foreground || matches!(command, Invocation::Daemon(_) | Invocation::Serve(_));
    log_to_stderr(global.verbose + u8::from(is_daemon), global.quiet);
    let ran = match command {
        Invocation::Job(Command::Mount(args)) if args.foreground => daemon::run(&global, args.into()),
        Invocation::Job(command) => client::run(&global, command),
        Invocation::Daemon(args) => daemon::run(&global, args),
        Invocation::Serve(args) => daemon::run(&global, args.into()),
        Invocation::Sync(args) => sync::run(&global, &args),
        Invocation::Init(args) => init::run(&global, &args),
        Invocation::Hold(args) => hold::run(&global, &args),
        Invocation::Completions(args) => completions::run(&args).map(|()| 0).map_err(Into::into),
    };
    ran.map_or_else(|error| error::report(&error, json), ExitCode::from)
}

/// Warnings and errors by default, more with `-v`, errors alone with `-q`; `$CAIRN_LOG` names a level and wins.
fn log_to_stderr(verbose: u8, quiet: bool) {
    let asked = match (quiet, verbose) {
        (true, _) => Level::ERROR,
        (false, 0) => Level::WARN,
        (false, 1) => Level::INFO,
        (false, 2) => Level::DEBUG,
        (false, _) => Level::TRACE,
    };
    let named = std::env::var("CAIRN_LOG").ok().and_then(|name| name.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(named.unwrap_or(asked))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(verbose > 1)
        .init();
}
