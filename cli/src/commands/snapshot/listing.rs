//! `cairn snapshot ls`: which snapshots there are, here or at a peer.

use cairn_net::PeerUrl;
use cairn_net::wire::{RemoteRef, RemoteSnapshot};
use cairn_store::snapshots::{LATEST, round_of};
use cairn_store::time::rfc3339;
use cairn_store::{Name, Platform, StateHash};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::{Absent, Outcome};
use crate::exchange::{AccessArgs, FromArgs};
use crate::output::Align::{Left, Right};
use crate::output::Table;
use crate::text;

/// List the snapshots of a name, newest first, or the names that have any
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LsArgs {
    /// Whose
    #[serde(default)]
    pub(crate) name: Option<Name>,
    /// Those of this peer, and not those here
    #[arg(long, value_name = "URL")]
    #[serde(default)]
    pub(crate) from: Option<PeerUrl>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
}

/// The JSON form of a snapshot; what a peer does not say of its own is absent.
#[derive(Serialize)]
struct Line {
    name: String,
    round: u64,
    artifact: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_hash: Option<Option<StateHash>>,
    files: u64,
    bytes: u64,
    chunks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<bool>,
    latest: bool,
}

/// The JSON form of a name.
#[derive(Serialize)]
struct Series {
    name: String,
    rounds: u64,
    latest: Option<u64>,
}

pub(super) fn run(app: &mut App, args: &LsArgs) -> anyhow::Result<Outcome> {
    match (&args.name, &args.from) {
        (None, None) => series(app)?,
        (Some(name), None) => {
            let lines = here(app, name)?;
            list(app, name, &lines)?;
        }
        (name, Some(url)) => {
            let lines = there(app, name.as_ref(), url, &args.access)?;
            match name {
                Some(name) => list(app, name, &lines)?,
                None => tell_series(app, &of_lines(&lines))?,
            }
        }
    }
    Ok(Outcome::Done)
}

fn series(app: &mut App) -> anyhow::Result<()> {
    let store = app.store()?;
    let found = store.snapshot_series(&*store.view()?)?;
    let lines: Vec<Series> = found
        .into_iter()
        .map(|series| Series { name: series.name.to_string(), rounds: series.rounds, latest: series.latest })
        .collect();
    tell_series(app, &lines)
}

fn of_lines(lines: &[Line]) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for line in lines {
        match series.last_mut() {
            Some(last) if last.name == line.name => last.rounds += 1,
            _ => series.push(Series { name: line.name.clone(), rounds: 1, latest: Some(line.round) }),
        }
    }
    series
}

fn tell_series(app: &mut App, series: &[Series]) -> anyhow::Result<()> {
    if app.json() {
        series.iter().try_for_each(|series| app.out.object(series))?;
        return Ok(());
    }
    let mut table = Table::new(&[("NAME", Left), ("SNAPSHOTS", Right), ("LATEST", Right)]);
    for Series { name, rounds, latest } in series {
        let latest = latest.map_or_else(|| "-".to_owned(), |round| round.to_string());
        table.row([name.clone(), rounds.to_string(), latest]);
    }
    app.out.table(&table)?;
    Ok(())
}

fn here(app: &App, name: &Name) -> anyhow::Result<Vec<Line>> {
    let store = app.store()?;
    let view = store.view()?;
    let is_latest = |round: u64| {
        let mut channels = view.channels.iter();
        channels.any(|(key, version)| {
            key.name == *name && key.channel.as_str() == LATEST && round_of(version) == Some(round)
        })
    };
    let found = store.snapshots_of(&view, name, usize::MAX)?;
    let line = |info: cairn_store::SnapshotInfo| Line {
        name: name.to_string(),
        round: info.round,
        artifact: info.artifact.to_string(),
        state_hash: Some(info.state_hash),
        files: info.files,
        bytes: info.bytes,
        chunks: info.chunks,
        time: Some(rfc3339(info.time_ms)),
        whole: Some(info.is_whole),
        latest: is_latest(info.round),
    };
    Ok(found.into_iter().map(line).collect())
}

/// What a peer has: of one name the snapshots newest first, or else what it lists that could be any, by name.
fn there(app: &App, name: Option<&Name>, url: &PeerUrl, access: &AccessArgs) -> anyhow::Result<Vec<Line>> {
    let from = FromArgs { from: vec![url.clone()], access: access.clone() };
    let (source, net) = (from.sources(&app.store_path()?)?.remove(0), app.net()?);
    let Some(name) = name else { return Ok(listed(net.list(&source)?)) };
    let found = match net.snapshots(&source, name, &|| app.is_cancelled()) {
        Err(error) if error.kind() == cairn_net::Kind::Absent => Vec::new(),
        found => found?,
    };
    let newest = found.first().map(|snapshot| snapshot.round);
    let line = |found: RemoteSnapshot| Line {
        name: name.to_string(),
        round: found.round,
        artifact: found.artifact.0.to_string(),
        state_hash: Some(found.state_hash),
        files: found.files,
        bytes: found.bytes,
        chunks: found.chunks,
        time: Some(rfc3339(found.time_ms)),
        whole: Some(true),
        latest: newest == Some(found.round),
    };
    Ok(found.into_iter().map(line).collect())
}

/// Versions for any/any that could be rounds.
fn listed(refs: Vec<RemoteRef>) -> Vec<Line> {
    let of_any = refs.into_iter().filter(|found| found.platform == Platform::any());
    let mut lines: Vec<Line> = of_any
        .filter_map(|found| {
            Some(Line {
                name: found.name.to_string(),
                round: round_of(&found.version)?,
                artifact: found.artifact.0.to_string(),
                state_hash: None,
                files: found.files,
                bytes: found.bytes,
                chunks: found.chunks,
                time: None,
                whole: None,
                latest: found.channels.iter().any(|channel| channel.as_str() == LATEST),
            })
        })
        .collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name).then(b.round.cmp(&a.round)));
    lines
}

fn list(app: &mut App, name: &Name, lines: &[Line]) -> anyhow::Result<()> {
    if lines.is_empty() {
        let hint = "`cairn snapshot ls` lists the names that have any";
        return Err(Absent { what: format!("snapshot of {name}"), hint }.into());
    }
    if app.json() {
        lines.iter().try_for_each(|line| app.out.object(line))?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("ROUND", Right),
        ("ARTIFACT", Left),
        ("STATE HASH", Left),
        ("FILES", Right),
        ("BYTES", Right),
        ("MADE", Left),
        ("", Left),
    ]);
    for line in lines {
        let hash = line.state_hash.iter().flatten().next().map_or_else(|| "-".to_owned(), StateHash::short);
        let mut notes = Vec::new();
        notes.extend(line.latest.then_some(LATEST));
        notes.extend((line.whole == Some(false)).then_some("not whole"));
        table.row([
            line.round.to_string(),
            line.artifact.chars().take(12).collect(),
            hash,
            line.files.to_string(),
            text::size(line.bytes),
            line.time.clone().unwrap_or_else(|| "-".to_owned()),
            notes.join(", "),
        ]);
    }
    app.out.table(&table)?;
    Ok(())
}
