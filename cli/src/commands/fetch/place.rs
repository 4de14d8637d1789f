//! The file that is made or replaced.
//!
//! What is new is written beside it, synced, and renamed to its name; then the folder is synced. So whoever looks sees the
//! file that was there or the new one, whole, also after a power cut; and a program that runs from the old one goes on with
//! it, since nothing is written into that.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::Usage;

/// A SHA-256: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Sha256Hex(String);

impl Sha256Hex {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn of(hasher: Sha256) -> Self {
        Self(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl FromStr for Sha256Hex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err("a SHA-256 is 64 hexadecimal digits".to_owned())
    }
}

impl From<Sha256Hex> for String {
    fn from(sha256: Sha256Hex) -> Self {
        sha256.0
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was at the place before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Replaced,
    Same,
}

/// What is at the place now.
pub(crate) struct Placed {
    pub(crate) sha256: Sha256Hex,
    pub(crate) size: u64,
    pub(crate) found: Found,
    /// Whether the place or its permissions are other than before.
    pub(crate) is_changed: bool,
}

/// Where a program is to be.
pub(crate) struct Place {
    path: PathBuf,
    folder: PathBuf,
    mode: u32,
}

impl Place {
    pub(crate) fn new(path: &Path, mode: u32) -> anyhow::Result<Self> {
        let misuse = |problem: &str| Usage {
            problem: format!("{} {problem}", path.display()),
            hint: "--to names the file that is to be made or replaced, in a folder that is there",
        };
        if path.is_dir() {
            return Err(misuse("is a folder").into());
        }
        let (Some(folder), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(misuse("is no file's name").into());
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if !folder.is_dir() {
            return Err(misuse("would be in a folder that is not there").into());
        }
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), mode })
    }

    /// What is there, if its bytes are the wanted ones; its permissions are put right.
    pub(crate) fn is_current(&self, wanted: &Sha256Hex) -> anyhow::Result<Option<Placed>> {
        let failed = || format!("cannot read {}", self.path.display());
        let Some((mut file, metadata)) = self.open().with_context(failed)? else { return Ok(None) };
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).with_context(failed)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        let sha256 = Sha256Hex::of(hasher);
        if sha256 != *wanted {
            return Ok(None);
        }
        let is_changed = metadata.mode() & 0o7777 != self.mode;
        if is_changed {
            file.set_permissions(PermissionsExt::from_mode(self.mode))
                .with_context(|| format!("cannot set the permissions of {}", self.path.display()))?;
        }
        Ok(Some(Placed { sha256, size: metadata.size(), found: Found::Same, is_changed }))
    }

    /// The regular file that is there. One that cannot be read is replaced like any other.
    fn open(&self) -> io::Result<Option<(File, std::fs::Metadata)>> {
        // A link is replaced, not followed; a named pipe must not hang us.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(_) => return Ok(None),
        };
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then_some((file, metadata)))
    }

    /// Begins a new file beside it. Dropped before it is [put](New::put), it leaves nothing.
    pub(crate) fn begin(&self) -> anyhow::Result<New<'_>> {
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(self.path.file_name().unwrap_or_default());
        // Room for what makes the name unique, within the 255 bytes that a name may have.
        let prefix: String = prefix.to_string_lossy().chars().take(60).collect();
        let file = tempfile::Builder::new().prefix(&format!("{prefix}.")).tempfile_in(&self.folder);
        let file = file.with_context(|| format!("cannot write in {}", self.folder.display()))?;
        Ok(New { place: self, file, hasher: Sha256::new(), size: 0 })
    }
}

/// A file that is on its way to its place.
pub(crate) struct New<'a> {
    place: &'a Place,
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
}

impl New<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all(bytes)
            .with_context(|| format!("cannot write in {}", self.place.folder.display()))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// The SHA-256 of what was written.
    pub(crate) fn sha256(&self) -> Sha256Hex {
        Sha256Hex::of(self.hasher.clone())
    }

    /// Puts it into its place, unless that holds the same.
    pub(crate) fn put(self, sha256: Sha256Hex) -> anyhow::Result<Placed> {
        if let Some(placed) = self.place.is_current(&sha256)? {
            return Ok(placed);
        }
        let Place { path, folder, mode } = self.place;
        let failed = || format!("cannot write {}", path.display());
        let file = self.file.as_file();
        file.set_permissions(PermissionsExt::from_mode(*mode)).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        let found = if path.symlink_metadata().is_ok() { Found::Replaced } else { Found::Nothing };
        self.file.persist(path).map_err(|error| error.error).with_context(failed)?;
        let synced = OpenOptions::new().read(true).open(folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot sync {}", folder.display()))?;
        Ok(Placed { sha256, size: self.size, found, is_changed: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(place: &Place, bytes: &[u8]) -> Placed {
        let mut new = place.begin().unwrap();
        new.write(bytes).unwrap();
        let sha256 = new.sha256();
        new.put(sha256).unwrap()
    }

    fn names(folder: &Path) -> usize {
        folder.read_dir().unwrap().count()
    }

    #[test]
    fn a_file_is_made_replaced_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        let place = Place::new(&path, 0o755).unwrap();
        let placed = write(&place, b"one");
        assert_eq!((placed.found, placed.is_changed, placed.size), (Found::Nothing, true, 3));
        assert_eq!(placed.sha256.as_str().len(), 64);
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o755);
        let inode = path.metadata().unwrap().ino();
        let placed = write(&place, b"one");
        assert_eq!((placed.found, placed.is_changed), (Found::Same, false));
        assert_eq!(path.metadata().unwrap().ino(), inode);
        assert_eq!(write(&place, b"two").found, Found::Replaced);
        // The same bytes with other permissions.
        let placed = write(&Place::new(&path, 0o700).unwrap(), b"two");
        assert_eq!((placed.found, placed.is_changed), (Found::Same, true));
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o700);
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn what_is_not_put_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(&folder.path().join("tool"), 0o755).unwrap();
        write(&place, b"one");
        let mut new = place.begin().unwrap();
        new.write(b"half of ").unwrap();
        assert_eq!(names(folder.path()), 2);
        drop(new);
        assert_eq!(names(folder.path()), 1);
        assert!(place.is_current(&"0".repeat(64).parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn a_link_is_replaced_and_a_folder_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        write(&Place::new(&target, 0o644).unwrap(), b"target");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(write(&Place::new(&link, 0o755).unwrap(), b"target").found, Found::Replaced);
        assert!(link.symlink_metadata().unwrap().is_file());
        assert!(Place::new(folder.path(), 0o755).is_err());
        assert!(Place::new(&folder.path().join("no/tool"), 0o755).is_err());
        assert!(Place::new(Path::new("/"), 0o755).is_err());
    }

    #[test]
    fn checksums_are_64_digits() {
        let digits = "AB".repeat(32);
        assert_eq!(digits.parse::<Sha256Hex>().unwrap().as_str(), "ab".repeat(32));
        for bad in ["", "ab", &"zz".repeat(32), &"a".repeat(65)] {
            assert!(bad.parse::<Sha256Hex>().is_err());
        }
    }
}
