//! One program, from a machine into a folder: out of what is held, out of the newest build and what that lacks, or whole.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::incoming::{self, Format, Framing, Length};
use super::link::{Link, mark};
use super::rebuild::{Rebuilding, Rebuilt};
use super::session::Session;
use super::talk::Talk;
use super::{RemoteFile, script, survey};
use crate::error::{Error, Result};
use crate::sha256::{Hasher, Sha256};
use crate::watch::{Held, Watch};

/// What all programs of a build have in common.
pub(super) struct Bringing<'a> {
    pub(super) link: &'a Link,
    pub(super) package: &'a str,
    /// What `uname -m` says there.
    pub(super) processor: Option<&'a str>,
    pub(super) held: &'a dyn Held,
    pub(super) watch: &'a dyn Watch,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) sha256: Sha256,
    pub(super) size: u64,
    pub(super) way: Way,
}

/// How it came. The greatest is told of a whole package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Not at all: it is held.
    Held,
    /// The blocks that the newest build lacks.
    Blocks,
    /// All of it, compressed by this.
    Whole(Option<&'static str>),
}

enum Attempt {
    Came(Way),
    /// What the machine has is not what it told; in the words of whoever noticed.
    Differs(String),
}

impl Bringing<'_> {
    /// Makes `to`, which is not there, the program; `old` is a path beside it, where nothing is, for a build that is here.
    pub(super) fn bring(&self, file: &RemoteFile, to: &Path, old: &Path) -> Result<Came> {
        let mut wanted = file.clone();
        let mut differs = String::new();
        for is_again in [false, true] {
            if is_again {
                self.watch
                    .warn(&format!("{} of {} has changed: looking again", wanted.path, self.link.machine));
                wanted = self.look_again(&wanted)?;
            }
            let came = |way| Came { sha256: wanted.sha256, size: wanted.size, way };
            if self.is_held(&wanted, to)? {
                return Ok(came(Way::Held));
            }
            let has_old = self.held.copy_newest(self.package, &wanted.binary, old);
            let has_old = has_old.map_err(Error::io("write", old))?;
            let attempt = self.attempt(&wanted, to, has_old.then_some(old));
            remove(old)?;
            match attempt? {
                Attempt::Came(way) => {
                    make_executable(to)?;
                    return Ok(came(way));
                }
                Attempt::Differs(how) => differs = how,
            }
            remove(to)?;
        }
        let what = format!("{} of machine {}", wanted.path, self.link.machine);
        let (reason, hint) = if wanted.sha256 == file.sha256 {
            (format!("it cannot be read to its end: {differs}"), "look at it there")
        } else {
            (
                format!("it changes while it is read ({differs})"),
                "is it being built just now? try again when that is done",
            )
        };
        Err(Error::Unavailable { what, reason, hint: hint.to_owned() })
    }

    fn is_held(&self, wanted: &RemoteFile, to: &Path) -> Result<bool> {
        if !self.held.copy(&wanted.sha256, to).map_err(Error::io("write", to))? {
            return Ok(false);
        }
        if Sha256::of_file(to).map_err(Error::io("read", to))? == (wanted.sha256, wanted.size) {
            make_executable(to)?;
            return Ok(true);
        }
        remove(to)?;
        Ok(false)
    }

    fn look_again(&self, file: &RemoteFile) -> Result<RemoteFile> {
        let survey = survey::ask(self.link, &[&file.path], None, self.watch)?;
        match &survey.files[..] {
            [survey::File::Found { size, sha256 }] => {
                Ok(RemoteFile { size: *size, sha256: *sha256, ..file.clone() })
            }
            found => {
                let who = format!("machine {}", self.link.machine);
                let found = found.first().unwrap_or(&survey::File::Absent { near: None });
                Err(survey::missing(&who, &file.binary, &file.path, found))
            }
        }
    }

    fn attempt(&self, wanted: &RemoteFile, to: &Path, old: Option<&Path>) -> Result<Attempt> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let new = rustix::fs::open(to, flags, Mode::RUSR | Mode::WUSR);
        let new = File::from(new.map_err(|errno| Error::io("create", to)(errno.into()))?);
        let mark = mark()?;
        let filter = self.processor.and_then(xz_filter);
        let script = script::send(&mark, &wanted.path, filter.map(|(option, _)| option))?;
        let mut session = self.link.open(&script, &mark, self.watch)?;
        let mut letter = [0];
        let read = session.receive(&mut letter, super::link::IDLE_MAX, self.watch)?;
        match &letter[..read] {
            b"P" => {
                let filter = filter.and_then(|(_, number)| number);
                let mut talk = Talk::begin(session, self.watch, filter);
                match self.rebuild(&mut talk, wanted, (&new, to), old) {
                    Ok(attempt) => {
                        talk.end();
                        Ok(attempt)
                    }
                    Err(error @ Error::Unavailable { .. }) => {
                        talk.failed_reading().map_or(Err(error), |reason| Ok(Attempt::Differs(reason)))
                    }
                    Err(error) => Err(error),
                }
            }
            b"X" => self.whole(session, wanted, (new, to), (Format::Xz, Some("xz"))),
            b"Z" => self.whole(session, wanted, (new, to), (Format::Zstd, Some("zstd"))),
            b"G" => self.whole(session, wanted, (new, to), (Format::Gzip, Some("gzip"))),
            b"C" => self.whole(session, wanted, (new, to), (Format::Plain, None)),
            _ => Err(session.broken("it does not say how it sends")),
        }
    }

    fn rebuild(
        &self,
        talk: &mut Talk<'_>,
        wanted: &RemoteFile,
        (new, to): (&File, &Path),
        old: Option<&Path>,
    ) -> Result<Attempt> {
        talk.greet()?;
        if talk.size != wanted.size {
            return Ok(Attempt::Differs(format!("it has {} bytes and had {}", talk.size, wanted.size)));
        }
        let rebuilding = Rebuilding { old, new, new_path: to, sha256: wanted.sha256, watch: self.watch };
        Ok(match rebuilding.run(talk)? {
            Rebuilt::Right if old.is_some() => Attempt::Came(Way::Blocks),
            Rebuilt::Right => Attempt::Came(Way::Whole(Some(talk.packer()))),
            Rebuilt::Changed => Attempt::Differs("its hash is another".to_owned()),
        })
    }

    fn whole(
        &self,
        mut session: Session,
        wanted: &RemoteFile,
        (mut new, to): (File, &Path),
        (format, packer): (Format, Option<&'static str>),
    ) -> Result<Attempt> {
        self.watch.expect(wanted.size);
        let mut hasher = Hasher::default();
        let came =
            incoming::receive(&mut session, self.watch, (format, Framing::Session), wanted.size, |bytes| {
                hasher.update(bytes);
                self.watch.came(bytes.len().try_into().unwrap_or(i64::MAX));
                new.write_all(bytes).map_err(Error::io("write", to))
            });
        let ended = match came {
            Ok(Length::TooLong) => return Ok(Attempt::Differs("it is longer than before".to_owned())),
            Ok(Length::Bounded) | Err(Error::Unavailable { .. }) => session.finish(self.watch)?.code(),
            Err(error) => return Err(error),
        };
        match (ended, came) {
            (Some(0), Ok(_)) => {}
            // The program there, and not the connection, has failed: it could not read what it was to send.
            (Some(1..=254), _) => return Ok(Attempt::Differs(session.said().trim().to_owned())),
            (_, Err(error)) => return Err(error),
            (_, Ok(_)) => return Err(session.broken("it ended too early")),
        }
        if hasher.finish() == (wanted.sha256, wanted.size) {
            return Ok(Attempt::Came(Way::Whole(packer)));
        }
        Ok(Attempt::Differs("its hash is another".to_owned()))
    }
}

/// The filter that xz has for the branches of a processor: as an option, and as the number by which Python knows it.
fn xz_filter(processor: &str) -> Option<(&'static str, Option<u8>)> {
    match processor {
        "x86_64" | "amd64" | "i386" | "i686" => Some(("--x86", Some(4))),
        // Python has no name for it, and xz only since 5.4: where it does not, there is the next program.
        "aarch64" | "arm64" => None,
        _ => None,
    }
}

pub(crate) fn make_executable(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(Error::io("change the mode of", path))
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::io("remove", path)(errno.into())),
    }
}
