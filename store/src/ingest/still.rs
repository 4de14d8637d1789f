//! Whether a tree stayed as it was from the beginning of an ingest to its end.
//!
//! Each entry's stamp is noted when the walk meets it, and compared when a second walk meets it after everything was read.
//! If all are the same, nothing changed between the end of the first walk and the beginning of the second, so what was read
//! is the tree at one moment. A change that leaves the stamp as it is can only be one within the same tick of the file
//! system's clock as an earlier one. So the walk that counts begins
//! a tick after the newest time of an earlier look at the tree, and what was written since then is refused when it is met.
//!
//! What is written through a mapping that was written to before may change no time at all: programs that do so have to be
//! frozen.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::source::{Folder, Item};
use super::walk::Event;
use crate::error::{Error, Result};

/// Longest tick of a file system's clock whose times have fractions of a second, with room to spare.
const GRAIN: Duration = Duration::from_millis(20);

/// The newest time in a tree that is not to come.
#[derive(Debug, Default)]
pub(super) struct Newest {
    time_ns: i128,
}

impl Newest {
    /// The same events, each noted as it passes.
    pub(super) fn noting(
        &mut self,
        events: impl IntoIterator<Item = Result<Event>>,
    ) -> impl Iterator<Item = Result<Event>> {
        events.into_iter().inspect(|event| event.iter().for_each(|event| self.note(event)))
    }

    fn note(&mut self, event: &Event) {
        if let Event::Enter(_, item) | Event::Leaf { item, .. } = event {
            let time = time_of(item);
            if time <= now_ns() {
                self.time_ns = self.time_ns.max(time);
            }
        }
    }
}

/// What a walk met: names and stamps, some 40 bytes an entry.
pub(super) struct Seen {
    begun_ns: i128,
    names: Vec<u8>,
    marks: Vec<Mark>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Enter { name_len: u32, status: u64 },
    Leaf { name_len: u32, status: u64 },
    Leave,
}

impl Seen {
    /// Begins, a tick after the newest time in the tree.
    pub(super) fn begin(newest: Newest) -> Self {
        let since = now_ns() - newest.time_ns;
        if let Ok(since) = u64::try_from(since)
            && let Some(left) = GRAIN.checked_sub(Duration::from_nanos(since))
        {
            thread::sleep(left);
        }
        Self { begun_ns: now_ns(), names: Vec::new(), marks: Vec::new() }
    }

    /// Notes what the first walk meets.
    pub(super) fn note(&mut self, event: &Event) -> Result<()> {
        let (folder, item) = match event {
            Event::Enter(folder, item) | Event::Leaf { folder, item, .. } => (folder, item),
            Event::Leave => {
                self.marks.push(Mark::Leave);
                return Ok(());
            }
        };
        if self.is_fresh(item) {
            let path = match event {
                Event::Enter(..) => folder.path_of(b""),
                _ => folder.path_of(&item.name),
            };
            return Err(changed(path, "it was written to when the snapshot began"));
        }
        let mark = mark(event);
        self.names.extend_from_slice(&item.name);
        self.marks.extend(mark);
        Ok(())
    }

    /// Whether it changed so lately that another change might leave its times as they are. Times to come are no reason: a
    /// change would set them to now.
    fn is_fresh(&self, item: &Item) -> bool {
        let time = time_of(item);
        time > self.begun_ns - ns(GRAIN) && time <= now_ns()
    }

    /// Compares with what a second walk meets.
    pub(super) fn check(&self, events: impl IntoIterator<Item = Result<Event>>) -> Result<()> {
        let mut marks = self.marks.iter();
        let mut names = self.names.as_slice();
        // Of the directories that are open, the last is the innermost.
        let mut open: Vec<Arc<Folder>> = Vec::new();
        for event in events {
            let event = event?;
            let before = marks.next();
            let name_len = before.map_or(0, |mark| mark.name_len());
            let (name, rest) = names.split_at(name_len.min(names.len()));
            let (folder, item) = match &event {
                Event::Leave => {
                    let folder = open.pop();
                    if before == Some(&Mark::Leave) {
                        continue;
                    }
                    let path = folder.map_or_else(Default::default, |folder| folder.path_of(name));
                    return Err(changed(path, "it vanished while the snapshot was taken"));
                }
                Event::Enter(folder, item) => {
                    open.push(Arc::clone(folder));
                    (folder, item)
                }
                Event::Leaf { folder, item, .. } => (folder, item),
            };
            names = rest;
            if before.copied() == mark(&event) && name == item.name {
                continue;
            }
            let is_folder = matches!(event, Event::Enter(..));
            let path = if is_folder { folder.path_of(b"") } else { folder.path_of(&item.name) };
            return Err(match before {
                Some(Mark::Enter { .. } | Mark::Leaf { .. }) if name == item.name => {
                    changed(path, "it changed while the snapshot was taken")
                }
                // Names ascend: one that is missing was met before.
                Some(Mark::Enter { .. } | Mark::Leaf { .. }) if name < item.name.as_slice() => {
                    let above = path.parent().map_or_else(Default::default, Path::to_owned);
                    changed(above.join(OsStr::from_bytes(name)), "it vanished while the snapshot was taken")
                }
                _ => changed(path, "it appeared while the snapshot was taken"),
            });
        }
        Ok(())
    }
}

impl Mark {
    fn name_len(&self) -> usize {
        match self {
            Self::Enter { name_len, .. } | Self::Leaf { name_len, .. } => *name_len as usize,
            Self::Leave => 0,
        }
    }
}

fn mark(event: &Event) -> Option<Mark> {
    let of = |item: &Item| (u32::try_from(item.name.len()).unwrap_or(u32::MAX), status(item));
    Some(match event {
        Event::Enter(_, item) => {
            let (name_len, status) = of(item);
            Mark::Enter { name_len, status }
        }
        Event::Leaf { item, target, .. } => {
            let (name_len, status) = of(item);
            let target = target.as_ref().map_or(0, |target| word(blake3::hash(target)));
            Mark::Leaf { name_len, status: status ^ target }
        }
        Event::Leave => Mark::Leave,
    })
}

/// All of an entry's status that is stored or tells that it changed, as 64 bits: an accident goes unnoticed once in 2^64.
fn status(item: &Item) -> u64 {
    let Item { name: _, kind, mode, uid, gid, links: _, device, allocated: _, stamp } = item;
    let mut hasher = blake3::Hasher::new();
    for word in [stamp.dev, stamp.ino, stamp.size, u64::from(kind.as_raw_mode()), u64::from(*mode)] {
        hasher.update(&word.to_le_bytes());
    }
    for word in [*uid, *gid, device.0, device.1] {
        hasher.update(&word.to_le_bytes());
    }
    for (seconds, nanos) in std::iter::once(stamp.mtime).chain(stamp.ctime) {
        hasher.update(&seconds.to_le_bytes()).update(&nanos.to_le_bytes());
    }
    word(hasher.finalize())
}

/// When it last changed, as its stamp tells.
fn time_of(item: &Item) -> i128 {
    let (seconds, nanos) = item.stamp.ctime.unwrap_or(item.stamp.mtime);
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

fn word(hash: blake3::Hash) -> u64 {
    let (word, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*word)
}

fn changed(path: PathBuf, what: &str) -> Error {
    let problem = format!(
        "{what}; a snapshot is of a state that nobody writes: freeze it meanwhile, or take a checkpoint"
    );
    Error::Input { path, problem }
}

fn now_ns() -> i128 {
    ns(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn ns(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the trees are not a store's")]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use super::super::{resolve, walk};
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/deep")).unwrap();
        for path in ["a/deep/one", "a/two", "b", "z"] {
            fs::write(dir.path().join(path), "1234").unwrap();
        }
        std::os::unix::fs::symlink("b", dir.path().join("link")).unwrap();
        dir
    }

    fn events(dir: &Path, change_times: bool) -> impl Iterator<Item = Result<Event>> {
        walk::walk(resolve(&[dir.to_owned()]).unwrap().0, change_times).into_iter()
    }

    fn begin(dir: &Path, change_times: bool) -> Seen {
        let mut newest = Newest::default();
        newest.noting(events(dir, change_times)).for_each(|event| drop(event.unwrap()));
        Seen::begin(newest)
    }

    /// What is said of a tree that `change` changes between the two walks.
    fn said(change_times: bool, change: impl FnOnce(&Path)) -> Option<String> {
        let dir = tree();
        let mut seen = begin(dir.path(), change_times);
        events(dir.path(), change_times).try_for_each(|event| seen.note(&event?)).unwrap();
        change(dir.path());
        match seen.check(events(dir.path(), change_times)) {
            Ok(()) => None,
            Err(Error::Input { path, problem }) => {
                let path = path.strip_prefix(dir.path()).unwrap().display().to_string();
                Some(format!("{path}: {}", problem.split(" while").next().unwrap()))
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn set_back(path: &Path) {
        let before = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, "4321").unwrap();
        File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }

    #[test]
    fn what_stays_is_still() {
        assert_eq!(said(true, |_| {}), None);
        assert_eq!(said(true, |dir| drop(fs::read(dir.join("b")).unwrap())), None);
    }

    #[test]
    fn whatever_changes_is_named() {
        let is = |expected: &str, change: &dyn Fn(&Path)| {
            assert_eq!(said(true, change).as_deref(), Some(expected));
        };
        is("b: it changed", &|dir| fs::write(dir.join("b"), "4321").unwrap());
        is("z: it changed", &|dir| set_back(&dir.join("z")));
        is("a/deep/one: it changed", &|dir| {
            fs::set_permissions(dir.join("a/deep/one"), fs::Permissions::from_mode(0o600)).unwrap();
        });
    }

    #[test]
    fn names_that_come_and_go_change_their_directories() {
        for change in [
            &(|dir: &Path| fs::write(dir.join("a/new"), "").unwrap()) as &dyn Fn(&Path),
            &|dir| fs::remove_file(dir.join("a/two")).unwrap(),
            &|dir| fs::rename(dir.join("a/two"), dir.join("a/tow")).unwrap(),
        ] {
            assert_eq!(said(true, change).as_deref(), Some("a: it changed"));
        }
    }

    /// As where a directory's times do not tell.
    fn without_times(dir: &Path, seen: &mut Seen, change: impl FnOnce(&Path)) -> String {
        let timeless = |event: Result<Event>| {
            event.map(|event| match event {
                Event::Enter(folder, mut item) => {
                    item.stamp = Item::root().stamp;
                    Event::Enter(folder, item)
                }
                other => other,
            })
        };
        events(dir, true).map(timeless).try_for_each(|event| seen.note(&event?)).unwrap();
        change(dir);
        seen.check(events(dir, true).map(timeless)).unwrap_err().to_string()
    }

    #[test]
    fn names_that_come_and_go_are_noticed_by_themselves() {
        let said = |change: &dyn Fn(&Path)| {
            let dir = tree();
            let text = without_times(dir.path(), &mut begin(dir.path(), true), change);
            let text = text.strip_prefix(&format!("{}/", dir.path().display())).unwrap().to_owned();
            text.split(" while").next().unwrap().to_owned()
        };
        assert_eq!(said(&|dir| fs::write(dir.join("a/new"), "").unwrap()), "a/new: it appeared");
        assert_eq!(said(&|dir| fs::write(dir.join("zz"), "").unwrap()), "zz: it appeared");
        assert_eq!(said(&|dir| fs::remove_file(dir.join("a/two")).unwrap()), "a/two: it vanished");
        assert_eq!(said(&|dir| fs::remove_file(dir.join("b")).unwrap()), "b: it vanished");
        assert_eq!(said(&|dir| fs::remove_dir_all(dir.join("a")).unwrap()), "a: it vanished");
    }

    #[test]
    fn links_are_no_change_where_change_times_do_not_count() {
        let link = |dir: &Path| {
            let elsewhere = tempfile::tempdir_in(dir.parent().unwrap()).unwrap();
            fs::hard_link(dir.join("z"), elsewhere.path().join("z")).unwrap();
        };
        assert_eq!(said(true, link).as_deref(), Some("z: it changed"));
        assert_eq!(said(false, link), None);
        // This is what it costs.
        assert_eq!(said(false, |dir| set_back(&dir.join("z"))), None);
        assert_eq!(
            said(false, |dir| fs::write(dir.join("z"), "12345").unwrap()).as_deref(),
            Some("z: it changed")
        );
    }

    #[test]
    fn what_is_written_when_it_begins_is_refused() {
        let dir = tree();
        let mut seen = begin(dir.path(), true);
        fs::write(dir.path().join("b"), "4321").unwrap();
        let error = events(dir.path(), true).try_for_each(|event| seen.note(&event?)).unwrap_err();
        assert!(error.to_string().contains("b: it was written to when the snapshot began"), "{error}");
        // Times to come are not now.
        let next_year = SystemTime::now() + Duration::from_secs(365 * 86_400);
        let file = File::options().write(true).open(dir.path().join("b")).unwrap();
        file.set_modified(next_year).unwrap();
        let mut seen = begin(dir.path(), false);
        events(dir.path(), false).try_for_each(|event| seen.note(&event?)).unwrap();
    }
}
