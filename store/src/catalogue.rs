//! The catalogue: a sled database that follows the journal and answers by artifact and by name without reading all of
//! it. It is derived: deleting it, or filling its files with garbage, loses nothing.
//!
//! # How it follows
//! It knows the sequence number of the last record that it has. Whatever is asked, it first takes in the records after
//! that, in transactions that compare what a record says it replaces with what is there, and so notices if it and the
//! journal disagree. When it is first opened it is compared with the journal's view as a whole. If it will not open,
//! panics, or disagrees, its folder is moved aside to `catalogue.bad-N`, a new one is built from the journal, and a
//! warning is logged. What the machine refuses (no space, no permission) is an error and moves nothing.
//!
//! Only the store's writer has one; nothing is opened before something is asked. sled is given 16 MiB of cache and
//! flushes when it has caught up, not by a timer.
//!
//! # Not here
//! No profiles: every question about one is about its few generations, which a view has at hand. No truth. What is not in the journal is not in the catalogue, and no decision is made by it alone.

mod tables;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tables::Tables;
pub(crate) use tables::decode_entry;

use crate::id::ArtifactId;
use crate::io::{Io, Os};
use crate::journal::{Journal, Record};
use crate::refs::{RefKey, RefRecord};
use crate::{Error, Result};

/// With more records to take in than this, it is built anew from the view.
const CATCH_UP_RECORDS_MAX: u64 = 4096;
/// Records of one transaction.
const BATCH_RECORDS: usize = 256;
/// Folders that are kept after they were moved aside; the oldest go.
const ASIDE_MAX: usize = 3;

/// The writer's catalogue.
pub struct Catalogue {
    dir: PathBuf,
    tables: Option<Tables>,
    was_rebuilt: bool,
}

/// Why the catalogue cannot be used as it is.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The machine refuses; a new folder would fare no better.
    #[error("the system refuses")]
    Refused(#[source] std::io::Error),
    #[error("sled failed: {0}")]
    Sled(sled::Error),
    #[error("sled panicked: {0}")]
    Panicked(String),
    #[error("it disagrees with the journal: {0}")]
    Disagrees(String),
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        use std::io::ErrorKind;
        match error {
            sled::Error::Io(source)
                if matches!(
                    source.kind(),
                    ErrorKind::StorageFull
                        | ErrorKind::QuotaExceeded
                        | ErrorKind::PermissionDenied
                        | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Self::Refused(source)
            }
            other => Self::Sled(other),
        }
    }
}

impl Catalogue {
    /// The catalogue in the folder `dir`. Touches nothing yet.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), tables: None, was_rebuilt: false }
    }

    /// The catalogue in the folder `dir`, opened, or built, and caught up.
    ///
    /// # Errors
    /// As [`Catalogue::follow`].
    pub fn open(dir: &Path, journal: &Journal) -> Result<Self> {
        let mut catalogue = Self::at(dir);
        catalogue.follow(journal)?;
        Ok(catalogue)
    }

    /// Takes in what the journal has and the catalogue has not, and makes it durable.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses, or a catalogue that was just built does not work either.
    pub fn follow(&mut self, journal: &Journal) -> Result<()> {
        self.with(journal, |_| Ok(()))
    }

    /// Whether it was moved aside and made again, since this was made.
    #[must_use]
    pub fn was_rebuilt(&self) -> bool {
        self.was_rebuilt
    }

    /// What `key` names.
    ///
    /// # Errors
    /// As [`Catalogue::follow`].
    pub fn get(&mut self, journal: &Journal, key: &RefKey) -> Result<Option<RefRecord>> {
        self.with(journal, |tables| tables.get(key))
    }

    /// The refs whose name begins with `prefix`, by name.
    ///
    /// # Errors
    /// As [`Catalogue::follow`].
    pub fn refs_named(&mut self, journal: &Journal, prefix: &str) -> Result<Vec<(RefKey, RefRecord)>> {
        self.with(journal, |tables| tables.refs_named(prefix))
    }

    /// The refs that name `artifact`.
    ///
    /// # Errors
    /// As [`Catalogue::follow`].
    pub fn refs_to(&mut self, journal: &Journal, artifact: &ArtifactId) -> Result<Vec<RefKey>> {
        self.with(journal, |tables| tables.refs_to(artifact))
    }

    /// Runs `ask` on tables that say what the journal says; if there is trouble, once more on new ones.
    fn with<T>(&mut self, journal: &Journal, ask: impl Fn(&Tables) -> Result<T, Trouble>) -> Result<T> {
        let trouble = match self.attempt(journal, &ask) {
            Ok(answer) => return Ok(answer),
            Err(Trouble::Refused(source)) => {
                self.close();
                return Err(Error::io("use", &self.dir)(source));
            }
            Err(trouble) => trouble,
        };
        self.close();
        let aside = move_aside(&self.dir)?;
        self.was_rebuilt = true;
        tracing::warn!(
            catalogue = %self.dir.display(),
            aside = %aside.display(),
            %trouble,
            "the catalogue is unusable; it was moved aside and is built anew from the journal, nothing is lost"
        );
        self.attempt(journal, &ask).map_err(|trouble| {
            self.close();
            Error::io("rebuild", &self.dir)(match trouble {
                Trouble::Refused(source) => source,
                other => std::io::Error::other(other),
            })
        })
    }

    fn attempt<T>(
        &mut self,
        journal: &Journal,
        ask: impl Fn(&Tables) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        guarded(|| {
            let tables = match &mut self.tables {
                Some(tables) => tables,
                closed => {
                    let mut tables = Tables::open(&self.dir)?;
                    catch_up(&mut tables, journal)?;
                    tables.compare(journal.view())?;
                    closed.insert(tables)
                }
            };
            catch_up(tables, journal)?;
            ask(tables)
        })
    }

    /// Closes the database, which one process at a time can have open. It is opened again at the next use.
    pub fn close(&mut self) {
        if let Some(tables) = self.tables.take() {
            // Closing a database that is in trouble may be trouble.
            let _ = guarded(|| {
                drop(tables);
                Ok(())
            });
        }
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.close();
    }
}

/// Runs `f`, whose panics are sled's.
fn guarded<T>(f: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    // What a panic leaves half done is the tables alone, and they are closed and moved aside.
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Trouble::Panicked(text.to_owned()))
    })
}

fn catch_up(tables: &mut Tables, journal: &Journal) -> Result<(), Trouble> {
    let view = journal.view();
    let seq = match tables.seq() {
        Some(seq) if seq == view.seq => return Ok(()),
        Some(seq) if seq > view.seq => {
            let detail = format!("it has record {seq}, and the journal ends with {}", view.seq);
            return Err(Trouble::Disagrees(detail));
        }
        Some(seq) if view.seq - seq <= CATCH_UP_RECORDS_MAX => seq,
        _ => return tables.build(view),
    };
    let records: Result<Vec<Record>> = journal.log_after(seq).and_then(Iterator::collect);
    match records {
        Ok(records) => {
            for batch in records.chunks(BATCH_RECORDS) {
                tables.apply(batch)?;
            }
            tables.reach(view.seq)
        }
        Err(error) => {
            tracing::debug!(%error, "the catalogue cannot follow the log and is built from the view");
            tables.build(view)
        }
    }
}

/// Renames `dir` to the next free `.bad-N`, and removes the oldest of those beyond [`ASIDE_MAX`].
fn move_aside(dir: &Path) -> Result<PathBuf> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(Error::damaged("catalogue", format!("{} cannot be moved aside", dir.display())));
    };
    let prefix = format!("{}.bad-", name.to_string_lossy());
    let listed = Os.list(parent).map_err(Error::io("list", parent))?;
    let mut numbers: Vec<u32> =
        listed.iter().filter_map(|entry| entry.name.strip_prefix(&prefix)?.parse().ok()).collect();
    numbers.sort_unstable();
    let beyond = (numbers.len() + 1).saturating_sub(ASIDE_MAX);
    for number in &numbers[..beyond] {
        let old = parent.join(format!("{prefix}{number}"));
        remove_derived(&old).map_err(Error::io("remove", &old))?;
    }
    let aside = parent.join(format!("{prefix}{}", numbers.last().map_or(1, |last| last.saturating_add(1))));
    Os.rename(dir, &aside).map_err(Error::io("move aside", dir))?;
    Ok(aside)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a catalogue moved aside is derived and not durable state of the store"
)]
fn remove_derived(path: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests;
