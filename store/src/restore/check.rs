//! Whether a folder is what an artifact says, byte for byte: every file is read again and hashed by the artifact's own
//! chunks. What a restore wrote is trusted only after that by whoever goes on from it.

use std::fs::File;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fstat, lstat, open, readlink, seek};
use rustix::io::Errno;

use crate::artifact::Artifact;
use crate::content::{ChunkRef, chunks};
use crate::error::{Error, Result};
use crate::hash;
use crate::id::ArtifactId;
use crate::progress::Progress;
use crate::store::Store;
use crate::tree::Node;

/// Bytes of a file that are read and hashed together.
const TOGETHER: usize = 1 << 20;
/// Threads that read and hash, at most; there are no more than cores.
const THREADS_MAX: usize = 8;

/// What was compared, and found equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Reads a folder again that an artifact was restored to, and compares it with the artifact: kinds, lengths, targets
    /// of links and every byte of files. What else is in the folder is not looked at.
    ///
    /// # Errors
    /// [`Error::Input`] for the first file that is not what it should be, [`Error::Tree`] when it cannot be read,
    /// [`Error::Cancelled`]; [`Error::Damaged`], [`Error::Absent`] and [`Error::Io`] of the artifact's metadata.
    pub fn check_restored(
        &self,
        artifact: &ArtifactId,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Checked> {
        let artifact = self.artifact(artifact)?;
        progress.expect(artifact.bytes, artifact.files);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
        let failed = OnceLock::new();
        let done = std::thread::scope(|scope| {
            let (sender, jobs) = sync_channel::<(Arc<Checking>, Together)>(2 * threads);
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..threads {
                let (jobs, failed) = (Arc::clone(&jobs), &failed);
                scope.spawn(move || {
                    let mut buffer = Vec::new();
                    loop {
                        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((file, together)) = job else { return };
                        if failed.get().is_none()
                            && let Err(error) = file.holds(&together, &mut buffer)
                        {
                            // The first is what is told.
                            let _ = failed.set(error);
                        }
                    }
                });
            }
            // Nobody hangs up before the sender does.
            self.check_all(&artifact, folder, progress, &|file, together| {
                let _ = sender.send((Arc::clone(file), together));
                failed.get().is_none()
            })
        });
        match failed.into_inner() {
            Some(error) => Err(error),
            None => done,
        }
    }

    /// Compares everything but the bytes of files, which `give` takes to be compared until it says that it is over.
    fn check_all(
        &self,
        artifact: &Artifact,
        folder: &Path,
        progress: &dyn Progress,
        give: &dyn Fn(&Arc<Checking>, Together) -> bool,
    ) -> Result<Checked> {
        let mut done = Checked::default();
        for step in artifact.walk(self) {
            let (path, entry) = step?;
            let path = folder.join(std::ffi::OsStr::from_bytes(&path));
            let stat = lstat(&path).map_err(Error::tree("read", &path))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let due = match &entry.node {
                Node::Dir { .. } => FileType::Directory,
                Node::File { .. } => FileType::RegularFile,
                Node::Symlink { .. } => FileType::Symlink,
                Node::Fifo => FileType::Fifo,
                Node::Char { .. } => FileType::CharacterDevice,
                Node::Block { .. } => FileType::BlockDevice,
            };
            if kind != due {
                return Err(differs(path, format!("it is a {kind:?}, and the artifact has a {due:?}")));
            }
            match entry.node {
                Node::Symlink { target } => {
                    let found = readlink(&path, Vec::new()).map_err(Error::tree("read the link", &path))?;
                    if found.as_bytes() != target {
                        return Err(differs(path, "it leads elsewhere than in the artifact".to_owned()));
                    }
                }
                Node::File { size, content } => {
                    if u64::try_from(stat.st_size) != Ok(size) {
                        let detail = format!("it has {} bytes, and {size} in the artifact", stat.st_size);
                        return Err(differs(path, detail));
                    }
                    let file = Arc::new(Checking::open(&path, size)?);
                    let mut together = Together { start: 0, len: 0, chunks: Vec::new() };
                    match content {
                        crate::content::Content::Inline(bytes) => file.equals(&bytes)?,
                        content => {
                            for chunk in chunks(&content, size, self) {
                                let (offset, chunk) = chunk?;
                                let is_other = together
                                    .chunks
                                    .last()
                                    .is_some_and(|last: &ChunkRef| last.is_hole() != chunk.is_hole());
                                if is_other || together.len + chunk.len as usize > TOGETHER {
                                    let next = Together { start: offset, len: 0, chunks: Vec::new() };
                                    if !give(&file, std::mem::replace(&mut together, next)) {
                                        return Ok(done);
                                    }
                                    if progress.cancelled() {
                                        return Err(Error::Cancelled);
                                    }
                                }
                                together.len += chunk.len as usize;
                                together.chunks.push(chunk);
                            }
                            if !give(&file, together) {
                                return Ok(done);
                            }
                        }
                    }
                    done.files += 1;
                    done.bytes += size;
                    progress.advance(size, 1);
                }
                _ => {}
            }
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(done)
    }
}

fn differs(path: PathBuf, problem: String) -> Error {
    Error::Input { path, problem }
}

/// Chunks that follow each other in a file.
struct Together {
    start: u64,
    len: usize,
    chunks: Vec<ChunkRef>,
}

/// A file that is compared.
struct Checking {
    file: File,
    path: PathBuf,
}

impl Checking {
    fn open(path: &Path, size: u64) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let at = Error::tree("open", path);
        let file = open(path, flags, Mode::empty()).map_err(at)?;
        let stat = fstat(&file).map_err(Error::tree("read", path))?;
        if u64::try_from(stat.st_size) != Ok(size) {
            return Err(differs(path.to_owned(), "it changes while it is read".to_owned()));
        }
        Ok(Self { file: file.into(), path: path.to_owned() })
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(buffer, at).map_err(|source| Error::Tree {
            action: "read",
            path: self.path.clone(),
            source,
        })
    }

    fn equals(&self, bytes: &[u8]) -> Result<()> {
        let mut found = vec![0; bytes.len()];
        self.read(&mut found, 0)?;
        if found == bytes { Ok(()) } else { Err(self.differs_at(0)) }
    }

    fn differs_at(&self, offset: u64) -> Error {
        differs(self.path.clone(), format!("its bytes from {offset} on are not the artifact's"))
    }

    /// Whether the file system has nothing there, which reads as zeros. Where it does not tell, the bytes do.
    fn is_hole(&self, start: u64, len: u64) -> bool {
        match seek(&self.file, SeekFrom::Data(start)) {
            Ok(data) => data >= start + len,
            // Behind the last data there is a hole to the end.
            Err(errno) => errno == Errno::NXIO,
        }
    }

    /// Compares a run of chunks, either all holes or none.
    fn holds(&self, together: &Together, buffer: &mut Vec<u8>) -> Result<()> {
        let is_of_holes = together.chunks.first().is_some_and(ChunkRef::is_hole);
        if is_of_holes && self.is_hole(together.start, together.len as u64) {
            return Ok(());
        }
        buffer.resize(together.len, 0);
        self.read(buffer, together.start)?;
        let (mut parts, mut rest) = (Vec::with_capacity(together.chunks.len()), &buffer[..]);
        for chunk in &together.chunks {
            let (part, after) = rest.split_at(chunk.len as usize);
            parts.push(part);
            rest = after;
        }
        let hashed: Vec<&[u8]> = parts
            .iter()
            .zip(&together.chunks)
            .filter(|(_, chunk)| !chunk.is_hole())
            .map(|(part, _)| *part)
            .collect();
        let mut ids = hash::ids(&hashed).into_iter();
        let mut offset = together.start;
        for (part, chunk) in parts.iter().zip(&together.chunks) {
            let is_equal = if chunk.is_hole() {
                part.iter().all(|byte| *byte == 0)
            } else {
                ids.next() == Some(chunk.id)
            };
            if !is_equal {
                return Err(self.differs_at(offset));
            }
            offset += part.len() as u64;
        }
        Ok(())
    }
}
