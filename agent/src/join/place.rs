//! Where the state comes to lie: made and verified beside its place, then put there by a rename. What was there is kept
//! until the node has joined, and comes back if it does not.
//!
//! Beside `DIR` there are, while a node joins, `.DIR.cairn-joining` (not whole yet) and `.DIR.cairn-previous` (what was there
//! before). After a crash, what the names mean is still so: what is joining is thrown away, and while there is something
//! previous, what lies at `DIR` is a joiner's that had not finished. What is thrown away is renamed to
//! `.DIR.cairn-discarded` first, so that no other name ever leads to half a state.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cairn_store::{ArtifactId, Checked, Progress, RestoreOptions, Store};
use rustix::fs::{FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::{JoinError, Result};

/// Places beside the state's folder.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    parent: PathBuf,
    joining: PathBuf,
    previous: PathBuf,
    discarded: PathBuf,
    /// Whether what lies at `dir` was put there by this join.
    is_ours: bool,
}

impl Place {
    /// For a folder that is to become the state's.
    pub(super) fn new(dir: &Path, store: &Path) -> Result<Self> {
        let refuse =
            |problem: &str| Err(JoinError::Folder { path: dir.to_owned(), problem: problem.to_owned() });
        let (Some(name), Some(parent)) = (dir.file_name(), dir.parent()) else {
            return refuse("it has no name of its own; give the state's folder by name");
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match kind(dir)? {
            None | Some(FileType::Directory) => {}
            Some(_) => return refuse("it is there and not a folder; move it away, or choose another place"),
        }
        let Ok(parent) = parent.canonicalize() else {
            return refuse("the folder that it is to lie in is not there; make it first");
        };
        let dir = parent.join(name);
        if store.canonicalize().is_ok_and(|store| store.starts_with(&dir) || dir.starts_with(&store)) {
            return refuse("the store and the state cannot lie in one another");
        }
        let beside = |suffix: &str| {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            hidden.push(suffix);
            parent.join(hidden)
        };
        let (joining, previous) = (beside(".cairn-joining"), beside(".cairn-previous"));
        let discarded = beside(".cairn-discarded");
        Ok(Self { dir, parent: parent.clone(), joining, previous, discarded, is_ours: false })
    }

    /// The state's folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Folders that may have some of the state already.
    pub(super) fn old(&self) -> Vec<PathBuf> {
        let is_there = |path: &&PathBuf| matches!(kind(path), Ok(Some(FileType::Directory)));
        [&self.dir, &self.previous, &self.joining].into_iter().filter(is_there).cloned().collect()
    }

    /// Makes the state beside its place, and reads every byte of it again.
    pub(super) fn make(
        &self,
        store: &Store,
        artifact: &ArtifactId,
        seeds: &[PathBuf],
        progress: &dyn Progress,
        checking: &dyn Progress,
    ) -> Result<Checked> {
        self.discard(&self.joining)?;
        let mut seeds = seeds.to_vec();
        seeds.extend(self.old());
        let options = RestoreOptions { seeds, ..RestoreOptions::default() };
        store.restore(artifact, &self.joining, &options, progress)?;
        Ok(store.check_restored(artifact, &self.joining, checking)?)
    }

    /// Puts what was made in its place. What was there is kept.
    pub(super) fn show(&mut self) -> Result<()> {
        let has_previous = kind(&self.previous)?.is_some();
        if kind(&self.dir)?.is_some() {
            if self.is_ours || has_previous {
                // A joiner's that had not finished.
                self.discard(&self.dir)?;
            } else {
                rename(&self.dir, &self.previous)?;
            }
        }
        rename(&self.joining, &self.dir)?;
        self.is_ours = true;
        self.sync()
    }

    /// The node has joined: what was there before goes.
    pub(super) fn keep(&mut self) -> Result<()> {
        self.is_ours = false;
        self.discard(&self.joining)?;
        self.discard(&self.previous)?;
        self.sync()
    }

    /// The node has not joined: what was there before comes back. Says what there is now.
    pub(super) fn give_back(&mut self) -> Result<&'static str> {
        self.discard(&self.joining)?;
        let has_previous = kind(&self.previous)?.is_some();
        if self.is_ours || has_previous {
            self.discard(&self.dir)?;
            self.is_ours = false;
        }
        if has_previous {
            rename(&self.previous, &self.dir)?;
            self.sync()?;
            return Ok("what was there before is back");
        }
        Ok(match kind(&self.dir)? {
            Some(_) => "what was there before is untouched",
            None => "nothing of it is left there",
        })
    }

    fn sync(&self) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent: OwnedFd =
            rustix::fs::open(&self.parent, flags, Mode::empty()).map_err(at("open", &self.parent))?;
        rustix::fs::fsync(&parent).map_err(at("sync", &self.parent))
    }

    fn discard(&self, path: &Path) -> Result<()> {
        remove(&self.discarded)?;
        if kind(path)?.is_none() {
            return Ok(());
        }
        rename(path, &self.discarded)?;
        self.sync()?;
        remove(&self.discarded)
    }
}

#[expect(clippy::disallowed_methods, reason = "a state is not the store's own, and std removes safely")]
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(JoinError::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn kind(path: &Path) -> Result<Option<FileType>> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(at("read", path)(errno)),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, renameat, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems that cannot look first: nobody else uses these names.
        Err(Errno::INVAL | Errno::NOSYS) => renameat(CWD, from, CWD, to),
        result => result,
    }
    .map_err(at("rename", from))
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> JoinError {
    move |errno| JoinError::Io { action, path: path.to_owned(), source: errno.into() }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a state is not the store's own")]
mod tests {
    use std::fs;

    use super::*;

    struct Setting {
        scratch: tempfile::TempDir,
    }

    impl Setting {
        fn new() -> Self {
            Self { scratch: tempfile::tempdir().unwrap() }
        }

        fn dir(&self) -> PathBuf {
            self.scratch.path().join("state")
        }

        fn place(&self) -> Place {
            Place::new(&self.dir(), &self.scratch.path().join("store")).unwrap()
        }

        /// As a restore would have made it.
        fn made(&self, place: &Place, content: &str) {
            fs::create_dir(&place.joining).unwrap();
            fs::write(place.joining.join("content"), content).unwrap();
        }

        fn content(&self) -> Option<String> {
            fs::read_to_string(self.dir().join("content")).ok()
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(self.scratch.path()).unwrap();
            let mut names: Vec<_> =
                names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn what_was_there_is_kept_until_the_node_has_joined() {
        let setting = Setting::new();
        fs::create_dir(setting.dir()).unwrap();
        fs::write(setting.dir().join("content"), "old").unwrap();
        let mut place = setting.place();
        setting.made(&place, "new");
        place.show().unwrap();
        assert_eq!(setting.content().unwrap(), "new");
        assert_eq!(setting.names(), [".state.cairn-previous", "state"]);
        // A second attempt replaces the first, and not what was there.
        setting.made(&place, "newer");
        place.show().unwrap();
        assert_eq!(fs::read_to_string(place.previous.join("content")).unwrap(), "old");
        assert_eq!(place.give_back().unwrap(), "what was there before is back");
        assert_eq!(
            (setting.content().unwrap(), setting.names()),
            ("old".to_owned(), vec!["state".to_owned()])
        );
        setting.made(&place, "new");
        place.show().unwrap();
        place.keep().unwrap();
        assert_eq!(
            (setting.content().unwrap(), setting.names()),
            ("new".to_owned(), vec!["state".to_owned()])
        );
        assert_eq!(place.give_back().unwrap(), "what was there before is untouched");
        assert_eq!(setting.content().unwrap(), "new");
    }

    #[test]
    fn where_nothing_was_nothing_is_left() {
        let setting = Setting::new();
        let mut place = setting.place();
        setting.made(&place, "new");
        place.show().unwrap();
        assert_eq!(place.give_back().unwrap(), "nothing of it is left there");
        assert_eq!(setting.names(), Vec::<String>::new());
    }

    #[test]
    fn another_process_goes_on_from_wherever_one_was_killed() {
        let states: [(&str, &[&str]); 6] = [
            ("before anything", &["state=old"]),
            ("while it was made", &["state=old", ".state.cairn-joining=half"]),
            ("between the renames", &[".state.cairn-previous=old", ".state.cairn-joining=new"]),
            ("while it was replayed", &[".state.cairn-previous=old", "state=half"]),
            ("while something was removed", &["state=old", ".state.cairn-discarded=half"]),
            (
                "in a second attempt",
                &[".state.cairn-previous=old", "state=half", ".state.cairn-joining=half"],
            ),
        ];
        for (when, folders) in states {
            for joins in [true, false] {
                let setting = Setting::new();
                for folder in folders {
                    let (name, content) = folder.split_once('=').unwrap();
                    fs::create_dir(setting.scratch.path().join(name)).unwrap();
                    fs::write(setting.scratch.path().join(name).join("content"), content).unwrap();
                }
                let mut place = setting.place();
                place.discard(&place.joining).unwrap();
                if joins {
                    setting.made(&place, "joined");
                    place.show().unwrap();
                    place.keep().unwrap();
                } else {
                    place.give_back().unwrap();
                }
                let due = if joins { "joined" } else { "old" };
                assert_eq!(setting.content().as_deref(), Some(due), "killed {when}");
                assert_eq!(setting.names(), ["state"], "killed {when}");
            }
        }
    }

    #[test]
    fn places_that_cannot_be() {
        let setting = Setting::new();
        fs::write(setting.dir(), "a file").unwrap();
        let store = setting.scratch.path().join("store");
        fs::create_dir(&store).unwrap();
        let absent = setting.scratch.path().join("absent/state");
        let inside = store.join("state");
        for (dir, word) in [
            (Path::new("/"), "no name"),
            (Path::new(".."), "no name"),
            (&*setting.dir(), "not a folder"),
            (&*absent, "not there"),
            (&*inside, "in one another"),
            (&*store, "in one another"),
        ] {
            let error = Place::new(dir, &store).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
