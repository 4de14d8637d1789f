//! Development builds on other machines, reached by `ssh`.
//!
//! What is on a machine is told first, as hashes, in one session; then only what is not here moves. The machine needs a POSIX
//! shell and something that makes a SHA-256; where it has Python, of a program that was built again only the blocks
//! travel that the newest build here lacks. Nothing is written there, and nothing that comes from there is executed.
//!
//! Every name and path is data to the shell there. What came is believed only when its SHA-256 is the one that was told
//! before; where it is laid, it is whole.
//!
//! Who may be talked to, and how, is the business of OpenSSH and of the user's configuration of it: host keys, agents and jumps
//! are not known here.

mod incoming;
mod link;
mod multipass;
pub(crate) mod program;
mod ranges;
mod rebuild;
mod refusal;
mod script;
mod search;
mod session;
pub(crate) mod survey;
mod talk;

use std::path::Path;
use std::sync::Arc;

use crate::config::MachineSource;
use crate::error::{Error, Result};
use crate::scratch::Scratch;
use crate::sha256::Sha256;
use crate::template::Words;
use crate::together::Together;
use crate::watch::{Held, Watch};
use link::Link;
use program::{Bringing, Way};

/// So many programs are brought at once: a machine has ten sessions for a connection if nothing else is said.
const AT_ONCE_MAX: usize = 4;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The package.
    pub package: &'a str,
    /// Its programs, all of them.
    pub binaries: &'a [String],
    /// The machines, and where the programs are on them.
    pub source: &'a MachineSource,
}

/// A build that a machine has. It keeps the connection to it open.
#[derive(Debug, Clone)]
pub struct Build {
    /// As it is called in the configuration.
    pub machine: String,
    /// In the order of the programs that were asked for.
    pub files: Vec<RemoteFile>,
    /// What `uname -s` and `uname -m` say there: `("Linux", "x86_64")`.
    pub platform: Option<(String, String)>,
    /// What it was built from, if that is a working tree of git. It says what the tree is now; nothing says that the programs were
    /// built after the last change.
    pub commit: Option<Commit>,
    link: Arc<Link>,
}

/// A program on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// What it is called.
    pub binary: String,
    /// Where it is there, relative to the user's folder or absolute.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// The state of a working tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// In hexadecimal.
    pub id: String,
    /// Whether files that git tracks differ from it.
    pub is_dirty: bool,
    /// What `git describe --always --tags` says.
    pub described: Option<String>,
}

/// What was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// In the order of the programs that were asked for.
    pub files: Vec<BroughtFile>,
    /// Bytes to and from the machine, both ways, for looking and for bringing, as given to `ssh` and taken from it.
    pub wire_bytes: u64,
    /// How what is new came, for people: `blocks`, `whole, compressed by xz`, `held`.
    pub way: String,
}

/// A program that was laid in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtFile {
    /// What it is called.
    pub binary: String,
    /// Of its content.
    pub sha256: Sha256,
    /// In bytes.
    pub size: u64,
    /// Whether it was not held here.
    pub is_new: bool,
}

/// The first machine by preference that answers and has all programs. Of the others it is told why not.
///
/// # Errors
/// If none does: what keeps the only one, or all of them. [`Cancelled`](crate::Error::Cancelled).
pub fn look(ask: &Ask<'_>, watch: &dyn Watch) -> Result<Build> {
    let mut failures = Vec::new();
    for machine in &ask.source.machines {
        match look_at(machine, ask, watch) {
            Ok(build) => return Ok(build),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                if ask.source.machines.len() > 1 {
                    watch.warn(&format!("{error}"));
                }
                failures.push(error);
            }
        }
    }
    if failures.len() > 1 {
        let reasons: Vec<_> = failures.iter().map(ToString::to_string).collect();
        let hint = failures.iter().find_map(Error::hint).unwrap_or_default().to_owned();
        let what = format!("no machine has a build of {}", ask.package);
        return Err(Error::Unavailable { what, reason: reasons.join("; "), hint });
    }
    Err(failures.pop().unwrap_or_else(|| Error::Usage {
        problem: format!("no machine is named that has builds of {}", ask.package),
        hint: "name one: `machines = [\"…\"]`, or VM_NAME in the environment".to_owned(),
    }))
}

/// What one machine has.
fn look_at(machine: &str, ask: &Ask<'_>, watch: &dyn Watch) -> Result<Build> {
    let host = if ask.source.is_multipass { multipass::address(machine, watch)? } else { machine.to_owned() };
    let link = Link::new(machine, &host, ask.source)?;
    let paths: Vec<_> = ask.binaries.iter().map(|binary| path(ask, binary)).collect();
    let words: Vec<_> = paths.iter().map(String::as_str).collect();
    let tree = ask.source.tree.as_deref().or_else(|| words.first().map(|path| script::folder(path)));
    let survey = survey::ask(&link, &words, tree, watch)?;
    let mut files = Vec::with_capacity(paths.len());
    for ((binary, path), found) in ask.binaries.iter().zip(paths).zip(&survey.files) {
        let survey::File::Found { size, sha256 } = *found else {
            return Err(survey::missing(&format!("machine {machine}"), binary, &path, found));
        };
        files.push(RemoteFile { binary: binary.clone(), path, size, sha256 });
    }
    let (platform, commit) = (survey.platform, survey.commit);
    Ok(Build { machine: machine.to_owned(), files, platform, commit, link: Arc::new(link) })
}

fn path(ask: &Ask<'_>, binary: &str) -> String {
    let words = Words { name: Some(ask.package), binary: Some(binary), ..Words::default() };
    ask.source.path.fill(&words)
}

/// Brings the programs of a build into `to`, a folder, as `to/BINARY` with mode 755, several at once. What is held by hash is copied;
/// of the rest only what the newest build here lacks travels.
///
/// # Errors
/// If the connection breaks, a file is not there any more or changes again and again, or what is here cannot be written. Then
/// nothing in `to` is to be used, and no program is there in part.
pub fn bring(build: &Build, ask: &Ask<'_>, to: &Path, held: &dyn Held, watch: &dyn Watch) -> Result<Brought> {
    let scratch = Scratch::make(to)?;
    let together = Together::new(watch);
    let bringing = Bringing {
        link: &build.link,
        package: ask.package,
        processor: build.platform.as_ref().map(|(_, processor)| processor.as_str()),
        held,
        watch: &together,
    };
    let came = together.all(build.files.len(), AT_ONCE_MAX, |at| {
        let (new, old) = (scratch.join(&format!("{at}.new")), scratch.join(&format!("{at}.old")));
        bringing.bring(&build.files[at], &new, &old)
    })?;
    let mut files = Vec::with_capacity(came.len());
    for (at, one) in came.iter().enumerate() {
        let binary = &build.files[at].binary;
        place(&scratch.join(&format!("{at}.new")), to, binary)?;
        let is_new = one.way != Way::Held;
        files.push(BroughtFile { binary: binary.clone(), sha256: one.sha256, size: one.size, is_new });
    }
    let way = match came.iter().map(|one| one.way).max() {
        None | Some(Way::Held) => "held".to_owned(),
        Some(Way::Blocks) => "blocks".to_owned(),
        Some(Way::Whole(Some(packer))) => format!("whole, compressed by {packer}"),
        Some(Way::Whole(None)) => "whole, not compressed".to_owned(),
    };
    Ok(Brought { files, wire_bytes: build.link.wire_bytes(), way })
}

/// Moves a program that is whole to where it is to be.
pub(crate) fn place(whole: &Path, to: &Path, binary: &str) -> Result<()> {
    if binary.is_empty() || binary.contains('/') || binary == "." || binary == ".." {
        let problem = format!("{binary:?} is no name of a program");
        return Err(Error::Usage { problem, hint: "it is a file name, without a slash".to_owned() });
    }
    let to = to.join(binary);
    rustix::fs::rename(whole, &to).map_err(|errno| Error::io("create", &to)(errno.into()))
}
