//! `cairn log`: what happened to names.

use cairn_store::time::rfc3339;
use cairn_store::{Name, Op, Record};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Outcome;
use crate::output::OutputResult;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  cairn log
  cairn log uv
  cairn log --json | tail -n 1";

/// Show every change of names, oldest first: when, who, what
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogArgs {
    /// Only changes of this package
    pub(crate) name: Option<Name>,
}

/// The JSON form of a record.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time: String,
    time_ms: u64,
    who: &'a str,
    op: &'static str,
    name: &'a str,
    platform: String,
    version: &'a str,
    channel: Option<&'a str>,
    artifact: Option<String>,
    old_artifact: Option<String>,
    old_version: Option<&'a str>,
}

pub(crate) fn run(app: &mut App, args: &LogArgs) -> anyhow::Result<Outcome> {
    for record in app.store()?.log()? {
        let record = record?;
        if args.name.as_ref().is_none_or(|wanted| name(&record.op) == wanted) {
            print(app, &record)?;
        }
    }
    Ok(Outcome::Done)
}

fn name(op: &Op) -> &Name {
    match op {
        Op::SetRef { key, .. } | Op::RemoveRef { key, .. } => &key.name,
        Op::SetChannel { key, .. } | Op::RemoveChannel { key, .. } => &key.name,
    }
}

fn print(app: &mut App, record: &Record) -> OutputResult {
    if app.json() {
        return app.out.object(&line(record));
    }
    let what = match &record.op {
        Op::SetRef { key, old: None, record } => format!("add {key} = {}", record.artifact.short()),
        Op::SetRef { key, old: Some(old), record } => {
            format!("replace {key} = {}, was {}", record.artifact.short(), old.short())
        }
        Op::RemoveRef { key, old } => format!("remove {key}, was {}", old.short()),
        Op::SetChannel { key, old: None, version } => format!("tag {key} = {version}"),
        Op::SetChannel { key, old: Some(old), version } => format!("tag {key} = {version}, was {old}"),
        Op::RemoveChannel { key, old } => format!("untag {key}, was {old}"),
    };
    let (time, who) = (rfc3339(record.time_ms), text::path(record.who.as_bytes()));
    app.out.line(format!("{:>5}  {time}  {who}  {what}", record.seq))
}

fn line(record: &Record) -> Line<'_> {
    let line = |op, name, platform: &cairn_store::Platform, version| Line {
        seq: record.seq,
        time: rfc3339(record.time_ms),
        time_ms: record.time_ms,
        who: &record.who,
        op,
        name,
        platform: platform.to_string(),
        version,
        channel: None,
        artifact: None,
        old_artifact: None,
        old_version: None,
    };
    match &record.op {
        Op::SetRef { key, old, record } => Line {
            artifact: Some(record.artifact.to_string()),
            old_artifact: old.map(|old| old.to_string()),
            ..line("set_ref", key.name.as_str(), &key.platform, key.version.as_str())
        },
        Op::RemoveRef { key, old } => Line {
            old_artifact: Some(old.to_string()),
            ..line("remove_ref", key.name.as_str(), &key.platform, key.version.as_str())
        },
        Op::SetChannel { key, old, version } => Line {
            channel: Some(key.channel.as_str()),
            old_version: old.as_ref().map(cairn_store::Version::as_str),
            ..line("set_channel", key.name.as_str(), &key.platform, version.as_str())
        },
        Op::RemoveChannel { key, old } => Line {
            channel: Some(key.channel.as_str()),
            ..line("remove_channel", key.name.as_str(), &key.platform, old.as_str())
        },
    }
}
