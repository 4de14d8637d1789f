//! `cairn`, the command line of the store. It parses, calls the library, prints; it decides nothing that the library
//! could. Only this crate prints: data to standard output, everything else to standard error.

mod app;
mod args;
mod changes;
mod commands;
mod error;
mod output;
mod progress;
mod text;

use std::process::ExitCode;

use tracing::Level;

use crate::app::App;
use crate::error::Outcome;

fn main() -> ExitCode {
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(refused) => return error::report_usage(&refused, args::wants_json(std::env::args_os())),
    };
    let json = cli.global.json;
    log_to_stderr(cli.global.verbose, cli.global.quiet);
    let mut app = App::new(cli.global);
    let result = commands::run(&mut app, cli.command);
    // What was printed before a failure belongs to the result: a report may be followed by an error.
    let flushed = app.out.flush();
    match result.and_then(|outcome| Ok(flushed.map(|()| outcome)?)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::DamageFound) => ExitCode::from(error::DAMAGED),
        Err(error) => error::report(&error, json),
    }
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
