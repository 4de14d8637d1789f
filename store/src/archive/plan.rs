//! What goes into an archive, and writing it.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use cairn_trust::Envelope;

use super::format::{self, ARTIFACTS_MAX, ArchiveTotals, BASES_MAX, Tag};
use super::read::{Archived, Base};
use crate::block::FrameHeader;
use crate::content::ChunkRef;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId};
use crate::pack::PackKind;
use crate::progress::Progress;
use crate::refs::{Channel, ChannelKey, Platform, RefKey, Spec, View};
use crate::sending::Piece;
use crate::store::Store;

/// What is wanted of an archive.
#[derive(Debug, Clone, Default)]
pub struct ArchiveRequest {
    /// The artifacts. What is named by a channel takes that channel with it.
    pub specs: Vec<Spec>,
    /// What these have is left out: who imports the archive has it.
    pub since: Vec<Spec>,
    /// The platform that is meant where there are several.
    pub platform: Option<Platform>,
}

/// What goes into an archive.
#[derive(Debug)]
pub struct ArchivePlan {
    bases: Vec<Base>,
    artifacts: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    about: Archived,
    objects: Vec<ChunkRef>,
    chunks: Vec<ChunkRef>,
}

impl ArchivePlan {
    /// The artifacts.
    pub fn artifacts(&self) -> impl Iterator<Item = &Archived> {
        self.artifacts.iter().map(|planned| &planned.about)
    }

    /// What is left out.
    #[must_use]
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// Plain bytes of everything that goes in.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        let all = self.artifacts.iter().flat_map(|planned| planned.objects.iter().chain(&planned.chunks));
        all.map(|chunk| u64::from(chunk.len)).sum()
    }
}

impl Store {
    /// Finds out what goes into an archive. All of it has to be here.
    ///
    /// # Errors
    /// [`Error::Absent`] for what is not here or has no name, [`Error::Incomplete`] for what is not wholly here,
    /// [`Error::Unavailable`] where the store has no origin yet, and so can state nothing ([`crate::Writer::origin`] draws
    /// one); [`Error::Damaged`], [`Error::Cancelled`], [`Error::Io`].
    pub fn plan_archive(&self, request: &ArchiveRequest, progress: &dyn Progress) -> Result<ArchivePlan> {
        let view = self.view()?;
        let misuse = |given: usize, reason: &str| Error::Invalid {
            what: "number of artifacts",
            given: given.to_string(),
            reason: reason.to_owned(),
        };
        if request.specs.is_empty() || request.specs.len() > ARTIFACTS_MAX {
            return Err(misuse(request.specs.len(), "an archive holds 1 to 4,096"));
        }
        if request.since.len() > BASES_MAX {
            return Err(misuse(request.since.len(), "an archive leaves out what at most 64 have"));
        }
        let mut sent = HashSet::new();
        let mut bases = Vec::new();
        for spec in &request.since {
            let (key, artifact) = named(&view, spec, request.platform.as_ref())?;
            let lists = [
                self.lacking_objects(None, &artifact, progress)?,
                self.lacking_chunks(None, &artifact, progress)?,
            ];
            sent.extend(lists.iter().flat_map(|list| list.chunks.iter().map(|chunk| chunk.id)));
            bases.push(Base { key, artifact });
        }
        let mut artifacts: Vec<Planned> = Vec::new();
        for spec in &request.specs {
            let about = about(&view, spec, request.platform.as_ref())?;
            if let Some(there) = artifacts.iter_mut().find(|planned| planned.about.artifact == about.artifact)
            {
                there.about.take_channels(about);
                continue;
            }
            let missing = self.missing(&about.artifact, progress)?;
            if !missing.is_nothing() {
                return Err(Error::Incomplete { what: about.key.to_string(), missing });
            }
            let mut new =
                |list: Vec<ChunkRef>| list.into_iter().filter(|chunk| sent.insert(chunk.id)).collect();
            let objects = new(self.lacking_objects(None, &about.artifact, progress)?.chunks);
            let chunks = new(self.lacking_chunks(None, &about.artifact, progress)?.chunks);
            artifacts.push(Planned { about, objects, chunks });
        }
        Ok(ArchivePlan { bases, artifacts })
    }

    /// Writes an archive, which errors call `path`. What was written before an error is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] when something of it is not here any more, or not what its id says; [`Error::Tree`] when it
    /// cannot be written; [`Error::Cancelled`], [`Error::Io`].
    pub fn write_archive(
        &self,
        plan: &ArchivePlan,
        to: &mut dyn Write,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<ArchiveTotals> {
        progress.expect(plan.plain_bytes(), 0);
        let mut out = Out { to, path, hasher: blake3::Hasher::new(), written: ArchiveTotals::default() };
        out.bytes(&format::header())?;
        for base in &plan.bases {
            out.item(Tag::Base, &format::encode_base(&base.key, &base.artifact))?;
            out.written.bases += 1;
        }
        for envelope in plan.artifacts().flat_map(|about| &about.envelopes) {
            out.item(Tag::Statement, envelope.to_json().as_bytes())?;
            out.written.statements += 1;
        }
        for Planned { about, objects, chunks } in &plan.artifacts {
            out.item(Tag::Artifact, &about.artifact.0)?;
            out.written.artifacts += 1;
            for list in [objects, chunks] {
                self.send_to(&mut out, list, progress)?;
            }
        }
        out.end()
    }

    /// Writes some chunks as frames.
    fn send_to(&self, out: &mut Out<'_>, list: &[ChunkRef], progress: &dyn Progress) -> Result<()> {
        for piece in self.sending(list.iter().map(|chunk| chunk.id).collect()) {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            match piece? {
                Piece::Frame(kind, frame) => progress.advance(out.frame(kind, &frame)?, 0),
                Piece::Absent(ids) => return Err(gone(&ids)),
            }
        }
        Ok(())
    }
}

/// Chunks that were here, and are not or do not hold.
fn gone(ids: &[ChunkId]) -> Error {
    Error::Damaged {
        what: format!("{} of the chunks that go into the archive", ids.len()),
        chunk: ids.first().copied(),
        pack: None,
        offset: None,
        detail: "they are not here, or not what their ids say".to_owned(),
    }
}

/// An artifact with a name.
fn named(view: &View, spec: &Spec, platform: Option<&Platform>) -> Result<(RefKey, ArtifactId)> {
    let (key, artifact) = view.resolve(spec, platform)?;
    let key = key.or_else(|| view.refs_to(&artifact).next().cloned());
    let key = key.ok_or_else(|| Error::Absent { what: format!("a name of artifact {artifact}") })?;
    Ok((key, artifact))
}

/// An artifact, and what is to be passed on about it.
fn about(view: &View, spec: &Spec, platform: Option<&Platform>) -> Result<Archived> {
    let (key, artifact) = named(view, spec, platform)?;
    let stated = |what: &dyn std::fmt::Display, envelope: Option<Envelope>| {
        envelope.ok_or_else(|| Error::Unavailable {
            what: format!("a statement about {what}"),
            detail: "the store has no origin yet".to_owned(),
        })
    };
    let mut about = Archived {
        envelopes: vec![stated(&key, view.statement_of(&key))?],
        channels: Vec::new(),
        key,
        artifact,
    };
    if let Some(channel) = channel_of(spec, &about.key) {
        about.envelopes.push(stated(&channel, view.channel_statement_of(&channel))?);
        about.channels.push(channel);
    }
    Ok(about)
}

/// The channel that a spec names, where it is none of a version.
fn channel_of(spec: &Spec, key: &RefKey) -> Option<ChannelKey> {
    let Spec::Version { version_or_channel: tag, .. } = spec else { return None };
    if *tag == key.version.as_str() {
        return None;
    }
    let channel: Channel = tag.parse().ok()?;
    Some(ChannelKey { name: key.name.clone(), channel, platform: key.platform.clone() })
}

impl Archived {
    /// Takes over the channels that the same artifact was also named by.
    fn take_channels(&mut self, other: Self) {
        for (channel, envelope) in other.channels.into_iter().zip(other.envelopes.into_iter().skip(1)) {
            if !self.channels.contains(&channel) {
                self.channels.push(channel);
                self.envelopes.push(envelope);
            }
        }
    }
}

/// An archive that is being written.
struct Out<'a> {
    to: &'a mut dyn Write,
    path: &'a Path,
    hasher: blake3::Hasher,
    written: ArchiveTotals,
}

impl Out<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.to.write_all(bytes).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Tree { action: "write", path: self.path.to_owned(), source }
    }

    fn item(&mut self, tag: Tag, body: &[u8]) -> Result<()> {
        self.bytes(&format::item(tag, body.len()))?;
        self.bytes(body)
    }

    /// Writes a frame; gives its plain bytes.
    fn frame(&mut self, kind: PackKind, frame: &[u8]) -> Result<u64> {
        let (header, _) =
            FrameHeader::decode(frame).map_err(|error| Error::damaged("frame", error.to_string()))?;
        let (tag, count) = match kind {
            PackKind::Metadata => (Tag::Metadata, &mut self.written.metadata_frames),
            PackKind::Data | PackKind::Delta => (Tag::Data, &mut self.written.data_frames),
        };
        *count += 1;
        self.written.chunks += header.chunks.len() as u64;
        self.written.plain_bytes += u64::from(header.plain_len);
        self.item(tag, frame)?;
        Ok(header.plain_len.into())
    }

    fn end(mut self) -> Result<ArchiveTotals> {
        let fields = self.written.encode();
        self.bytes(&format::item(Tag::End, format::END_LEN))?;
        self.bytes(&fields)?;
        let hash = *self.hasher.finalize().as_bytes();
        self.to.write_all(&hash).and_then(|()| self.to.flush()).map_err(|source| self.failed(source))?;
        Ok(self.written)
    }
}
