//! Tools that make one file out of another one and a delta. A release has many files: they are given it as one tar, and
//! its large files also one by one with a tar of all others, whichever comes out smaller.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::corpus::stream::Pair;
use crate::error::{Error, Result};
use crate::harness::{Line, empty_folder, walk};

/// Files from this size on are also given one by one.
const LARGE_BYTES: u64 = 1 << 20;
/// More of them, and nobody would.
const LARGE_MAX: usize = 64;

pub(crate) struct Differ {
    pub(crate) name: &'static str,
    line: fn(old: &Path, new: &Path, delta: &Path) -> Line,
}

pub(crate) const DIFFERS: [Differ; 3] = [
    Differ { name: "bsdiff", line: |old, new, delta| Line::new("bsdiff").arg(old).arg(new).arg(delta) },
    Differ { name: "xdelta3 -9", line: xdelta3 },
    Differ { name: "zstd --patch-from -19 --long=31", line: zstd },
];

/// Its window over the old file is 64 MiB, unless it is told that the file is larger.
fn xdelta3(old: &Path, new: &Path, delta: &Path) -> Line {
    let bytes = fs::metadata(old).map_or(0, |metadata| metadata.len());
    let window = bytes.next_power_of_two().max(64 << 20).to_string();
    Line::new("xdelta3").args(["-e", "-f", "-9", "-B", &window, "-s"]).arg(old).arg(new).arg(delta)
}

fn zstd(old: &Path, new: &Path, delta: &Path) -> Line {
    let mut from = OsString::from("--patch-from=");
    from.push(old);
    Line::new("zstd").arg("-q").arg("-f").arg(from).args(["-19", "--long=31"]).arg(new).arg("-o").arg(delta)
}

/// A release and the next as these tools take them.
pub(crate) struct Files {
    whole: Option<Step>,
    parts: Option<Vec<Step>>,
    delta: PathBuf,
}

/// A file and what becomes of it; or one that has no older one.
struct Step {
    old: Option<PathBuf>,
    new: PathBuf,
}

impl Files {
    /// Tars are put into `folder`, which is made anew.
    pub(crate) fn of(pair: &Pair, folder: &Path) -> Result<Files> {
        empty_folder(folder)?;
        let delta = folder.join("delta");
        let (old, new) = (Release::of(&pair.old)?, Release::of(&pair.new)?);
        if let ([one], [other]) = (&*old.all(), &*new.all()) {
            let only = Step { old: Some(pair.old.join(one)), new: pair.new.join(other) };
            return Ok(Files { whole: Some(only), parts: None, delta });
        }
        let tar = |release: &Release<'_>, which: &[PathBuf], name: &str| {
            tar(release.root, which, &folder.join(name)).map(|()| folder.join(name))
        };
        let whole =
            Step { old: Some(tar(&old, &old.all(), "old.tar")?), new: tar(&new, &new.all(), "new.tar")? };
        let mut parts = None;
        if !new.large.is_empty() && new.large.len() <= LARGE_MAX {
            let rest = Step {
                old: Some(tar(&old, &old.small, "old-small.tar")?),
                new: tar(&new, &new.small, "new-small.tar")?,
            };
            let mut steps = vec![rest];
            for path in &new.large {
                let before = new.renamed_like(path, &old);
                let old = old.large.contains(&before).then(|| pair.old.join(before));
                steps.push(Step { old, new: pair.new.join(path) });
            }
            parts = Some(steps);
        }
        Ok(Files { whole: Some(whole), parts, delta })
    }

    /// Bytes of the delta that `differ` makes, of whichever way makes fewer.
    pub(crate) fn delta_bytes(&self, differ: &Differ) -> Result<u64> {
        let parts = self
            .parts
            .as_ref()
            .map(|steps| steps.iter().try_fold(0, |bytes, step| Ok(bytes + self.step_bytes(differ, step)?)));
        let whole = self.whole.as_ref().map(|step| self.step_bytes(differ, step));
        let all = [whole.transpose()?, parts.transpose()?];
        all.into_iter().flatten().min().ok_or_else(|| Error::Unsuitable("nothing to compare".into()))
    }

    fn step_bytes(&self, differ: &Differ, step: &Step) -> Result<u64> {
        let bytes = |path: &Path| fs::read(path).map_err(Error::io("read", path));
        match &step.old {
            // Whoever goes file by file does not send what did not change.
            Some(old) if bytes(old)? == bytes(&step.new)? => return Ok(0),
            Some(old) => (differ.line)(old, &step.new, &self.delta).run()?,
            None => {
                Line::new("zstd").args(["-q", "-f", "-19"]).arg(&step.new).arg("-o").arg(&self.delta).run()?
            }
        };
        fs::metadata(&self.delta).map(|metadata| metadata.len()).map_err(Error::io("look at", &self.delta))
    }
}

/// The regular files of a release, by their paths in it.
struct Release<'a> {
    root: &'a Path,
    large: BTreeSet<PathBuf>,
    small: Vec<PathBuf>,
}

impl Release<'_> {
    fn of(root: &Path) -> Result<Release<'_>> {
        let (mut large, mut small) = (BTreeSet::new(), Vec::new());
        walk(root, &mut |path, metadata| {
            let path = path.strip_prefix(root).unwrap_or(path).to_owned();
            if metadata.len() >= LARGE_BYTES {
                large.insert(path);
            } else {
                small.push(path);
            }
            Ok(())
        })?;
        small.sort();
        Ok(Release { root, large, small })
    }

    fn all(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = self.large.iter().chain(&self.small).cloned().collect();
        all.sort();
        all
    }

    fn version(&self) -> String {
        self.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// What a file of this release was called in another one: some folders carry the version.
    fn renamed_like(&self, path: &Path, other: &Release<'_>) -> PathBuf {
        path.to_string_lossy().replace(&self.version(), &other.version()).into()
    }
}

/// The same bytes for the same files, whoever makes it and when.
fn tar(root: &Path, files: &[PathBuf], to: &Path) -> Result<()> {
    let list = to.with_extension("list");
    let mut names = Vec::new();
    for file in files {
        names.extend(file.as_os_str().as_encoded_bytes());
        names.push(0);
    }
    fs::write(&list, names).map_err(Error::io("write", &list))?;
    let line = Line::new("tar").args(["--create", "--format=gnu", "--mtime=@0", "--owner=0", "--group=0"]);
    let line = line.args(["--numeric-owner", "--no-recursion", "--null", "--verbatim-files-from"]);
    line.arg("--directory").arg(root).arg("--files-from").arg(&list).arg("--file").arg(to).run().map(drop)
}
