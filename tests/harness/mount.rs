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
    scratch: Scratch,
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
        Ok(Self { path, scratch })
    }

    /// A file system of this kind (`xfs`, `btrfs`) on an image of 400 MiB.
    ///
    /// # Errors
    /// Why there is none here.
    pub fn image(kind: &str) -> Result<Self, String> {
        Self::image_of(kind, 400 << 20)
    }

    /// The same on an image of so many bytes.
    ///
    /// # Errors
    /// Why there is none here.
    pub fn image_of(kind: &str, bytes: u64) -> Result<Self, String> {
        needs_root()?;
        let scratch = Scratch::new();
        let image = scratch.file("image", b"");
        let file = std::fs::OpenOptions::new().write(true).open(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        run(&format!("mkfs.{kind}"), &["-q", text(&image)])?;
        let path = scratch.folder("mount");
        run("mount", &["-o", "loop", text(&image), text(&path)])?;
        Ok(Self { path, scratch })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file there until there is not a byte left.
    ///
    /// # Panics
    /// If it ends by anything else.
    pub fn fill(&self, name: &str) {
        use std::io::{ErrorKind, Write};
        let mut file = std::fs::File::create(self.path.join(name)).expect("a file can be made");
        for len in [1 << 16, 4096, 512, 1] {
            let bytes = crate::bytes::noise(u64::try_from(len).expect("it fits"), len);
            let error = loop {
                // What is not on the disk may have been promised more than there is.
                if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    /// Takes it away and mounts it again.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn again(&self) -> Result<(), String> {
        run("umount", &[text(&self.path)])?;
        run("mount", &["-o", "loop", text(&self.scratch.join("image")), text(&self.path)])
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
