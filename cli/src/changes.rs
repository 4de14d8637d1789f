//! How a change of a profile is told: the generation before and after, and which packages are not what they were.

use std::sync::Arc;

use cairn_store::generation::{PackageChange, Switched};
use cairn_store::{Package, ProfileName};
use serde::Serialize;

use crate::app::App;
use crate::exchange::PulledReport;
use crate::output::{OutputResult, Table};

/// The JSON form of a switch from one generation to another.
#[derive(Serialize)]
struct Report<'a> {
    profile: &'a str,
    from: Option<u64>,
    to: u64,
    changed: bool,
    seq: Option<u64>,
    changes: Vec<Change<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pulled: &'a [PulledReport],
}

/// The JSON form of what happened to one package.
#[derive(Serialize)]
pub(crate) struct Change<'a> {
    name: &'a str,
    change: &'static str,
    from: Option<JsonPackage<'a>>,
    to: Option<JsonPackage<'a>>,
}

/// The JSON form of a package of a generation.
#[derive(Serialize)]
pub(crate) struct JsonPackage<'a> {
    version: &'a str,
    platform: &'a str,
    artifact: String,
}

impl<'a> JsonPackage<'a> {
    pub(crate) fn of(package: &'a Package) -> Self {
        let (version, platform) = (package.version.as_str(), package.platform.as_str());
        Self { version, platform, artifact: package.artifact.to_string() }
    }
}

impl<'a> Change<'a> {
    pub(crate) fn of(change: &'a PackageChange) -> Self {
        let json = |package: &'a Option<Arc<Package>>| package.as_deref().map(JsonPackage::of);
        let word = match (&change.from, &change.to) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        Self { name: change.name.as_str(), change: word, from: json(&change.from), to: json(&change.to) }
    }
}

/// Tells of a switch: `heading` and what changed. Silence leaves it out for people.
pub(crate) fn print(app: &mut App, switched: &Switched, heading: &str) -> OutputResult {
    print_with(app, switched, heading, &[])
}

/// The same, with what was pulled for it.
pub(crate) fn print_with(
    app: &mut App,
    switched: &Switched,
    heading: &str,
    pulled: &[PulledReport],
) -> OutputResult {
    if switched.seq.is_some() {
        app.note_change();
    }
    if app.json() {
        return app.out.object(&Report {
            profile: switched.profile.as_str(),
            from: switched.from,
            to: switched.to,
            changed: switched.seq.is_some(),
            seq: switched.seq,
            changes: switched.changes.iter().map(Change::of).collect(),
            pulled,
        });
    }
    if app.quiet() {
        return Ok(());
    }
    app.out.line(heading)?;
    let mut table = Table::facts();
    for change in &switched.changes {
        table.fact(&format!("  {}", change.name), in_words(change));
    }
    app.out.table(&table)
}

/// `generation 12 -> 13`, and whose it is if that is not the profile that is meant without saying.
pub(crate) fn heading(switched: &Switched) -> String {
    let (to, of) = (switched.to, of_profile(&switched.profile));
    match switched.from {
        _ if switched.seq.is_none() => format!("generation {to}{of} stays: nothing changes"),
        Some(from) => format!("generation {from} -> {to}{of}"),
        None => format!("generation {to}{of}, the first"),
    }
}

/// ` of profile canary`; nothing for the default one.
pub(crate) fn of_profile(profile: &ProfileName) -> String {
    if *profile == ProfileName::default() { String::new() } else { format!(" of profile {profile}") }
}

/// What happened to a package, without its name: `0.8.1 -> 0.8.2`, `0.8.1 added`.
pub(crate) fn in_words(change: &PackageChange) -> String {
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => {
            let (mut old, mut new) = (from.version.to_string(), to.version.to_string());
            if from.platform != to.platform {
                old = format!("{old} for {}", from.platform);
                new = format!("{new} for {}", to.platform);
            } else if from.version == to.version {
                old = format!("{old} ({})", from.artifact.short());
                new = format!("{new} ({})", to.artifact.short());
            }
            format!("{old} -> {new}")
        }
        (None, Some(to)) => format!("{} added", to.version),
        (Some(from), None) => format!("{} removed", from.version),
        (None, None) => String::new(),
    }
}
