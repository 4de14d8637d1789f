//! What a machine, or a shell of this one, tells of files and of a working tree.

use std::process::Command;
use std::sync::Arc;

use super::link::{IDLE_MAX, Link, mark};
use super::session::Session;
use super::{Commit, script};
use crate::error::{Error, Result};
use crate::sha256::Sha256;
use crate::watch::Watch;

/// Most bytes that a survey says, for each file and beside.
const SURVEY_BYTES_MAX: usize = 256 << 10;
/// The longest program that is brought: what is counted of it, such as its blocks, is bounded by that.
const FILE_BYTES_MAX: u64 = 64 << 30;
/// Names of a folder that are told.
const NEAR_MAX: usize = 8;

/// What was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) platform: Option<(String, String)>,
    /// In the order of the paths.
    pub(super) files: Vec<File>,
    pub(super) commit: Option<Commit>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum File {
    /// A file that could be read.
    Found { size: u64, sha256: Sha256 },
    /// Nothing; the names in the folder where it is not, or none if there is no such folder.
    Absent { near: Option<Vec<String>> },
    /// Something, and why it does not count.
    Odd(&'static str),
}

/// Asks a machine. The session that answers is left open, for others to go through its connection.
pub(super) fn ask(link: &Link, paths: &[&str], tree: Option<&str>, watch: &dyn Watch) -> Result<Survey> {
    let mark = mark()?;
    let script = script::survey(&mark, paths, tree)? + script::STAY;
    let mut session = link.open(&script, &mark, watch)?;
    let survey = read(&mut session, paths.len(), watch)?;
    link.keep(session);
    Ok(survey)
}

/// What a working tree of this machine is at.
pub(crate) fn local_commit(tree: &str, watch: &dyn Watch) -> Result<Option<Commit>> {
    let script = script::survey("mark", &[], Some(tree))?;
    let mut command = Command::new("sh");
    // As it would be for somebody who stands in the tree, whatever repository this process was started for.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
        command.env_remove(variable);
    }
    command.args(["-c", &script]);
    let mut session = Session::start(command, "sh", Arc::default())?;
    let survey = read(&mut session, 0, watch)?;
    session.finish(watch)?;
    Ok(survey.commit)
}

fn read(session: &mut Session, files: usize, watch: &dyn Watch) -> Result<Survey> {
    let (mut said, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    while !said.ends_with(b"\nend\n") {
        match session.receive(&mut buffer, IDLE_MAX, watch)? {
            0 => return Err(session.broken("it ended in the middle of what it told")),
            read => said.extend_from_slice(&buffer[..read]),
        }
        if said.len() > SURVEY_BYTES_MAX {
            return Err(session.broken(&format!("it told more than {SURVEY_BYTES_MAX} bytes")));
        }
    }
    parse(&String::from_utf8_lossy(&said), files).map_err(|line| session.broken(&format!("it told {line:?}")))
}

/// The line that is not understood, if there is one.
fn parse(said: &str, files: usize) -> Result<Survey, String> {
    let mut found: Vec<Option<File>> = vec![None; files];
    let mut survey = Survey::default();
    for line in said.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "uname" => survey.platform = rest.split_once(' ').map(|(os, cpu)| (os.into(), cpu.into())),
            "commit" => survey.commit = commit(rest),
            "file" | "absent" | "odd" | "closed" | "failed" | "near" | "nowhere" => {
                let (at, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let file = at.parse().ok().and_then(|at: usize| found.get_mut(at));
                let file = file.ok_or_else(|| line.to_owned())?;
                tell(file, word, rest).ok_or_else(|| line.to_owned())?;
            }
            _ => {}
        }
    }
    let files = found.into_iter().enumerate();
    survey.files = files
        .map(|(at, file)| file.ok_or_else(|| format!("nothing of file {at}")))
        .collect::<Result<_, _>>()?;
    Ok(survey)
}

/// One line of a file; none if it is not understood.
fn tell(file: &mut Option<File>, word: &str, rest: &str) -> Option<()> {
    match (word, &mut *file) {
        ("file", _) => {
            let (size, hash) = rest.split_once(' ')?;
            let sha256 = hash.get(..64)?.parse().ok()?;
            let size = size.parse().ok()?;
            *file = Some(if size > FILE_BYTES_MAX {
                File::Odd("is longer than 64 GiB")
            } else {
                File::Found { size, sha256 }
            });
        }
        ("absent", None) => *file = Some(File::Absent { near: None }),
        ("near", Some(File::Absent { near })) => {
            let near = near.get_or_insert_default();
            if rest != "." && rest != ".." {
                near.push(rest.to_owned());
            }
        }
        ("nowhere", Some(File::Absent { .. })) => {}
        ("odd", _) => *file = Some(File::Odd("is not a file")),
        ("closed", _) => *file = Some(File::Odd("may not be read by this user")),
        ("failed", _) => *file = Some(File::Odd(failure(rest))),
        // A file that came while the others were looked at.
        ("near" | "nowhere", Some(_)) => {}
        _ => return None,
    }
    Some(())
}

fn failure(status: &str) -> &'static str {
    match status {
        "127" => "cannot be hashed: the machine has none of sha256sum, shasum and openssl",
        _ => "could not be read to its end",
    }
}

fn commit(rest: &str) -> Option<Commit> {
    let mut words = rest.split(' ');
    let id = words.next()?.to_owned();
    if !(40..=64).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let is_dirty = words.next()? != "0";
    let described = words.next().filter(|described| !described.is_empty()).map(str::to_owned);
    Some(Commit { id, is_dirty, described })
}

/// That a program is not where it should be.
pub(super) fn missing(who: &str, binary: &str, path: &str, file: &File) -> Error {
    let what = match file {
        File::Odd(why) => format!("{path} of {who} {why} (for the program {binary})"),
        _ => format!("{who} has no {path} (for the program {binary})"),
    };
    let hint = match file {
        File::Absent { near: None } => {
            format!("there is no folder {} either: was it built there?", script::folder(path))
        }
        File::Absent { near: Some(names) } if names.is_empty() => "that folder is empty".to_owned(),
        File::Absent { near: Some(names) } => format!("that folder has {}", closest(names, binary)),
        _ => String::new(),
    };
    Error::Absent { what, hint }
}

/// The names that are most like one, and how many more there are.
pub(crate) fn closest(names: &[String], wanted: &str) -> String {
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    let distance = |name: &str| {
        let unlike = 1.0 - strsim::jaro_winkler(name, wanted);
        (name.starts_with('.'), unlike)
    };
    names.sort_by(|a, b| distance(a).partial_cmp(&distance(b)).unwrap_or(std::cmp::Ordering::Equal));
    let more = names.len().saturating_sub(NEAR_MAX);
    names.truncate(NEAR_MAX);
    let told = names.join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let id = "0123456789abcdef0123456789abcdef01234567";
        let said = format!(
            "uname Linux x86_64\nabsent 1\nfile 0 60 {hash}  -\nodd 2\nnear 1 .\nnear 1 ..\nnear 1 a b\ncommit {id} 1 v1-2-gabc\nend\n"
        );
        let survey = parse(&said, 3).unwrap();
        assert_eq!(survey.platform, Some(("Linux".into(), "x86_64".into())));
        assert_eq!(survey.files[0], File::Found { size: 60, sha256: hash.parse().unwrap() });
        assert_eq!(survey.files[1], File::Absent { near: Some(vec!["a b".into()]) });
        assert_eq!(survey.files[2], File::Odd("is not a file"));
        let commit = survey.commit.unwrap();
        assert_eq!(
            (commit.id.as_str(), commit.is_dirty, commit.described.as_deref()),
            (id, true, Some("v1-2-gabc"))
        );
    }

    #[test]
    fn nonsense_is_told_and_no_more() {
        for said in [
            "file 0 x",
            "file 7 1 2",
            "file 0 12 short",
            "near 0 a",
            "absent x",
            "",
            "file",
            "file 0 99999999999999999999 00",
        ] {
            assert!(parse(said, 1).is_err(), "{said}");
        }
        let hash = "00".repeat(32);
        let survey = parse(&format!("file 0 18446744073709551615 {hash}"), 1).unwrap();
        assert_eq!(survey.files, [File::Odd("is longer than 64 GiB")]);
        assert_eq!(parse("commit nothing 0 v1\nuname\n", 0).unwrap(), Survey::default());
    }

    #[test]
    fn those_most_alike_come_first() {
        let names: Vec<_> = ["zebra", "local_validator", "validater", ".x", "a", "b", "c", "d", "e", "f"]
            .map(str::to_owned)
            .into();
        let told = closest(&names, "validator");
        assert!(told.starts_with("validater, local_validator") && told.ends_with("and 2 more"), "{told}");
    }
}
