//! What breaks on the way, and what changes while it is read. Nothing that is not whole is left.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_sources::machine::{Ask, bring, look};
use cairn_sources::{Error, Held, NothingHeld, Sha256, Watch};

use crate::bring::{listing, sync};
use crate::build::{Ear, Here, Machine, Random, binaries, program};
use crate::look::link;
use crate::ssh_server::SshServer;

/// Does something when so many bytes came.
struct At<'a> {
    bytes: u64,
    came: AtomicU64,
    done: AtomicBool,
    act: &'a (dyn Fn() -> bool + Sync),
    is_over: AtomicBool,
}

impl<'a> At<'a> {
    /// `act` says whether it is no longer wanted then.
    fn new(bytes: u64, act: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self {
            bytes,
            came: AtomicU64::new(0),
            done: AtomicBool::new(false),
            act,
            is_over: AtomicBool::new(false),
        }
    }
}

impl Watch for At<'_> {
    fn came(&self, bytes: i64) {
        let came = self.came.fetch_add(bytes as u64, Ordering::Relaxed);
        if came + bytes as u64 >= self.bytes && !self.done.swap(true, Ordering::Relaxed) && (self.act)() {
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    fn cancelled(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Bytes that no program makes shorter.
fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random(11);
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(bytes).collect()
}

#[test]
fn a_connection_that_breaks_leaves_nothing() {
    let tools = tempfile::tempdir().unwrap();
    link(tools.path(), &["sh", "dd", "wc", "uname", "cat", "head", "sed", "ls", "sha256sum"]);
    let with_python = std::env::var("PATH").unwrap();
    for path in [with_python.as_str(), tools.path().to_str().unwrap()] {
        let Some(machine) = Machine::start_with_path(path) else { return };
        machine.put("node", &noise(12 << 20));
        machine.put("tool", b"small");
        let (source, names) = (machine.source("{binary}"), binaries(&["tool", "node"]));
        let ask = Ask { package: "app", binaries: &names, source: &source };
        let build = look(&ask, &Ear::default()).unwrap();
        let to = machine.empty("to");
        let act = || {
            assert!(machine.server.break_connections() > 0);
            false
        };
        let error = bring(&build, &ask, &to, &NothingHeld, &At::new(1 << 20, &act)).unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert_eq!(listing(&to), [""; 0]);
        // What was looked at before serves again, over a new connection.
        let brought = bring(&build, &ask, &to, &NothingHeld, &Ear::default()).unwrap();
        assert_eq!((brought.files.len(), listing(&to)), (2, binaries(&["node", "tool"])));
        assert_eq!(Sha256::of_file(&to.join("node")).unwrap().0, build.files[1].sha256);
    }
}

#[test]
fn who_does_not_want_it_any_more_does_not_wait() {
    let Some(machine) = Machine::start() else { return };
    machine.put("node", &noise(12 << 20));
    let (source, names) = (machine.source("{binary}"), binaries(&["node"]));
    let ask = Ask { package: "app", binaries: &names, source: &source };
    let build = look(&ask, &Ear::default()).unwrap();
    let to = machine.empty("to");
    let error = bring(&build, &ask, &to, &NothingHeld, &At::new(1 << 20, &|| true)).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(listing(&to), [""; 0]);
    let over = Ear::default();
    over.is_over.store(true, Ordering::Relaxed);
    assert!(matches!(look(&ask, &over), Err(Error::Cancelled)));
}

#[test]
fn a_build_that_came_meanwhile_is_looked_at_again() {
    let tools = tempfile::tempdir().unwrap();
    link(tools.path(), &["sh", "dd", "wc", "uname", "cat", "head", "sed", "ls", "sha256sum"]);
    let with_python = std::env::var("PATH").unwrap();
    for path in [with_python.as_str(), tools.path().to_str().unwrap()] {
        let Some(machine) = Machine::start_with_path(path) else { return };
        let old = program(5, 300_000);
        let (source, names) = (machine.source("{binary}"), binaries(&["node"]));
        let ask = Ask { package: "app", binaries: &names, source: &source };
        // As long as before, shorter, longer, held here.
        let news = [program(6, 300_000), program(7, 200_000), program(8, 400_000), b"held".to_vec()];
        for (at, new) in news.iter().enumerate() {
            machine.put("node", &old);
            let build = look(&ask, &Ear::default()).unwrap();
            machine.put("node", new);
            let (to, ear) = (machine.empty(&format!("to{at}")), Ear::default());
            let here = Here(vec![("x".to_owned(), b"held".to_vec())]);
            let brought = bring(&build, &ask, &to, &here, &ear).unwrap();
            assert!(std::fs::read(to.join("node")).unwrap() == *new);
            assert_eq!(brought.files[0].sha256, Sha256::of(new));
            assert_eq!(*ear.warnings.lock().unwrap(), ["node of build has changed: looking again"]);
        }
        machine.put("node", &old);
        let build = look(&ask, &Ear::default()).unwrap();
        std::fs::remove_file(machine.server.home().join("node")).unwrap();
        let to = machine.empty("gone");
        let error = bring(&build, &ask, &to, &NothingHeld, &Ear::default()).unwrap_err();
        assert!(matches!(error, Error::Absent { .. }), "{error}");
        assert_eq!(listing(&to), [""; 0]);
    }
}

/// Changes the file whenever it is asked what is held.
struct Restless<'a>(&'a Machine, AtomicU64);

impl Held for Restless<'_> {
    fn copy(&self, _sha256: &Sha256, _to: &Path) -> io::Result<bool> {
        let count = self.1.fetch_add(1, Ordering::Relaxed);
        self.0.put("node", &program(100 + count, 100_000));
        Ok(false)
    }

    fn copy_newest(&self, _package: &str, _binary: &str, _to: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

#[test]
fn a_build_that_never_rests_is_told() {
    let Some(machine) = Machine::start() else { return };
    machine.put("node", &program(1, 100_000));
    let to = machine.empty("to");
    let held = Restless(&machine, AtomicU64::new(0));
    let error = sync(&machine.source("{binary}"), &["node"], &to, &held).unwrap_err();
    assert!(error.to_string().starts_with("node of machine build: it changes while it is read"), "{error}");
    assert!(error.hint().unwrap().contains("being built"));
    assert_eq!(listing(&to), [""; 0]);
}

/// Says that it has what it does not have.
struct Liar;

impl Held for Liar {
    fn copy(&self, _sha256: &Sha256, to: &Path) -> io::Result<bool> {
        std::fs::write(to, b"something else").map(|()| true)
    }

    fn copy_newest(&self, _package: &str, _binary: &str, to: &Path) -> io::Result<bool> {
        std::fs::write(to, noise(5000)).map(|()| true)
    }
}

#[test]
fn what_is_held_is_not_believed() {
    let Some(machine) = Machine::start() else { return };
    let new = program(2, 100_000);
    machine.put("node", &new);
    let to = machine.empty("to");
    let brought = sync(&machine.source("{binary}"), &["node"], &to, &Liar).unwrap();
    assert!(brought.files[0].is_new && std::fs::read(to.join("node")).unwrap() == new);
}

/// What a machine may do that is not a friend: each answers in its own way to the second session.
#[test]
fn machines_that_lie() {
    let tools = tempfile::tempdir().unwrap();
    link(
        tools.path(),
        &["sh", "dd", "wc", "uname", "cat", "head", "sed", "ls", "sha256sum", "printf", "sleep"],
    );
    let python = tools.path().join("python3");
    let Some(machine) = Machine::start_with_path(tools.path().to_str().unwrap()) else { return };
    machine.put("node", &program(2, 100_000));
    let size = r"\240\206\001\000\000\000\000\000";
    for (what, says) in [
        ("another length", r"\001\001\377\377\377\377\377\377\377\377".to_owned()),
        ("no end of sums", format!(r"\001\001{size}")),
        (
            "sums of nothing, then no xz",
            format!(
                r"\001\001{size}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            ),
        ),
        ("a frame that never ends", format!(r"\001\001{size}\377\377\377\377")),
        ("nothing", String::new()),
    ] {
        // $5 is the mark: -ISBc PROGRAM MARK PATH.
        std::fs::write(&python, format!("#!/bin/sh\nprintf '\\n%s\\nP{says}' \"$3\"\nexit 0\n")).unwrap();
        std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let to = machine.empty(what);
        let error = sync(&machine.source("{binary}"), &["node"], &to, &Here::one("node", &noise(9000)));
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{what}: {error}");
        assert_eq!(listing(&to), [""; 0], "{what}");
    }
}

#[test]
fn words_of_a_login_shell_do_no_harm() {
    let Some(machine) = Machine::start() else { return };
    machine.put("node", &program(2, 100_000));
    let mut source = machine.source("{binary}");
    // In front of what is run there.
    let client = machine.empty("bin").join("client");
    std::fs::write(
        &client,
        "#!/bin/sh\nfor last; do :; done\nn=$#\nwhile [ $n -gt 1 ]; do set -- \"$@\" \"$1\"; shift; n=$((n-1)); done\nshift\n\
         exec ssh \"$@\" \"echo Welcome; echo file 0 1 2; seq 1 2000; printf 'no end of line'; $last\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&client, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    source.ssh[0] = client.display().to_string();
    let to = machine.empty("to");
    sync(&source, &["node"], &to, &NothingHeld).unwrap();
    assert_eq!(std::fs::metadata(to.join("node")).unwrap().len(), 100_000);
    assert_eq!(source.machines, [SshServer::HOST]);
}
