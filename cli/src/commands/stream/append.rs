//! `cairn stream append`.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::{Path, PathBuf};

use cairn_net::PeerUrl;
use cairn_net::wire::AppendAnswer;
use cairn_store::event::EVENT_LEN_MAX;
use cairn_store::streams::STREAM_BYTES_MAX;
use cairn_store::{Error, Event, Name, StateHash};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{INPUT, source};
use crate::app::App;
use crate::error::Outcome;
use crate::exchange::AccessArgs;
use crate::text;
use crate::wire;

/// Append the event of one round; it is durable when this ends
///
/// A stream that is not there is begun, with any round; after that each round is the next. The same event once more changes
/// nothing.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppendArgs {
    /// The stream
    pub(crate) name: Name,
    /// The file that is the event's payload; `-` is standard input
    #[arg(default_value = INPUT)]
    #[serde(with = "wire::path")]
    pub(crate) file: PathBuf,
    /// The round
    #[arg(long, env = "CAIRN_ROUND", value_name = "N", hide_env_values = true)]
    pub(crate) round: u64,
    /// What the state hashes to after it, in hexadecimal digits
    #[arg(long, env = "CAIRN_STATE_HASH", value_name = "HEX", hide_env_values = true)]
    #[serde(default)]
    pub(crate) state_hash: Option<StateHash>,
    /// Append it to the stream of this peer; takes a token that may publish [default: to that of this store]
    #[arg(long, env = "CAIRN_STREAM_TO", value_name = "URL", hide_env_values = true)]
    #[serde(default)]
    pub(crate) to: Option<PeerUrl>,
    /// What is kept of the stream where no daemon has the store [default: 1G]
    #[arg(long, env = "CAIRN_STREAM_BYTES_MAX", value_name = "SIZE", value_parser = text::parse_size, hide_env_values = true)]
    #[serde(default)]
    pub(crate) stream_bytes_max: Option<u64>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
}

pub(super) fn run(app: &mut App, args: AppendArgs) -> anyhow::Result<Outcome> {
    let payload = read(app, &args.file)?;
    let event = Event { round: args.round, state_hash: args.state_hash.clone(), payload };
    let appended = match &args.to {
        Some(url) => {
            let to = source(app, url, &args.access)?;
            app.net()?.append(&to, &args.name, &[event], &*app.stopper())?
        }
        None => here(app, &args, &[event])?,
    };
    if app.json() {
        app.out.object(&appended)?;
    } else if !app.quiet() {
        let verb = if appended.appended > 0 { "appended" } else { "unchanged" };
        app.out.line(format!("{verb} round {} of {}", args.round, args.name))?;
    }
    Ok(Outcome::Done)
}

fn here(app: &App, args: &AppendArgs, events: &[Event]) -> anyhow::Result<AppendAnswer> {
    let writer = app.writer(&app.meter("waiting"))?;
    let log = app.streams(&writer)?.make(&args.name)?;
    if app.daemon().is_none() {
        log.set_bytes_max(args.stream_bytes_max.unwrap_or(STREAM_BYTES_MAX));
    }
    let done = log.append(events)?;
    Ok(AppendAnswer { appended: done.appended, next_round: done.next })
}

/// The whole payload.
fn read(app: &App, file: &Path) -> anyhow::Result<Vec<u8>> {
    let path = if file.as_os_str() == INPUT { Path::new("standard input") } else { file };
    let failed = |source| Error::Tree { action: "read", path: path.to_owned(), source };
    let input: Box<dyn Read> = if file.as_os_str() == INPUT {
        app.input().map_or_else(|| Box::new(std::io::empty()) as _, |input| Box::new(input) as _)
    } else {
        Box::new(OpenOptions::new().read(true).open(file).map_err(failed)?)
    };
    let mut payload = Vec::new();
    let read = input.take(EVENT_LEN_MAX as u64 + 1).read_to_end(&mut payload);
    read.map_err(|source| if app.stopper()() { Error::Cancelled } else { failed(source) })?;
    if payload.len() > EVENT_LEN_MAX {
        let problem =
            format!("it is longer than {}, the most that an event has", text::size(EVENT_LEN_MAX as u64));
        return Err(Error::Input { path: path.to_owned(), problem }.into());
    }
    Ok(payload)
}
