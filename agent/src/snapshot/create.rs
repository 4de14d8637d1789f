//! From a live state directory to a named snapshot.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cairn_store::diff::diff_artifacts;
use cairn_store::snapshots::{LATEST, facts_of, key_of, round_of};
use cairn_store::{
    ArtifactId, Channel, ChannelKey, Error, IngestOptions, Ingested, Input, KeptSnapshots, Name, Progress,
    PublishOptions, Stamps, StateHash, Writer,
};

use super::checkpoint::Checkpoint;
use super::frozen::{Alone, Frozen, thaw_left, thaw_own};
use super::round::{RoundCommand, ask};
use super::{CheckpointOptions, RoundFrom, Snapshot, SnapshotError, SnapshotOptions};
use crate::hook::{self, Hook, HookError};

/// Takes a snapshot and names it. One is taken of a name at a time.
///
/// # Errors
/// [`SnapshotError`]; of the store's: [`Error::Input`] when the state changed meanwhile, [`Error::Conflict`] when the round
/// is there with other content, [`Error::Cancelled`] when `progress` says so. Whatever it is, nobody is frozen
/// afterwards unless it is [`SnapshotError::Thaw`].
pub fn create(
    writer: &Writer,
    options: &SnapshotOptions,
    progress: &dyn Progress,
) -> Result<Snapshot, SnapshotError> {
    let begun = Instant::now();
    thaw_left(writer)?;
    let _alone = Alone::of(writer.path(), &options.name)?;
    // What could not be thawed is in the way of this one.
    thaw_own(writer.path(), &options.name)?;
    let dir = state_dir(&options.dir)?;
    let checkpoint =
        options.checkpoint.as_ref().map(|how| Checkpoint::prepare(&dir, &options.name, how)).transpose()?;
    let work = Work { writer, options, progress, dir, checkpoint: checkpoint.as_ref() };
    let (taken, frozen) = match &options.freezing {
        None => (work.take(None)?, None),
        Some(freezing) => {
            let thaw = &freezing.thaw;
            let mut frozen =
                Frozen::prepare(writer.path(), &options.name, &work.dir, thaw, options.hook_time)?;
            let taken = work.freeze(&freezing.freeze).and_then(|()| work.take(Some(&mut frozen)));
            match (taken, frozen.thaw()) {
                (Ok(taken), Ok(time)) => (taken, Some(time)),
                (Err(error), Ok(_)) => return Err(error),
                (Ok(_), Err(error)) => return Err(error),
                (Err(first), Err(error)) => {
                    let first: &dyn std::error::Error = &first;
                    tracing::error!(name = %options.name, error = first, "no snapshot was made");
                    return Err(error);
                }
            }
        }
    };
    let Taken { round, state_hash, ingested } = taken;
    // A checkpoint is read when whoever made it goes on.
    let ingested = ingested.map_or_else(|| work.ingest(round, state_hash.as_ref()), Ok)?;
    drop(checkpoint);
    let named = name(writer, options, (round, state_hash.as_ref()), &ingested)?;
    let kept = match options.keep {
        Some(keep) => writer.keep_snapshots(&options.name, keep)?,
        None => KeptSnapshots::default(),
    };
    Ok(Snapshot {
        name: options.name.clone(),
        round,
        state_hash,
        artifact: named.artifact,
        unchanged: named.unchanged,
        replaced: named.replaced,
        ingested,
        kept,
        frozen,
        took: begun.elapsed(),
    })
}

/// The state directory by its absolute path.
fn state_dir(given: &Path) -> Result<PathBuf, Error> {
    let tree = |source| Error::Tree { action: "read", path: given.to_owned(), source };
    let dir = given.canonicalize().map_err(tree)?;
    if !dir.metadata().map_err(tree)?.is_dir() {
        return Err(Error::Invalid {
            what: "state directory",
            given: given.display().to_string(),
            reason: "it is not a directory".to_owned(),
        });
    }
    Ok(dir)
}

struct Work<'a> {
    writer: &'a Writer,
    options: &'a SnapshotOptions,
    progress: &'a dyn Progress,
    dir: PathBuf,
    checkpoint: Option<&'a Checkpoint>,
}

/// What is known when nobody has to be frozen any more.
struct Taken {
    round: u64,
    state_hash: Option<StateHash>,
    /// Nothing yet where there is a checkpoint.
    ingested: Option<Ingested>,
}

impl Work<'_> {
    /// What is read.
    fn source(&self) -> &Path {
        self.checkpoint.map_or(&self.dir, Checkpoint::path)
    }

    fn run(&self, purpose: &'static str, command: &str) -> Result<(), SnapshotError> {
        let mut env: Vec<(&'static str, OsString)> =
            vec![("CAIRN_NAME", self.options.name.as_str().into()), ("CAIRN_DIR", self.dir.clone().into())];
        if let RoundFrom::Given(round) = self.options.round {
            env.push(("CAIRN_ROUND", round.to_string().into()));
        }
        env.extend(self.checkpoint.map(|checkpoint| ("CAIRN_CHECKPOINT", checkpoint.path().into())));
        let (command, time_max) = (command.to_owned(), self.options.hook_time);
        hook::run(&Hook { purpose, command, env, dir: Some("/".into()), time_max }, &|| {
            self.progress.cancelled()
        })
        .map(drop)
        .map_err(stopped)
    }

    fn freeze(&self, command: &str) -> Result<(), SnapshotError> {
        self.run("freeze", command)
    }

    /// Everything for which whoever writes the state has to be frozen.
    fn take(&self, frozen: Option<&mut Frozen<'_>>) -> Result<Taken, SnapshotError> {
        if let (Some(checkpoint), Some(CheckpointOptions { command, .. })) =
            (self.checkpoint, &self.options.checkpoint)
        {
            self.run("checkpoint", command)?;
            checkpoint.check()?;
        }
        let (round, state_hash) = self.round()?;
        if let Some(frozen) = frozen {
            frozen.set_round(round);
        }
        let name = &self.options.name;
        if self.options.only_new_rounds && self.writer.names().refs.contains_key(&key_of(name, round)) {
            return Err(SnapshotError::There { name: name.clone(), round });
        }
        let ingested = match self.checkpoint {
            Some(_) => None,
            None => Some(self.ingest(round, state_hash.as_ref())?),
        };
        Ok(Taken { round, state_hash, ingested })
    }

    fn round(&self) -> Result<(u64, Option<StateHash>), SnapshotError> {
        let options = self.options;
        let (round, found) = match &options.round {
            RoundFrom::Given(round) => (*round, None),
            RoundFrom::Command(command) => {
                let asked = RoundCommand {
                    name: &options.name,
                    dir: &self.dir,
                    snapshot_dir: self.source(),
                    command,
                    time_max: options.hook_time,
                };
                ask(asked, &|| self.progress.cancelled()).map_err(|error| match error {
                    SnapshotError::Hook(error) => stopped(error),
                    other => other,
                })?
            }
        };
        match (&options.state_hash, found) {
            (Some(said), Some(found)) if *said != found => {
                Err(SnapshotError::StateHash { said: said.clone(), found })
            }
            (said, found) => Ok((round, found.or_else(|| said.clone()))),
        }
    }

    fn ingest(&self, round: u64, state_hash: Option<&StateHash>) -> Result<Ingested, SnapshotError> {
        let stamps = if self.checkpoint.is_some() { Stamps::HardLinks } else { Stamps::All };
        let options = IngestOptions {
            stamps,
            threads: self.options.threads,
            ..IngestOptions::snapshot(self.options.name.clone(), round, state_hash)
        };
        Ok(self.writer.ingest(Input::Paths(vec![self.source().to_owned()]), &options, self.progress)?)
    }
}

/// A command that was stopped because nobody wants the snapshot any more is no failure of its own.
fn stopped(error: HookError) -> SnapshotError {
    match error {
        HookError::Cancelled { .. } => Error::Cancelled.into(),
        other => other.into(),
    }
}

struct Named {
    artifact: ArtifactId,
    unchanged: bool,
    replaced: Option<ArtifactId>,
}

/// Lets the round name what was read, unless it names the same content; and channel `latest` the round, unless it is at a newer one.
fn name(
    writer: &Writer,
    options: &SnapshotOptions,
    (round, state_hash): (u64, Option<&StateHash>),
    ingested: &Ingested,
) -> Result<Named, SnapshotError> {
    let latest: Channel = LATEST.parse()?;
    let key = key_of(&options.name, round);
    let moves = round >= round_of_latest(writer, &options.name, &latest).unwrap_or(0);
    let old = writer.names().refs.get(&key).map(|record| record.artifact);
    if let Some(old) = old.filter(|old| *old != ingested.artifact)
        && !options.replace
        && is_same_state(writer, &old, ingested, state_hash)?
    {
        if moves {
            writer.tag(&key, &latest)?;
        }
        return Ok(Named { artifact: old, unchanged: true, replaced: None });
    }
    let publish = PublishOptions { replace: options.replace, channel: moves.then_some(latest) };
    let published = writer.publish(ingested, &publish)?;
    let (unchanged, replaced) = (published.unchanged, published.replaced);
    Ok(Named { artifact: ingested.artifact, unchanged, replaced })
}

fn round_of_latest(writer: &Writer, name: &Name, latest: &Channel) -> Option<u64> {
    let key = key_of(name, 0);
    let channel = ChannelKey { name: key.name, channel: latest.clone(), platform: key.platform };
    round_of(writer.names().channels.get(&channel)?)
}

/// Whether an artifact holds the same state: every byte, name and kind. A checkpoint that is made again has other times.
fn is_same_state(
    writer: &Writer,
    old: &ArtifactId,
    ingested: &Ingested,
    state_hash: Option<&StateHash>,
) -> Result<bool, Error> {
    let (old, new) = match (writer.artifact(old), writer.artifact(&ingested.artifact)) {
        (Ok(old), new) => (old, new?),
        // What is there cannot be read, so nobody can say that it is the same.
        (Err(_), _) => return Ok(false),
    };
    let known = facts_of(&old).and_then(|(_, hash)| hash);
    if known.as_ref().zip(state_hash).is_some_and(|(known, said)| known != said) {
        return Ok(false);
    }
    for difference in diff_artifacts(&old, &new, writer.store()) {
        match difference {
            Ok(difference) if difference.is_content() => return Ok(false),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the snapshot of that round cannot be compared");
                return Ok(false);
            }
        }
    }
    Ok(true)
}
