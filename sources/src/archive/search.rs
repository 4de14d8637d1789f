//! What is looked for in an archive, and what was found of it.
//!
//! One reading finds each path that is wanted, or that it is a link; then the next one looks for where the links lead. What
//! contains the entries (tar, zip) asks [`Search::meet`] about each, and hands over those that are wanted.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::archive::gauge::Gauge;
use crate::archive::output;
use crate::archive::trail::{Trail, shown};
use crate::archive::{Member, Unpacked};
use crate::error::{Error, Result};

/// Links that are followed one after another. Each takes another reading of the archive.
const LINKS_MAX: usize = 8;

/// Paths that are remembered for the error that says what there is; those that have a wanted name, and others.
const NAMED_MAX: usize = 4096;

/// Paths that such an error names.
const SHOWN_MAX: usize = 8;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A symbolic link, and what it says.
    Symlink(Vec<u8>),
    /// Another name of a member, by its path from the root of the archive.
    Hardlink(Vec<u8>),
    /// What cannot be a program; with its article.
    Other(&'static str),
}

/// An entry that is wanted.
#[derive(Debug)]
pub(super) struct Met {
    /// By what it was looked for.
    sought: Vec<u8>,
    trail: Trail,
}

/// What was found where something was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    File(Unpacked),
    Link(Trail),
}

/// A path that is looked for in this reading.
struct Sought {
    /// Which members become what is there.
    members: Vec<usize>,
    found: Option<Found>,
}

/// The state of one `unpack`.
pub(super) struct Search<'a> {
    gauge: &'a Gauge<'a>,
    members: &'a [Member<'a>],
    /// Leading folders that do not count: none once links are followed, which say whole paths.
    strip: usize,
    sought: BTreeMap<Vec<u8>, Sought>,
    unpacked: Vec<Option<Unpacked>>,
    readings: usize,
    made: Vec<PathBuf>,
    paths: Paths,
}

impl<'a> Search<'a> {
    pub(super) fn new(gauge: &'a Gauge<'a>, strip: usize, members: &'a [Member<'a>]) -> Result<Self> {
        let mut sought = BTreeMap::<Vec<u8>, Sought>::new();
        for (number, member) in members.iter().enumerate() {
            let path = Trail::of(member.path.as_bytes()).map(|trail| trail.joined());
            let Some(path) = path.ok().filter(|path| !path.is_empty()) else {
                return Err(Error::Usage {
                    problem: format!("{:?} can be no path of a file in an archive", member.path),
                    hint: "a path in an archive has no slash at its beginning, and no `..`".to_owned(),
                });
            };
            let sought = sought.entry(path).or_insert_with(|| Sought { members: Vec::new(), found: None });
            sought.members.push(number);
        }
        Ok(Self {
            gauge,
            members,
            strip,
            sought,
            unpacked: vec![None; members.len()],
            readings: 0,
            made: Vec::new(),
            paths: Paths::default(),
        })
    }

    /// Whether there is something to look for. Without members, one reading shows that the archive is one.
    pub(super) fn is_open(&self) -> bool {
        self.readings == 0 || !self.sought.is_empty()
    }

    /// Looks at the path of an entry; says whether it is wanted.
    pub(super) fn meet(&mut self, path: &[u8], is_folder: bool) -> Result<Option<Met>> {
        self.gauge.entry()?;
        let trail = Trail::of(path).map_err(|astray| {
            let reason = format!("the path {} {}: this is an attack or a mistake", shown(path), astray.why());
            self.gauge.refuse(reason)
        })?;
        let Some(stripped) = trail.strip(self.strip) else { return Ok(None) };
        if self.sought.contains_key(&stripped) {
            return Ok(Some(Met { sought: stripped, trail }));
        }
        if self.readings == 0 && !is_folder {
            self.paths.add(stripped, &self.sought);
        }
        Ok(None)
    }

    /// Takes an entry that is wanted, and that says to have `size` bytes.
    pub(super) fn take(&mut self, met: Met, kind: Kind, size: u64, body: &mut dyn Read) -> Result<()> {
        let Met { sought: path, trail } = met;
        let Some(sought) = self.sought.get_mut(&path) else { return Ok(()) };
        let name = shown(&trail.joined());
        let found = match kind {
            Kind::Other(what) => {
                return Err(self.gauge.refuse(format!("{name} is {what}, and no program")));
            }
            Kind::Symlink(target) => Found::Link(trail.follow(&target).map_err(|astray| {
                let reason = format!("{name} is a link to {}, which {}", shown(&target), astray.why());
                self.gauge.refuse(reason)
            })?),
            Kind::Hardlink(target) => Found::Link(Trail::of(&target).map_err(|astray| {
                let reason = format!("{name} is a hard link to {}, which {}", shown(&target), astray.why());
                self.gauge.refuse(reason)
            })?),
            Kind::File if size > self.gauge.bounds().member_bytes_max => {
                let max = self.gauge.bounds().member_bytes_max;
                return Err(self.gauge.refuse(format!("{name} is longer than {max} bytes")));
            }
            Kind::File => {
                let to: Vec<&Path> = match sought.found {
                    Some(_) => Vec::new(),
                    None => sought.members.iter().map(|number| self.members[*number].to).collect(),
                };
                Found::File(output::write(body, &name, &to, self.gauge, &mut self.made)?)
            }
        };
        match &sought.found {
            Some(first) if *first != found => {
                Err(self.gauge.refuse(format!("it has {name} twice, and not the same")))
            }
            _ => {
                sought.found = Some(found);
                Ok(())
            }
        }
    }

    /// A reading is over: what it found is kept, and what it found to be links is looked for next.
    pub(super) fn turn(&mut self) -> Result<()> {
        self.readings += 1;
        let mut next = BTreeMap::<Vec<u8>, Sought>::new();
        for (path, sought) in std::mem::take(&mut self.sought) {
            match sought.found {
                None => return Err(self.absent(&path, &sought.members)),
                Some(Found::File(unpacked)) => {
                    for number in sought.members {
                        self.unpacked[number] = Some(unpacked);
                    }
                }
                Some(Found::Link(target)) => {
                    let entry = next.entry(target.joined());
                    let entry = entry.or_insert_with(|| Sought { members: Vec::new(), found: None });
                    entry.members.extend(sought.members);
                }
            }
        }
        if !next.is_empty() && self.readings > LINKS_MAX {
            let first = next.keys().next().map(|path| shown(path)).unwrap_or_default();
            return Err(self.gauge.refuse(format!("{first} is a link that leads to no end")));
        }
        self.sought = next;
        self.strip = 0;
        self.gauge.again();
        Ok(())
    }

    /// What became of the members.
    pub(super) fn finish(&mut self) -> Result<Vec<Unpacked>> {
        let all: Option<Vec<Unpacked>> = self.unpacked.iter().copied().collect();
        all.ok_or_else(|| self.gauge.refuse("it was not read to its end"))
    }

    /// Removes what was made.
    pub(super) fn discard(&self) {
        for path in &self.made {
            // Best effort: there is an error to tell already, and its caller discards the folder.
            let _ = rustix::fs::unlink(path);
        }
    }

    fn absent(&self, path: &[u8], members: &[usize]) -> Error {
        let wanted = members.first().map_or("", |number| self.members[*number].path);
        let archive = self.gauge.name();
        if self.readings > 1 {
            let target = shown(path);
            return self.gauge.refuse(format!("{wanted} is a link to {target}, which is no file in it"));
        }
        let folders = match self.strip {
            0 => String::new(),
            1 => " once the first folder of its paths is left out".to_owned(),
            strip => format!(" once the first {strip} folders of its paths are left out"),
        };
        Error::Absent {
            what: format!("{archive} has no file {wanted}{folders}"),
            hint: self.paths.hint(wanted),
        }
    }
}

/// Paths that an archive has, as far as they are remembered.
#[derive(Default)]
struct Paths {
    /// Those whose file is called as one that is wanted.
    alike: Vec<Vec<u8>>,
    others: Vec<Vec<u8>>,
    count: u64,
}

impl Paths {
    fn add(&mut self, path: Vec<u8>, sought: &BTreeMap<Vec<u8>, Sought>) {
        self.count += 1;
        let is_alike = sought.keys().any(|wanted| file_name(wanted) == file_name(&path));
        let kept = if is_alike { &mut self.alike } else { &mut self.others };
        if kept.len() < NAMED_MAX && path.len() <= 4096 {
            kept.push(path);
        }
    }

    /// The paths that are most like the one that is wanted.
    fn hint(&self, wanted: &str) -> String {
        if self.count == 0 {
            return "it has no files there at all: is the number of folders to strip right?".to_owned();
        }
        let mut near: Vec<_> = self.alike.iter().chain(&self.others).collect();
        let distance = |path: &&Vec<u8>| {
            let is_alike = file_name(path) == file_name(wanted.as_bytes());
            let likeness = strsim::normalized_damerau_levenshtein(wanted, &String::from_utf8_lossy(path));
            (!is_alike, std::cmp::Reverse((likeness * 1e6).round().to_bits()))
        };
        near.sort_by_cached_key(|path| (distance(path), (*path).clone()));
        near.truncate(SHOWN_MAX);
        let rest = self.count.saturating_sub(near.len() as u64);
        let near: Vec<String> = near.into_iter().map(|path| shown(path)).collect();
        match rest {
            0 => format!("it has {}", near.join(", ")),
            rest => format!("it has {}, and {rest} more", near.join(", ")),
        }
    }
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}
