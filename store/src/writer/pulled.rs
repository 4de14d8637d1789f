//! Names that came from other stores: the last step of a pull.
//!
//! Nothing is named before all of it is here and durable, unless the caller wants an artifact that is filled in while it is
//! used; that is then known to be partial. The name, the words of the other store about it, and whether it is whole change
//! together or not at all.

use cairn_trust::Envelope;

use super::Writer;
use super::refs::{Published, check_channel, forgotten, point};
use crate::artifact::Artifact;
use crate::error::{Error, Result};
use crate::id::ArtifactId;
use crate::journal::Op;
use crate::refs::{ChannelKey, Origin, RefKey, RefRecord, RefStatement, Subject, SubjectName, View, Witness};
use crate::time::now_ms;

/// Statements that are published together, at most.
const STATEMENTS_MAX: usize = 16;

/// How what was pulled is published.
#[derive(Debug, Clone, Default)]
pub struct PulledOptions {
    /// Whether a version that exists with other content is replaced, and a channel moved that its origin did not move.
    pub replace: bool,
    /// Whether an artifact will do of which files are not here yet.
    pub partial: bool,
    /// Plain bytes of chunks that the store did not hold before the pull, for the ref's record.
    pub new_bytes: u64,
    /// Bytes that those came to in packs.
    pub stored_bytes: u64,
}

/// What the statements about one artifact say, checked against one another.
struct Words {
    key: RefKey,
    channels: Vec<(ChannelKey, RefStatement)>,
    witnesses: Vec<Witness>,
}

impl Writer {
    /// Names an artifact that was pulled, by the statements of other stores about it: one of a ref, and any of channels
    /// that point to it. What was kept of the artifact is made durable first.
    ///
    /// # Errors
    /// [`Error::Incomplete`] when not all of it is here, and it is not to be partial; [`Error::RolledBack`];
    /// [`Error::Conflict`] when the version exists with other content or a channel would move against its origin, and
    /// nothing is to be replaced, or when statements and artifact contradict one another; [`Error::Damaged`] for what is no
    /// statement; [`Error::Absent`], [`Error::Io`].
    pub fn publish_pulled(
        &self,
        artifact: &ArtifactId,
        envelopes: &[Envelope],
        options: &PulledOptions,
    ) -> Result<Published> {
        let words = Words::of(artifact, envelopes)?;
        let about = self.artifact(artifact)?;
        words.check_artifact(&about)?;
        self.owned.intake.flush()?;
        let published = {
            let _nothing_goes = self.holds().naming_what_is_here();
            self.name_pulled(artifact, &words, &about, options)?
        };
        if published.seq.is_some() {
            self.persist_index();
        }
        Ok(published)
    }

    fn name_pulled(
        &self,
        artifact: &ArtifactId,
        words: &Words,
        about: &Artifact,
        options: &PulledOptions,
    ) -> Result<Published> {
        let missing = self.missing(artifact, &())?;
        if !missing.is_nothing() && (!options.partial || missing.objects > 0) {
            return Err(Error::Incomplete { what: words.key.to_string(), missing });
        }
        let (mut names, view) = self.lock_names();
        words.check_names(&view, artifact, options.replace)?;
        let mut ops = Vec::new();
        let old = view.refs.get(&words.key).map(|record| record.artifact);
        if old != Some(*artifact) {
            let record = RefRecord {
                artifact: *artifact,
                files: about.files,
                bytes: about.bytes,
                chunks: about.chunks,
                new_bytes: options.new_bytes,
                stored_bytes: options.stored_bytes,
                time_ms: now_ms(),
            };
            ops.push(Op::SetRef { key: words.key.clone(), old, record });
        }
        for (channel, _) in &words.channels {
            ops.extend(point(&view, &words.key, &channel.channel));
        }
        ops.extend(words.news(&view).map(|envelope| Op::SetWitness { envelope: envelope.clone() }));
        match (missing.is_nothing(), view.partial.contains(artifact)) {
            (true, true) => ops.push(Op::SetWhole { artifact: *artifact }),
            (false, false) => ops.push(Op::SetPartial { artifact: *artifact }),
            _ => {}
        }
        let (replaced, unchanged) = (old.filter(|old| old != artifact), old == Some(*artifact));
        if replaced.is_some() {
            ops.extend(forgotten(&view, &words.key, Some(artifact)));
        }
        if ops.is_empty() {
            return Ok(Published { seq: None, replaced, unchanged });
        }
        drop(view);
        let seq = self.change(&mut names, ops)?;
        Ok(Published { seq: Some(seq), replaced, unchanged })
    }

    /// Whether [`Writer::publish_pulled`] would take these statements, as far as that can be told before anything of the
    /// artifact is here: worth asking before a transfer begins.
    ///
    /// # Errors
    /// As [`Writer::publish_pulled`].
    pub fn check_pulled(
        &self,
        artifact: &ArtifactId,
        envelopes: &[Envelope],
        options: &PulledOptions,
    ) -> Result<()> {
        Words::of(artifact, envelopes)?.check_names(&self.names(), artifact, options.replace)
    }

    /// Whether an artifact that is here is what its envelopes call it: one of several is not named before all of them are
    /// known to be.
    pub(crate) fn check_named_as_it_says(&self, artifact: &ArtifactId, envelopes: &[Envelope]) -> Result<()> {
        Words::of(artifact, envelopes)?.check_artifact(&self.artifact(artifact)?)
    }

    /// An artifact that was partial is whole from now on; nothing changes if it was. What was kept is made durable first.
    ///
    /// # Errors
    /// [`Error::Incomplete`] when something of it is not here, [`Error::Absent`], [`Error::Damaged`], [`Error::Io`].
    pub fn set_whole(&self, artifact: &ArtifactId) -> Result<()> {
        if !self.names().partial.contains(artifact) {
            return Ok(());
        }
        self.owned.intake.flush()?;
        let _nothing_goes = self.holds().naming_what_is_here();
        let missing = self.missing(artifact, &())?;
        if !missing.is_nothing() {
            return Err(Error::Incomplete { what: format!("artifact {artifact}"), missing });
        }
        let (mut names, view) = self.lock_names();
        if view.partial.contains(artifact) {
            drop(view);
            self.change(&mut names, vec![Op::SetWhole { artifact: *artifact }])?;
        }
        Ok(())
    }

    /// What this store is called in statements. The first call draws the name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn origin(&self) -> Result<Origin> {
        let (mut names, view) = self.lock_names();
        if let Some((origin, _)) = view.origin {
            return Ok(origin);
        }
        drop(view);
        let origin = Origin::random().map_err(Error::io("draw a random name for", self.path()))?;
        self.change(&mut names, vec![Op::SetOrigin { origin }])?;
        Ok(origin)
    }
}

impl Words {
    /// Reads statements about one artifact.
    fn of(artifact: &ArtifactId, envelopes: &[Envelope]) -> Result<Self> {
        let contradiction = |detail: String| Error::Conflict { what: format!("artifact {artifact}"), detail };
        if envelopes.len() > STATEMENTS_MAX {
            return Err(contradiction(format!("there are {} statements about it", envelopes.len())));
        }
        let (mut key, mut channels, mut witnesses) = (None, Vec::new(), Vec::<Witness>::new());
        for envelope in envelopes {
            let witness = Witness::of(envelope.clone())?;
            let (statement, name) = (&witness.statement, witness.statement.subject.name());
            if statement.subject.artifact() != *artifact {
                let named = statement.subject.artifact();
                return Err(contradiction(format!("the statement about {name} names artifact {named}")));
            }
            if witnesses.iter().any(|earlier| earlier.statement.subject.name() == name) {
                return Err(contradiction(format!("there are two statements about {name}")));
            }
            match &statement.subject {
                Subject::Channel { key, .. } => channels.push((key.clone(), statement.clone())),
                Subject::Ref { .. } if key.is_some() => {
                    return Err(contradiction("there are statements about two refs".to_owned()));
                }
                Subject::Ref { key: named, .. } => key = Some(named.clone()),
            }
            witnesses.push(witness);
        }
        let key = key.ok_or_else(|| contradiction("no statement says which version it is".to_owned()))?;
        for (channel, statement) in &channels {
            let Subject::Channel { version, .. } = &statement.subject else { continue };
            if (&channel.name, &channel.platform, version) != (&key.name, &key.platform, &key.version) {
                return Err(contradiction(format!("channel {channel} is said to be {version}, not {key}")));
            }
        }
        Ok(Self { key, channels, witnesses })
    }

    /// An artifact is named as it says itself.
    fn check_artifact(&self, artifact: &Artifact) -> Result<()> {
        let Artifact { name, version, platform, .. } = artifact;
        if (name, version, platform) == (&self.key.name, &self.key.version, &self.key.platform) {
            return Ok(());
        }
        Err(Error::Conflict {
            what: self.key.to_string(),
            detail: format!("the artifact says that it is {name}@{version} for {platform}"),
        })
    }

    /// Nothing is rolled back, and nothing changes against the will of whoever named it here.
    fn check_names(&self, view: &View, artifact: &ArtifactId, replace: bool) -> Result<()> {
        self.witnesses.iter().try_for_each(|witness| view.check_statement(&witness.statement))?;
        let there = view.refs.get(&self.key).map(|record| record.artifact);
        if there.is_some_and(|there| there != *artifact) && !replace {
            return Err(Error::Conflict {
                what: self.key.to_string(),
                detail: "it exists with other content; replace it, or keep what is here".to_owned(),
            });
        }
        for (channel, statement) in &self.channels {
            check_channel(view, &self.key, Some(&channel.channel))?;
            let Some(version) = view.channels.get(channel).filter(|version| **version != self.key.version)
            else {
                continue;
            };
            let name = SubjectName::Channel(channel.clone());
            // Whoever said what it is here may move it on; what was tagged here stays.
            let mut words = view.witnessed.about(&name).rev();
            let said_so = |word: &&Witness| matches!(&word.statement.subject, Subject::Channel { version: said, .. } if said == version);
            if words.find(said_so).map(|word| word.statement.origin) != Some(statement.origin) && !replace {
                return Err(Error::Conflict {
                    what: format!("channel {channel}"),
                    detail: format!(
                        "it is {version} here, and another store moves it; replace it, or keep it"
                    ),
                });
            }
        }
        if self.channels.is_empty() {
            check_channel(view, &self.key, None)?;
        }
        Ok(())
    }

    /// The statements that are worth keeping: those that say something new, or have other signatures.
    fn news<'a>(&'a self, view: &'a View) -> impl Iterator<Item = &'a Envelope> {
        let is_known = |witness: &Witness| {
            let mut words = view.witnessed.about(&witness.statement.subject.name());
            words.next_back().is_some_and(|last| last.envelope == witness.envelope)
        };
        self.witnesses.iter().filter(move |witness| !is_known(witness)).map(|witness| &witness.envelope)
    }
}
