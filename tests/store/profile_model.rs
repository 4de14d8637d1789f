//! Random changes of refs and profiles against a plain model: what is named, what every call reports, and which kind of
//! error it gives are the model's, also after the store was opened again.

mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cairn_store::io::Sim;
use cairn_store::{
    Generation, Ingested, Name, Profile, ProfileName, PublishOptions, RefKey, Spec, Store, UseOptions, View,
    Writer,
};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::seed::cases;
use harness::stores::{at, options, with_threads, writer_on};
use proptest::prelude::*;

use self::model::{Model, ModelGeneration, ModelProfile, Op, Package, RELEASES, RUNS_ON, Said, ops};

const STORE: &str = "/srv/store";

/// A machine whose store has every release, and names none.
struct World {
    machine: Sim,
    releases: Vec<Ingested>,
}

impl World {
    fn new() -> Self {
        let (machine, scratch) = (Sim::new(0), Scratch::in_memory());
        let writer = writer_on(machine.clone(), Path::new(STORE)).unwrap();
        let release = |(place, (package, version, platform, commands)): (usize, _)| {
            let (source, commands): (_, &[&str]) = (scratch.join(format!("{place}")), commands);
            let program = |command: &&str| {
                (command.as_bytes().to_vec(), Plan::File(Fill::Noise(place as u64), 500, 0o755))
            };
            let bin: Folder = commands.iter().map(program).collect();
            make(&source, &Folder::from([(b"bin".to_vec(), Plan::Dir(bin, 0o755))]));
            let mut options = with_threads(1, options(package, version));
            options.platform = Some(str::parse(platform).unwrap());
            writer.ingest(at(&source), &options, &()).unwrap()
        };
        let releases = RELEASES.into_iter().enumerate().map(release).collect();
        drop(writer);
        machine.settle();
        Self { machine, releases }
    }

    /// The release that a package of a generation is.
    fn release_of(&self, package: &cairn_store::Package) -> usize {
        let is_it = |release: &Ingested| {
            release.artifact == package.artifact
                && (&release.key.version, &release.key.platform) == (&package.version, &package.platform)
        };
        self.releases.iter().position(is_it).expect("nothing else was ever added")
    }

    fn said(&self, switched: cairn_store::Switched) -> Said {
        let release =
            |package: Option<Arc<cairn_store::Package>>| package.map(|package| self.release_of(&package));
        let changes = switched.changes.into_iter();
        let changes =
            changes.map(|change| (change.name.to_string(), release(change.from), release(change.to)));
        Said::Switched(switched.from, switched.to, switched.seq.is_some(), changes.collect())
    }

    fn take(&self, writer: &mut Writer, sim: &Sim, op: &Op) -> cairn_store::Result<Said> {
        let profile = |name: &str| -> ProfileName { name.parse().unwrap() };
        Ok(match op {
            Op::Add { release, replace } => {
                let options = PublishOptions { replace: *replace, channel: None };
                Said::Changed(writer.publish(&self.releases[*release], &options)?.seq.is_some())
            }
            Op::RemoveRef { package, version } => {
                let (key, _) = resolve(&writer.names(), package, version)?;
                writer.remove_ref(&key, false)?;
                Said::Nothing
            }
            Op::Use { profile: name, change, if_current } => {
                let names = |of: &[Package]| of.iter().map(|name| name.parse().unwrap()).collect();
                let view = writer.names();
                let set = change.set.iter().map(|(package, version)| resolve(&view, package, version));
                let options = UseOptions {
                    profile: profile(name),
                    set: set.collect::<Result<_, _>>()?,
                    remove: names(&change.remove),
                    prefer: names(&change.prefer),
                    if_current: *if_current,
                    platform: Some(RUNS_ON.parse().unwrap()),
                    allow_partial: false,
                };
                self.said(writer.use_packages(&options)?)
            }
            Op::Switch { profile: name, to, if_current } => {
                self.said(writer.switch(&profile(name), *to, *if_current)?)
            }
            Op::Rollback { profile: name, to } => self.said(writer.rollback(&profile(name), *to)?),
            Op::SetPinned { profile: name, number, pinned: true } => {
                Said::Changed(writer.pin(&profile(name), *number)?)
            }
            Op::SetPinned { profile: name, number, pinned: false } => {
                Said::Changed(writer.unpin(&profile(name), *number)?)
            }
            Op::Prune { profile: name, keep, pin_between } => {
                let plan = writer.plan_prune(&profile(name), *keep)?;
                if let Some(number) = pin_between {
                    let _ = writer.pin(&profile(name), *number);
                }
                let ran = writer.prune(&plan).map(drop).map_err(|error| error.kind());
                Said::Pruned(plan.remove, plan.kept.into_iter().collect(), ran)
            }
            Op::Reopen => {
                *writer = writer_on(sim.clone(), Path::new(STORE))?;
                Said::Nothing
            }
        })
    }

    /// What a view names, as the model would say it.
    fn model_of(&self, view: &View) -> Model {
        let generation = |found: &Arc<Generation>| {
            let packages = found.packages.iter();
            let packages = packages.map(|(name, package)| (name.to_string(), self.release_of(package)));
            let preferred = found.preferred.iter().map(ToString::to_string).collect();
            let made = ModelGeneration { parent: found.parent, packages: packages.collect(), preferred };
            let shown = found.commands();
            let shown: BTreeMap<_, _> = shown
                .iter()
                .map(|(command, (package, _))| (std::str::from_utf8(command).unwrap(), package.as_str()))
                .collect();
            assert_eq!(made.commands().unwrap(), shown);
            made
        };
        let profile = |found: &Profile| ModelProfile {
            current: found.current,
            last: found.last,
            pins: found.pins.clone(),
            generations: found
                .generations
                .iter()
                .map(|(number, found)| (*number, generation(found)))
                .collect(),
        };
        let release = |key: &RefKey, artifact| {
            let is_it = |release: &Ingested| (&release.key, release.artifact) == (key, artifact);
            let place = self.releases.iter().position(is_it).expect("nothing else was ever added");
            ((RELEASES[place].0, RELEASES[place].1), place)
        };
        Model {
            refs: view.refs.iter().map(|(key, record)| release(key, record.artifact)).collect(),
            profiles: view.profiles.iter().map(|(name, found)| (name.to_string(), profile(found))).collect(),
        }
    }
}

fn resolve(
    view: &View,
    package: &str,
    version: &str,
) -> cairn_store::Result<(RefKey, cairn_store::ArtifactId)> {
    let (name, version_or_channel): (Name, _) = (package.parse()?, version.to_owned());
    let (key, artifact) = view.resolve(&Spec::Version { name, version_or_channel }, None)?;
    Ok((key.expect("a version has a ref"), artifact))
}

#[test]
fn profiles_are_what_a_plain_model_says_after_any_changes() {
    let world = World::new();
    let mut runner = proptest::test_runner::TestRunner::new(cases(2000));
    let checked = runner.run(&ops(), |ops| {
        let (sim, mut model) = (world.machine.reboot(0), Model::default());
        let mut writer = writer_on(sim.clone(), Path::new(STORE)).unwrap();
        let reader = Store::open_with(Arc::new(sim.clone()), Path::new(STORE)).unwrap();
        for op in &ops {
            let before = writer.names();
            let expected = model.take(op);
            let said = world.take(&mut writer, &sim, op).map_err(|error| error.kind());
            prop_assert_eq!(&said, &expected, "{:?}", op);
            let after = writer.names();
            prop_assert_eq!(&world.model_of(&after), &model, "{:?}", op);
            prop_assert!(said.is_ok() || after.seq == before.seq, "{:?} failed, and was recorded", op);
            prop_assert!(*reader.view().unwrap() == *after, "{:?} is not what a reader sees", op);
        }
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}
