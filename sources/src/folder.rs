//! Development builds in a folder of this machine.
//!
//! The files are hashed where they are, and copied where what is here has none with that hash; what was copied is believed when it
//! has it too. Nothing there is written or executed, but `git` is asked of the tree.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::config::FolderSource;
use crate::error::{Error, Result};
use crate::machine::program::{make_executable, remove};
pub use crate::machine::{Brought, BroughtFile, Commit};
use crate::machine::{place, survey};
use crate::scratch::Scratch;
use crate::sha256::{Hasher, Sha256};
use crate::template::Words;
use crate::watch::{Held, Watch};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Names of a folder that are looked at for a message.
const NAMES_MAX: usize = 1000;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The package.
    pub package: &'a str,
    /// Its programs, all of them.
    pub binaries: &'a [String],
    /// Where they are.
    pub source: &'a FolderSource,
}

/// A build in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// In the order of the programs that were asked for.
    pub files: Vec<LocalFile>,
    /// What it was built from, if that is a working tree of git. It says what the tree is now; nothing says that the programs were
    /// built after the last change.
    pub commit: Option<Commit>,
}

/// A program in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// What it is called.
    pub binary: String,
    /// Where it is.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// What the folder has now.
///
/// # Errors
/// If a program is not there or cannot be read. [`Error::Cancelled`].
pub fn look(ask: &Ask<'_>, watch: &dyn Watch) -> Result<Build> {
    let mut files = Vec::with_capacity(ask.binaries.len());
    for binary in ask.binaries {
        let words = Words { name: Some(ask.package), binary: Some(binary), ..Words::default() };
        let path = PathBuf::from(ask.source.path.fill(&words));
        let (sha256, size) = read(&mut open(&path, binary)?, &path, watch, |_| Ok(()))?;
        files.push(LocalFile { binary: binary.clone(), path, size, sha256 });
    }
    let beside = files.first().and_then(|file| file.path.parent());
    let tree = ask.source.tree.as_deref().or(beside).and_then(Path::to_str);
    let commit = tree.map(|tree| survey::local_commit(tree, watch)).transpose()?.flatten();
    Ok(Build { files, commit })
}

/// Copies the programs of a build into `to`, a folder, as `to/BINARY` with mode 755; as clones where the file system can.
/// `wire_bytes` of the answer is 0.
///
/// # Errors
/// If a file is not there any more or changes again and again, or what is here cannot be written. Then nothing in
/// `to` is to be used, and no program is there in part.
pub fn bring(build: &Build, ask: &Ask<'_>, to: &Path, held: &dyn Held, watch: &dyn Watch) -> Result<Brought> {
    let _ = ask;
    let scratch = Scratch::make(to)?;
    let mut files = Vec::with_capacity(build.files.len());
    for (at, file) in build.files.iter().enumerate() {
        files.push(one(file, &scratch.join(&at.to_string()), held, watch)?);
    }
    for (at, file) in files.iter().enumerate() {
        place(&scratch.join(&at.to_string()), to, &file.binary)?;
    }
    let way = if files.iter().any(|file| file.is_new) { "copied" } else { "held" };
    Ok(Brought { files, wire_bytes: 0, way: way.to_owned() })
}

fn one(file: &LocalFile, to: &Path, held: &dyn Held, watch: &dyn Watch) -> Result<BroughtFile> {
    let binary = file.binary.clone();
    if held.copy(&file.sha256, to).map_err(Error::io("write", to))? {
        let copied = read(&mut open(to, &binary)?, to, watch, |_| Ok(()))?;
        if copied == (file.sha256, file.size) {
            make_executable(to)?;
            return Ok(BroughtFile { binary, sha256: file.sha256, size: file.size, is_new: false });
        }
        remove(to)?;
    }
    let mut wanted = (file.sha256, file.size);
    for is_again in [false, true] {
        if is_again {
            watch.warn(&format!("{} has changed: looking again", file.path.display()));
            wanted = read(&mut open(&file.path, &binary)?, &file.path, watch, |_| Ok(()))?;
        }
        if copy(&file.path, &binary, to, watch)? == wanted {
            make_executable(to)?;
            let (sha256, size) = wanted;
            return Ok(BroughtFile { binary, sha256, size, is_new: true });
        }
        remove(to)?;
    }
    Err(Error::Unavailable {
        what: file.path.display().to_string(),
        reason: "it changes while it is read".to_owned(),
        hint: "is it being built just now? try again when that is done".to_owned(),
    })
}

/// Makes `to` of what the file has now; its hash and length.
fn copy(path: &Path, binary: &str, to: &Path, watch: &dyn Watch) -> Result<(Sha256, u64)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let new = rustix::fs::open(to, flags, Mode::RUSR | Mode::WUSR);
    let mut new = File::from(new.map_err(|errno| Error::io("create", to)(errno.into()))?);
    let mut old = open(path, binary)?;
    // What was cloned is hashed as it is here, since what it was cloned from may change.
    if rustix::fs::ioctl_ficlone(&new, &old).is_ok() {
        return read(&mut new, to, watch, |_| Ok(()));
    }
    read(&mut old, path, watch, |bytes| new.write_all(bytes).map_err(Error::io("write", to)))
}

/// Reads a file to its end, giving all to `take`; its hash and length.
fn read(
    file: &mut File,
    path: &Path,
    watch: &dyn Watch,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<(Sha256, u64)> {
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; BUFFER_BYTES]);
    loop {
        if watch.cancelled() {
            return Err(Error::Cancelled);
        }
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hasher.finish()),
            read => {
                hasher.update(&buffer[..read]);
                take(&buffer[..read])?;
            }
        }
    }
}

/// Opens a regular file; without waiting for whoever would write into it if it is a pipe.
fn open(path: &Path, binary: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(absent(path, binary)),
        Err(errno) => return Err(Error::io("open", path)(errno.into())),
    };
    if !file.metadata().map_err(Error::io("open", path))?.is_file() {
        let what = format!("{} is not a file (for the program {binary})", path.display());
        return Err(Error::Absent { what, hint: String::new() });
    }
    Ok(file)
}

fn absent(path: &Path, binary: &str) -> Error {
    let what = format!("there is no {} (for the program {binary})", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::open(folder, flags, Mode::empty()).and_then(rustix::fs::Dir::new);
    let hint = match listed {
        Err(_) => format!("there is no folder {} either: was it built?", folder.display()),
        Ok(entries) => {
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            let names: Vec<_> = names.filter(|name| name != "." && name != "..").take(NAMES_MAX).collect();
            if names.is_empty() {
                "that folder is empty".to_owned()
            } else {
                format!("that folder has {}", survey::closest(&names, binary))
            }
        }
    };
    Error::Absent { what, hint }
}
