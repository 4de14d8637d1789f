//! `cairn peers`: who is asked for what this store lacks.

use std::path::PathBuf;

use cairn_net::{KnownPeer, PeerUrl, Peers};
use cairn_store::time::rfc3339;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::{Absent, Outcome};
use crate::exchange::AccessArgs;
use crate::output::Align::Left;
use crate::output::{JsonPath, Table};
use crate::text;

const EXAMPLES: &str = "\
The peers of a store are asked by every `pull` and `use` that names no other, for what a mount lacks, and for what is
damaged. One that sent bytes that do not verify is asked last; adding it again forgets that.

Examples:
  cairn peers add http://10.0.0.5:7001
  cairn peers add https://cairn.example.org --token-file token --ca ca.pem
  cairn peers ls
  cairn peers rm http://10.0.0.5:7001";

/// Add, list and remove the peers that are asked for what this store lacks
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PeersCommand {
    Add(AddArgs),
    Ls(LsArgs),
    Rm(RmArgs),
}

/// Ask this peer too, from now on
///
/// One that is known already gets this token and these certificates, and what was noted against it is forgotten.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddArgs {
    /// Where it is: http://HOST:PORT or https://HOST
    pub(crate) url: PeerUrl,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
}

/// List the peers, and how they did
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LsArgs {}

/// Ask this peer no more
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RmArgs {
    /// Where it is, as `ls` shows it
    pub(crate) url: PeerUrl,
}

impl PeersCommand {
    /// What lets us in, where a command says so.
    pub(crate) fn access(&self) -> Option<&AccessArgs> {
        if let Self::Add(args) = self { Some(&args.access) } else { None }
    }

    /// The same, to be completed.
    pub(crate) fn access_mut(&mut self) -> Option<&mut AccessArgs> {
        if let Self::Add(args) = self { Some(&mut args.access) } else { None }
    }
}

/// The JSON form of a change.
#[derive(Serialize)]
struct Changed<'a> {
    url: &'a str,
    change: &'static str,
}

/// The JSON form of a peer.
#[derive(Serialize)]
struct Line<'a> {
    url: &'a str,
    token: bool,
    ca: Option<JsonPath<'a>>,
    added: String,
    last_success: Option<String>,
    bytes_per_s: Option<u64>,
    failures: u32,
    failure: Option<Noted<'a>>,
    lies: u32,
    lie: Option<Noted<'a>>,
}

/// Something that happened with it.
#[derive(Serialize)]
struct Noted<'a> {
    time: String,
    detail: &'a str,
}

pub(crate) fn run(app: &mut App, command: &PeersCommand) -> anyhow::Result<Outcome> {
    match command {
        PeersCommand::Add(args) => add(app, args)?,
        PeersCommand::Ls(_) => list(app)?,
        PeersCommand::Rm(args) => remove(app, args)?,
    }
    Ok(Outcome::Done)
}

fn add(app: &mut App, args: &AddArgs) -> anyhow::Result<()> {
    // A store of one's own may begin with its peers.
    app.make_store()?;
    let source = args.access.source(args.url.clone());
    if source.token.is_some() && !source.url.is_encrypted() && !source.url.is_loopback() {
        app.warn("the token is sent there unencrypted: use https if others can listen");
    }
    let is_new = Peers::open(&app.store_path()?).add(&source)?;
    app.wake_background();
    tell(app, &args.url, if is_new { "added" } else { "changed" })
}

fn remove(app: &mut App, args: &RmArgs) -> anyhow::Result<()> {
    if !Peers::open(&app.store_path()?).remove(&args.url)? {
        let what = format!("peer {}", args.url);
        return Err(Absent { what, hint: "`cairn peers ls` lists them" }.into());
    }
    app.wake_background();
    tell(app, &args.url, "removed")
}

fn tell(app: &mut App, url: &PeerUrl, change: &'static str) -> anyhow::Result<()> {
    if app.json() {
        app.out.object(&Changed { url: url.as_str(), change })?;
    } else if !app.quiet() {
        app.out.line(format!("{change} {url}"))?;
    }
    Ok(())
}

fn line(peer: &KnownPeer) -> Line<'_> {
    let noted = |noted: &'_ cairn_net::peers::Noted| rfc3339(noted.time_ms);
    Line {
        url: peer.url.as_str(),
        token: peer.token.is_some(),
        ca: peer.ca.as_ref().map(|path: &PathBuf| JsonPath::of(path)),
        added: rfc3339(peer.added_ms),
        last_success: peer.success_ms.map(rfc3339),
        bytes_per_s: peer.rate,
        failures: peer.failures,
        failure: peer.failure.as_ref().map(|one| Noted { time: noted(one), detail: &one.detail }),
        lies: peer.lies,
        lie: peer.lie.as_ref().map(|one| Noted { time: noted(one), detail: &one.detail }),
    }
}

fn list(app: &mut App) -> anyhow::Result<()> {
    let peers = Peers::open(&app.store_path()?).list()?;
    if app.json() {
        peers.iter().try_for_each(|peer| app.out.object(&line(peer)))?;
        return Ok(());
    }
    let mut table = Table::new(&[("URL", Left), ("TOKEN", Left), ("LAST USE", Left), ("STATE", Left)]);
    for peer in &peers {
        let token = if peer.token.is_some() { "yes" } else { "no" };
        let used = peer.success_ms.map_or_else(|| "never".to_owned(), rfc3339);
        table.row([peer.url.to_string(), token.to_owned(), used, state(peer)]);
    }
    app.out.table(&table)?;
    Ok(())
}

/// How it did, for people.
fn state(peer: &KnownPeer) -> String {
    if let Some(lie) = &peer.lie {
        let times = if peer.lies == 1 { String::new() } else { format!(" {} times", peer.lies) };
        let detail = text::path(lie.detail.as_bytes());
        return format!("sent what does not verify{times}, {}: {detail}", rfc3339(lie.time_ms));
    }
    if let Some(failure) = peer.failure.as_ref().filter(|_| peer.failures > 0) {
        let failed = text::count(peer.failures.into(), "failure");
        return format!("{failed} since: {}", text::path(failure.detail.as_bytes()));
    }
    let rate = peer.rate.map(|rate| format!(", {}/s", text::size(rate)));
    match peer.success_ms {
        Some(_) => format!("fine{}", rate.unwrap_or_default()),
        None => "not asked yet".to_owned(),
    }
}
