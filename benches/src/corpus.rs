//! What is measured with: real releases and states that `fetch-corpus.sh` made, and trees that are made here. Each is
//! put into the work folder first, so that all of it is read from the same kind of place, and warm.

mod big_file;
mod random;
mod small_files;
pub(crate) mod stream;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::error::{Error, Result};
use crate::harness::{Subject, copy_tree, empty_folder, remove, walk, warm};
use crate::options::Options;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corpus {
    /// Every release of uv in one tree.
    UvAll,
    /// Its newest release.
    UvOne,
    /// Every release of esbuild in one tree.
    Esbuild,
    /// The first state of the database.
    State,
    SmallFiles,
}

/// A corpus in the work folder.
pub(crate) struct Input {
    pub(crate) corpus: Corpus,
    pub(crate) tree: PathBuf,
    /// Its regular files, relative to the tree, sorted.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) bytes: u64,
}

/// Makes a file of bytes that nothing compresses, of any length that is a whole number of MiB, or shorter than one.
pub(crate) fn write_random(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    use std::io::Write;
    let mut file = File::create(path).map_err(Error::io("make", path))?;
    let (mut random, mut buffer) = (random::Random::new(seed), vec![0; 1 << 20]);
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        random.fill(&mut buffer[..len]);
        file.write_all(&buffer[..len]).map_err(Error::io("write", path))?;
        left -= len as u64;
    }
    Ok(())
}

impl Corpus {
    pub(crate) const ALL: [Corpus; 5] =
        [Corpus::UvAll, Corpus::UvOne, Corpus::Esbuild, Corpus::State, Corpus::SmallFiles];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Corpus::UvAll => "uv-all",
            Corpus::UvOne => "uv-one",
            Corpus::Esbuild => "esbuild",
            Corpus::State => "state",
            Corpus::SmallFiles => "small-files",
        }
    }

    /// Puts it into `folder`, which is made anew.
    pub(crate) fn prepare(self, options: &Options, folder: &Path) -> Result<Input> {
        empty_folder(folder)?;
        let tree = folder.join("tree");
        match self {
            Corpus::UvAll => copy_tree(&self.source(options, "uv")?, &tree)?,
            Corpus::UvOne => {
                let releases = subfolders(&self.source(options, "uv")?)?;
                let newest = releases.last().ok_or_else(|| self.missing(&options.corpus))?;
                copy_tree(newest, &tree)?;
            }
            Corpus::Esbuild => copy_tree(&self.source(options, "esbuild")?, &tree)?,
            Corpus::State => copy_tree(&self.source(options, "state/0")?, &tree)?,
            Corpus::SmallFiles => small_files::make(&tree, options.scale.small_files)?,
        }
        Input::of(self, tree)
    }

    fn source(self, options: &Options, below: &str) -> Result<PathBuf> {
        let source = options.corpus.join(below);
        if source.is_dir() { Ok(source) } else { Err(self.missing(&source)) }
    }

    fn missing(self, path: &Path) -> Error {
        Error::NoCorpus { name: self.name(), path: path.to_owned() }
    }
}

impl Input {
    fn of(corpus: Corpus, tree: PathBuf) -> Result<Input> {
        let mut buffer = vec![0; 1 << 20];
        let (mut files, mut bytes) = (Vec::new(), 0);
        walk(&tree, &mut |path, metadata| {
            warm(path, &mut buffer)?;
            bytes += metadata.len();
            files.push(path.strip_prefix(&tree).unwrap_or(path).to_owned());
            Ok(())
        })?;
        files.sort();
        Ok(Input { corpus, tree, files, bytes })
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject { corpus: self.corpus.name(), files: self.files.len() as u64, bytes: self.bytes }
    }

    /// Writes all files one after the other into one, for references that take one file.
    pub(crate) fn join_into(&self, path: &Path) -> Result<()> {
        let mut joined = File::create(path).map_err(Error::io("write", path))?;
        for name in &self.files {
            let from = self.tree.join(name);
            let mut file = File::open(&from).map_err(Error::io("open", &from))?;
            io::copy(&mut file, &mut joined).map_err(Error::io("copy", &from))?;
        }
        Ok(())
    }

    /// Sets every file's time of modification, to one that lies well in the past: a time that is about now would make
    /// a careful tool read the file again the next time too.
    pub(crate) fn touch(&self, unix_s: i64) -> Result<()> {
        let time = Timespec { tv_sec: unix_s, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        for name in &self.files {
            let path = self.tree.join(name);
            let touched = utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW);
            touched.map_err(|error| Error::io("touch", &path)(error.into()))?;
        }
        Ok(())
    }
}

/// The last two releases of a package, the older one first, where they were fetched to.
pub(crate) fn last_two(options: &Options, package: &str) -> Result<[PathBuf; 2]> {
    let source = options.corpus.join(package);
    let missing = || Error::NoCorpus { name: "releases", path: source.clone() };
    let mut releases = subfolders(&source)?.into_iter().rev();
    let (new, old) = (releases.next(), releases.next());
    Ok([old.ok_or_else(missing)?, new.ok_or_else(missing)?])
}

/// Every release of uv, oldest first, where it was fetched to.
pub(crate) fn uv_sources(options: &Options) -> Result<Vec<PathBuf>> {
    subfolders(&Corpus::UvAll.source(options, "uv")?)
}

/// `count` small files in many folders, and their names below `root`, in order.
pub(crate) fn small_tree(root: &Path, count: u32) -> Result<Vec<PathBuf>> {
    small_files::make(root, count)?;
    let mut files = Vec::new();
    walk(root, &mut |path, _| {
        files.push(path.strip_prefix(root).unwrap_or(path).to_owned());
        Ok(())
    })?;
    files.sort();
    Ok(files)
}

/// `count` tiny files in one folder.
pub(crate) fn flat_tree(folder: &Path, count: u32) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
    for number in 0..count {
        let path = folder.join(format!("file-{number:06}.txt"));
        fs::write(&path, format!("{number}\n")).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Every release of uv, oldest first, as folders to add one after the other.
pub(crate) fn uv_releases(input: &Input) -> Result<Vec<PathBuf>> {
    subfolders(&input.tree)
}

/// Every state of the database, oldest first, where it was fetched to.
pub(crate) fn states(options: &Options) -> Result<Vec<PathBuf>> {
    let folder = Corpus::State.source(options, "state")?;
    Ok(subfolders(&folder)?.into_iter().map(|state| state.join("state.sqlite")).collect())
}

/// Makes `live` hold `state` as a running database would: in the same file as before.
pub(crate) fn put_state(state: &Path, live: &Path) -> Result<()> {
    fs::create_dir_all(live).map_err(Error::io("make the folder", live))?;
    let to = live.join("state.sqlite");
    let mut from = File::open(state).map_err(Error::io("open", state))?;
    let mut file = File::create(&to).map_err(Error::io("write", &to))?;
    io::copy(&mut from, &mut file).map_err(Error::io("copy", state))?;
    Ok(())
}

/// A folder with one file of `bytes` bytes.
pub(crate) fn big_file(folder: &Path, bytes: u64) -> Result<()> {
    empty_folder(folder)?;
    big_file::make(&folder.join("big"), bytes)
}

/// A folder that differs from that of any other number.
pub(crate) fn tiny_tree(folder: &Path, number: u32) -> Result<()> {
    remove(folder)?;
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).map_err(Error::io("make the folder", &bin))?;
    for name in ["README", "bin/tool"] {
        let path = folder.join(name);
        fs::write(&path, format!("{name} of package {number}\n")).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// Sorted by name.
fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}
