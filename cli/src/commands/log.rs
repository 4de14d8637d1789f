//! `cairn log`: what happened to names and profiles.

use cairn_store::generation::{Delta, SetPackage};
use cairn_store::time::rfc3339;
use cairn_store::{
    ArtifactId, ChannelKey, Name, Op, ProfileName, Record, RefKey, RefStatement, Subject, SubjectName,
    Version, Witness,
};
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

/// Show every change of names and profiles, oldest first: when, who, what
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogArgs {
    /// Only changes of this package, in the store and in profiles
    pub(crate) name: Option<Name>,
}

/// The JSON form of a record.
#[derive(Serialize, Default)]
struct Line<'a> {
    seq: u64,
    time: String,
    time_ms: u64,
    who: &'a str,
    op: &'static str,
    name: Option<&'a str>,
    platform: Option<&'a str>,
    version: Option<&'a str>,
    channel: Option<&'a str>,
    artifact: Option<String>,
    old_artifact: Option<String>,
    old_version: Option<&'a str>,
    profile: Option<&'a str>,
    generation: Option<u64>,
    old_generation: Option<u64>,
    set: Option<Vec<SetLine<'a>>>,
    removed: Option<Vec<RemovedLine<'a>>>,
    preferred: Option<Vec<&'a str>>,
    origin: Option<String>,
    origin_seq: Option<u64>,
    signed_by: Option<Vec<&'a str>>,
}

/// A package that is new or changed in a generation.
#[derive(Serialize)]
struct SetLine<'a> {
    name: &'a str,
    version: &'a str,
    platform: &'a str,
    artifact: String,
    old_artifact: Option<String>,
}

impl<'a> SetLine<'a> {
    fn of(set: &'a SetPackage) -> Self {
        let package = &set.package;
        Self {
            name: set.name.as_str(),
            version: package.version.as_str(),
            platform: package.platform.as_str(),
            artifact: package.artifact.to_string(),
            old_artifact: set.old.map(|old| old.to_string()),
        }
    }
}

/// A package that a generation no longer has.
#[derive(Serialize)]
struct RemovedLine<'a> {
    name: &'a str,
    old_artifact: String,
}

pub(crate) fn run(app: &mut App, args: &LogArgs) -> anyhow::Result<Outcome> {
    for record in app.store()?.log()? {
        let record = record?;
        if args.name.as_ref().is_none_or(|wanted| is_about(&record.op, wanted)) {
            print(app, &record)?;
        }
    }
    Ok(Outcome::Done)
}

fn is_about(op: &Op, name: &Name) -> bool {
    match op {
        Op::SetRef { key, .. } | Op::RemoveRef { key, .. } => key.name == *name,
        Op::SetChannel { key, .. } | Op::RemoveChannel { key, .. } => key.name == *name,
        Op::AddGeneration { delta, .. } => {
            let mut set = delta.set.iter().map(|set| &set.name);
            set.any(|found| found == name) || delta.removed.iter().any(|(found, _)| found == name)
        }
        Op::SetWitness { envelope } => {
            match RefStatement::of(envelope).map(|statement| statement.subject.name()) {
                Ok(SubjectName::Ref(key)) => key.name == *name,
                Ok(SubjectName::Channel(key)) => key.name == *name,
                Err(_) => false,
            }
        }
        Op::SetCurrent { .. } | Op::RemoveGeneration { .. } | Op::Pin { .. } | Op::Unpin { .. } => false,
        Op::SetOrigin { .. } | Op::SetPartial { .. } | Op::SetWhole { .. } => false,
    }
}

fn print(app: &mut App, record: &Record) -> OutputResult {
    if app.json() {
        return match &record.op {
            Op::SetWitness { envelope } => match Witness::of(envelope.clone()) {
                Ok(witness) => app.out.object(&of_witness(line(record), &witness)),
                Err(_) => app.out.object(&line(record)),
            },
            _ => app.out.object(&line(record)),
        };
    }
    let (time, who) = (rfc3339(record.time_ms), text::path(record.who.as_bytes()));
    app.out.line(format!("{:>5}  {time}  {who}  {}", record.seq, what(&record.op)))
}

fn what(op: &Op) -> String {
    let was = |old: &Option<ArtifactId>| old.map_or(String::new(), |old| format!(", was {}", old.short()));
    match op {
        Op::SetRef { key, old: None, record } => format!("add {key} = {}", record.artifact.short()),
        Op::SetRef { key, old, record } => {
            format!("replace {key} = {}{}", record.artifact.short(), was(old))
        }
        Op::RemoveRef { key, old } => format!("remove {key}, was {}", old.short()),
        Op::SetChannel { key, old: None, version } => format!("tag {key} = {version}"),
        Op::SetChannel { key, old: Some(old), version } => format!("tag {key} = {version}, was {old}"),
        Op::RemoveChannel { key, old } => format!("untag {key}, was {old}"),
        Op::AddGeneration { profile, number, base, delta, preferred, .. } => {
            let mut parts = vec![match base {
                Some(base) => format!("profile {profile}: add generation {number}, from {base}"),
                None => format!("profile {profile}: add generation {number}"),
            }];
            parts.extend(delta.set.iter().map(|set| {
                let (name, package) = (&set.name, &set.package);
                let (version, platform, artifact) =
                    (&package.version, &package.platform, package.artifact.short());
                format!("{name}@{version} for {platform} = {artifact}{}", was(&set.old))
            }));
            parts.extend(delta.removed.iter().map(|(name, old)| format!("no {name}, was {}", old.short())));
            if !preferred.is_empty() {
                let names: Vec<&str> = preferred.iter().map(Name::as_str).collect();
                parts.push(format!("preferred {}", names.join(" ")));
            }
            parts.join("; ")
        }
        Op::SetCurrent { profile, old: None, number } => format!("profile {profile}: show {number}"),
        Op::SetCurrent { profile, old: Some(old), number } => {
            format!("profile {profile}: show {number}, was {old}")
        }
        Op::RemoveGeneration { profile, number } => format!("profile {profile}: remove generation {number}"),
        Op::Pin { profile, number } => format!("profile {profile}: pin {number}"),
        Op::Unpin { profile, number } => format!("profile {profile}: unpin {number}"),
        Op::SetOrigin { origin } => format!("be origin {origin}"),
        Op::SetWitness { envelope } => match RefStatement::of(envelope) {
            Ok(RefStatement { origin, seq, subject, .. }) => {
                format!("note that {} is so by change {seq} of origin {origin}", subject.name())
            }
            Err(error) => error.to_string(),
        },
        Op::SetPartial { artifact } => format!("artifact {} is partial", artifact.short()),
        Op::SetWhole { artifact } => format!("artifact {} is whole", artifact.short()),
    }
}

fn line(record: &Record) -> Line<'_> {
    let line = Line {
        seq: record.seq,
        time: rfc3339(record.time_ms),
        time_ms: record.time_ms,
        who: &record.who,
        ..Line::default()
    };
    match &record.op {
        Op::SetRef { key, old, record } => Line {
            artifact: Some(record.artifact.to_string()),
            old_artifact: old.map(|old| old.to_string()),
            ..of_ref(line, "set_ref", key)
        },
        Op::RemoveRef { key, old } => {
            Line { old_artifact: Some(old.to_string()), ..of_ref(line, "remove_ref", key) }
        }
        Op::SetChannel { key, old, version } => Line {
            old_version: old.as_ref().map(Version::as_str),
            ..of_channel(line, "set_channel", key, version)
        },
        Op::RemoveChannel { key, old } => of_channel(line, "remove_channel", key, old),
        Op::AddGeneration { profile, number, base, delta, preferred, .. } => Line {
            old_generation: *base,
            set: Some(set_lines(delta)),
            removed: Some(removed_lines(delta)),
            preferred: Some(preferred.iter().map(Name::as_str).collect()),
            ..of_profile(line, "add_generation", profile, *number)
        },
        Op::SetCurrent { profile, old, number } => {
            Line { old_generation: *old, ..of_profile(line, "set_current", profile, *number) }
        }
        Op::RemoveGeneration { profile, number } => of_profile(line, "remove_generation", profile, *number),
        Op::Pin { profile, number } => of_profile(line, "pin", profile, *number),
        Op::Unpin { profile, number } => of_profile(line, "unpin", profile, *number),
        Op::SetOrigin { origin } => Line { op: "set_origin", origin: Some(origin.to_string()), ..line },
        Op::SetWitness { .. } => Line { op: "set_witness", ..line },
        Op::SetPartial { artifact } => {
            Line { artifact: Some(artifact.to_string()), op: "set_partial", ..line }
        }
        Op::SetWhole { artifact } => Line { artifact: Some(artifact.to_string()), op: "set_whole", ..line },
    }
}

fn of_ref<'a>(line: Line<'a>, op: &'static str, key: &'a RefKey) -> Line<'a> {
    let (name, platform) = (Some(key.name.as_str()), Some(key.platform.as_str()));
    Line { op, name, platform, version: Some(key.version.as_str()), ..line }
}

fn of_channel<'a>(line: Line<'a>, op: &'static str, key: &'a ChannelKey, version: &'a Version) -> Line<'a> {
    let (name, platform) = (Some(key.name.as_str()), Some(key.platform.as_str()));
    let channel = Some(key.channel.as_str());
    Line { op, name, platform, version: Some(version.as_str()), channel, ..line }
}

fn of_profile<'a>(line: Line<'a>, op: &'static str, profile: &'a ProfileName, number: u64) -> Line<'a> {
    Line { op, profile: Some(profile.as_str()), generation: Some(number), ..line }
}

fn of_witness<'a>(line: Line<'a>, witness: &'a Witness) -> Line<'a> {
    let RefStatement { origin, seq, subject, .. } = &witness.statement;
    let line = match subject {
        Subject::Ref { key, .. } => of_ref(line, "set_witness", key),
        Subject::Channel { key, version, .. } => of_channel(line, "set_witness", key, version),
    };
    let signed_by = witness.envelope.signatures.iter().map(|signature| &*signature.keyid).collect();
    Line {
        artifact: Some(subject.artifact().to_string()),
        origin: Some(origin.to_string()),
        origin_seq: Some(*seq),
        signed_by: Some(signed_by),
        ..line
    }
}

fn set_lines(delta: &Delta) -> Vec<SetLine<'_>> {
    delta.set.iter().map(SetLine::of).collect()
}

fn removed_lines(delta: &Delta) -> Vec<RemovedLine<'_>> {
    let named = delta.removed.iter().map(|(name, old)| (name.as_str(), old.to_string()));
    named.map(|(name, old_artifact)| RemovedLine { name, old_artifact }).collect()
}
