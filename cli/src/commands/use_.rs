//! `cairn use`: show other versions of packages, all at once.

use cairn_store::generation::UseOptions;
use cairn_store::{ArtifactId, Error, Name, RefKey, Spec, View};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{PlatformArg, ProfileArg};
use crate::changes;
use crate::error::Outcome;
use crate::wire;

const EXAMPLES: &str = "\
Examples:
  cairn use uv@0.8.2
  cairn use uv@stable ruff@0.5.0         both at the same instant, or neither
  cairn use uv@0.9.0 --profile canary    a mount of the profile canary shows it, no other
  cairn use gnu-tar@1.35 --prefer gnu-tar
                                         where bsd-tar has a command tar too, this one wins";

/// Make a generation with these packages, and show it
///
/// A package that the profile has in another version is replaced; the others stay as they are. What mounts of the
/// profile show changes in one step.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct UseArgs {
    /// What to show: NAME@VERSION, NAME@CHANNEL, or the first digits of an artifact's id
    #[arg(required = true, value_name = "SPEC")]
    #[serde(with = "wire::written_list")]
    pub(crate) specs: Vec<Spec>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) profile: ProfileArg,
    /// Where several packages offer a command of one name, this one's is meant; the last one given wins
    #[arg(long, value_name = "NAME")]
    #[serde(default)]
    pub(crate) prefer: Vec<Name>,
    /// Only if this generation is the current one; 0: only if there is none
    #[arg(long, value_name = "N")]
    pub(crate) if_current: Option<u64>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

pub(crate) fn run(app: &mut App, args: &UseArgs) -> anyhow::Result<Outcome> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let view = writer.names();
    let options = UseOptions {
        profile: args.profile.profile.clone(),
        set: args.specs.iter().map(|spec| find(&view, spec, args)).collect::<Result<_, Error>>()?,
        remove: Vec::new(),
        prefer: args.prefer.clone(),
        if_current: args.if_current,
        platform: args.platform.platform.clone(),
        allow_partial: false,
    };
    // The view is not kept while the change makes the next one.
    drop(view);
    let switched = writer.use_packages(&options)?;
    changes::print(app, &switched, &changes::heading(&switched))?;
    Ok(Outcome::Done)
}

fn find(view: &View, spec: &Spec, args: &UseArgs) -> Result<(RefKey, ArtifactId), Error> {
    match view.resolve(spec, args.platform.platform.as_ref())? {
        (Some(key), artifact) => Ok((key, artifact)),
        (None, _) => Err(Error::Absent { what: format!("a ref to {spec}") }),
    }
}
