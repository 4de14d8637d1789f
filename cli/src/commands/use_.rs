//! `cairn use`: show other versions of packages, all at once.

use cairn_net::{DeltaUse, Source};
use cairn_store::generation::UseOptions;
use cairn_store::{ArtifactId, Error, Name, Platform, ProfileName, RefKey, Spec, Writer};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{PlatformArg, ProfileArg};
use crate::changes;
use crate::error::Outcome;
use crate::exchange::{self, Extent, FromArgs, Pulled, PulledReport, Wanted};
use crate::wire;

const EXAMPLES: &str = "\
Examples:
  cairn use uv@0.8.2
  cairn use uv@stable ruff@0.5.0         both at the same instant, or neither
  cairn use uv@0.9.1 --lazy              shown at once, fetched from peers when it is read
  cairn use uv@0.9.0 --profile canary    a mount of the profile canary shows it, no other
  cairn use gnu-tar@1.35 --prefer gnu-tar
                                         where bsd-tar has a command tar too, this one wins";

/// Make a generation with these packages, and show it
///
/// A package that the profile has in another version is replaced; the others stay as they are. What mounts of the
/// profile show changes in one step. What is not here is pulled first, from --from or the peers that the store knows.
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
    #[command(flatten)]
    #[serde(default)]
    pub(crate) from: FromArgs,
    /// Show it as soon as its names are here: a file's bytes come when they are read, and the rest in the background
    #[arg(long, conflicts_with = "require")]
    #[serde(default)]
    pub(crate) lazy: bool,
    /// How much has to be here before it is shown [default: full; lazy in a profile that is mounted with --lazy]
    #[arg(long, value_enum, env = "CAIRN_REQUIRE", hide_env_values = true)]
    #[serde(default)]
    pub(crate) require: Option<Extent>,
}

pub(crate) fn run(app: &mut App, args: &UseArgs) -> anyhow::Result<Outcome> {
    if args.from.from.is_empty() {
        // Nothing is made for a store that is not there, and has no peers.
        app.store()?;
    }
    let writer = app.writer(&app.meter("waiting"))?;
    let extent = match (args.lazy, args.require) {
        (true, _) => Extent::Lazy,
        (false, Some(extent)) => extent,
        (false, None) if app.is_lazy(&args.profile.profile) => Extent::Lazy,
        (false, None) => Extent::Full,
    };
    let mut getting = Getting { sources: args.from.sources(writer.path())?, extent, pulled: Vec::new() };
    let set = args.specs.iter().map(|spec| getting.get(app, &writer, spec, args));
    let set = set.collect::<anyhow::Result<Vec<_>>>()?;
    let options = UseOptions {
        profile: args.profile.profile.clone(),
        set,
        remove: Vec::new(),
        prefer: args.prefer.clone(),
        if_current: args.if_current,
        platform: args.platform.platform.clone(),
        allow_partial: extent != Extent::Full,
    };
    let switched = writer.use_packages(&options)?;
    if extent != Extent::Full {
        app.wake_background();
    }
    let heading = changes::heading(&switched);
    changes::print_with(app, &switched, &heading, &getting.pulled)?;
    Ok(Outcome::Done)
}

/// Shows what was pulled.
pub(crate) fn show(
    app: &mut App,
    writer: &Writer,
    profile: &ProfileName,
    pulled: &Pulled,
    platform: Option<&Platform>,
) -> anyhow::Result<()> {
    let options = UseOptions {
        profile: profile.clone(),
        set: vec![(pulled.key.clone(), pulled.artifact)],
        platform: platform.cloned(),
        allow_partial: pulled.is_partial,
        ..UseOptions::default()
    };
    let switched = writer.use_packages(&options)?;
    changes::print(app, &switched, &changes::heading(&switched))?;
    Ok(())
}

/// Versions on their way into a profile: those that are here, and those that peers have.
struct Getting {
    sources: Vec<Source>,
    extent: Extent,
    pulled: Vec<PulledReport>,
}

impl Getting {
    fn get(
        &mut self,
        app: &mut App,
        writer: &Writer,
        spec: &Spec,
        args: &UseArgs,
    ) -> anyhow::Result<(RefKey, ArtifactId)> {
        let platform = args.platform.platform.as_ref();
        let found = writer.names().resolve(spec, platform);
        match found {
            Ok((Some(key), artifact)) if !self.asks_anyway(spec, &key, args) => {
                self.complete(app, writer, &key, &artifact)?;
                Ok((key, artifact))
            }
            Ok((None, _)) => Err(Error::Absent { what: format!("a ref to {spec}") }.into()),
            Err(error @ Error::Absent { .. }) if self.sources.is_empty() => Err(error.into()),
            Ok(_) | Err(Error::Absent { .. }) => self.pull(app, writer, spec, platform),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether peers that the command line names say what a channel is, though it is something here.
    fn asks_anyway(&self, spec: &Spec, key: &RefKey, args: &UseArgs) -> bool {
        let Spec::Version { version_or_channel, .. } = spec else { return false };
        !args.from.from.is_empty() && *version_or_channel != key.version.as_str()
    }

    fn pull(
        &mut self,
        app: &mut App,
        writer: &Writer,
        spec: &Spec,
        platform: Option<&Platform>,
    ) -> anyhow::Result<(RefKey, ArtifactId)> {
        let (sources, extent) = (self.sources.clone(), self.extent);
        let wanted = Wanted { spec, platform, sources, extent, replace: false, deltas: DeltaUse::default() };
        let planned = exchange::plan(app, writer, &wanted)?;
        if !app.json() {
            exchange::tell_plan(app, &planned, false, None)?;
        }
        if extent != Extent::Full {
            app.keep_sources(&self.sources)?;
        }
        let pulled = exchange::pull(app, writer, planned)?;
        if app.json() {
            self.pulled.push(PulledReport::of(&pulled));
        } else {
            exchange::tell_pulled(app, &pulled)?;
        }
        Ok((pulled.key, pulled.artifact))
    }

    /// Brings the rest of what is here in part, where all of it is wanted.
    fn complete(
        &self,
        app: &App,
        writer: &Writer,
        key: &RefKey,
        artifact: &ArtifactId,
    ) -> anyhow::Result<()> {
        let is_partial = writer.names().partial.contains(artifact);
        if self.extent != Extent::Full || !is_partial || self.sources.is_empty() {
            return Ok(());
        }
        tracing::info!(%key, "not all of it is here yet");
        exchange::rest_of(app, writer, artifact, &self.sources).map(drop)
    }
}
