//! Takes an archive apart, front to back: what it says of itself first, then frame after frame, each verified.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cairn_trust::Envelope;

use super::format::{
    self, ARTIFACTS_MAX, ArchiveTotals, BASES_MAX, HEADER_LEN, ITEM_LEN, MAGIC, STATEMENTS_LEN_MAX, Tag,
};
use crate::blocks::Decoder;
use crate::cursor::Defect;
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ID_LEN};
use crate::intake::VerifiedFrame;
use crate::pack::PackKind;
use crate::refs::{ChannelKey, RefKey, RefStatement, Subject};

/// What is set aside for a body before any of it has come.
const RESERVE_MAX: usize = 64 << 10;

/// An artifact that an archive holds, by what is stated of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Its name.
    pub key: RefKey,
    /// The artifact.
    pub artifact: ArtifactId,
    /// The channels that are said to point to it.
    pub channels: Vec<ChannelKey>,
    /// The statements: the ref's, then the channels'. Their signatures were not looked at.
    pub envelopes: Vec<Envelope>,
}

/// An artifact whose chunks an archive leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// What it was called where the archive was made.
    pub key: RefKey,
    /// The artifact.
    pub artifact: ArtifactId,
}

/// A part of an archive behind its head.
#[derive(Debug)]
pub enum ArchivePart {
    /// What follows belongs to this artifact, the next of [`ArchiveReader::artifacts`].
    Artifact(ArtifactId),
    /// Chunks, hashed.
    Frame(PackKind, Box<VerifiedFrame>),
}

/// An archive that is being read.
pub struct ArchiveReader<'a> {
    from: &'a mut dyn Read,
    /// What it is called in errors.
    path: PathBuf,
    /// Over everything that was read.
    hasher: blake3::Hasher,
    /// Bytes that were read.
    offset: u64,
    bases: Vec<Base>,
    artifacts: Vec<Archived>,
    /// The item that was read and not given out yet: it ended the head.
    next: Option<(u64, Tag, Vec<u8>)>,
    /// What came so far; all of it counted by the archive's end too, or that end is refused.
    came: ArchiveTotals,
    statements_len: usize,
    decoder: Decoder,
    /// The end was reached, or something did not hold.
    over: bool,
}

impl<'a> ArchiveReader<'a> {
    /// Begins to read an archive, which errors call `path`: up to the first artifact's frames.
    ///
    /// # Errors
    /// [`Error::Input`] when it is something else, [`Error::NewerFormat`], [`Error::Archive`] when it does not hold,
    /// [`Error::Tree`] when it cannot be read.
    pub fn open(from: &'a mut dyn Read, path: &Path) -> Result<Self> {
        let mut reader = Self {
            from,
            path: path.to_owned(),
            hasher: blake3::Hasher::new(),
            offset: 0,
            bases: Vec::new(),
            artifacts: Vec::new(),
            next: None,
            came: ArchiveTotals::default(),
            statements_len: 0,
            decoder: Decoder::default(),
            over: false,
        };
        reader.header()?;
        reader.head()?;
        Ok(reader)
    }

    /// The artifacts in it.
    #[must_use]
    pub fn artifacts(&self) -> &[Archived] {
        &self.artifacts
    }

    /// The artifacts whose chunks are left out, and have to be where this is imported.
    #[must_use]
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// Bytes that were read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What came so far; after the last part, what the whole archive holds.
    #[must_use]
    pub fn totals(&self) -> ArchiveTotals {
        self.came
    }

    /// The next part; nothing when the end was reached and everything holds.
    ///
    /// # Errors
    /// As [`ArchiveReader::open`]. Nothing comes after an error.
    pub fn part(&mut self) -> Result<Option<ArchivePart>> {
        if self.over {
            return Ok(None);
        }
        self.over = true;
        let (at, tag, body) = match self.next.take() {
            Some(item) => item,
            None => self.item()?,
        };
        let part = match tag {
            Tag::End => return self.end(&body, at).map(|()| None),
            Tag::Base | Tag::Statement => {
                return Err(self.broken(at, "what it says of itself goes on behind its first artifact"));
            }
            Tag::Artifact => ArchivePart::Artifact(self.artifact(&body, at)?),
            Tag::Metadata | Tag::Data if self.came.artifacts == 0 => {
                return Err(self.broken(at, "a frame that belongs to no artifact"));
            }
            Tag::Metadata => ArchivePart::Frame(PackKind::Metadata, Box::new(self.frame(body, at)?)),
            Tag::Data => ArchivePart::Frame(PackKind::Data, Box::new(self.frame(body, at)?)),
        };
        match tag {
            Tag::Metadata => self.came.metadata_frames += 1,
            Tag::Data => self.came.data_frames += 1,
            _ => {}
        }
        self.over = false;
        Ok(Some(part))
    }

    fn header(&mut self) -> Result<()> {
        let first = self.take(HEADER_LEN)?;
        let header = match <[u8; HEADER_LEN]>::try_from(&first[..]) {
            Ok(header) if header.starts_with(&MAGIC) => header,
            Err(_) if first.starts_with(&MAGIC) => return Err(self.cut()),
            _ => {
                return Err(Error::Input {
                    path: self.path.clone(),
                    problem: format::kind_of(&first).to_owned(),
                });
            }
        };
        format::decode_header(&header).map_err(|defect| self.defect(0, defect))
    }

    /// Reads what the archive says of itself.
    fn head(&mut self) -> Result<()> {
        loop {
            let (at, tag, body) = self.item()?;
            match tag {
                Tag::Base if self.artifacts.is_empty() && self.bases.len() < BASES_MAX => {
                    let (key, artifact) =
                        format::decode_base(&body).map_err(|defect| self.defect(at, defect))?;
                    self.bases.push(Base { key, artifact });
                    self.came.bases += 1;
                }
                Tag::Statement => {
                    self.statements_len += body.len();
                    if self.statements_len > STATEMENTS_LEN_MAX {
                        return Err(self.broken(at, "more than 16 MiB of statements"));
                    }
                    self.statement(&body).map_err(|defect| self.defect(at, defect))?;
                    self.came.statements += 1;
                }
                Tag::Artifact if !self.artifacts.is_empty() => {
                    self.next = Some((at, tag, body));
                    return Ok(());
                }
                Tag::Base => return Err(self.broken(at, "what it leaves out is not in its place")),
                _ => return Err(self.broken(at, "it does not say what it holds")),
            }
        }
    }

    /// Takes a statement in: a ref's begins an artifact, a channel's is about the artifact before it.
    fn statement(&mut self, body: &[u8]) -> Result<(), Defect> {
        let wrong = |detail: &str| Defect::new(detail.to_owned());
        let envelope = Envelope::from_json(body).map_err(|error| Defect::new(error.to_string()))?;
        if envelope.to_json().as_bytes() != body {
            return Err(wrong("an envelope that is not in its canonical encoding"));
        }
        let statement = RefStatement::of(&envelope).map_err(|error| Defect::new(error.to_string()))?;
        match statement.subject {
            Subject::Ref { key, artifact } => {
                if self.artifacts.iter().any(|other| other.artifact == artifact) {
                    return Err(wrong("two statements name one artifact"));
                }
                if self.artifacts.iter().any(|other| other.key == key) {
                    return Err(wrong("two artifacts of one name"));
                }
                if self.artifacts.len() == ARTIFACTS_MAX {
                    return Err(wrong("more than 4,096 artifacts"));
                }
                self.artifacts.push(Archived {
                    key,
                    artifact,
                    channels: Vec::new(),
                    envelopes: vec![envelope],
                });
            }
            Subject::Channel { key, artifact, .. } => {
                if self.artifacts.iter().any(|other| other.channels.contains(&key)) {
                    return Err(wrong("one channel twice"));
                }
                let about = self.artifacts.last_mut().filter(|about| about.artifact == artifact);
                let about = about.ok_or_else(|| wrong("a channel that points to no artifact in it"))?;
                about.channels.push(key);
                about.envelopes.push(envelope);
            }
        }
        Ok(())
    }

    fn artifact(&mut self, body: &[u8], at: u64) -> Result<ArtifactId> {
        let expected = self.artifacts.get(self.came.artifacts as usize).map(|archived| archived.artifact);
        match expected {
            Some(artifact) if artifact.0 == body => {
                self.came.artifacts += 1;
                Ok(artifact)
            }
            _ => Err(self.broken(at, "an artifact that it does not name, or not in its order")),
        }
    }

    fn frame(&mut self, body: Vec<u8>, at: u64) -> Result<VerifiedFrame> {
        let frame = VerifiedFrame::verify(body, &mut self.decoder);
        let frame = frame.map_err(|error| self.broken(at, &error.to_string()))?;
        self.came.chunks += frame.chunks().len() as u64;
        self.came.plain_bytes += frame.chunks().iter().map(|(_, len)| u64::from(*len)).sum::<u64>();
        Ok(frame)
    }

    /// The end: nothing may lack, nothing may follow.
    fn end(&mut self, body: &[u8], at: u64) -> Result<()> {
        let (said, hash) = ArchiveTotals::decode(body).map_err(|defect| self.defect(at, defect))?;
        if self.hasher.finalize().as_bytes() != &hash {
            return Err(self
                .broken(at, "its bytes are not those that were written: the hash at its end does not hold"));
        }
        if said != self.came || self.came.artifacts as usize != self.artifacts.len() {
            return Err(self.broken(at, "its end does not count what came"));
        }
        match self.take(1)?.len() {
            0 => Ok(()),
            _ => Err(self.broken(self.offset - 1, "it goes on behind its end")),
        }
    }

    /// The next item, and where it begins.
    fn item(&mut self) -> Result<(u64, Tag, Vec<u8>)> {
        let at = self.offset;
        let head = self.take(ITEM_LEN)?;
        let head = <[u8; ITEM_LEN]>::try_from(&head[..]).map_err(|_| self.cut())?;
        let (tag, len) = format::decode_item(head).map_err(|defect| self.defect(at, defect))?;
        // The hash at the end is of all bytes but itself.
        let hashed = if tag == Tag::End { len - ID_LEN } else { len };
        let mut body = self.take(hashed)?;
        if hashed < len && body.len() == hashed {
            let covered = self.hasher.clone();
            body.extend(self.take(len - hashed)?);
            self.hasher = covered;
        }
        if body.len() < len {
            return Err(self.cut());
        }
        Ok((at, tag, body))
    }

    /// The next bytes: so many, or all that are left.
    fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len.min(RESERVE_MAX));
        let read = (&mut *self.from).take(len as u64).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        self.hasher.update(&bytes);
        read.map_err(|source| self.unreadable(source))?;
        Ok(bytes)
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::Tree { action: "read", path: self.path.clone(), source }
    }

    fn cut(&self) -> Error {
        self.broken(self.offset, "it ends here, in the middle: it was cut short")
    }

    fn broken(&self, offset: u64, problem: &str) -> Error {
        Error::Archive { path: self.path.clone(), offset, problem: problem.to_owned() }
    }

    fn defect(&self, offset: u64, defect: Defect) -> Error {
        match defect {
            Defect::Malformed(detail) => self.broken(offset, &detail),
            Defect::Newer { found, supported } => {
                Error::NewerFormat { path: self.path.clone(), found, supported }
            }
        }
    }
}
