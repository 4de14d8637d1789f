//! Archives: those that real `tar`, `zip`, `xz` and `zstd` make, and hostile ones, made by hand.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "makes files as users have them; a test that fails says so"
)]

mod hostile;
mod made;
mod real;
mod zipped;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_sources::archive::{self, Bounds, Format, Member, Unpacked};
use cairn_sources::{Error, NoWatch, Result, Sha256, Watch};
use tempfile::TempDir;

/// Whether a program is there; says so loudly if not.
fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        eprintln!("SKIPPED: there is no {program} here");
    }
    is_there
}

/// Bytes that look like nothing.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A folder in which an archive is, and one into which it is unpacked.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("to")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn to(&self) -> PathBuf {
        self.path("to")
    }

    /// Puts an archive there.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Unpacks members, each to a file of its number.
    fn unpack(&self, name: &str, strip: usize, members: &[&str]) -> Result<Vec<Unpacked>> {
        self.unpack_within(name, strip, members, &Bounds::default())
    }

    fn unpack_within(
        &self,
        name: &str,
        strip: usize,
        members: &[&str],
        bounds: &Bounds,
    ) -> Result<Vec<Unpacked>> {
        let to: Vec<PathBuf> = (0..members.len()).map(|number| self.to().join(number.to_string())).collect();
        let members: Vec<Member<'_>> =
            members.iter().zip(&to).map(|(path, to)| Member { path, to }).collect();
        let format = Format::of_name(name).unwrap();
        archive::unpack(&self.path(name), name, format, strip, &members, bounds, &NoWatch)
    }

    /// What was written, by number; and that it is what was told, and a program.
    #[track_caller]
    fn check(&self, unpacked: &[Unpacked], expected: &[&[u8]]) {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(unpacked.len(), expected.len());
        for (number, (unpacked, expected)) in unpacked.iter().zip(expected).enumerate() {
            let path = self.to().join(number.to_string());
            assert_eq!(*unpacked, Unpacked { sha256: Sha256::of(expected), size: expected.len() as u64 });
            assert!(std::fs::read(&path).unwrap() == *expected, "{number} is something else");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
            std::fs::remove_file(path).unwrap();
        }
        self.check_nothing();
    }

    /// That nothing was left.
    #[track_caller]
    fn check_nothing(&self) {
        let left: Vec<_> = std::fs::read_dir(self.to()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Says to stop after so many looks.
struct Stop(AtomicUsize);

impl Stop {
    fn after(looks: usize) -> Self {
        Self(AtomicUsize::new(looks))
    }
}

impl Watch for Stop {
    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// Why an archive is refused.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Archive { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Runs a program in a folder.
#[track_caller]
fn run(folder: &Path, program: &str, args: &[&str]) {
    let output = Command::new(program).current_dir(folder).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {told}");
}
