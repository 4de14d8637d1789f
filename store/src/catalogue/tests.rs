//! The catalogue follows the journal, and whatever happens to its folder loses nothing.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::io::Sim;
use crate::journal::Op;
use crate::refs::{ChannelKey, Platform};

struct Fixture {
    folder: tempfile::TempDir,
}

fn key(name: &str, version: &str) -> RefKey {
    RefKey { name: name.parse().unwrap(), version: version.parse().unwrap(), platform: Platform::any() }
}

fn record(content: &str) -> RefRecord {
    let artifact = ArtifactId::of(content.as_bytes());
    RefRecord { artifact, files: 1, bytes: 2, chunks: 3, new_bytes: 4, stored_bytes: 5, time_ms: 6 }
}

fn set(name: &str, version: &str, old: Option<&str>, new: &str) -> Op {
    let old = old.map(|old| ArtifactId::of(old.as_bytes()));
    Op::SetRef { key: key(name, version), old, record: record(new) }
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn journal(&self) -> Journal {
        // On a simulated disk, whose syncs take no time.
        Journal::open_write(Arc::new(Sim::new(0)), Path::new("/journal")).unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("catalogue")
    }

    fn catalogue(&self) -> Catalogue {
        Catalogue::at(&self.dir())
    }

    /// The folders that were moved aside.
    fn aside(&self) -> Vec<String> {
        let listed = Os.list(self.folder.path()).unwrap();
        let mut names: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
        names.retain(|name| name.starts_with("catalogue.bad-"));
        names.sort();
        names
    }
}

/// It says what the journal's view says, by every way of asking.
fn check(catalogue: &mut Catalogue, journal: &Journal) {
    let view = journal.view();
    let all: Vec<_> = view.refs.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
    assert_eq!(catalogue.refs_named(journal, "").unwrap(), all);
    for (key, record) in view.refs.iter().step_by(1 + view.refs.len() / 50) {
        assert_eq!(catalogue.get(journal, key).unwrap().as_ref(), Some(record));
        let to: Vec<_> = view.refs_to(&record.artifact).cloned().collect();
        assert_eq!(catalogue.refs_to(journal, &record.artifact).unwrap(), to);
    }
    catalogue.tables.as_ref().unwrap().compare(view).unwrap();
}

#[test]
fn it_follows_the_journal() {
    let fixture = Fixture::new();
    let mut journal = fixture.journal();
    let mut catalogue = fixture.catalogue();
    assert!(!fixture.dir().exists(), "nothing is opened before something is asked");
    check(&mut catalogue, &journal);
    let channel = ChannelKey {
        name: key("p", "1").name,
        channel: "stable".parse().unwrap(),
        platform: Platform::any(),
    };
    let (one, ten) = (key("p", "1").version, key("p", "10").version);
    let groups = [
        vec![set("p", "10", None, "a"), set("p", "9", None, "b"), set("pq", "1", None, "a")],
        vec![Op::SetChannel { key: channel.clone(), old: None, version: ten.clone() }],
        vec![
            set("p", "9", Some("b"), "c"),
            Op::SetChannel { key: channel.clone(), old: Some(ten), version: one.clone() },
        ],
        vec![
            Op::RemoveRef { key: key("p", "10"), old: ArtifactId::of(b"a") },
            Op::RemoveChannel { key: channel, old: one },
        ],
    ];
    for (n, group) in groups.into_iter().enumerate() {
        journal.append(group, "w", 0).unwrap();
        check(&mut catalogue, &journal);
        if n == 1 {
            catalogue = {
                drop(catalogue);
                fixture.catalogue()
            };
        }
    }
    let names =
        |refs: Vec<(RefKey, RefRecord)>| refs.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>();
    assert_eq!(names(catalogue.refs_named(&journal, "p").unwrap()), ["p@9 for any/any", "pq@1 for any/any"]);
    assert_eq!(names(catalogue.refs_named(&journal, "pq").unwrap()), ["pq@1 for any/any"]);
    assert!(catalogue.refs_to(&journal, &ArtifactId::of(b"b")).unwrap().is_empty());
    assert!(fixture.aside().is_empty());
}

#[test]
fn what_happened_while_it_was_closed_is_taken_in() {
    let fixture = Fixture::new();
    let mut journal = fixture.journal().rolling_at(3000);
    fixture.catalogue().follow(&journal).unwrap();
    for n in 0..700 {
        journal.append(vec![set("p", &n.to_string(), None, &n.to_string())], "w", 0).unwrap();
        if n == 300 {
            fixture.catalogue().follow(&journal).unwrap();
        }
    }
    check(&mut fixture.catalogue(), &journal);
    let many =
        (0..CATCH_UP_RECORDS_MAX + 1).map(|n| set("q", &n.to_string(), None, &n.to_string())).collect();
    journal.append(many, "w", 0).unwrap();
    check(&mut fixture.catalogue(), &journal);
    assert!(fixture.aside().is_empty());
}

#[test]
fn deleting_it_loses_nothing() {
    let fixture = Fixture::new();
    let mut journal = fixture.journal();
    journal.append(vec![set("p", "1", None, "a")], "w", 0).unwrap();
    check(&mut fixture.catalogue(), &journal);
    remove_derived(&fixture.dir()).unwrap();
    check(&mut fixture.catalogue(), &journal);
    assert!(fixture.aside().is_empty());
}

#[test]
fn one_that_disagrees_is_moved_aside_and_built_anew() {
    let fixture = Fixture::new();
    let mut journal = fixture.journal();
    journal.append(vec![set("p", "1", None, "a"), set("p", "2", None, "b")], "w", 0).unwrap();
    type Spoil = fn(&Tables);
    let spoils: [Spoil; 5] = [
        |tables| tables.spoil("refs", b"p\x001\x00any/any", None),
        |tables| tables.spoil("refs", b"p\x001\x00any/any", Some(b"x")),
        |tables| tables.spoil("artifacts", b"noise", Some(b"")),
        |tables| tables.spoil("channels", b"p\0stable\0any/any", Some(b"1")),
        |tables| tables.spoil("meta", b"at", Some(&[[1, 0, 0, 0, 0, 0, 0, 0], [9; 8]].concat())),
    ];
    for (n, spoil) in spoils.iter().enumerate() {
        let mut catalogue = fixture.catalogue();
        check(&mut catalogue, &journal);
        spoil(catalogue.tables.as_ref().unwrap());
        drop(catalogue);
        check(&mut fixture.catalogue(), &journal);
        assert_eq!(fixture.aside().len(), (n + 1).min(ASIDE_MAX));
    }
    assert_eq!(fixture.aside(), ["catalogue.bad-3", "catalogue.bad-4", "catalogue.bad-5"]);
}

#[test]
fn one_that_disagrees_while_it_is_open_is_built_anew() {
    let fixture = Fixture::new();
    let mut journal = fixture.journal();
    let mut catalogue = fixture.catalogue();
    journal.append(vec![set("p", "1", None, "a")], "w", 0).unwrap();
    check(&mut catalogue, &journal);
    catalogue.tables.as_ref().unwrap().spoil("refs", b"p\x001\x00any/any", None);
    journal.append(vec![set("p", "1", Some("a"), "b")], "w", 0).unwrap();
    check(&mut catalogue, &journal);
    assert_eq!(fixture.aside().len(), 1);
}

#[test]
fn a_panic_is_trouble_like_any_other() {
    let fixture = Fixture::new();
    let mut journal = fixture.journal();
    journal.append(vec![set("p", "1", None, "a")], "w", 0).unwrap();
    let mut catalogue = fixture.catalogue();
    let calls = std::cell::Cell::new(0);
    let answer = catalogue.with(&journal, |tables| {
        calls.set(calls.get() + 1);
        assert!(calls.get() > 1, "as sled does");
        tables.get(&key("p", "1"))
    });
    assert_eq!(answer.unwrap(), Some(record("a")));
    assert_eq!(fixture.aside(), ["catalogue.bad-1"]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test damages files")]
fn garbage_in_its_files_loses_nothing() {
    for (n, garble) in [
        (|bytes: &mut Vec<u8>| bytes.fill(0xa5)) as fn(&mut Vec<u8>),
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x40),
        |bytes| *bytes = b"not a database".to_vec(),
    ]
    .into_iter()
    .enumerate()
    {
        let fixture = Fixture::new();
        let mut journal = fixture.journal();
        for n in 0..50 {
            journal.append(vec![set("p", &n.to_string(), None, "a")], "w", 0).unwrap();
        }
        check(&mut fixture.catalogue(), &journal);
        for entry in Os.list(&fixture.dir()).unwrap().iter().filter(|entry| !entry.is_dir) {
            let path = fixture.dir().join(&entry.name);
            let mut bytes = fs::read(&path).unwrap();
            garble(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
        check(&mut fixture.catalogue(), &journal);
        journal.append(vec![set("p", "50", None, "b")], "w", 0).unwrap();
        check(&mut fixture.catalogue(), &journal);
        eprintln!("garbage {n}: {:?}", fixture.aside());
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test puts a file where a folder is to be")]
fn a_file_in_its_place_is_moved_aside() {
    let fixture = Fixture::new();
    let journal = fixture.journal();
    fs::write(fixture.dir(), b"noise").unwrap();
    check(&mut fixture.catalogue(), &journal);
    assert_eq!(fixture.aside(), ["catalogue.bad-1"]);
}
