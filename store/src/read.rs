//! Reads files of an artifact: any range of any file, every byte verified.

use std::io::{self, Read, Seek, SeekFrom};

use crate::content::{ChunkRef, Content, chunks_from};
use crate::error::{Error, Kind, Result};
use crate::id::ArtifactId;
use crate::store::Store;
use crate::tree::{self, Node};

/// Chunk references that are looked up ahead, at most.
const AHEAD_MAX: usize = 256;

/// A file in the store, open for reading.
pub struct FileReader {
    store: Store,
    content: Content,
    len: u64,
    at: u64,
    /// Chunks from `at` on, in order, or none.
    ahead: std::collections::VecDeque<(u64, ChunkRef)>,
}

impl Store {
    /// Opens a file of an artifact by its path, whose parts are separated by `/`.
    ///
    /// # Errors
    /// [`Error::Absent`] when the artifact or the path is not there, [`Error::Invalid`] when it is not a regular file,
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn open_file(&self, artifact: &ArtifactId, path: &[u8]) -> Result<FileReader> {
        let artifact = self.artifact(artifact)?;
        let shown = String::from_utf8_lossy(path).into_owned();
        match tree::lookup(&artifact.root, path, self)?.map(|entry| entry.node) {
            None => Err(Error::Absent { what: format!("{shown} in {}@{}", artifact.name, artifact.version) }),
            Some(Node::File { size, content }) => Ok(FileReader::new(self.clone(), content, size)),
            Some(node) => {
                let reason = match node {
                    Node::Dir { .. } => "it is a directory".to_owned(),
                    Node::Symlink { target } => {
                        format!("it is a symbolic link to {}", String::from_utf8_lossy(&target))
                    }
                    _ => "it is not a regular file".to_owned(),
                };
                Err(Error::Invalid { what: "path", given: shown, reason })
            }
        }
    }
}

impl FileReader {
    /// A reader of `len` bytes of `content`.
    #[must_use]
    pub fn new(store: Store, content: Content, len: u64) -> Self {
        Self { store, content, len, at: 0, ahead: std::collections::VecDeque::new() }
    }

    /// Bytes of the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads from `offset` until `buf` is full or the file ends; gives the number of bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if offset != self.at {
            self.at = offset;
            self.ahead.clear();
        }
        let mut filled = 0;
        while filled < buf.len() && self.at < self.len {
            filled += self.read_some(&mut buf[filled..])?;
        }
        Ok(filled)
    }

    /// Reads at least one byte at the current place, which is before the end.
    fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
        if let Content::Inline(bytes) = &self.content {
            let start = usize::try_from(self.at).unwrap_or(usize::MAX).min(bytes.len());
            let len = buf.len().min(bytes.len() - start);
            buf[..len].copy_from_slice(&bytes[start..start + len]);
            self.at += len as u64;
            return Ok(len);
        }
        if self.ahead.is_empty() {
            let chunks = chunks_from(&self.content, self.len, self.at, &self.store).take(AHEAD_MAX);
            self.ahead = chunks.collect::<Result<_>>()?;
        }
        let ended = || Error::damaged("a file's list of chunks", "it ends before the file does");
        let (start, chunk) = *self.ahead.front().ok_or_else(ended)?;
        let within = usize::try_from(self.at - start).map_err(|_| ended())?;
        let len = buf.len().min(chunk.len as usize - within);
        if chunk.is_hole() {
            buf[..len].fill(0);
        } else {
            let bytes = self.store.held_chunk(&chunk.id)?;
            buf[..len].copy_from_slice(bytes.get(within..within + len).ok_or_else(ended)?);
        }
        self.at += len as u64;
        if within + len == chunk.len as usize {
            self.ahead.pop_front();
        }
        Ok(len)
    }
}

impl Read for FileReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.at >= self.len {
            return Ok(0);
        }
        self.read_some(buf).map_err(|error| {
            let kind = match error.kind() {
                Kind::Damaged => io::ErrorKind::InvalidData,
                Kind::Absent => io::ErrorKind::NotFound,
                _ => io::ErrorKind::Other,
            };
            io::Error::new(kind, error)
        })
    }
}

impl Seek for FileReader {
    fn seek(&mut self, from: SeekFrom) -> io::Result<u64> {
        let target = match from {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let target = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if target != self.at {
            self.at = target;
            self.ahead.clear();
        }
        Ok(target)
    }
}
