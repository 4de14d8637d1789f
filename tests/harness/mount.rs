//! File systems of a test's own. They need root; where something is missing, the reason is given.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::scratch::Scratch;
use crate::user::is_root;

/// A mounted file system, unmounted when it goes out of scope.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    // Dropped after the mount itself.
    _scratch: Scratch,
}

impl Mount {
    /// A file system in memory that holds so many bytes.
    ///
    /// # Errors
    /// Why there is none here.
    pub fn tmpfs(bytes: u64) -> Result<Self, String> {
        needs_root()?;
        let scratch = Scratch::new();
        let path = scratch.folder("mount");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "cairn-test", text(&path)])?;
        Ok(Self { path, _scratch: scratch })
    }

    /// A file system of this kind (`xfs`, `btrfs`) on an image of 400 MiB.
    ///
    /// # Errors
    /// Why there is none here.
    pub fn image(kind: &str) -> Result<Self, String> {
        needs_root()?;
        let scratch = Scratch::new();
        let image = scratch.file("image", b"");
        let file = std::fs::OpenOptions::new().write(true).open(&image).map_err(|error| error.to_string())?;
        file.set_len(400 << 20).map_err(|error| error.to_string())?;
        run(&format!("mkfs.{kind}"), &["-q", text(&image)])?;
        let path = scratch.folder("mount");
        run("mount", &["-o", "loop", text(&image), text(&path)])?;
        Ok(Self { path, _scratch: scratch })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on nobody can write to it.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn make_read_only(&self) -> Result<(), String> {
        run("mount", &["-o", "remount,ro", text(&self.path)])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = run("umount", &[text(&self.path)]);
        // Something still open there, after a panic: it goes when that does.
        if unmounted.is_err()
            && let Err(error) = run("umount", &["--lazy", text(&self.path)])
        {
            eprintln!("{} stays mounted: {error}", self.path.display());
        }
    }
}

fn needs_root() -> Result<(), String> {
    if is_root() { Ok(()) } else { Err("only root may mount".to_owned()) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
