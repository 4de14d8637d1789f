//! The folder that programs are installed in, and what was there before.
//!
//! ```text
//! DIR/PROGRAM
//! DIR/.cairn/NAME/record.json      which version is there, and which was
//! DIR/.cairn/NAME/before-XXXXXX/   the programs that were there
//! DIR/.cairn/NAME/new-XXXXXX/      programs on their way; what a killed process left goes with the next one
//! ```
//! Whatever is killed, at whatever point, leaves each program whole, the old one or the new one, and a record by which the same
//! command completes it, another version or `--rollback` takes it back first:
//! - the programs that will be replaced are kept (links, not copies) and synced, then the record says that it has begun, then
//!   the first one is replaced; when all are, it says which version is there;
//! - what is put back is named in the record until all of it is back.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cairn_store::{ArtifactId, Error, Name, Store};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::Program;
use super::program::{self, MODE};
use crate::error::Usage;

const FOLDER: &str = ".cairn";
const RECORD: &str = "record.json";
const LOCK: &str = "lock";
const BEFORE: &str = "before-";
const NEW: &str = "new-";
/// Longest record, in bytes.
const RECORD_LEN_MAX: u64 = 1 << 20;

/// A version that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VersionRecord {
    pub(super) version: String,
    pub(super) artifact: String,
}

/// Programs that were replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    /// The folder that has them.
    folder: String,
    /// What they were a version of, if that is known.
    version: Option<VersionRecord>,
    /// Each with whether there was one.
    programs: BTreeMap<String, bool>,
}

/// An installation that has begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Begun {
    version: VersionRecord,
    /// What it replaces.
    kept: Before,
}

/// What the folder says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    /// What was installed last, wholly.
    now: Option<VersionRecord>,
    /// What that replaced.
    before: Option<Before>,
    /// What is being installed.
    begun: Option<Begun>,
    /// What is being put back.
    putting_back: Option<Before>,
}

/// What was done.
pub(super) struct Installed {
    pub(super) programs: Vec<Program>,
    pub(super) version: Option<VersionRecord>,
    /// What can be put back, for people.
    pub(super) previous: Option<String>,
}

/// A folder, for one package, locked.
pub(super) struct Folder {
    to: PathBuf,
    own: PathBuf,
    record: Record,
    _lock: File,
}

impl Folder {
    pub(super) fn open(to: &Path, name: &Name) -> anyhow::Result<Self> {
        if !to.is_dir() {
            let problem = format!("{} is no folder", to.display());
            return Err(Usage { problem, hint: "--to names a folder that is there" }.into());
        }
        let own = to.join(FOLDER).join(name.as_str());
        let failed = || format!("cannot write in {}", to.display());
        DirBuilder::new().recursive(true).mode(0o755).create(&own).with_context(failed)?;
        let mut options = OpenOptions::new();
        let lock =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(own.join(LOCK));
        let lock = lock.with_context(failed)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let what = to.display().to_string();
            let detail = format!("another process installs {name} there");
            return Err(Error::Conflict { what, detail }.into());
        }
        let record = read_record(&own.join(RECORD))?;
        let mut folder = Self { to: to.to_owned(), own, record, _lock: lock };
        if let Some(before) = folder.record.putting_back.clone() {
            folder.put_back(&before)?;
        }
        folder.clean();
        Ok(folder)
    }

    /// Replaces the programs that are others.
    pub(super) fn install(
        &mut self,
        store: &Store,
        artifact: &ArtifactId,
        version: VersionRecord,
        programs: &BTreeMap<String, Vec<u8>>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> anyhow::Result<Installed> {
        if self.record.begun.as_ref().is_some_and(|begun| begun.version != version) {
            // Another version that was cut off is not what this one replaces.
            self.take_back_begun()?;
        }
        let new = self.folder(NEW)?;
        let (mut told, mut changed) = (Vec::new(), Vec::new());
        for (name, path) in programs {
            if is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            let mut reader = store.open_file(artifact, path)?;
            let place = self.to.join(name);
            if place.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                anyhow::bail!("{} is a folder, and a program is to be there", place.display());
            }
            let size = reader.len();
            if program::is_same(&mut reader, &place)? {
                told.push(Program { name: name.clone(), change: "unchanged", size });
                continue;
            }
            let path = new.path().join(name);
            let failed = || format!("cannot write {}", path.display());
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(MODE)
                .open(&path)
                .with_context(failed)?;
            file.set_permissions(PermissionsExt::from_mode(MODE)).with_context(failed)?;
            program::copy(&mut reader, &mut file).with_context(failed)?;
            file.sync_all().with_context(failed)?;
            let change = if place.symlink_metadata().is_ok() { "replaced" } else { "installed" };
            told.push(Program { name: name.clone(), change, size });
            changed.push(name.as_str());
        }
        self.replace(version.clone(), &changed, new.path())?;
        Ok(Installed { programs: told, version: Some(version), previous: self.previous() })
    }

    /// Puts the new programs into their places, with what they replace kept.
    fn replace(&mut self, version: VersionRecord, changed: &[&str], new: &Path) -> anyhow::Result<()> {
        let is_same = self.record.now.as_ref() == Some(&version);
        if is_same && changed.is_empty() && self.record.begun.is_none() {
            return Ok(());
        }
        let kept = self.record.begun.take().map(|begun| begun.kept);
        let is_kept = |name: &str| kept.as_ref().is_some_and(|kept| kept.programs.contains_key(name));
        let names: Vec<&str> = changed.iter().copied().filter(|name| !is_kept(name)).collect();
        let mut fresh = self.keep(&names)?;
        if let Some(kept) = &kept {
            fresh = self.merge(kept, &fresh)?;
        }
        let begun = Begun { version: version.clone(), kept: fresh.clone() };
        self.write_record(Record { begun: Some(begun), ..self.record.clone() })?;
        for name in changed {
            let place = self.to.join(name);
            rustix::fs::rename(new.join(name), &place)
                .map_err(io::Error::from)
                .with_context(|| format!("cannot write {}", place.display()))?;
        }
        sync(&self.to)?;
        // What is installed in parts is taken back together.
        let before = match &self.record.before {
            Some(before) if is_same => self.merge(before, &fresh)?,
            _ => fresh,
        };
        self.write_record(Record {
            now: Some(version),
            before: Some(before),
            begun: None,
            putting_back: None,
        })?;
        self.clean();
        Ok(())
    }

    /// Puts back what was there before: before an installation that was cut off, else before the last one; what is
    /// there now can in the second case then be put back.
    pub(super) fn roll_back(&mut self) -> anyhow::Result<Installed> {
        if self.record.begun.is_some() {
            let programs = self.take_back_begun()?;
            return Ok(Installed { programs, version: self.record.now.clone(), previous: self.previous() });
        }
        let Some(before) = self.record.before.clone() else {
            let problem = format!("nothing was kept that could be put back in {}", self.to.display());
            let hint = "`cairn install NAME@VERSION --to DIR` installs any version";
            return Err(Usage { problem, hint }.into());
        };
        let names: Vec<&str> = before.programs.keys().map(String::as_str).collect();
        let kept = self.keep(&names)?;
        let now = before.version.clone();
        let putting_back = Some(before.clone());
        self.write_record(Record { now: now.clone(), before: Some(kept), begun: None, putting_back })?;
        let programs = self.put_back(&before)?;
        self.clean();
        Ok(Installed { programs, version: now, previous: self.previous() })
    }

    /// Puts back what an installation that was cut off replaced.
    fn take_back_begun(&mut self) -> anyhow::Result<Vec<Program>> {
        let Some(Begun { kept, .. }) = self.record.begun.clone() else { return Ok(Vec::new()) };
        let putting_back = Some(kept.clone());
        self.write_record(Record { begun: None, putting_back, ..self.record.clone() })?;
        let programs = self.put_back(&kept)?;
        self.clean();
        Ok(programs)
    }

    /// What `--rollback` puts back, for people.
    fn previous(&self) -> Option<String> {
        let before = self.record.before.as_ref()?;
        let version = before.version.as_ref().map(|version| version.version.clone());
        Some(version.unwrap_or_else(|| "what was there before".to_owned()))
    }

    /// Keeps what is in the places of these programs.
    fn keep(&self, names: &[&str]) -> anyhow::Result<Before> {
        let folder = self.folder(BEFORE)?;
        let mut programs = BTreeMap::new();
        for name in names {
            let (place, kept) = (self.to.join(name), folder.path().join(name));
            let is_there = place.symlink_metadata().is_ok();
            if is_there {
                link_or_copy(&place, &kept).with_context(|| format!("cannot keep {}", place.display()))?;
            }
            programs.insert((*name).to_owned(), is_there);
        }
        self.settle(folder, self.record.now.clone(), programs)
    }

    /// What was kept earlier, and of what was kept later all that is not in it.
    fn merge(&self, earlier: &Before, later: &Before) -> anyhow::Result<Before> {
        let folder = self.folder(BEFORE)?;
        let mut programs = BTreeMap::new();
        for of in [earlier, later] {
            for (name, was_there) in &of.programs {
                if programs.contains_key(name) {
                    continue;
                }
                if *was_there {
                    let from = self.own.join(&of.folder).join(name);
                    link_or_copy(&from, &folder.path().join(name))
                        .with_context(|| format!("cannot keep {}", from.display()))?;
                }
                programs.insert(name.clone(), *was_there);
            }
        }
        self.settle(folder, earlier.version.clone(), programs)
    }

    /// What is kept is durable before anything is said of it.
    fn settle(
        &self,
        folder: TempDir,
        version: Option<VersionRecord>,
        programs: BTreeMap<String, bool>,
    ) -> anyhow::Result<Before> {
        sync(folder.path())?;
        sync(&self.own)?;
        let folder = folder.keep().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Before { folder, version, programs })
    }

    /// A new folder beside the record, which goes unless it is kept.
    fn folder(&self, prefix: &str) -> anyhow::Result<TempDir> {
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(&self.own);
        made.with_context(|| format!("cannot write in {}", self.own.display()))
    }

    /// Puts programs back, and says in the record that they are.
    fn put_back(&mut self, before: &Before) -> anyhow::Result<Vec<Program>> {
        let (folder, new) = (self.own.join(&before.folder), self.folder(NEW)?);
        let mut told = Vec::new();
        for (name, was_there) in &before.programs {
            let (place, path) = (self.to.join(name), new.path().join(name));
            let failed = || format!("cannot put {} back", place.display());
            if *was_there {
                link_or_copy(&folder.join(name), &path).with_context(failed)?;
                let size = path.symlink_metadata().map_or(0, |metadata| metadata.len());
                rustix::fs::rename(&path, &place).map_err(io::Error::from).with_context(failed)?;
                told.push(Program { name: name.clone(), change: "replaced", size });
            } else {
                match rustix::fs::unlink(&place) {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(errno) => return Err(io::Error::from(errno)).with_context(failed),
                }
                told.push(Program { name: name.clone(), change: "removed", size: 0 });
            }
        }
        sync(&self.to)?;
        self.write_record(Record { putting_back: None, ..self.record.clone() })?;
        Ok(told)
    }

    fn write_record(&mut self, record: Record) -> anyhow::Result<()> {
        let failed = || format!("cannot write in {}", self.own.display());
        let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(&self.own).with_context(failed)?;
        serde_json::to_writer(file.as_file_mut(), &record).context("a record is JSON")?;
        file.as_file_mut().flush().and_then(|()| file.as_file().sync_all()).with_context(failed)?;
        file.persist(self.own.join(RECORD)).map_err(|error| error.error).with_context(failed)?;
        sync(&self.own)?;
        self.record = record;
        Ok(())
    }

    /// Removes what the record does not name.
    #[expect(clippy::disallowed_methods, reason = "nothing of it is needed: not its order of syncs either")]
    fn clean(&self) {
        let begun = self.record.begun.as_ref().map(|begun| &begun.kept);
        let named = [self.record.before.as_ref(), begun, self.record.putting_back.as_ref()];
        let Ok(entries) = self.own.read_dir() else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_named = named.iter().flatten().any(|before| before.folder == name);
            if name.starts_with(NEW) || name.starts_with(BEFORE) && !is_named {
                let path = entry.path();
                let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
            }
        }
    }
}

fn read_record(path: &Path) -> anyhow::Result<Record> {
    let failed = || format!("cannot read {}", path.display());
    let file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(error).with_context(failed),
    };
    let mut text = String::new();
    file.take(RECORD_LEN_MAX).read_to_string(&mut text).with_context(failed)?;
    let record: Record = serde_json::from_str(&text).with_context(|| {
        format!("{} is damaged; without it nothing is known of what was there before", path.display())
    })?;
    let begun = record.begun.as_ref().map(|begun| &begun.kept);
    for before in [record.before.as_ref(), begun, record.putting_back.as_ref()].into_iter().flatten() {
        let names = before.programs.keys().chain([&before.folder]);
        if names.into_iter().any(|name| name.is_empty() || name.contains('/') || name == "." || name == "..")
        {
            anyhow::bail!("{} names what is no file of its folder; it is not used", path.display());
        }
    }
    Ok(record)
}

/// A second name of a file, or of a link; a copy where the file system has none.
fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    if rustix::fs::linkat(rustix::fs::CWD, from, rustix::fs::CWD, to, rustix::fs::AtFlags::empty()).is_ok() {
        return Ok(());
    }
    if from.symlink_metadata()?.is_symlink() {
        return Ok(rustix::fs::symlink(rustix::fs::readlink(from, Vec::new())?.as_c_str(), to)?);
    }
    let mut source = OpenOptions::new().read(true).open(from)?;
    let mode = source.metadata()?.permissions().mode() & 0o7777;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    io::copy(&mut source, &mut file)?;
    file.set_permissions(PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    let synced = OpenOptions::new().read(true).open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot sync {}", folder.display()))
}
