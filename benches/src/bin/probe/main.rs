//! `probe TASK ...`: loops over the files of a tree, measured from inside one process, as one JSON object. For the bars of
//! the mount (`benches/src/bars/{reading,metadata,flip}.rs`); every task runs alone too. Starting a process takes longer
//! than what most of these measure, so the process measures itself.
//!
//! - `read`, `map` FILE ROUNDS: a whole file, by `read` or touched page by page through a mapping.
//! - `stat`, `absent`, `open` LIST ROUNDS: for each path of a list.
//! - `list` FOLDER ROUNDS: a folder's entries, and a look at each.
//! - `watch-flips`: what a reader sees while `current` is switched.
//! - `janitor`: waits for the bench to end, and lets go of what it left mounted or running.
#![expect(
    clippy::disallowed_methods,
    reason = "reads the files that are measured, and what the kernel tells of itself; no byte of a store is written here"
)]

mod files;
mod janitor;
mod mapping;
mod paths;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const USAGE: &str = "\
probe read|map FILE ROUNDS        ROUNDS 0: once, and nothing is read before
probe stat|absent|open LIST ROUNDS
probe list FOLDER ROUNDS
probe watch-flips MOUNT SHARED
probe janitor";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(Value::Null) => ExitCode::SUCCESS,
        Ok(figures) if writeln!(io::stdout(), "{figures}").is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<OsString>) -> Result<Value> {
    let mut args = args.into_iter();
    let task = args.next().and_then(|task| task.into_string().ok()).ok_or(USAGE)?;
    let mut path = || args.next().map(PathBuf::from).ok_or(USAGE);
    match task.as_str() {
        "janitor" => janitor::run().map(|()| Value::Null),
        "watch-flips" => watch::run(&path()?, &path()?),
        "read" | "map" => {
            let file = path()?;
            let rounds = rounds(&path()?)?;
            let once: fn(&std::path::Path) -> Result<u64> =
                if task == "read" { files::read } else { files::map };
            timed(rounds, || once(&file))
        }
        "list" => {
            let folder = path()?;
            let rounds = rounds(&path()?)?;
            timed(rounds, || paths::list(&folder))
        }
        "stat" | "absent" | "open" => {
            let list = paths::List::read(&path()?)?;
            let rounds = rounds(&path()?)?;
            let once: fn(&paths::List) -> Result<u64> = match task.as_str() {
                "stat" => paths::stat,
                "absent" => paths::absent,
                _ => paths::open_and_read,
            };
            timed(rounds, || once(&list))
        }
        _ => Err(USAGE.into()),
    }
}

fn rounds(text: &std::path::Path) -> Result<u32> {
    Ok(text.to_str().ok_or(USAGE)?.parse()?)
}

/// The mean time of a round, after one that is not measured; of a single cold one if `rounds` is 0. `round` says how much
/// it did.
fn timed(rounds: u32, mut round: impl FnMut() -> Result<u64>) -> Result<Value> {
    if rounds > 0 {
        round()?;
    }
    let mut amount = 0;
    let started = Instant::now();
    for _ in 0..rounds.max(1) {
        amount = round()?;
    }
    let each: Duration = started.elapsed() / rounds.max(1);
    Ok(json!({ "seconds": each.as_secs_f64(), "amount": amount }))
}
