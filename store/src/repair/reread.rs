//! Looks for lost chunks in files of the user: each is cut as artifacts were, and what hashes to a chunk that is wanted is
//! kept. So it does not matter what a file is called, or where in it the bytes are that an artifact had in another.
//!
//! A long file's list of chunks is made again with it. Directories are not: adding their files again makes them.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::block::{BlockBuilder, Compressor};
use crate::blocks::Decoder;
use crate::chunker::{CdcBounds, Cutter, HEAD_LEN, PACKAGE_BOUNDS};
use crate::content::{ChunkRef, ContentBuilder};
use crate::error::{Error, Result};
use crate::hash;
use crate::id::{ArtifactId, ChunkId};
use crate::intake::VerifiedFrame;
use crate::object::ObjectSink;
use crate::pack::PackKind;
use crate::progress::Progress;
use crate::writer::Writer;

/// Bytes of a file that are in memory at a time, beside the longest chunk.
const WINDOW_LEN: usize = 4 << 20;
/// Folders within one another that are gone into.
const DEPTH_MAX: usize = 256;

/// What was looked for in folders, and what was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reread {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks that were wanted and found.
    pub found: u64,
}

/// Where lost chunks may be.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// Folders, or files.
    pub paths: Vec<PathBuf>,
    /// Paths in artifacts of what is damaged: files of these names are read first.
    pub hints: Vec<Vec<u8>>,
}

impl Writer {
    /// Looks for chunks that cannot be read here in files, and keeps them. They are durable once the intake was flushed.
    /// What cannot be read is passed over, and said in the log.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Io`] when they cannot be kept, [`Error::Tree`] when one of the folders cannot be
    /// opened at all.
    pub fn reread(
        &self,
        folders: &Folders,
        wanted: &[ChunkRef],
        artifacts: &[ArtifactId],
        progress: &dyn Progress,
    ) -> Result<Reread> {
        let mut search = Search {
            writer: self,
            progress,
            bounds: self.bounds_of(artifacts),
            wanted: wanted.iter().map(|chunk| chunk.id).collect(),
            seen: HashSet::new(),
            done: Reread::default(),
            kept: Kept::default(),
        };
        for path in &folders.paths {
            let at = |errno: Errno| Error::tree("open", path)(errno);
            rustix::fs::stat(path).map_err(at)?;
        }
        for (path, hint) in
            folders.paths.iter().flat_map(|path| folders.hints.iter().map(move |hint| (path, hint)))
        {
            let name = Path::new(std::ffi::OsStr::from_bytes(hint));
            let is_below = name.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if is_below && !hint.is_empty() {
                search.file(&path.join(name))?;
            }
        }
        folders.paths.iter().try_for_each(|path| search.look_in(path, 0))?;
        search.keep_rest()?;
        Ok(search.done)
    }

    /// How the chunks of these artifacts were cut, as far as they tell; the usual way too.
    fn bounds_of(&self, artifacts: &[ArtifactId]) -> Vec<CdcBounds> {
        let local = self.local();
        let own = artifacts.iter().filter_map(|id| local.artifact(id).ok()).map(|artifact| {
            let chunking = artifact.chunking;
            (chunking.min, chunking.avg, chunking.max)
        });
        let usual = (PACKAGE_BOUNDS.min, PACKAGE_BOUNDS.avg, PACKAGE_BOUNDS.max);
        let all: BTreeSet<_> = own.chain([usual]).collect();
        let bounds = all.into_iter().map(|(min, avg, max)| CdcBounds { min, avg, max });
        bounds.filter(|bounds| bounds.problem().is_none()).collect()
    }
}

/// What was found and is not in the intake yet.
#[derive(Default)]
struct Kept {
    data: BlockBuilder,
    objects: BlockBuilder,
    compressor: Compressor,
    decoder: Decoder,
}

struct Search<'a> {
    writer: &'a Writer,
    progress: &'a dyn Progress,
    bounds: Vec<CdcBounds>,
    /// What is still to be found.
    wanted: HashSet<ChunkId>,
    /// Files that were read, by device and inode.
    seen: HashSet<(u64, u64)>,
    done: Reread,
    kept: Kept,
}

impl Search<'_> {
    /// Reads a file, or all files in a folder and in those below it. Links are not followed.
    fn look_in(&mut self, path: &Path, depth: usize) -> Result<()> {
        let is_own = path == self.writer.path();
        if self.wanted.is_empty() || depth > DEPTH_MAX || is_own {
            return Ok(());
        }
        let stat = if depth == 0 { rustix::fs::stat(path) } else { rustix::fs::lstat(path) };
        match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::RegularFile) => self.file(path),
            Ok(FileType::Directory) => {
                let names = match names_in(path) {
                    Ok(names) => names,
                    Err(error) => return pass_over(path, &error),
                };
                names.iter().try_for_each(|name| self.look_in(&path.join(name), depth + 1))
            }
            Ok(_) => Ok(()),
            Err(errno) => pass_over(path, &errno.into()),
        }
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let (file, stat) = match opened.and_then(|file| Ok((rustix::fs::fstat(&file)?, file))) {
            Ok((stat, file)) => (File::from(file), stat),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return pass_over(path, &errno.into()),
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if !is_file || size == 0 || !self.seen.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.done.files += 1;
        self.done.bytes += size;
        for cutter in self.cutters(&file, size) {
            match self.cut(&file, cutter) {
                Ok(()) => {}
                Err(Cut::Unreadable(error)) => return pass_over(path, &error),
                Err(Cut::Failed(error)) => return Err(error),
            }
        }
        self.progress.advance(size, 1);
        Ok(())
    }

    /// The ways in which the file may have been cut.
    fn cutters(&self, file: &File, size: u64) -> Vec<Cutter> {
        let mut head = Vec::new();
        // What cannot be read is said when the file is.
        let _ = Read::take(file, HEAD_LEN as u64).read_to_end(&mut head);
        let mut cutters = Vec::new();
        for bounds in &self.bounds {
            for cutter in [Cutter::for_file(*bounds, &head, size), Cutter::content_defined(*bounds)] {
                if !cutters.contains(&cutter) {
                    cutters.push(cutter);
                }
            }
        }
        cutters
    }

    /// Cuts a file from its start to its end, and takes what is wanted.
    fn cut(&mut self, file: &File, cutter: Cutter) -> std::result::Result<(), Cut> {
        use std::os::unix::fs::FileExt;
        let mut window = Vec::new();
        let (mut start, mut content) = (0u64, ContentBuilder::new());
        loop {
            // What is left of the window before, and more behind it.
            let left = window.len();
            window.resize(WINDOW_LEN + cutter.max(), 0);
            let mut filled = left;
            while filled < window.len() {
                match file.read_at(&mut window[filled..], start + filled as u64) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Cut::Unreadable(error)),
                }
            }
            let is_end = filled < window.len();
            let stop = if is_end { filled } else { WINDOW_LEN };
            let (mut at, mut chunks) = (0, Vec::new());
            while at < stop {
                let len = cutter.cut(&window[at..filled]);
                chunks.push(&window[at..at + len]);
                at += len;
            }
            self.take(&chunks, &mut content)?;
            start += at as u64;
            if is_end || self.wanted.is_empty() {
                break;
            }
            if self.progress.cancelled() {
                return Err(Cut::Failed(Error::Cancelled));
            }
            window.copy_within(at..filled, 0);
            window.truncate(filled - at);
        }
        let mut nodes = Nodes(self);
        content.finish(&mut nodes).map(drop)?;
        Ok(())
    }

    fn take(&mut self, chunks: &[&[u8]], content: &mut ContentBuilder) -> Result<()> {
        for (bytes, id) in chunks.iter().zip(hash::ids(chunks)) {
            let len = u32::try_from(bytes.len()).expect("a chunk is short");
            let is_hole = bytes.iter().all(|byte| *byte == 0);
            if !is_hole && self.wanted.remove(&id) {
                self.keep(PackKind::Data, id, bytes)?;
            }
            let chunk = if is_hole { ChunkRef::hole(len) } else { ChunkRef { id, len } };
            content.push(chunk, &mut Nodes(self))?;
        }
        Ok(())
    }

    fn keep(&mut self, kind: PackKind, id: ChunkId, bytes: &[u8]) -> Result<()> {
        self.done.found += 1;
        let builder = match kind {
            PackKind::Data | PackKind::Delta => &mut self.kept.data,
            PackKind::Metadata => &mut self.kept.objects,
        };
        if builder.is_full_for(bytes.len()) {
            let full = std::mem::take(builder);
            self.kept.hand_over(self.writer, kind, full)?;
        }
        match kind {
            PackKind::Data | PackKind::Delta => self.kept.data.push(id, bytes),
            PackKind::Metadata => self.kept.objects.push(id, bytes),
        }
        Ok(())
    }

    fn keep_rest(&mut self) -> Result<()> {
        let (data, objects) = (std::mem::take(&mut self.kept.data), std::mem::take(&mut self.kept.objects));
        self.kept.hand_over(self.writer, PackKind::Data, data)?;
        self.kept.hand_over(self.writer, PackKind::Metadata, objects)
    }
}

impl Kept {
    fn hand_over(&mut self, writer: &Writer, kind: PackKind, chunks: BlockBuilder) -> Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        let (frame, _) = chunks.finish(&mut self.compressor);
        // What was hashed a moment ago holds.
        if let Ok(frame) = VerifiedFrame::verify(frame.bytes, &mut self.decoder) {
            writer.intake().heal(kind, &frame)?;
        }
        Ok(())
    }
}

/// Takes the nodes of lists that are wanted, and lets the others go.
struct Nodes<'a, 'b>(&'a mut Search<'b>);

impl ObjectSink for Nodes<'_, '_> {
    fn put(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = ChunkId::of(&bytes);
        if self.0.wanted.remove(&id) {
            self.0.keep(PackKind::Metadata, id, &bytes)?;
        }
        Ok(id)
    }
}

/// Why a file was not cut to its end.
enum Cut {
    Unreadable(io::Error),
    Failed(Error),
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn names_in(path: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(std::os::unix::ffi::OsStringExt::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

/// Says so in the log; the search goes on.
fn pass_over(path: &Path, error: &io::Error) -> Result<()> {
    tracing::warn!(path = %path.display(), %error, "a file is passed over in the search for lost chunks");
    Ok(())
}
