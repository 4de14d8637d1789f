//! Profiles: what using, switching, pinning and pruning do, and what stands in the way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cairn_store::generation::Kept;
use cairn_store::{
    ArtifactId, Error, Kind, Name, ProfileName, RefKey, Result, Store, Switched, UseOptions, View, Writer,
};
use harness::plan::{Fill, Folder, Plan, make};
use harness::scratch::Scratch;
use harness::stores::{add, assert_sound, options, writer};

struct Setting {
    scratch: Scratch,
    writer: Writer,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn profile() -> ProfileName {
    ProfileName::default()
}

impl Setting {
    fn new() -> Self {
        let scratch = Scratch::new();
        let writer = writer(&scratch.join("store"));
        Self { scratch, writer }
    }

    /// Adds a release with these programs in `bin`, each of which has the version's text in it.
    fn release(&self, package: &str, version: &str, programs: &[&str]) -> (RefKey, ArtifactId) {
        self.release_for(package, version, programs, "linux/x86_64")
    }

    fn release_for(&self, package: &str, version: &str, programs: &[&str], on: &str) -> (RefKey, ArtifactId) {
        let source = self.scratch.join(format!("{package}-{version}-{}", on.replace('/', "-")));
        let program = |program: &&str| {
            let seed = version.bytes().map(u64::from).sum();
            (program.as_bytes().to_vec(), Plan::File(Fill::Text(seed), 3000, 0o755))
        };
        let bin: Folder = programs.iter().map(program).collect();
        make(&source, &Folder::from([(b"bin".to_vec(), Plan::Dir(bin, 0o755))]));
        let mut options = options(package, version);
        options.platform = Some(on.parse().unwrap());
        let ingested = add(&self.writer, &source, &options);
        (ingested.key, ingested.artifact)
    }

    fn use_of(&self, set: &[&(RefKey, ArtifactId)]) -> UseOptions {
        UseOptions { set: set.iter().map(|set| (*set).clone()).collect(), ..here() }
    }

    fn use_all(&self, set: &[&(RefKey, ArtifactId)]) -> Result<Switched> {
        self.writer.use_packages(&self.use_of(set))
    }
}

/// Whatever machine the test runs on.
fn here() -> UseOptions {
    UseOptions { platform: Some("linux/x86_64".parse().unwrap()), ..UseOptions::default() }
}

fn shown(store: &Store) -> (u64, Vec<String>) {
    let view = store.view().unwrap();
    let found = &view.profiles[&profile()];
    let packages = found.current().unwrap().packages.iter();
    (found.current, packages.map(|(name, package)| format!("{name}@{}", package.version)).collect())
}

fn changed(switched: &Switched) -> Vec<String> {
    let say = |package: &Option<Arc<cairn_store::Package>>| {
        package.as_ref().map_or("-".to_owned(), |package| package.version.to_string())
    };
    let line = |change: &cairn_store::PackageChange| {
        format!("{} {} {}", change.name, say(&change.from), say(&change.to))
    };
    switched.changes.iter().map(line).collect()
}

#[test]
fn using_makes_a_generation_and_shows_it() {
    let setting = Setting::new();
    let old = setting.release("app", "1.0", &["app"]);
    let new = setting.release("app", "2.0", &["app", "app-cli"]);
    let tool = setting.release("tool", "7", &["tool"]);
    let first = setting.use_all(&[&old, &tool]).unwrap();
    assert_eq!((first.from, first.to), (None, 1));
    assert_eq!(changed(&first), ["app - 1.0", "tool - 7"]);
    let reader = Store::open(&setting.scratch.join("store")).unwrap();
    assert_eq!(shown(&reader), (1, vec!["app@1.0".to_owned(), "tool@7".to_owned()]));
    assert_eq!(first.seq, Some(reader.view().unwrap().seq));
    let second = setting.use_all(&[&new]).unwrap();
    assert_eq!((second.from, second.to, changed(&second)), (Some(1), 2, vec!["app 1.0 2.0".to_owned()]));
    let view = reader.view().unwrap();
    let commands: Vec<String> = view.profiles[&profile()].generations[&2]
        .commands()
        .into_iter()
        .map(|(command, (name, path))| format!("{} {name} {}", command.escape_ascii(), path.escape_ascii()))
        .collect();
    assert_eq!(commands, ["app app bin/app", "app-cli app bin/app-cli", "tool tool bin/tool"]);
    // Nothing to be changed: no generation, no record.
    let again = setting.use_all(&[&new]).unwrap();
    assert_eq!((again.from, again.to, again.seq), (Some(2), 2, None));
    assert_eq!(reader.view().unwrap().seq, view.seq);
    let gone = setting.writer.use_packages(&UseOptions { remove: vec![name("tool")], ..here() }).unwrap();
    assert_eq!(changed(&gone), ["tool 7 -"]);
    assert_eq!(shown(&reader), (3, vec!["app@2.0".to_owned()]));
    assert_sound(&setting.writer);
}

#[test]
fn generations_are_there_after_opening_the_store_again() {
    let Setting { scratch, writer: first } = Setting::new();
    let setting = Setting { scratch, writer: first };
    let one = setting.release("app", "1.0", &["app"]);
    setting.use_all(&[&one]).unwrap();
    setting.writer.pin(&profile(), 1).unwrap();
    let before = setting.writer.names();
    let Setting { scratch, writer: first } = setting;
    drop(first);
    let again = writer(&scratch.join("store"));
    assert_eq!(*again.names(), *before);
}

#[test]
fn a_generation_keeps_its_artifact_when_the_ref_is_gone() {
    let setting = Setting::new();
    let one = setting.release("app", "1.0", &["app"]);
    setting.use_all(&[&one]).unwrap();
    setting.writer.remove_ref(&one.0, false).unwrap();
    let view = setting.writer.names();
    assert!(view.refs.is_empty());
    assert_eq!(view.artifacts().into_iter().collect::<Vec<_>>(), [one.1]);
    assert_eq!(setting.writer.stats().unwrap().artifacts, 1);
    assert!(setting.writer.usage(&()).unwrap().contains_key(&one.1));
    let report = harness::stores::verify(&setting.writer);
    assert_eq!((report.artifacts, report.is_clean()), (1, true));
}

#[test]
fn what_cannot_be_used_is_refused_and_nothing_changes() {
    let setting = Setting::new();
    let one = setting.release("app", "1.0", &["app"]);
    let other = setting.release("app", "2.0", &["app"]);
    let foreign = setting.release_for("foreign", "1", &["foreign"], "plan9/vax");
    let data = setting.release_for("data", "1", &["data"], "any/any");
    setting.use_all(&[&one, &data]).unwrap();
    let before = setting.writer.names();
    let refuse = |options: UseOptions| {
        let error = setting.writer.use_packages(&options).unwrap_err();
        assert_eq!(setting.writer.names().seq, before.seq);
        error
    };
    let error = refuse(setting.use_of(&[&foreign]));
    assert!(matches!(error, Error::WrongPlatform { .. }) && error.kind() == Kind::Misuse);
    assert_eq!(error.to_string(), "foreign@1 for plan9/vax does not run on linux/x86_64");
    let error =
        refuse(UseOptions { platform: Some("plan9/vax".parse().unwrap()), ..setting.use_of(&[&other]) });
    assert!(matches!(error, Error::WrongPlatform { .. }));
    let error = refuse(UseOptions { remove: vec![name("nothing")], ..here() });
    assert!(matches!(error, Error::NoPackage { .. }) && error.kind() == Kind::Absent, "{error}");
    let error = refuse(UseOptions { prefer: vec![name("nothing")], ..here() });
    assert_eq!(error.to_string(), "profile default has no package nothing");
    let error = refuse(UseOptions { remove: vec![name("app")], ..setting.use_of(&[&other]) });
    assert!(matches!(error, Error::Invalid { .. }));
    assert!(matches!(refuse(setting.use_of(&[&one, &other])), Error::Invalid { .. }));
    assert!(matches!(refuse(here()), Error::Invalid { .. }));
    let unknown = (other.0.clone(), ArtifactId([1; 32]));
    assert!(matches!(refuse(setting.use_of(&[&unknown])), Error::Absent { .. }));
    for expected in [0, 2] {
        let error = refuse(UseOptions { if_current: Some(expected), ..setting.use_of(&[&other]) });
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains("its current generation is 1, not"), "{error}");
    }
    setting.writer.use_packages(&UseOptions { if_current: Some(1), ..setting.use_of(&[&other]) }).unwrap();
}

#[test]
fn what_is_not_wholly_here_is_refused() {
    let setting = Setting::new();
    let one = setting.release("app", "1.0", &["app", "more"]);
    for pack in setting.writer.packs().unwrap().into_iter().filter(|pack| !pack.metadata) {
        std::fs::remove_file(setting.scratch.join("store/packs").join(format!("{}.pack", pack.id))).unwrap();
    }
    let error = setting.use_all(&[&one]).unwrap_err();
    let Error::Incomplete { missing, .. } = &error else { panic!("{error}") };
    assert_eq!((missing.chunks, missing.bytes), (1, 3000));
    assert_eq!(
        error.to_string(),
        "app@1.0 for linux/x86_64 is not wholly in the store: 1 chunk with 3000 bytes is missing"
    );
    assert!(setting.writer.names().profiles.is_empty());
}

#[test]
fn a_command_that_two_packages_offer_is_the_preferred_ones() {
    let setting = Setting::new();
    let one = setting.release("one", "1", &["both", "one"]);
    let two = setting.release("two", "1", &["both", "two"]);
    let three = setting.release("three", "1", &["both"]);
    setting.use_all(&[&one]).unwrap();
    let error = setting.use_all(&[&two]).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(
        error.to_string(),
        "command \"both\" is offered by both one and two, and neither is preferred"
    );
    let prefer = |names: &[&str], set: &[&(RefKey, ArtifactId)]| {
        let prefer = names.iter().map(|text| name(text)).collect();
        setting.writer.use_packages(&UseOptions { prefer, ..setting.use_of(set) })
    };
    let winner = || {
        let view = setting.writer.names();
        let current = view.profiles[&profile()].current().unwrap();
        current.commands()[b"both".as_slice()].0.to_string()
    };
    prefer(&["two"], &[&two]).unwrap();
    assert_eq!(winner(), "two");
    prefer(&["one"], &[]).unwrap();
    assert_eq!(winner(), "one");
    setting.use_all(&[&three]).unwrap();
    assert_eq!(winner(), "one");
    // Without those that are preferred, it is open again.
    let without = |names: &[&str]| {
        let remove = names.iter().map(|text| name(text)).collect();
        setting.writer.use_packages(&UseOptions { remove, ..here() })
    };
    without(&["one"]).unwrap();
    assert_eq!(winner(), "two");
    setting.use_all(&[&one]).unwrap();
    assert!(matches!(without(&["two"]), Err(Error::CommandClash { .. })));
}

#[test]
fn switching_and_rolling_back_show_what_was() {
    let setting = Setting::new();
    let [one, two, three] = ["1.0", "2.0", "3.0"].map(|version| setting.release("app", version, &["app"]));
    for release in [&one, &two, &three] {
        setting.use_all(&[release]).unwrap();
    }
    let writer = &setting.writer;
    let back = writer.rollback(&profile(), None).unwrap();
    assert_eq!((back.from, back.to, changed(&back)), (Some(3), 2, vec!["app 3.0 2.0".to_owned()]));
    assert_eq!(writer.rollback(&profile(), Some(1)).unwrap().to, 1);
    let error = writer.rollback(&profile(), None).unwrap_err();
    assert_eq!(error.to_string(), "profile default: there is no generation before 1");
    assert!(matches!(writer.switch(&profile(), 3, Some(2)), Err(Error::Conflict { .. })));
    assert_eq!(writer.switch(&profile(), 3, Some(1)).unwrap().from, Some(1));
    let same = writer.switch(&profile(), 3, None).unwrap();
    assert_eq!((same.from, same.to, same.seq), (Some(3), 3, None));
    let error = writer.switch(&profile(), 9, None).unwrap_err();
    assert!(matches!(error, Error::NoGeneration { number: 9, .. }) && error.kind() == Kind::Absent);
    let nobody = "nobody".parse().unwrap();
    assert_eq!(writer.switch(&nobody, 1, None).unwrap_err().kind(), Kind::Absent);
    assert_eq!(writer.plan_prune(&nobody, 1).unwrap_err().kind(), Kind::Absent);
    // A generation after a rollback is made of what is shown, and gets the next number.
    writer.switch(&profile(), 1, None).unwrap();
    let tool = setting.release("tool", "7", &["tool"]);
    let next = setting.use_all(&[&tool]).unwrap();
    assert_eq!((next.from, next.to), (Some(1), 4));
    assert_eq!(shown(writer), (4, vec!["app@1.0".to_owned(), "tool@7".to_owned()]));
    assert_eq!(writer.names().profiles[&profile()].generations[&4].parent, Some(1));
}

#[test]
fn pruning_leaves_the_newest_the_current_and_the_pinned() {
    let setting = Setting::new();
    for version in 1..=8 {
        let release = setting.release("app", &version.to_string(), &["app"]);
        setting.use_all(&[&release]).unwrap();
    }
    let writer = &setting.writer;
    assert!(writer.pin(&profile(), 2).unwrap() && !writer.pin(&profile(), 2).unwrap());
    assert!(writer.pin(&profile(), 8).unwrap() && writer.unpin(&profile(), 8).unwrap());
    assert!(!writer.unpin(&profile(), 8).unwrap());
    assert!(matches!(writer.pin(&profile(), 9), Err(Error::NoGeneration { .. })));
    writer.switch(&profile(), 4, None).unwrap();
    let plan = writer.plan_prune(&profile(), 2).unwrap();
    assert_eq!(plan.remove, [1, 3, 5, 6]);
    let kept = BTreeMap::from([(2, Kept::Pinned), (4, Kept::Current), (7, Kept::Newest), (8, Kept::Newest)]);
    assert_eq!(plan.kept, kept);
    // What the plan takes is current or pinned by now.
    writer.switch(&profile(), 5, None).unwrap();
    assert_eq!(writer.prune(&plan).unwrap_err().kind(), Kind::Conflict);
    writer.switch(&profile(), 4, None).unwrap();
    writer.pin(&profile(), 6).unwrap();
    assert_eq!(writer.prune(&plan).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(writer.names().profiles[&profile()].generations.len(), 8);
    writer.unpin(&profile(), 6).unwrap();
    let seq = writer.prune(&plan).unwrap();
    let left: Vec<u64> = writer.names().profiles[&profile()].generations.keys().copied().collect();
    assert_eq!((left, seq), (vec![2, 4, 7, 8], writer.names().seq));
    let nothing = writer.plan_prune(&profile(), 2).unwrap();
    assert!(nothing.remove.is_empty());
    assert_eq!(writer.prune(&nothing).unwrap(), seq);
    // Only what cannot go is left, and the numbers go on.
    writer.prune(&writer.plan_prune(&profile(), 0).unwrap()).unwrap();
    let release = setting.release("app", "9", &["app"]);
    assert_eq!(setting.use_all(&[&release]).unwrap().to, 9);
}

#[test]
fn profiles_do_not_touch_one_another() {
    let setting = Setting::new();
    let [one, two] = ["1.0", "2.0"].map(|version| setting.release("app", version, &["app"]));
    setting.use_all(&[&one]).unwrap();
    let canary: ProfileName = "canary".parse().unwrap();
    let first =
        setting.writer.use_packages(&UseOptions { profile: canary.clone(), ..setting.use_of(&[&two]) });
    assert_eq!(first.unwrap().to, 1);
    assert_eq!(shown(&setting.writer), (1, vec!["app@1.0".to_owned()]));
    let view = setting.writer.names();
    assert_eq!(view.profiles[&canary].current().unwrap().packages[&name("app")].version.as_str(), "2.0");
}

#[test]
fn observers_see_every_change_in_order_when_it_is_durable() {
    let setting = Setting::new();
    let seen: Arc<Mutex<Vec<Arc<View>>>> = Arc::default();
    let reader = Store::open(&setting.scratch.join("store")).unwrap();
    let log = Arc::clone(&seen);
    let at_first = setting.writer.observe(Box::new(move |view| {
        assert_eq!(reader.view().unwrap().seq, view.seq, "what is shown can be read from the disk");
        log.lock().unwrap().push(Arc::clone(view));
    }));
    assert_eq!(at_first.seq, setting.writer.names().seq);
    let one = setting.release("app", "1.0", &["app"]);
    assert_eq!(seen.lock().unwrap().len(), 1);
    setting.use_all(&[&one]).unwrap();
    setting.use_all(&[&one]).unwrap();
    assert!(setting.writer.switch(&profile(), 7, None).is_err());
    setting.writer.pin(&profile(), 1).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.is_sorted_by(|a, b| a.seq < b.seq));
    assert!(Arc::ptr_eq(&seen[2], &setting.writer.names()));
}

#[test]
fn of_those_who_expect_the_same_generation_one_wins() {
    let setting = Setting::new();
    let releases: Vec<_> = (0..8).map(|n| setting.release("app", &n.to_string(), &["app"])).collect();
    setting.use_all(&[&releases[0]]).unwrap();
    let won = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for release in &releases[1..] {
            let (setting, won) = (&setting, &won);
            scope.spawn(move || {
                for expected in 1..=5 {
                    let options = UseOptions { if_current: Some(expected), ..setting.use_of(&[release]) };
                    match setting.writer.use_packages(&options) {
                        Ok(switched) => won.lock().unwrap().push((switched.from, switched.to)),
                        Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
                    }
                }
            });
        }
    });
    let mut won = won.into_inner().unwrap();
    won.sort_unstable();
    won.dedup();
    let current = setting.writer.names().profiles[&profile()].current;
    let made: Vec<_> = won.into_iter().filter(|(from, to)| *from != Some(*to)).collect();
    assert_eq!(made, (1..current).map(|from| (Some(from), from + 1)).collect::<Vec<_>>());
    assert!(current > 1);
}
