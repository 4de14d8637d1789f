//! `cairn generations`: what a profile showed, and can show again.

use std::collections::BTreeMap;

use cairn_store::generation::{Delta, PackageChange, Packages};
use cairn_store::time::rfc3339;
use cairn_store::{Error, Generation, Name, Profile};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::ProfileArg;
use crate::changes::{self, Change, JsonPackage};
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::{OutputResult, Table};

/// The most changes that the table names of one generation.
const CHANGES_SHOWN_MAX: usize = 3;

const EXAMPLES: &str = "\
CHANGES is what differs from the generation that it was made from.

Examples:
  cairn generations
  cairn generations 12                   with each of its packages
  cairn generations --profile canary --json";

/// List the generations of a profile: when each was made, what changed, which one is current
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerationsArgs {
    /// Only this one, with its packages
    #[arg(value_name = "N")]
    pub(crate) generation: Option<u64>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
}

/// The JSON form of a generation.
#[derive(Serialize)]
struct Line<'a> {
    profile: &'a str,
    generation: u64,
    current: bool,
    pinned: bool,
    time: String,
    time_ms: u64,
    parent: Option<u64>,
    package_count: usize,
    changes: Option<Vec<Change<'a>>>,
    preferred: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packages: Option<BTreeMap<&'a str, JsonPackage<'a>>>,
}

pub(crate) fn run(app: &mut App, args: &GenerationsArgs) -> anyhow::Result<Outcome> {
    let name = &args.profile.profile;
    let view = app.store()?.view()?;
    let Some(profile) = view.profiles.get(name) else {
        return Err(Error::Absent { what: format!("profile {name}") }.into());
    };
    if let Some(number) = args.generation.filter(|number| !profile.generations.contains_key(number)) {
        return Err(Error::Absent { what: format!("generation {number} of profile {name}") }.into());
    }
    let is_wanted = |number: u64| args.generation.is_none_or(|wanted| wanted == number);
    let listed = profile.generations.iter().filter(|(number, _)| is_wanted(**number));
    let listed: Vec<_> =
        listed.map(|(number, generation)| Listed::of(profile, *number, generation)).collect();
    if app.json() {
        for one in &listed {
            app.out.object(&one.line(name.as_str(), args.generation.is_some()))?;
        }
    } else if let (Some(_), [one]) = (args.generation, &*listed) {
        print_one(app, one)?;
    } else {
        print_all(app, &listed)?;
    }
    Ok(Outcome::Done)
}

/// A generation as it is shown.
struct Listed<'a> {
    number: u64,
    generation: &'a Generation,
    is_current: bool,
    is_pinned: bool,
    /// Against its parent; not known when that has been pruned.
    changes: Option<Vec<PackageChange>>,
}

impl<'a> Listed<'a> {
    fn of(profile: &Profile, number: u64, generation: &'a Generation) -> Self {
        let nothing = Packages::new();
        let before = match generation.parent {
            Some(parent) => profile.generations.get(&parent).map(|parent| &parent.packages),
            None => Some(&nothing),
        };
        Self {
            number,
            generation,
            is_current: number == profile.current,
            is_pinned: profile.pins.contains(&number),
            changes: before.map(|before| Delta::between(before, &generation.packages).changes(before)),
        }
    }

    fn line(&'a self, profile: &'a str, with_packages: bool) -> Line<'a> {
        let packages = self.generation.packages.iter();
        let packages = packages.map(|(name, package)| (name.as_str(), JsonPackage::of(package)));
        Line {
            profile,
            generation: self.number,
            current: self.is_current,
            pinned: self.is_pinned,
            time: rfc3339(self.generation.time_ms),
            time_ms: self.generation.time_ms,
            parent: self.generation.parent,
            package_count: self.generation.packages.len(),
            changes: self.changes.as_ref().map(|changes| changes.iter().map(Change::of).collect()),
            preferred: self.generation.preferred.iter().map(Name::as_str).collect(),
            packages: with_packages.then(|| packages.collect()),
        }
    }

    fn marks(&self) -> &'static str {
        match (self.is_current, self.is_pinned) {
            (true, true) => "current, pinned",
            (true, false) => "current",
            (false, true) => "pinned",
            (false, false) => "",
        }
    }

    /// The changes on one line, as many as fit.
    fn summary(&self) -> String {
        let Some(changes) = &self.changes else {
            return self.generation.parent.map_or_else(String::new, |parent| format!("({parent} is pruned)"));
        };
        let named = changes.iter().take(CHANGES_SHOWN_MAX);
        let mut parts: Vec<String> =
            named.map(|change| format!("{} {}", change.name, changes::in_words(change))).collect();
        if changes.len() > CHANGES_SHOWN_MAX {
            parts.push(format!("{} more", changes.len() - CHANGES_SHOWN_MAX));
        }
        parts.join(", ")
    }
}

fn print_all(app: &mut App, listed: &[Listed<'_>]) -> OutputResult {
    let titles = [("NUMBER", Right), ("MADE", Left), ("FROM", Right), ("PACKAGES", Right), ("", Left)];
    let mut table = Table::new(&[titles[0], titles[1], titles[2], titles[3], titles[4], ("CHANGES", Left)]);
    for one in listed {
        table.row([
            one.number.to_string(),
            rfc3339(one.generation.time_ms),
            one.generation.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string()),
            one.generation.packages.len().to_string(),
            one.marks().to_owned(),
            one.summary(),
        ]);
    }
    app.out.table(&table)
}

fn print_one(app: &mut App, one: &Listed<'_>) -> OutputResult {
    let mut facts = Table::facts();
    let marks = one.marks();
    let marks = if marks.is_empty() { String::new() } else { format!(" ({marks})") };
    facts.fact("generation", format!("{}{marks}", one.number));
    facts.fact("made", rfc3339(one.generation.time_ms));
    if let Some(parent) = one.generation.parent {
        facts.fact("from", parent.to_string());
    }
    facts.fact("changes", one.summary());
    if !one.generation.preferred.is_empty() {
        let preferred: Vec<&str> = one.generation.preferred.iter().map(Name::as_str).collect();
        facts.fact("preferred", preferred.join(", "));
    }
    app.out.table(&facts)?;
    let mut table = Table::new(&[("NAME", Left), ("VERSION", Left), ("PLATFORM", Left), ("ARTIFACT", Left)]);
    for (name, package) in &one.generation.packages {
        let (version, platform) = (package.version.to_string(), package.platform.to_string());
        table.row([name.to_string(), version, platform, package.artifact.short()]);
    }
    app.out.line("")?;
    app.out.table(&table)
}
