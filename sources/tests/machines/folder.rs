//! Builds in a folder of this machine.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cairn_sources::config::FolderSource;
use cairn_sources::folder::{Ask, Brought, bring, look};
use cairn_sources::{Error, Held, NothingHeld, Result};

use crate::bring::listing;
use crate::build::{Ear, Here, binaries, program};
use crate::look::git;

fn source(path: &Path) -> FolderSource {
    FolderSource { path: format!("{}/{{binary}}", path.display()).parse().unwrap(), tree: None }
}

fn sync(source: &FolderSource, names: &[&str], to: &Path, held: &dyn Held) -> Result<Brought> {
    let names = binaries(names);
    let ask = Ask { package: "app", binaries: &names, source };
    bring(&look(&ask, &Ear::default())?, &ask, to, held, &Ear::default())
}

#[test]
fn programs_are_copied_or_held() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("it's $(from)"), dir.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::create_dir(&to).unwrap();
    let (one, two) = (program(1, 600_000), program(2, 10));
    std::fs::write(from.join("one"), &one).unwrap();
    std::fs::write(from.join("two"), &two).unwrap();
    let brought = sync(&source(&from), &["one", "two"], &to, &Here::one("x", &two)).unwrap();
    assert!(std::fs::read(to.join("one")).unwrap() == one && std::fs::read(to.join("two")).unwrap() == two);
    assert_eq!(std::fs::metadata(to.join("one")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(listing(&to), ["one", "two"]);
    let is_new: Vec<_> = brought.files.iter().map(|file| file.is_new).collect();
    assert_eq!((is_new, brought.wire_bytes, &*brought.way), (vec![true, false], 0, "copied"));
}

#[test]
fn what_is_not_a_program_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("local_validator"), "").unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let error = sync(&source(dir.path()), &["validator"], dir.path(), &NothingHeld).unwrap_err();
    assert!(matches!(error, Error::Absent { .. }), "{error}");
    assert_eq!(error.hint(), Some("that folder has local_validator, folder"));
    let error = sync(&source(dir.path()), &["folder"], dir.path(), &NothingHeld).unwrap_err();
    assert!(error.to_string().contains("is not a file"), "{error}");
    let error = sync(&source(&dir.path().join("no")), &["node"], dir.path(), &NothingHeld).unwrap_err();
    assert!(error.hint().unwrap().contains("either: was it built?"), "{error}");
}

#[test]
fn the_commit_is_that_of_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("node"), "built").unwrap();
    let names = binaries(&["node"]);
    let commit = || {
        let source = source(dir.path());
        look(&Ask { package: "app", binaries: &names, source: &source }, &Ear::default()).unwrap().commit
    };
    assert_eq!(commit(), None);
    git(dir.path(), &["init", "-q"]);
    git(dir.path(), &["add", "."]);
    git(dir.path(), &["commit", "-qm", "first"]);
    let clean = commit().unwrap();
    assert!(!clean.is_dirty && clean.id.starts_with(&clean.described.unwrap()));
    std::fs::write(dir.path().join("node"), "built again").unwrap();
    assert!(commit().unwrap().is_dirty);
}

#[test]
fn a_build_that_came_meanwhile_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(dir.path().join("node"), "old").unwrap();
    let (source, names, ear) = (source(dir.path()), binaries(&["node"]), Ear::default());
    let ask = Ask { package: "app", binaries: &names, source: &source };
    let build = look(&ask, &ear).unwrap();
    std::fs::write(dir.path().join("node"), "newer").unwrap();
    let brought = bring(&build, &ask, &to, &NothingHeld, &ear).unwrap();
    assert_eq!((brought.files[0].size, ear.warnings.lock().unwrap().len()), (5, 1));
    assert_eq!(std::fs::read(to.join("node")).unwrap(), b"newer");
}
