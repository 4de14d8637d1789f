//! `cairn umount`: take a mount away, or say who keeps it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cairn_fusefs::MountError;
use cairn_fusefs::processes::{self, MountPoint, Users};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Outcome;
use crate::output::JsonPath;
use crate::{text, wire};

/// The most processes that a message names.
const NAMED_MAX: usize = 8;

const EXAMPLES: &str = "\
Examples:
  cairn umount /opt/bins
  cairn umount /opt/bins --lazy          it goes from its place; who uses it may finish";

/// Unmount a mount of cairn, also one whose daemon died
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct UmountArgs {
    /// The directory
    #[serde(with = "wire::path")]
    pub(crate) dir: PathBuf,
    /// Even if it is in use: new uses fail, those that there are go on
    #[arg(long)]
    #[serde(default)]
    pub(crate) lazy: bool,
}

/// A mount cannot go because processes use it.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use{users}", dir.display())]
pub(crate) struct InUse {
    dir: PathBuf,
    /// Who, as the end of the sentence.
    users: String,
}

/// The JSON form of what was unmounted.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    dir: JsonPath<'a>,
    lazy: bool,
}

pub(crate) fn run(app: &mut App, args: &UmountArgs) -> anyhow::Result<Outcome> {
    // As the kernel names it; what is at its end may be dead.
    let point = MountPoint::at(&args.dir);
    let dir = point.as_ref().map_or(&*args.dir, MountPoint::dir);
    let unmounted = match app.daemon() {
        Some(daemon) => match daemon.mounts().remove(dir, args.lazy) {
            // Not one of this daemon's; perhaps a dead one.
            Err(MountError::NotMounted { .. }) => cairn_fusefs::unmount_dead(dir),
            removed => removed,
        },
        None => cairn_fusefs::unmount_dead(dir),
    };
    match (unmounted, &point) {
        (Err(MountError::Busy { dir }), Ok(point)) => return Err(in_use(dir, point).into()),
        (unmounted, _) => unmounted?,
    }
    if app.json() {
        app.out.object(&Report { dir: JsonPath::of(dir), lazy: args.lazy })?;
    } else if !app.quiet() {
        app.out.line(format!("unmounted {}", text::path(JsonPath::of(dir).0)))?;
    }
    Ok(Outcome::Done)
}

fn in_use(dir: PathBuf, point: &MountPoint) -> InUse {
    let users = processes::users(point).map_or_else(|error| format!("; {error}"), |users| named(&users));
    InUse { dir, users }
}

/// ` by 812 (uv: exe uv/0.8.1/uv), 913 (bash: cwd .)`
fn named(users: &Users) -> String {
    let mut said = String::new();
    for (place, process) in users.processes.iter().take(NAMED_MAX).enumerate() {
        said.push_str(if place == 0 { " by " } else { ", " });
        let command = text::path(process.command.as_encoded_bytes());
        let first = process.uses.first();
        let first =
            first.map_or_else(String::new, |one| format!(": {} {}", one.kind.as_str(), shown(&one.path)));
        let more = process.uses.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        // Writing to a string cannot fail.
        let _ = write!(said, "{} ({command}{first}{more})", process.pid);
    }
    if users.processes.len() > NAMED_MAX {
        let _ = write!(said, " and {} more", users.processes.len() - NAMED_MAX);
    }
    if users.processes.is_empty() {
        said.push_str(" by no process that can be seen, or by another mount below it");
    }
    if users.hidden > 0 {
        let _ = write!(said, "; {} more could not be looked into", users.hidden);
    }
    said
}

/// A path below a mount; the mount itself is `.`.
pub(crate) fn shown(path: &Path) -> String {
    let bytes = JsonPath::of(path).0;
    if bytes.is_empty() { ".".to_owned() } else { text::path(bytes) }
}
