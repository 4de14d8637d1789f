//! Changes of refs and channels.

use super::Writer;
use crate::error::{Error, Result};
use crate::id::ArtifactId;
use crate::ingest::Ingested;
use crate::journal::Op;
use crate::refs::{Channel, ChannelKey, Gone, RefKey, RefRecord, Version, View};
use crate::time::now_ms;

/// What publishing does beside naming the artifact.
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    /// Whether a version that exists with other content is replaced.
    pub replace: bool,
    /// A channel that is to point to the version.
    pub channel: Option<Channel>,
}

/// What publishing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Sequence number of the journal's record; none where nothing changed.
    pub seq: Option<u64>,
    /// What the version was before, if something else.
    pub replaced: Option<ArtifactId>,
    /// Whether the version was there with the same content.
    pub unchanged: bool,
}

impl Writer {
    /// Names an artifact. What was ingested stays in the store until this, or until the last clone of `ingested` is
    /// dropped; whoever publishes it once more may find that it is gone.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the version exists with other content and is not to be replaced, or when a version and a
    /// channel would have one name; [`Error::Absent`] and [`Error::Incomplete`] when it was published before, taken away,
    /// and collected; [`Error::Io`].
    pub fn publish(&self, ingested: &Ingested, options: &PublishOptions) -> Result<Published> {
        let published = {
            let _nothing_goes = self.holds().naming();
            if !ingested.stake.is_of(self.holds()) {
                self.check_is_here(ingested)?;
            }
            let published = self.name_ingested(ingested, options)?;
            ingested.stake.end();
            published
        };
        if published.seq.is_some() {
            self.persist_index();
        }
        Ok(published)
    }

    /// That all of it is here, where nothing has kept it.
    fn check_is_here(&self, ingested: &Ingested) -> Result<()> {
        let missing = self.missing(&ingested.artifact, &())?;
        if missing.is_nothing() {
            return Ok(());
        }
        Err(Error::Incomplete { what: ingested.key.to_string(), missing })
    }

    fn name_ingested(&self, ingested: &Ingested, options: &PublishOptions) -> Result<Published> {
        let (mut names, view) = self.lock_names();
        let key = &ingested.key;
        let old = view.refs.get(key).map(|record| record.artifact);
        let replaced = old.filter(|old| *old != ingested.artifact);
        if replaced.is_some() && !options.replace {
            return Err(Error::Conflict {
                what: format!("{key}"),
                detail: "it exists with other content; choose another version, or replace it".to_owned(),
            });
        }
        check_channel(&view, key, options.channel.as_ref())?;
        let unchanged = old == Some(ingested.artifact);
        let mut ops = Vec::new();
        if !unchanged {
            let record = RefRecord {
                artifact: ingested.artifact,
                files: ingested.files,
                bytes: ingested.bytes,
                chunks: ingested.chunks,
                new_bytes: ingested.new_bytes,
                stored_bytes: ingested.stored_bytes + ingested.metadata_bytes,
                time_ms: now_ms(),
            };
            ops.push(Op::SetRef { key: key.clone(), old, record });
        }
        ops.extend(options.channel.as_ref().and_then(|channel| point(&view, key, channel)));
        ops.extend(self.is_whole_now(&view, &ingested.artifact)?);
        if replaced.is_some() {
            ops.extend(forgotten(&view, key, Some(&ingested.artifact)));
        }
        if ops.is_empty() {
            return Ok(Published { seq: None, replaced: None, unchanged });
        }
        drop(view);
        let seq = self.change(&mut names, ops)?;
        Ok(Published { seq: Some(seq), replaced, unchanged })
    }

    /// The change that says that an artifact is whole, if it was known not to be.
    pub(super) fn is_whole_now(&self, view: &View, artifact: &ArtifactId) -> Result<Option<Op>> {
        let was_partial = view.partial.contains(artifact);
        let is_whole = was_partial && self.missing(artifact, &())?.is_nothing();
        Ok(is_whole.then_some(Op::SetWhole { artifact: *artifact }))
    }

    /// Takes a version's name away. Its bytes stay until they are collected.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Conflict`] when a channel points to it and it is not forced (then the channel goes
    /// too), [`Error::Io`].
    pub fn remove_ref(&self, key: &RefKey, force: bool) -> Result<ArtifactId> {
        let (mut names, view) = self.lock_names();
        let old = view.refs.get(key).ok_or_else(|| Error::Absent { what: key.to_string() })?.artifact;
        let channels: Vec<_> = view
            .channels
            .iter()
            .filter(|(channel, version)| {
                channel.name == key.name && channel.platform == key.platform && **version == key.version
            })
            .collect();
        if let Some((channel, _)) = channels.first().filter(|_| !force) {
            return Err(Error::Conflict {
                what: key.to_string(),
                detail: format!(
                    "channel {} points to it; point it elsewhere first, or force this",
                    channel.channel
                ),
            });
        }
        let mut ops: Vec<_> = channels
            .into_iter()
            .map(|(channel, version)| Op::RemoveChannel { key: channel.clone(), old: version.clone() })
            .collect();
        ops.push(Op::RemoveRef { key: key.clone(), old });
        ops.extend(forgotten(&view, key, None));
        self.change(&mut names, ops)?;
        Ok(old)
    }

    /// Points a channel to a version; gives where it pointed before.
    ///
    /// # Errors
    /// [`Error::Absent`] when there is no such version, [`Error::Conflict`] when a version has the channel's name,
    /// [`Error::Io`].
    pub fn tag(&self, key: &RefKey, channel: &Channel) -> Result<Option<Version>> {
        let (mut names, view) = self.lock_names();
        if !view.refs.contains_key(key) {
            return Err(Error::Absent { what: key.to_string() });
        }
        check_channel(&view, key, Some(channel))?;
        let Some(op) = point(&view, key, channel) else { return Ok(Some(key.version.clone())) };
        let old = match &op {
            Op::SetChannel { old, .. } => old.clone(),
            _ => None,
        };
        self.change(&mut names, vec![op])?;
        Ok(old)
    }

    /// Takes a channel away; gives the version that it pointed to.
    ///
    /// # Errors
    /// [`Error::Absent`], [`Error::Io`].
    pub fn remove_channel(&self, key: &ChannelKey) -> Result<Version> {
        let (mut names, view) = self.lock_names();
        let old = view.channels.get(key).ok_or_else(|| Error::Absent { what: key.to_string() })?.clone();
        self.change(&mut names, vec![Op::RemoveChannel { key: key.clone(), old: old.clone() }])?;
        Ok(old)
    }
}

/// The changes that forget of partial artifacts that nothing names once a ref names something else, or nothing.
pub(super) fn forgotten(view: &View, key: &RefKey, to: Option<&ArtifactId>) -> Vec<Op> {
    let mut artifacts = view.partial_without(&Gone::Ref(key));
    artifacts.retain(|artifact| Some(artifact) != to);
    artifacts.into_iter().map(|artifact| Op::SetWhole { artifact }).collect()
}

/// A version and a channel of one name cannot both be meant by it.
pub(super) fn check_channel(view: &View, key: &RefKey, channel: Option<&Channel>) -> Result<()> {
    let is_this = |channel: &Channel| channel.as_str() == key.version.as_str();
    let shadowed = channel.filter(|channel| view.shadows(&key.name, channel) || is_this(channel));
    if let Some(channel) = shadowed {
        return Err(Error::Conflict {
            what: format!("channel {channel}"),
            detail: format!("{} has a version of that name", key.name),
        });
    }
    let is_new = !view.refs.contains_key(key);
    if is_new && view.channels.keys().any(|channel| channel.name == key.name && is_this(&channel.channel)) {
        return Err(Error::Conflict {
            what: key.to_string(),
            detail: format!("{} has a channel of that name", key.name),
        });
    }
    Ok(())
}

/// The change that points a channel to a version, unless it does.
pub(super) fn point(view: &View, key: &RefKey, channel: &Channel) -> Option<Op> {
    let channel =
        ChannelKey { name: key.name.clone(), channel: channel.clone(), platform: key.platform.clone() };
    let old = view.channels.get(&channel).cloned();
    (old.as_ref() != Some(&key.version)).then(|| Op::SetChannel {
        key: channel,
        old,
        version: key.version.clone(),
    })
}
