//! Flips without pause while readers look, and what the readers say of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::shared::{Counter, Shared};

pub(super) const READERS: u64 = 4;
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long to go on.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// How many generations take turns.
    pub(super) generations: u64,
    pub(super) flips: u64,
    pub(super) lookups: u64,
}

/// What `probe watch-flips` prints: its `watch.rs` says what each is.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Tally {
    pub(super) lookups: u64,
    pub(super) execs: u64,
    pub(super) stale: u64,
    pub(super) backwards: u64,
    pub(super) torn: u64,
    pub(super) changed: u64,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    pub(super) undecided: u64,
}

/// What came of it.
pub(super) struct Stressed {
    /// Of all readers.
    pub(super) tally: Tally,
    pub(super) flips: u64,
    /// From asking for a flip until it returned.
    pub(super) flip_s: Vec<f64>,
}

/// Lets four readers look through `mount`, which shows generation 1, while `flip` switches it to generation 2, 3, ...,
/// 1, 2, ... and returns when that is done; until there were as many flips and look-ups as were asked for.
pub(super) fn stress(
    probe: &Path,
    mount: &Path,
    shared: &Path,
    extent: Extent,
    mut flip: impl FnMut(u64) -> Result<()>,
) -> Result<Stressed> {
    let counters = Shared::create(shared).map_err(Error::io("make", shared))?;
    counters.set(Counter::Generations, extent.generations);
    let mut readers = Readers::start(probe, mount, shared, &counters)?;
    let mut flip_s = Vec::new();
    let mut flips = 0;
    while flips < extent.flips || counters.get(Counter::Lookups) < extent.lookups {
        flips += 1;
        counters.set(Counter::Begun, flips);
        let begun = Instant::now();
        flip(flips % extent.generations + 1)?;
        counters.set(Counter::Done, flips);
        flip_s.push(begun.elapsed().as_secs_f64());
        readers.still_there()?;
    }
    counters.set(Counter::Stop, 1);
    Ok(Stressed { tally: readers.end()?, flips, flip_s })
}

/// Killed when dropped, so that none is left if a flip fails.
struct Readers(Vec<Child>);

impl Readers {
    fn start(probe: &Path, mount: &Path, shared: &Path, counters: &Shared) -> Result<Readers> {
        let mut readers = Readers(Vec::new());
        for _ in 0..READERS {
            let mut command = Command::new(probe);
            command.arg("watch-flips").arg(mount).arg(shared).stdin(Stdio::null()).stdout(Stdio::piped());
            readers.0.push(command.spawn().map_err(Error::io("start", probe))?);
        }
        let started = Instant::now();
        while counters.get(Counter::Ready) < READERS {
            readers.still_there()?;
            if started.elapsed() > READY_WITHIN {
                return Err(wrong("the readers do not begin".into()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(readers)
    }

    fn still_there(&mut self) -> Result<()> {
        match self.0.iter_mut().find_map(|reader| reader.try_wait().ok().flatten()) {
            Some(status) => Err(wrong(format!("a reader ended with {status}"))),
            None => Ok(()),
        }
    }

    fn end(mut self) -> Result<Tally> {
        let mut sum = Tally::default();
        while let Some(reader) = self.0.pop() {
            let output = reader.wait_with_output().map_err(Error::io("wait for", Path::new("a reader")))?;
            let tally: Tally = serde_json::from_slice(&output.stdout)
                .map_err(|error| wrong(format!("no tally: {error}")))?;
            sum.add(tally);
        }
        Ok(sum)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for reader in &mut self.0 {
            // It may have ended by itself.
            let _ = reader.kill();
            let _ = reader.wait();
        }
    }
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.lookups += other.lookups;
        self.execs += other.execs;
        self.stale += other.stale;
        self.backwards += other.backwards;
        self.torn += other.torn;
        self.changed += other.changed;
        self.failed += other.failed;
        self.undecided += other.undecided;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }
}

fn wrong(what: String) -> Error {
    Error::Wrong { program: "probe watch-flips".into(), what }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::bars::flip::packages::{PACKAGE, version};

    const GENERATIONS: u64 = 4;
    const EXTENT: Extent = Extent { generations: GENERATIONS, flips: 200, lookups: 2_000 };

    /// What a mount shows, as plain files and links. The package has the number of the generation, as in the bar.
    fn plain_tree(root: &Path) {
        for number in 1..=GENERATIONS {
            let text = number.to_string();
            version(&root.join(PACKAGE).join(&text), number).unwrap();
            let generation = root.join("generations").join(&text);
            fs::create_dir_all(&generation).unwrap();
            symlink(format!("../../{PACKAGE}/{text}"), generation.join(PACKAGE)).unwrap();
            symlink(format!("{PACKAGE}/bin"), generation.join("bin")).unwrap();
        }
        symlink("current/bin", root.join("bin")).unwrap();
        flip(root, 1);
    }

    /// `current` and then the package's, as `ln -sfn` would: each at once, but not both.
    fn flip(root: &Path, to: u64) {
        for (link, target) in [("current", format!("generations/{to}")), ("flip/current", to.to_string())] {
            symlink(target, root.join("new")).unwrap();
            fs::rename(root.join("new"), root.join(link)).unwrap();
        }
    }

    fn watched(flip_late: bool) -> Stressed {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        plain_tree(&root);
        let mut late = 1;
        let probe = probe();
        stress(&probe, &root, &folder.path().join("counters"), EXTENT, |to| {
            flip(&root, if flip_late { std::mem::replace(&mut late, to) } else { to });
            Ok(())
        })
        .unwrap()
    }

    /// The package's `probe` beside the tests, which cargo builds for the bench target alone: built here if need be.
    fn probe() -> std::path::PathBuf {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let line = crate::harness::Line::new(cargo);
        line.args(["build", "--package", "cairn-benches", "--bin", "probe"])
            .folder(&crate::options::workspace())
            .run()
            .unwrap();
        let tests = std::env::current_exe().unwrap();
        tests.ancestors().nth(2).unwrap().join("probe")
    }

    #[test]
    fn links_that_are_renamed_are_never_stale_but_go_backwards_together() {
        let stressed = watched(false);
        assert!(stressed.flips >= EXTENT.flips && stressed.tally.lookups >= EXTENT.lookups);
        assert_eq!(stressed.tally.failed, 0, "{:?}", stressed.tally.first_failure);
        assert_eq!((stressed.tally.stale, stressed.tally.torn, stressed.tally.changed), (0, 0, 0));
    }

    #[test]
    fn a_flip_that_returns_before_it_is_visible_is_seen() {
        assert!(watched(true).tally.stale > 0);
    }
}
