//! The folder that programs are installed in, and what was there before.
//!
//! ```text
//! DIR/PROGRAM
//! DIR/.cairn/NAME/record.json      which version is there, and which was
//! DIR/.cairn/NAME/before-XXXXXX/   the programs that were there
//! ```
//! Whatever is killed, at whatever point, leaves each program whole, the old one or the new one, and a record by which the same
//! command completes it and `--rollback` takes it back:
//! - the programs that will be replaced are kept (links, not copies) and synced, then the record says so, then the first one is
//!   replaced;
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
use tempfile::NamedTempFile;

use super::Program;
use super::program::{self, MODE};
use crate::error::Usage;

const FOLDER: &str = ".cairn";
const RECORD: &str = "record.json";
const LOCK: &str = "lock";
const BEFORE: &str = "before-";
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

/// What the folder says of itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    now: Option<VersionRecord>,
    before: Option<Before>,
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
        let (mut told, mut new) = (Vec::new(), Vec::new());
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
            let failed = || format!("cannot write in {}", self.to.display());
            let mut file = self.temporary(name).with_context(failed)?;
            program::copy(&mut reader, file.as_file_mut()).with_context(failed)?;
            file.as_file().sync_all().with_context(failed)?;
            let change = if place.symlink_metadata().is_ok() { "replaced" } else { "installed" };
            told.push(Program { name: name.clone(), change, size });
            new.push((name.clone(), file));
        }
        // What was kept for this very version stays: its installing was cut off, or it is installed in parts.
        let is_same = self.record.now.as_ref() == Some(&version);
        let kept = self.record.before.clone().filter(|_| is_same);
        let is_kept = |name: &str| kept.as_ref().is_some_and(|before| before.programs.contains_key(name));
        let names: Vec<&str> =
            new.iter().map(|(name, _)| name.as_str()).filter(|name| !is_kept(name)).collect();
        if !is_same || !names.is_empty() {
            let before = self.keep(&names, kept)?;
            self.write_record(Record {
                now: Some(version.clone()),
                before: Some(before),
                putting_back: None,
            })?;
        }
        for (name, file) in new {
            let place = self.to.join(&name);
            file.persist(&place)
                .map_err(|error| error.error)
                .with_context(|| format!("cannot write {}", place.display()))?;
        }
        sync(&self.to)?;
        self.clean();
        Ok(Installed { programs: told, version: Some(version), previous: self.previous() })
    }

    /// Puts back what was there before; what is there now can then be put back.
    pub(super) fn roll_back(&mut self) -> anyhow::Result<Installed> {
        let Some(before) = self.record.before.clone() else {
            let problem = format!("nothing was kept that could be put back in {}", self.to.display());
            return Err(Usage {
                problem,
                hint: "`cairn install NAME@VERSION --to DIR` installs any version",
            }
            .into());
        };
        let names: Vec<&str> = before.programs.keys().map(String::as_str).collect();
        let kept = self.keep(&names, None)?;
        let now = before.version.clone();
        self.write_record(Record {
            now: now.clone(),
            before: Some(kept),
            putting_back: Some(before.clone()),
        })?;
        let programs = self.put_back(&before)?;
        self.clean();
        Ok(Installed { programs, version: now, previous: self.previous() })
    }

    /// What `--rollback` puts back, for people.
    fn previous(&self) -> Option<String> {
        let before = self.record.before.as_ref()?;
        let version = before.version.as_ref().map(|version| version.version.clone());
        Some(version.unwrap_or_else(|| "what was there before".to_owned()))
    }

    /// Keeps what is in the places of these programs, with what was kept for others.
    fn keep(&self, names: &[&str], others: Option<Before>) -> anyhow::Result<Before> {
        let failed = || format!("cannot write in {}", self.own.display());
        let folder = tempfile::Builder::new().prefix(BEFORE).tempdir_in(&self.own).with_context(failed)?;
        let mut version = self.record.now.clone();
        let mut programs = BTreeMap::new();
        if let Some(others) = others {
            for (name, _) in others.programs.iter().filter(|(_, was_there)| **was_there) {
                let (from, to) = (self.own.join(&others.folder).join(name), folder.path().join(name));
                link_or_copy(&from, &to).with_context(|| format!("cannot keep {}", from.display()))?;
            }
            (version, programs) = (others.version, others.programs);
        }
        for name in names {
            let (place, kept) = (self.to.join(name), folder.path().join(name));
            let is_there = place.symlink_metadata().is_ok();
            if is_there {
                link_or_copy(&place, &kept).with_context(|| format!("cannot keep {}", place.display()))?;
            }
            programs.insert((*name).to_owned(), is_there);
        }
        sync(folder.path())?;
        sync(&self.own)?;
        let folder = folder.keep().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Before { folder, version, programs })
    }

    /// Puts programs back, and says in the record that they are.
    fn put_back(&mut self, before: &Before) -> anyhow::Result<Vec<Program>> {
        let folder = self.own.join(&before.folder);
        let mut told = Vec::new();
        for (name, was_there) in &before.programs {
            let (place, kept) = (self.to.join(name), folder.join(name));
            let failed = || format!("cannot put {} back", place.display());
            if *was_there {
                let path = self.temporary(name).with_context(failed)?.into_temp_path();
                rustix::fs::unlink(&*path).with_context(failed)?;
                link_or_copy(&kept, &path).with_context(failed)?;
                let size = path.symlink_metadata().map_or(0, |metadata| metadata.len());
                path.persist(&place).map_err(|error| error.error).with_context(failed)?;
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
        let Record { now, before, .. } = std::mem::take(&mut self.record);
        self.write_record(Record { now, before, putting_back: None })?;
        Ok(told)
    }

    /// A file beside the programs, which goes unless it gets its place.
    fn temporary(&self, name: &str) -> io::Result<NamedTempFile> {
        // Room for what makes the name unique, within the 255 bytes that a name may have.
        let prefix: String = format!(".{name}.").chars().take(60).collect();
        let permissions = PermissionsExt::from_mode(MODE);
        let file = tempfile::Builder::new().prefix(&prefix).tempfile_in(&self.to)?;
        file.as_file().set_permissions(permissions)?;
        Ok(file)
    }

    fn write_record(&mut self, record: Record) -> anyhow::Result<()> {
        let failed = || format!("cannot write in {}", self.own.display());
        let mut file = NamedTempFile::new_in(&self.own).with_context(failed)?;
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
        let named = [&self.record.before, &self.record.putting_back];
        let Ok(entries) = self.own.read_dir() else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_named =
                named.iter().any(|before| before.as_ref().is_some_and(|before| before.folder == name));
            if name.starts_with(BEFORE) && !is_named {
                let _ = std::fs::remove_dir_all(entry.path());
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
    for before in [&record.before, &record.putting_back].into_iter().flatten() {
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
