//! A simulated machine with a store, what has to be in the store, and the comparison of both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_store::collect::CollectOptions;
use cairn_store::index::Index;
use cairn_store::io::{Io, Sim};
use cairn_store::{
    Error, Held, HoldGuard, Kind, Node, OptimiseOptions, ProfileName, Progress, PublishOptions,
    PulledOptions, Result, Store, UseOptions, VerifyOptions, VerifyReport, View, Writer,
};
use harness::stores::{at, options, read_file, with_threads, writer_on};

use crate::model::{Model, Names};
use crate::steps::{Change, Step, pick};
use crate::tally::Tally;
use crate::world::{STORE, World};

/// Repairs in a row that make any store sound: an artifact, three folders, two lists of chunks, chunks.
const REPAIRS_MAX: u32 = 8;
/// Collections after which nothing is left to collect, what stands on something counted.
const LEVELS_MAX: u32 = 4;

/// One machine in the course of its history.
pub(crate) struct Machine<'a> {
    world: &'a World,
    pub(crate) sim: Sim,
    writer: Option<Writer>,
    /// Failures that were met before the writer was opened.
    failures_before: u64,
    /// What was acknowledged.
    model: Model,
    /// Outcomes of changes that failed, any of which the next opening may find.
    perhaps: Vec<Model>,
    /// What is held in the writer's process.
    held: Vec<(usize, HoldGuard)>,
    /// Whether bits have turned that nobody has mended yet.
    rotten: bool,
    pub(crate) tally: Tally,
}

/// Says that it is cancelled from some question on.
struct Impatient(AtomicU64);

impl Progress for Impatient {
    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

impl<'a> Machine<'a> {
    pub(crate) fn new(world: &'a World, seed: u64) -> Self {
        Self {
            world,
            sim: Sim::new(seed),
            writer: None,
            failures_before: 0,
            model: Model::default(),
            perhaps: Vec::new(),
            held: Vec::new(),
            rotten: false,
            tally: Tally::default(),
        }
    }

    /// Opens the store for writing, unless it is. What is found then is what is there from now on.
    pub(crate) fn open(&mut self) -> Result<()> {
        if self.writer.is_some() {
            return Ok(());
        }
        self.failures_before = self.sim.failures();
        let writer = writer_on(self.sim.clone(), Path::new(STORE))?;
        self.model = self.allowed(&writer.names());
        self.perhaps.clear();
        self.writer = Some(writer);
        Ok(())
    }

    /// Ends the writer, as a process that ends does.
    pub(crate) fn close(&mut self) {
        self.held.clear();
        self.writer = None;
    }

    /// The power fails, or failed before, and the machine comes up again.
    pub(crate) fn reboot(&mut self, seed: u64) {
        self.sim.crash();
        self.close();
        assert_eq!(self.sim.open_files(), 0, "files stay open when the writer is gone");
        self.sim = self.sim.reboot(seed);
        self.failures_before = 0;
        self.tally.reboots += 1;
    }

    /// Whether an error of a step is to be expected: something failed since the store was opened.
    pub(crate) fn may_fail(&self, error: &Error) -> bool {
        if self.sim.is_limited() && (error.is_disk_full() || matches!(error, Error::Poisoned { .. })) {
            return true;
        }
        let kinds = [Kind::Damaged, Kind::Unavailable, Kind::Absent];
        let is_damage =
            self.rotten && (kinds.contains(&error.kind()) || matches!(error, Error::Incomplete { .. }));
        is_damage || self.sim.crashed() || self.sim.failures() > self.failures_before
    }

    fn writer(&self) -> &Writer {
        self.writer.as_ref().expect("it is opened before each step")
    }

    /// Which of the models that are possible a view is.
    fn allowed(&self, view: &View) -> Model {
        let names = Names::of(view, self.world);
        let place = |artifact| self.world.place_of(artifact).expect("what is partial is named");
        let partial: BTreeSet<usize> = view.partial.iter().map(place).collect();
        let mut possible = std::iter::once(&self.model).chain(&self.perhaps);
        let found = possible.find(|model| model.allows(&names, &partial));
        let found = found.unwrap_or_else(|| {
            let (model, perhaps) = (&self.model, &self.perhaps);
            panic!("found {names:?}, partial {partial:?}, and expected {model:?} or {perhaps:?}")
        });
        Model { names, partial: found.partial.clone() }
    }

    /// Takes a step, if it means something now.
    pub(crate) fn take(&mut self, step: Step) -> Result<()> {
        if step == Step::Reopen {
            self.close();
        }
        self.open()?;
        self.tally.steps += 1;
        let done = match (step.change(&self.model, self.world), step) {
            (Some(change), step) => self.change(&change, step),
            (None, Step::Collect { percent, stop }) => self.collect(percent, stop, !self.held.is_empty()),
            (None, Step::Optimise { stop }) => self.optimise(stop),
            (None, Step::Hold { release }) => self.hold(release),
            (None, Step::AddCancelled { tree, after }) => self.add_cancelled(tree, after),
            (None, Step::Rot { pack, place }) => self.rot(pack, place),
            (None, Step::Repair) => self.repair(),
            (None, Step::ReadAndHeal) => self.read_and_heal(),
            (None, Step::WriteRun) => {
                let io: Arc<dyn Io> = Arc::new(self.sim.clone());
                let root = Path::new(STORE);
                Index::open(&io, root).and_then(|index| index.persist(&*io, root, true))
            }
            (None, Step::RemoveRuns) => self.remove_runs(),
            (None, _) => Ok(()),
        };
        let Some(writer) = &self.writer else { return done };
        // Whatever happened, nothing is shown that was not acknowledged.
        let shown = Names::of(&writer.names(), self.world);
        assert!(shown == self.model.names, "after {step:?}, {done:?}: {shown:?}, not {:?}", self.model.names);
        done
    }

    fn change(&mut self, change: &Change, step: Step) -> Result<()> {
        let after = self.model.after(change, self.world);
        let writer = self.writer();
        let guard = match (change, step) {
            (Change::Pull { release, .. }, Step::PullAround { held: true, .. }) => {
                let held = Held::Artifact(self.world.at(*release).artifact);
                Some(writer.hold(held, "a pull".to_owned()))
            }
            _ => None,
        };
        // What comes before names are touched.
        let ingested = match change {
            Change::Publish { release } => {
                let release = self.world.at(*release);
                let options = with_threads(1, options(release.package, release.version));
                let ingested = writer.ingest(at(&self.world.source(release.tree)), &options, &())?;
                assert_eq!(ingested.artifact, release.artifact);
                Some(ingested)
            }
            Change::Pull { release, partial } => {
                let sent = self.world.at(*release).sent.as_ref().expect("it is pulled");
                let data = sent.data.iter().filter(|_| !partial);
                data.chain(&sent.objects).try_for_each(|frame| frame.arrive(&writer.intake()))?;
                None
            }
            Change::Complete { release } => {
                let sent = self.world.at(*release).sent.as_ref().expect("it was pulled");
                sent.data.iter().try_for_each(|frame| frame.arrive(&writer.intake()))?;
                None
            }
            _ => None,
        };
        if matches!(step, Step::AddAround { .. } | Step::PullAround { .. }) {
            self.collect(100, None, true)?;
        }
        let is_held = guard.is_some();
        self.perhaps.push(after.clone());
        let writer = self.writer();
        let named = match change {
            Change::Publish { .. } => {
                let options = PublishOptions { replace: true, channel: None };
                let ingested = ingested.expect("it was ingested above");
                writer.publish(&ingested, &options).map(drop)
            }
            change => rename(writer, self.world, change),
        };
        match named {
            // What nobody held while it came may be gone, and is not named then.
            Err(Error::Incomplete { .. } | Error::Absent { .. })
                if matches!(step, Step::PullAround { .. }) && !is_held =>
            {
                self.perhaps.pop();
                return Ok(());
            }
            named => named?,
        }
        if matches!(change, Change::Pull { .. } | Change::Complete { .. }) {
            self.tally.pulls += 1;
        }
        // What changes nothing succeeds even where nothing can be written any more.
        if self.model != after {
            self.model = after;
            self.perhaps.clear();
        }
        Ok(())
    }

    /// Collects what nobody needs; everything that is named or held can be read afterwards, by whoever knew it before.
    /// Where nobody holds anything and nothing fails, nothing is left to collect.
    fn collect(&mut self, percent: u64, stop: Option<u64>, somebody_holds: bool) -> Result<()> {
        let writer = self.writer();
        let threads = std::num::NonZero::new(1);
        #[expect(clippy::cast_precision_loss, reason = "at most 100")]
        let live_ratio = percent as f64 / 100.0;
        let options = CollectOptions { live_ratio, threads, ..CollectOptions::default() };
        let missing = |place: &usize| {
            let missing = writer.store().missing(&self.world.at(*place).artifact, &()).ok();
            missing.map_or(u64::MAX, |missing| missing.chunks + missing.objects)
        };
        let partial: Vec<u64> = self.model.partial.iter().map(missing).collect();
        let plan = writer.plan_collection(&options, &())?;
        let collected = match stop {
            Some(stop) => writer.collect(&plan, &options, &Impatient(AtomicU64::new(stop))),
            None => writer.collect(&plan, &options, &()),
        };
        let collected = match collected {
            Err(Error::Cancelled) if stop.is_some() => return Ok(()),
            collected => collected?,
        };
        for place in self.model.names.releases().into_iter().chain(self.held.iter().map(|(place, _)| *place))
        {
            if !self.model.partial.contains(&place) {
                self.compare(writer.store(), place)?;
            }
        }
        let after: Vec<u64> = self.model.partial.iter().map(missing).collect();
        let is_sound = !self.rotten && self.sim.failures() == self.failures_before;
        if is_sound {
            let is_kept = partial.iter().zip(&after).all(|(before, after)| after <= before);
            assert!(is_kept, "partial artifacts lose what is here of them: {partial:?}, {after:?}");
        }
        if is_sound && !somebody_holds && stop.is_none() && !self.sim.is_limited() {
            assert!(collected.complete && collected.kept_back.is_empty(), "{collected:?}");
            let mut again = writer.plan_collection(&options, &())?;
            // What versions stood on is without use once these stand alone, and may have stood on something itself.
            for _ in 0..LEVELS_MAX {
                if plan.packs.iter().any(|pack| pack.deltas) {
                    writer.collect(&again, &options, &())?;
                    again = writer.plan_collection(&options, &())?;
                }
            }
            let is_sound = self.sim.failures() == self.failures_before;
            assert!(!is_sound || again.is_nothing(), "{collected:?} of {plan:?}, and then {again:?}");
        }
        self.tally.collections += 1;
        self.tally.dropped += collected.dropped.len() as u64;
        self.tally.rewritten += collected.rewritten.len() as u64;
        Ok(())
    }

    /// Tells older versions in terms of newer ones; everything can be read afterwards.
    fn optimise(&mut self, stop: Option<u64>) -> Result<()> {
        let writer = self.writer();
        let plan = writer.plan_optimise(&())?;
        let options = OptimiseOptions::default();
        let done = match stop {
            Some(stop) => writer.optimise(&plan, &options, &Impatient(AtomicU64::new(stop))),
            None => writer.optimise(&plan, &options, &()),
        };
        let done = match done {
            Err(Error::Cancelled) if stop.is_some() => return Ok(()),
            done => done?,
        };
        for place in self.model.names.releases().into_iter().chain(self.held.iter().map(|(place, _)| *place))
        {
            if !self.model.partial.contains(&place) {
                self.compare(writer.store(), place)?;
            }
        }
        self.tally.told += done.versions;
        Ok(())
    }

    /// Holds something that is wholly here, whatever becomes of its names.
    fn hold(&mut self, release: u64) -> Result<()> {
        let whole: Vec<usize> =
            self.model.names.releases().difference(&self.model.partial).copied().collect();
        let Some(place) = pick(whole.len(), release).map(|at| whole[at]) else { return Ok(()) };
        let held = Held::Artifact(self.world.at(place).artifact);
        let guard = self.writer().hold(held, "a test".to_owned());
        self.held.push((place, guard));
        Ok(())
    }

    fn add_cancelled(&mut self, tree: u64, after: u64) -> Result<()> {
        let Some(tree) = pick(self.world.trees(), tree) else { return Ok(()) };
        let impatient = Impatient(AtomicU64::new(after));
        let options = with_threads(1, options("app", "cancelled"));
        match self.writer().ingest(at(&self.world.source(tree)), &options, &impatient) {
            Err(Error::Cancelled) => Ok(()),
            ended => ended.map(drop),
        }
    }

    /// Turns a bit of a pack. Whoever opens the store after that and reads everything has to notice.
    fn rot(&mut self, pack: u64, place: u64) -> Result<()> {
        let mut packs: Vec<PathBuf> = self
            .packs()?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|it| it == "pack"))
            .collect();
        packs.sort();
        let Some(pack) = pick(packs.len(), pack) else { return Ok(()) };
        self.close();
        let len = self.sim.read(&packs[pack]).map_err(failed("read", &packs[pack]))?.len();
        let byte = pick(len, place).expect("a pack is not empty");
        self.sim.rot(&packs[pack], byte, 1 << (place % 8));
        self.rotten = true;
        let report = verify(&self.reader()?)?;
        assert!(
            !report.is_clean(),
            "bit {} of byte {byte} of {} of {len} turned",
            place % 8,
            packs[pack].display()
        );
        self.tally.rotten += 1;
        self.open()
    }

    /// Repairs until all is sound: what lay below a damaged list is known only once that is here again.
    fn repair(&mut self) -> Result<()> {
        let writer = self.writer();
        for _ in 0..REPAIRS_MAX {
            let report = verify(writer.store())?;
            let plan = writer.plan_repair(&report)?;
            let repaired = writer.repair(&plan, Some(&self.world.library(writer)), &())?;
            let is_hindered = self.sim.failures() > self.failures_before;
            assert!(is_hindered || repaired.still_damaged.is_empty(), "{repaired:?} of {plan:?}");
            if verify(&self.reader()?)?.is_clean() {
                self.tally.repairs += u64::from(self.rotten);
                self.rotten = false;
                return Ok(());
            }
        }
        let report = verify(&self.reader()?)?;
        assert!(self.sim.failures() > self.failures_before, "{REPAIRS_MAX} repairs, and then {report:?}");
        Ok(())
    }

    /// Reads all that is named, with somebody to ask for what does not hold.
    fn read_and_heal(&mut self) -> Result<()> {
        let writer = self.writer();
        writer.store().set_fetch(Some(Arc::new(self.world.library(writer))));
        let mut whole = self.model.names.releases().into_iter();
        let read = whole.try_for_each(|place| self.compare(writer.store(), place));
        writer.store().set_fetch(None);
        read
    }

    fn remove_runs(&self) -> Result<()> {
        let dir = Path::new(STORE).join("index");
        for entry in self.sim.list(&dir).map_err(failed("list", &dir))? {
            self.sim.remove(&dir.join(entry.name)).map_err(failed("remove", &dir))?;
        }
        Ok(())
    }

    fn packs(&self) -> Result<Vec<PathBuf>> {
        let dir = Path::new(STORE).join("packs");
        let listed = self.sim.list(&dir).map_err(failed("list", &dir))?;
        Ok(listed.into_iter().map(|entry| dir.join(entry.name)).collect())
    }

    /// The store as somebody else sees it who opens it to read.
    fn reader(&self) -> Result<Store> {
        Store::open_with(Arc::new(self.sim.clone()), Path::new(STORE))
    }

    /// Whoever opens the store to read sees a state that is allowed, and all of it whole. Nothing fails meanwhile.
    pub(crate) fn check(&self) {
        let store = match self.reader() {
            Err(Error::Absent { .. }) if self.model == Model::default() => return,
            opened => opened.unwrap_or_else(|error| panic!("{error:?}")),
        };
        let view = store.view().unwrap_or_else(|error| panic!("{error:?}"));
        let model = self.allowed(&view);
        let report = verify(&store).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(self.rotten || report.is_clean(), "{:?} {:?}", report.damage, report.affected);
        for place in model.names.releases() {
            let is_partial = model.partial.contains(&place);
            match self.compare(&store, place) {
                Ok(()) => {}
                // What is not here yet reads as what should be here and is not.
                Err(error) if is_partial && matches!(error.kind(), Kind::Absent | Kind::Damaged) => {}
                Err(error) if self.rotten && error.kind() == Kind::Damaged => {}
                Err(error) => panic!("{}: {error:?}", self.world.at(place).key()),
            }
        }
    }

    /// Compares every byte of a release.
    fn compare(&self, store: &Store, place: usize) -> Result<()> {
        let (release, files) = (self.world.at(place), self.world.files_of(place));
        let mut found = 0;
        for step in store.artifact(&release.artifact)?.walk(store) {
            let (path, entry) = step?;
            if matches!(entry.node, Node::File { .. }) {
                let bytes = read_file(store, &release.artifact, &path)?;
                assert!(files.get(&path) == Some(&bytes), "{}: {}", release.key(), path.escape_ascii());
                found += 1;
            }
        }
        assert_eq!(found, files.len(), "{}", release.key());
        Ok(())
    }

    /// The end: everything is taken away and collected, and nothing is left. Nothing fails meanwhile.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.close();
        self.open()?;
        if self.rotten {
            self.repair()?;
        }
        self.take_all_away()?;
        self.model = Model::default();
        self.collect(100, None, false)?;
        let packs = self.packs()?;
        assert!(packs.is_empty(), "nothing is named, and {packs:?} stay");
        self.close();
        assert_eq!(self.sim.open_files(), 0, "files stay open when nobody has the store open");
        for dir in ["", "journal", "index", "cache"] {
            let dir = Path::new(STORE).join(dir);
            for entry in self.sim.list(&dir).map_err(failed("list", &dir))? {
                let is_left = entry.name.ends_with(".open") || entry.name.ends_with(".part");
                assert!(!is_left, "{} is left", dir.join(entry.name).display());
            }
        }
        Ok(())
    }

    /// Takes every name away. Of a profile stays one generation, which has no packages.
    fn take_all_away(&self) -> Result<()> {
        let writer = self.writer();
        for key in writer.names().refs.keys() {
            writer.remove_ref(key, true)?;
        }
        for (profile, series) in &writer.names().profiles {
            for number in &series.pins {
                writer.unpin(profile, *number)?;
            }
            let current = series.current().expect("a profile shows something");
            let remove: Vec<_> = current.packages.keys().cloned().collect();
            if !remove.is_empty() {
                writer.use_packages(&UseOptions {
                    profile: profile.clone(),
                    remove,
                    ..UseOptions::default()
                })?;
            }
            writer.prune(&writer.plan_prune(profile, 0)?)?;
        }
        Ok(())
    }
}

/// An error of a call that the test itself makes.
fn failed(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

fn verify(store: &Store) -> Result<VerifyReport> {
    store.verify(&VerifyOptions { threads: std::num::NonZero::new(1), ..VerifyOptions::default() }, &())
}

/// The last step of a change: the one that names are touched by.
fn rename(writer: &Writer, world: &World, change: &Change) -> Result<()> {
    let profile = |name: &str| name.parse::<ProfileName>().expect("a profile");
    match change {
        Change::Publish { .. } => Ok(()),
        Change::Pull { release, partial } => {
            let release = world.at(*release);
            let sent = release.sent.as_ref().expect("it is pulled");
            let options = PulledOptions { partial: *partial, ..PulledOptions::default() };
            writer.publish_pulled(&release.artifact, &sent.statements, &options).map(drop)
        }
        Change::Complete { release } => writer.set_whole(&world.at(*release).artifact),
        Change::Tag { release, channel } => {
            writer.tag(&world.at(*release).key(), &channel.parse().expect("a channel")).map(drop)
        }
        Change::RemoveRef { release } => writer.remove_ref(&world.at(*release).key(), true).map(drop),
        Change::RemoveChannel { package, channel } => {
            let key = cairn_store::ChannelKey {
                name: package.parse().expect("a name"),
                channel: channel.parse().expect("a channel"),
                platform: "linux/x86_64".parse().expect("a platform"),
            };
            writer.remove_channel(&key).map(drop)
        }
        Change::Use { profile: of, set, remove } => {
            let set = set.iter().map(|place| (world.at(*place).key(), world.at(*place).artifact)).collect();
            let remove = remove.iter().map(|name| name.parse().expect("a name")).collect();
            let platform = Some("linux/x86_64".parse().expect("a platform"));
            let options = UseOptions { profile: profile(of), set, remove, platform, ..UseOptions::default() };
            writer.use_packages(&options).map(drop)
        }
        Change::Switch { profile: of, to } => writer.switch(&profile(of), *to, None).map(drop),
        Change::Rollback { profile: of, .. } => writer.rollback(&profile(of), None).map(drop),
        Change::Pin { profile: of, number } => writer.pin(&profile(of), *number).map(drop),
        Change::Unpin { profile: of, number } => writer.unpin(&profile(of), *number).map(drop),
        Change::Prune { profile: of, keep } => {
            let plan = writer.plan_prune(&profile(of), *keep)?;
            writer.prune(&plan).map(drop)
        }
    }
}
