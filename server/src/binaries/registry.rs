//! What is registered, what waits, and what is refused: the rules, without files, threads or clocks.
//!
//! A file is registered when it is complete, and that is: nobody has it open for writing (`writers`), and it was moved to
//! its name by a rename, or has not changed for [`SETTLE`]. Where the kernel does not say who has it open, it must not have
//! changed for [`SETTLE_UNSURE`], however it came. So a file that is written slowly is not registered before its writer
//! closes it, and one that is written in several goes not between goes that are closer to each other than that.
//!
//! What was registered stays so until its file is gone, is refused, or is registered again; whether its bytes may still be
//! given out is asked of the file itself, each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_store::Version;

use super::file_name::FileName;
use super::folder::{Kind, Listed, Stamp};
use super::platform::{Arch, System};
use super::sums::Sums;

/// For how long a file that was not renamed to its name must not have changed.
const SETTLE: Duration = Duration::from_secs(2);
/// The same where the kernel does not say whether somebody has it open for writing.
const SETTLE_UNSURE: Duration = Duration::from_secs(5);
/// Two changes that are closer to each other may leave one time.
const GRAIN: Duration = Duration::from_millis(50);
/// How often a file is looked at that somebody has open for writing. It is seen at once where the kernel tells of closing.
const WRITER_PAUSE: Duration = Duration::from_millis(500);
/// How long after a failure a file is read again though it has not changed.
const FAILED_PAUSE: Duration = Duration::from_secs(30);
/// Files that are registered, at most.
const FILES_MAX: usize = 10_000;

/// A registered file.
#[derive(Debug, Clone)]
pub(crate) struct Registered {
    /// The file's name in the folder.
    pub(crate) file: String,
    /// What that says.
    pub(crate) name: FileName,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub(crate) checksum: String,
    /// As it was when its bytes were hashed.
    pub(super) stamp: Stamp,
}

impl Registered {
    pub(crate) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// When its bytes were put there, in seconds since 1970.
    pub(crate) fn uploaded_at(&self) -> u64 {
        u64::try_from(self.stamp.mtime_ns / 1_000_000_000).unwrap_or(0)
    }
}

/// A file that is to be hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) file: String,
    pub(super) stamp: Stamp,
    /// Whether it has not changed for so long that it is complete even where the kernel says nothing of writers.
    pub(super) is_old: bool,
}

/// What hashing a file came to.
#[derive(Debug)]
pub(super) enum Hashed {
    Done(String),
    /// Somebody has it open for writing.
    Writer,
    /// The kernel does not say whether somebody has.
    Unsure,
    /// It is not what it was.
    Changed,
    Failed(String),
}

/// The moment of an observation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    /// By the machine's clock, in nanoseconds since 1970.
    pub(super) wall_ns: i64,
}

/// What is to be done after an observation.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) jobs: Vec<Job>,
    /// When to look again, though nothing is told.
    pub(super) again_in: Option<Duration>,
}

#[derive(Debug)]
enum Phase {
    Settling,
    Written(Instant),
    Changed(Instant),
    Unsure,
    Queued,
    Failed(String, Instant),
}

/// A file that fits and is not registered as it is now.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    since: Instant,
    /// Whether it came to its name by a rename, with these bytes.
    is_moved: bool,
    phase: Phase,
}

impl Seen {
    /// How long it has been as it is: by what was seen of it, or by the time of its last change where the clocks agree.
    fn age(&self, now: Now) -> Duration {
        let seen = now.instant.saturating_duration_since(self.since);
        let changed = u64::try_from(now.wall_ns.saturating_sub(self.stamp.ctime_ns)).unwrap_or(0);
        seen.max(Duration::from_nanos(changed))
    }

    /// How long until it may be hashed; `None` if it is being hashed.
    fn due_in(&self, now: Now) -> Option<Duration> {
        let age = self.age(now);
        let since = |at: &Instant| now.instant.saturating_duration_since(*at);
        Some(match &self.phase {
            Phase::Settling if self.is_moved => GRAIN.saturating_sub(age),
            Phase::Settling => SETTLE.saturating_sub(age),
            Phase::Unsure => SETTLE_UNSURE.saturating_sub(age),
            Phase::Written(at) | Phase::Changed(at) => WRITER_PAUSE.saturating_sub(since(at)),
            Phase::Failed(_, at) => FAILED_PAUSE.saturating_sub(since(at)),
            Phase::Queued => return None,
        })
    }

    fn waits_for(&self) -> Result<&'static str, &str> {
        match &self.phase {
            Phase::Settling | Phase::Changed(_) | Phase::Unsure => Ok("it changed a moment ago"),
            Phase::Written(_) => Ok("a program has it open for writing"),
            Phase::Queued => Ok("it is being hashed"),
            Phase::Failed(reason, _) => Err(reason),
        }
    }
}

type Place = (String, System, Arch);

/// All that is known of the folder.
#[derive(Debug, Default)]
pub(super) struct Registry {
    registered: BTreeMap<String, Arc<Registered>>,
    /// Which file has which version of what.
    places: BTreeMap<Place, BTreeMap<Version, String>>,
    seen: BTreeMap<String, Seen>,
    refused: BTreeMap<String, String>,
    problem: Option<String>,
    was_observed: bool,
    is_ready: bool,
}

impl Registry {
    /// Whether all that was complete at the start has been registered.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.registered.values()
    }

    pub(super) fn by_file(&self, file: &str) -> Option<&Arc<Registered>> {
        self.registered.get(file)
    }

    /// The names of the programs.
    pub(super) fn programs(&self) -> BTreeSet<&str> {
        self.places.keys().map(|(program, ..)| program.as_str()).collect()
    }

    pub(super) fn find(
        &self,
        program: &str,
        version: &Version,
        system: System,
        arch: Arch,
    ) -> Option<&Arc<Registered>> {
        let versions = self.places.get(&(program.to_owned(), system, arch))?;
        self.registered.get(versions.get(version)?)
    }

    /// The greatest release; the greatest prerelease where there is no release.
    pub(super) fn latest(&self, program: &str, system: System, arch: Arch) -> Option<&Arc<Registered>> {
        let versions = self.places.get(&(program.to_owned(), system, arch))?;
        let release = versions.iter().rev().find(|(version, _)| !version.is_prerelease());
        let (_, file) = release.or_else(|| versions.last_key_value())?;
        self.registered.get(file)
    }

    /// Files that wait, and for what.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&str, &str)> {
        self.seen.iter().filter_map(|(file, seen)| Some((file.as_str(), seen.waits_for().ok()?)))
    }

    /// Files that are not registered, and why.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        let refused = self.refused.iter().map(|(file, reason)| (file.as_str(), reason.as_str()));
        refused
            .chain(self.seen.iter().filter_map(|(file, seen)| Some((file.as_str(), seen.waits_for().err()?))))
    }

    /// Why the folder cannot be looked at.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The folder cannot be looked at. What was registered stays so.
    pub(super) fn note_problem(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(problem, "the folder of binaries cannot be looked at");
        }
        self.problem = Some(problem);
    }

    /// Takes in what lies in the folder; `moved` are names that something was renamed to since the last time.
    pub(super) fn observe(
        &mut self,
        listed: Vec<Listed>,
        moved: &BTreeSet<String>,
        sums: &Sums,
        now: Now,
    ) -> Due {
        self.problem = None;
        let mut due = Due::default();
        let mut refused = BTreeMap::new();
        let mut present = BTreeSet::new();
        let mut taken: BTreeMap<(Place, Version), String> = BTreeMap::new();
        for Listed { name: file, kind } in listed {
            match fits(&file, kind, &mut taken) {
                Ok((name, stamp)) => {
                    present.insert(file.clone());
                    self.look(file, name, stamp, moved, sums, now, &mut due);
                }
                Err(reason) => {
                    if self.refused.get(&file) != Some(&reason) {
                        tracing::warn!(file, reason, "a file is not registered");
                    }
                    refused.insert(file, reason);
                }
            }
        }
        self.refused = refused;
        self.seen.retain(|file, _| present.contains(file));
        let gone: Vec<String> =
            self.registered.keys().filter(|file| !present.contains(*file)).cloned().collect();
        for file in gone {
            tracing::info!(file, "a binary is gone");
            self.withdraw(&file);
        }
        self.was_observed = true;
        self.note_ready();
        due
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `observe`, with what that has")]
    fn look(
        &mut self,
        file: String,
        name: FileName,
        stamp: Stamp,
        moved: &BTreeSet<String>,
        sums: &Sums,
        now: Now,
        due: &mut Due,
    ) {
        if self.registered.get(&file).is_some_and(|registered| registered.stamp == stamp) {
            self.seen.remove(&file);
            return;
        }
        if let Some(checksum) = sums.recall(&file, &stamp) {
            self.register(Registered { checksum: checksum.to_owned(), file, name, stamp });
            return;
        }
        let is_moved = moved.contains(&file);
        let new = || Seen { stamp, since: now.instant, is_moved, phase: Phase::Settling };
        let seen = self.seen.entry(file.clone()).or_insert_with(new);
        if seen.stamp != stamp {
            *seen = new();
        }
        seen.is_moved |= is_moved;
        match seen.due_in(now) {
            None => {}
            Some(wait) if wait.is_zero() => {
                seen.phase = Phase::Queued;
                let is_old = seen.age(now) >= SETTLE_UNSURE;
                due.jobs.push(Job { file, stamp, is_old });
            }
            Some(wait) => due.again_in = Some(due.again_in.map_or(wait, |least| least.min(wait))),
        }
    }

    /// Takes in what hashing a file came to. Gives what is registered now, if something is.
    pub(super) fn note_hashed(&mut self, job: &Job, hashed: Hashed, now: Now) -> Option<Arc<Registered>> {
        let noted = self.take_hashed(job, hashed, now);
        self.note_ready();
        noted
    }

    fn take_hashed(&mut self, job: &Job, hashed: Hashed, now: Now) -> Option<Arc<Registered>> {
        let seen = self.seen.get_mut(&job.file).filter(|seen| seen.stamp == job.stamp)?;
        let phase = match hashed {
            Hashed::Done(checksum) => {
                let name = job.file.parse().ok()?;
                let registered = Registered { file: job.file.clone(), name, checksum, stamp: job.stamp };
                return Some(self.register(registered));
            }
            Hashed::Writer => Phase::Written(now.instant),
            Hashed::Unsure => Phase::Unsure,
            // What it is now, the next observation says.
            Hashed::Changed => Phase::Changed(now.instant),
            Hashed::Failed(reason) => {
                tracing::warn!(file = job.file, reason, "a file is not registered");
                Phase::Failed(reason, now.instant)
            }
        };
        seen.phase = phase;
        None
    }

    fn register(&mut self, registered: Registered) -> Arc<Registered> {
        let Registered { file, name, checksum, .. } = &registered;
        tracing::info!(file, checksum, size_bytes = registered.size(), "a binary is registered");
        self.withdraw(file);
        let place = (name.program.clone(), name.system, name.arch);
        self.places.entry(place).or_default().insert(name.version.clone(), file.clone());
        let registered = Arc::new(registered);
        self.registered.insert(registered.file.clone(), Arc::clone(&registered));
        registered
    }

    /// Nobody is told of this file any more.
    fn withdraw(&mut self, file: &str) {
        self.seen.remove(file);
        let Some(registered) = self.registered.remove(file) else { return };
        let FileName { program, version, system, arch, .. } = &registered.name;
        let place = (program.clone(), *system, *arch);
        if let Some(versions) = self.places.get_mut(&place) {
            if versions.get(version).is_some_and(|other| other == file) {
                versions.remove(version);
            }
            if versions.is_empty() {
                self.places.remove(&place);
            }
        }
    }

    fn note_ready(&mut self) {
        let is_busy = || self.seen.values().any(|seen| matches!(seen.phase, Phase::Queued));
        self.is_ready |= self.was_observed && !is_busy();
    }
}

/// What a file's name says, and its stamp; or why it is not registered.
fn fits(
    file: &str,
    kind: Kind,
    taken: &mut BTreeMap<(Place, Version), String>,
) -> Result<(FileName, Stamp), String> {
    let name: FileName = file.parse().map_err(|error: super::file_name::NameError| error.to_string())?;
    let stamp = match kind {
        Kind::File(stamp) => stamp,
        Kind::Other(what) => return Err(format!("it is {what}")),
    };
    let place = (name.program.clone(), name.system, name.arch);
    let key = (place, name.version.clone());
    if let Some(other) = taken.get(&key) {
        return Err(format!("{other} is there and says the same"));
    }
    if taken.len() == FILES_MAX {
        return Err(format!("{FILES_MAX} others are registered, and no more are"));
    }
    taken.insert(key, file.to_owned());
    Ok((name, stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL_NS: i64 = 1_700_000_000_000_000_000;

    struct World {
        registry: Registry,
        start: Instant,
        passed: Duration,
    }

    impl World {
        fn new() -> Self {
            Self { registry: Registry::default(), start: Instant::now(), passed: Duration::ZERO }
        }

        fn now(&self) -> Now {
            let passed = i64::try_from(self.passed.as_nanos()).unwrap();
            Now { instant: self.start + self.passed, wall_ns: WALL_NS + passed }
        }

        fn pass(&mut self, time: Duration) {
            self.passed += time;
        }

        /// A file that was changed now.
        fn fresh(&self, name: &str, size: u64) -> Listed {
            let now = self.now().wall_ns;
            let stamp = Stamp { inode: 7, size, mtime_ns: now, ctime_ns: now };
            Listed { name: name.to_owned(), kind: Kind::File(stamp) }
        }

        /// A file that was changed a day ago.
        fn old(&self, name: &str) -> Listed {
            let then = WALL_NS - 86_400_000_000_000;
            let stamp = Stamp { inode: 7, size: 5, mtime_ns: then, ctime_ns: then };
            Listed { name: name.to_owned(), kind: Kind::File(stamp) }
        }

        fn observe(&mut self, listed: &[Listed]) -> Due {
            self.observe_moved(listed, &[])
        }

        fn observe_moved(&mut self, listed: &[Listed], moved: &[&str]) -> Due {
            let moved = moved.iter().map(ToString::to_string).collect();
            let now = self.now();
            self.registry.observe(listed.to_vec(), &moved, &Sums::default(), now)
        }

        fn hashed(&mut self, due: Due, checksum: &str) {
            let now = self.now();
            for job in due.jobs {
                self.registry.note_hashed(&job, Hashed::Done(checksum.to_owned()), now);
            }
        }

        /// Registers these files.
        fn with(names: &[&str]) -> Self {
            let mut world = Self::new();
            let listed: Vec<Listed> = names.iter().map(|name| world.old(name)).collect();
            let due = world.observe(&listed);
            assert_eq!(due.jobs.len(), names.len());
            world.hashed(due, "00");
            world
        }

        fn latest(&self, program: &str) -> Option<&str> {
            let latest = self.registry.latest(program, System::Linux, Arch::X86_64);
            latest.map(|registered| registered.name.version.as_str())
        }
    }

    const FILE: &str = "tool-1.0.0-linux-x86_64";

    #[test]
    fn a_file_that_grows_is_hashed_when_it_has_not_changed_for_a_while() {
        let mut world = World::new();
        for size in 0..40 {
            let due = world.observe(&[world.fresh(FILE, size)]);
            assert!(due.jobs.is_empty());
            assert_eq!(due.again_in, Some(SETTLE));
            world.pass(SETTLE - Duration::from_millis(1));
        }
        let last = world.fresh(FILE, 40);
        assert!(world.observe(std::slice::from_ref(&last)).jobs.is_empty());
        world.pass(SETTLE - Duration::from_millis(1));
        assert_eq!(world.observe(std::slice::from_ref(&last)).again_in, Some(Duration::from_millis(1)));
        world.pass(Duration::from_millis(1));
        let due = world.observe(std::slice::from_ref(&last));
        assert_eq!(due.jobs.len(), 1);
        // It is hashed once.
        assert!(world.observe(std::slice::from_ref(&last)).jobs.is_empty());
        world.hashed(due, "aa");
        assert_eq!(world.registry.by_file(FILE).unwrap().size(), 40);
    }

    #[test]
    fn a_file_that_was_renamed_to_its_name_is_hashed_almost_at_once() {
        let mut world = World::new();
        let file = world.fresh(FILE, 5);
        assert!(world.observe_moved(std::slice::from_ref(&file), &[FILE]).jobs.is_empty());
        world.pass(GRAIN);
        assert_eq!(world.observe(&[file]).jobs.len(), 1);
    }

    #[test]
    fn an_old_file_is_hashed_at_once_and_one_from_the_future_when_it_was_watched() {
        let mut world = World::new();
        assert_eq!(world.observe(&[world.old(FILE)]).jobs.len(), 1);
        let mut world = World::new();
        world.pass(Duration::from_secs(3600));
        let future = world.fresh(FILE, 5);
        world.passed = Duration::ZERO;
        assert!(world.observe(std::slice::from_ref(&future)).jobs.is_empty());
        world.pass(SETTLE);
        assert_eq!(world.observe(&[future]).jobs.len(), 1);
    }

    #[test]
    fn a_file_with_a_writer_waits_and_one_that_the_kernel_is_silent_about_waits_longer() {
        let mut world = World::new();
        let file = world.old(FILE);
        let job = world.observe(std::slice::from_ref(&file)).jobs.remove(0);
        let now = world.now();
        world.registry.note_hashed(&job, Hashed::Writer, now);
        assert_eq!(world.registry.waiting().next(), Some((FILE, "a program has it open for writing")));
        assert_eq!(world.observe(std::slice::from_ref(&file)).again_in, Some(WRITER_PAUSE));
        world.pass(WRITER_PAUSE);
        assert_eq!(world.observe(std::slice::from_ref(&file)).jobs, [job]);

        let file = world.fresh(FILE, 9);
        world.observe_moved(std::slice::from_ref(&file), &[FILE]);
        world.pass(GRAIN);
        let job = world.observe(std::slice::from_ref(&file)).jobs.remove(0);
        assert!(!job.is_old);
        let now = world.now();
        world.registry.note_hashed(&job, Hashed::Unsure, now);
        assert_eq!(world.observe(std::slice::from_ref(&file)).again_in, Some(SETTLE_UNSURE - GRAIN));
        world.pass(SETTLE_UNSURE);
        assert!(world.observe(&[file]).jobs[0].is_old);
    }

    #[test]
    fn what_was_hashed_of_a_file_that_is_another_now_counts_for_nothing() {
        let mut world = World::new();
        let job = world.observe(&[world.old(FILE)]).jobs.remove(0);
        world.observe(&[world.fresh(FILE, 6)]);
        let now = world.now();
        assert!(world.registry.note_hashed(&job, Hashed::Done("00".into()), now).is_none());
        assert!(world.registry.by_file(FILE).is_none());
        // Gone while it was hashed.
        let job = {
            let mut other = World::new();
            other.observe(&[other.old(FILE)]).jobs.remove(0)
        };
        world.observe(&[]);
        assert!(world.registry.note_hashed(&job, Hashed::Done("00".into()), now).is_none());
    }

    #[test]
    fn a_record_stays_until_its_file_is_registered_again_or_gone() {
        let mut world = World::with(&[FILE]);
        assert!(world.observe(&[world.old(FILE)]).jobs.is_empty());
        let file = world.fresh(FILE, 6);
        world.observe(std::slice::from_ref(&file));
        assert_eq!(world.registry.by_file(FILE).unwrap().checksum, "00");
        world.pass(SETTLE);
        let due = world.observe(&[file]);
        world.hashed(due, "11");
        assert_eq!(world.registry.by_file(FILE).unwrap().checksum, "11");
        assert_eq!(world.registry.programs().len(), 1);
        world.observe(&[]);
        assert!(world.registry.by_file(FILE).is_none() && world.latest("tool").is_none());
        assert!(world.registry.programs().is_empty());
    }

    #[test]
    fn a_file_that_becomes_something_else_is_withdrawn() {
        let mut world = World::with(&[FILE]);
        world.observe(&[Listed { name: FILE.to_owned(), kind: Kind::Other("a directory") }]);
        assert!(world.registry.by_file(FILE).is_none());
        assert_eq!(world.registry.refused().collect::<Vec<_>>(), [(FILE, "it is a directory")]);
    }

    #[test]
    fn what_cannot_be_looked_at_stays_and_what_cannot_be_read_is_tried_again() {
        let mut world = World::with(&[FILE]);
        world.registry.note_problem("the disk is away".into());
        assert!(world.registry.by_file(FILE).is_some() && world.registry.problem().is_some());
        let file = world.fresh(FILE, 6);
        world.observe_moved(std::slice::from_ref(&file), &[FILE]);
        assert_eq!(world.registry.problem(), None);
        world.pass(GRAIN);
        let job = world.observe(std::slice::from_ref(&file)).jobs.remove(0);
        let now = world.now();
        world.registry.note_hashed(&job, Hashed::Failed("no".into()), now);
        assert_eq!(world.registry.refused().next(), Some((FILE, "no")));
        world.pass(FAILED_PAUSE);
        assert_eq!(world.observe(&[file]).jobs.len(), 1);
    }

    #[test]
    fn the_latest_is_the_greatest_release() {
        let file = |version: &str| format!("tool-{version}-linux-x86_64");
        let versions = ["1.2.0", "1.10.0", "1.9.9", "2.0.0-rc.1", "2.0.0-alpha", "1.10.0-rc.2", "0.99.0+x"];
        let names: Vec<String> = versions.iter().map(|version| file(version)).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(World::with(&names).latest("tool"), Some("1.10.0"));
        names.retain(|name| name.contains("-rc") || name.contains("alpha"));
        assert_eq!(World::with(&names).latest("tool"), Some("2.0.0-rc.1"));
        assert_eq!(World::with(&names).latest("other"), None);
        let builds = World::with(&["tool-1.0.0+a-linux-x86_64", "tool-1.0.0+b-linux-x86_64"]);
        assert_eq!(builds.latest("tool"), Some("1.0.0+b"));
    }

    #[test]
    fn two_files_that_say_the_same_are_one_binary() {
        let (plain, exe) = ("tool-1.0.0-windows-x86_64", "tool-1.0.0-windows-x86_64.exe");
        let mut world = World::with(&[plain]);
        let (first, second) = (world.old(plain), world.old(exe));
        let due = world.observe(&[first, second.clone()]);
        assert!(due.jobs.is_empty());
        assert_eq!(
            world.registry.refused().next(),
            Some((exe, &*format!("{plain} is there and says the same")))
        );
        // The second has its turn when the first is gone.
        let due = world.observe(&[second]);
        world.hashed(due, "22");
        let version = "1.0.0".parse().unwrap();
        let found = world.registry.find("tool", &version, System::Windows, Arch::X86_64).unwrap();
        assert_eq!(found.file, exe);
    }

    #[test]
    fn it_is_ready_when_what_was_complete_at_the_start_is_registered() {
        let mut world = World::new();
        assert!(!world.registry.is_ready());
        let due = world.observe(&[world.old(FILE), world.fresh("tool-1.1.0-linux-x86_64", 5)]);
        assert!(!world.registry.is_ready());
        world.hashed(due, "00");
        assert!(world.registry.is_ready());
    }
}
