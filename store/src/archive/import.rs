//! An archive becomes artifacts of a store.
//!
//! Frames are kept as they come, whatever happens later: who imports the same archive again has them, and they are
//! durable. Names come last, when the end of the archive held and every artifact in it is here.

use std::collections::BTreeMap;

use super::format::ArchiveTotals;
use super::read::{ArchivePart, ArchiveReader, Archived, Base};
use crate::artifact::Artifact;
use crate::error::{Error, Result};
use crate::holds::HoldGuard;
use crate::id::ArtifactId;
use crate::intake::Kept;
use crate::lease::Held;
use crate::presence::Missing;
use crate::progress::Progress;
use crate::refs::{ChannelKey, RefKey};
use crate::store::Store;
use crate::tree::{Node, walk};
use crate::writer::{Published, PulledOptions, Writer};

/// Entries of an artifact that is taken from elsewhere, at most.
const ENTRIES_MAX: u64 = 1 << 25;

/// How an archive is imported.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Whether a version that exists with other content is replaced, and a channel moved that its origin did not move.
    pub replace: bool,
}

/// What was imported, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The artifacts, in the archive's order.
    pub artifacts: Vec<ImportedArtifact>,
    /// What the archive left out.
    pub bases: Vec<Base>,
    /// What it held.
    pub totals: ArchiveTotals,
    /// Its bytes.
    pub archive_bytes: u64,
}

/// An artifact of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedArtifact {
    /// Its name.
    pub key: RefKey,
    /// The artifact.
    pub artifact: ArtifactId,
    /// The channels that came with it.
    pub channels: Vec<ChannelKey>,
    /// What was new of it.
    pub new: Kept,
    /// How it was named; nothing where that was not to be.
    pub published: Option<Published>,
}

impl Writer {
    /// Imports an archive. What came is kept and durable, however this ends.
    ///
    /// # Errors
    /// [`Error::RolledBack`] and [`Error::Conflict`] as from [`Writer::publish_pulled`], before any frame is read;
    /// [`Error::Absent`] and [`Error::Incomplete`] when something is not here that the archive leaves out;
    /// [`Error::Archive`] when it does not hold; [`Error::Damaged`] when what it holds is no artifact;
    /// [`Error::Cancelled`], [`Error::Tree`], [`Error::Io`].
    pub fn import_archive(
        &self,
        archive: ArchiveReader<'_>,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Imported> {
        // Nothing leads to what is kept of them until they are named.
        let hold = |about: &Archived| {
            self.hold(Held::Artifact(about.artifact), format!("an import of {}", about.key))
        };
        let bases = archive
            .bases()
            .iter()
            .map(|base| self.hold(Held::Artifact(base.artifact), format!("an import without {}", base.key)));
        let _held: Vec<HoldGuard> = archive.artifacts().iter().map(hold).chain(bases).collect();
        self.check_archive(&archive, options)?;
        let intake = self.intake();
        let read = read(archive, progress, &mut |part| match part {
            ArchivePart::Artifact(_) => Ok(Kept::default()),
            ArchivePart::Frame(kind, frame) => intake.keep(*kind, frame),
        });
        // What came is worth keeping, however it ended.
        let flushed = intake.flush();
        let (mut imported, archived) = read?;
        flushed?;
        for about in &archived {
            self.check_imported(about, progress)?;
        }
        for (about, imported) in archived.iter().zip(&mut imported.artifacts) {
            let options = PulledOptions {
                replace: options.replace,
                partial: false,
                new_bytes: imported.new.plain_bytes,
                stored_bytes: imported.new.stored_bytes,
            };
            imported.published = Some(self.publish_pulled(&about.artifact, &about.envelopes, &options)?);
        }
        Ok(imported)
    }

    /// Reads a whole archive and says what importing it would bring; nothing is kept.
    ///
    /// # Errors
    /// As [`Writer::import_archive`], as far as that can be told.
    pub fn weigh_archive(
        &self,
        archive: ArchiveReader<'_>,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Imported> {
        self.check_archive(&archive, options)?;
        let store = self.store().local();
        let read = read(archive, progress, &mut |part| match part {
            ArchivePart::Artifact(_) => Ok(Kept::default()),
            ArchivePart::Frame(_, frame) => {
                let ids: Vec<_> = frame.chunks().iter().map(|(id, _)| *id).collect();
                let mut new = Kept::default();
                for ((_, len), _) in frame.chunks().iter().zip(store.have(&ids)?).filter(|(_, here)| !here) {
                    new.chunks += 1;
                    new.plain_bytes += u64::from(*len);
                }
                let plain: u64 = frame.chunks().iter().map(|(_, len)| u64::from(*len)).sum();
                new.stored_bytes = frame.stored_len() as u64 * new.plain_bytes / plain.max(1);
                Ok(new)
            }
        });
        Ok(read?.0)
    }

    /// Refuses what could not be named, or not be whole, before any of it is read.
    fn check_archive(&self, archive: &ArchiveReader<'_>, options: &ImportOptions) -> Result<()> {
        let options = PulledOptions { replace: options.replace, ..PulledOptions::default() };
        for about in archive.artifacts() {
            self.check_pulled(&about.artifact, &about.envelopes, &options)?;
        }
        let store = self.store().local();
        if archive.artifacts().iter().all(|about| is_whole(&store, &about.artifact)) {
            return Ok(());
        }
        for Base { key, artifact } in archive.bases() {
            let what = format!("{key} ({}), which the archive leaves out,", artifact.short());
            match store.missing(artifact, &()) {
                Ok(missing) if missing.is_nothing() => {}
                Ok(missing) => return Err(Error::Incomplete { what, missing }),
                Err(Error::Absent { .. }) => return Err(Error::Absent { what }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether all of an artifact is here under its own name, and its tree is what it says: no larger, above all, for a small one can name
    /// its directories so often that nobody gets to the end of it.
    fn check_imported(&self, about: &Archived, progress: &dyn Progress) -> Result<()> {
        let store = self.store().local();
        let what = || about.key.to_string();
        let missing = match store.missing(&about.artifact, progress) {
            Err(Error::Absent { .. }) => Missing { objects: 1, ..Missing::default() },
            missing => missing?,
        };
        if !missing.is_nothing() {
            return Err(Error::Incomplete { what: what(), missing });
        }
        self.check_named_as_it_says(&about.artifact, &about.envelopes)?;
        let artifact = store.artifact(&about.artifact)?;
        let wrong = |detail: String| Error::damaged(format!("artifact {}", what()), detail);
        if artifact.entries > ENTRIES_MAX {
            let entries = artifact.entries;
            return Err(wrong(format!("it has {entries} entries, and at most {ENTRIES_MAX} are taken")));
        }
        let counted = count(&store, &artifact, progress)?;
        if counted != (artifact.entries, artifact.files, artifact.bytes, artifact.chunks) {
            return Err(wrong("it has other files than it says".to_owned()));
        }
        Ok(())
    }
}

/// Entries, files, their bytes and chunks.
fn count(store: &Store, artifact: &Artifact, progress: &dyn Progress) -> Result<(u64, u64, u64, u64)> {
    let (mut entries, mut files, mut bytes, mut chunks) = (0, 0, 0u64, 0u64);
    for entry in walk(&artifact.root, store).with_limit(artifact.entries) {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        entries += 1;
        if let Node::File { size, content } = entry?.1.node {
            files += 1;
            bytes = bytes.saturating_add(size);
            chunks = chunks.saturating_add(content.chunk_count());
        }
    }
    Ok((entries, files, bytes, chunks))
}

fn is_whole(store: &Store, artifact: &ArtifactId) -> bool {
    store.missing(artifact, &()).is_ok_and(|missing| missing.is_nothing())
}

/// Reads an archive to its end and does something with each part. Gives what it says, and what was new by that.
fn read(
    mut archive: ArchiveReader<'_>,
    progress: &dyn Progress,
    take: &mut dyn FnMut(&ArchivePart) -> Result<Kept>,
) -> Result<(Imported, Vec<Archived>)> {
    let mut new: BTreeMap<ArtifactId, Kept> = BTreeMap::new();
    let (mut current, mut told) = (None, 0);
    while let Some(part) = archive.part()? {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        if let ArchivePart::Artifact(artifact) = part {
            current = Some(artifact);
        }
        let kept = take(&part)?;
        if let Some(artifact) = current {
            let sum = new.entry(artifact).or_default();
            sum.chunks += kept.chunks;
            sum.plain_bytes += kept.plain_bytes;
            sum.stored_bytes += kept.stored_bytes;
        }
        progress.advance(archive.offset() - told, 0);
        told = archive.offset();
    }
    let archived = archive.artifacts().to_vec();
    let artifacts = archived.iter().map(|about| ImportedArtifact {
        key: about.key.clone(),
        artifact: about.artifact,
        channels: about.channels.clone(),
        new: new.get(&about.artifact).copied().unwrap_or_default(),
        published: None,
    });
    let imported = Imported {
        artifacts: artifacts.collect(),
        bases: archive.bases().to_vec(),
        totals: archive.totals(),
        archive_bytes: archive.offset(),
    };
    Ok((imported, archived))
}
