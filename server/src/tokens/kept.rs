//! The file of tokens: JSON, mode 0600, replaced whole while a lock beside it is held.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::{GLOBS_MAX, TOKENS_MAX, Token, TokenError};
use crate::files;

const VERSION: u32 = 1;
/// As many tokens as there may be, with all their globs.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) tokens: Vec<Listed>,
}

/// A token and the hash of its text.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) token: Token,
    pub(super) hash: blake3::Hash,
}

#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    tokens: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    token: Token,
    blake3: String,
}

/// The file's tokens; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Kept, TokenError> {
    let bytes = match files::read(path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(source) => return Err(failed("read", path)(source)),
    };
    let mode = std::fs::metadata(path).map_err(failed("look at", path))?.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(TokenError::Exposed(path.to_owned()));
    }
    let not_understood = |detail: String| TokenError::NotUnderstood { path: path.to_owned(), detail };
    let form: Form = serde_json::from_slice(&bytes).map_err(|error| not_understood(error.to_string()))?;
    if form.version != VERSION {
        return Err(not_understood(format!("it has version {}; this cairn reads {VERSION}", form.version)));
    }
    if form.tokens.len() > TOKENS_MAX || form.tokens.iter().any(|row| row.token.names.len() > GLOBS_MAX) {
        return Err(TokenError::TooMany);
    }
    let tokens = form.tokens.into_iter().map(|row| {
        let hash = blake3::Hash::from_hex(&row.blake3).map_err(|error| not_understood(error.to_string()))?;
        Ok(Listed { token: row.token, hash })
    });
    Ok(Kept { tokens: tokens.collect::<Result<_, TokenError>>()? })
}

/// Replaces the file. The lock has to be held.
pub(super) fn write(path: &Path, kept: &Kept) -> Result<(), TokenError> {
    let row = |listed: &Listed| Row { token: listed.token.clone(), blake3: listed.hash.to_hex().to_string() };
    let form = Form { version: VERSION, tokens: kept.tokens.iter().map(row).collect() };
    let mut bytes = serde_json::to_vec_pretty(&form)
        .map_err(|error| TokenError::NotUnderstood { path: path.to_owned(), detail: error.to_string() })?;
    bytes.push(b'\n');
    let part = beside(path, ".part");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || Ok(File::from(rustix::fs::open(&part, flags, Mode::RUSR | Mode::WUSR)?));
    let mut file = open().map_err(failed("write", &part))?;
    // One that was left there may have had any.
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| failed("write", &part)(errno.into()))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed("write", &part))?;
    rustix::fs::rename(&part, path).map_err(|errno| failed("replace", path)(errno.into()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    folder.and_then(rustix::fs::fsync).map_err(|errno| failed("sync the folder of", path)(errno.into()))
}

/// Waits until nobody else changes the file, and keeps others from it while what this returns lives.
pub(super) fn lock(path: &Path) -> Result<File, TokenError> {
    let beside = beside(path, ".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| failed("lock", &beside)(errno.into()))?;
    // Whoever holds it writes one small file.
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))
        .map_err(|errno| failed("lock", &beside)(errno.into()))?;
    Ok(File::from(file))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TokenError {
    let path = path.to_owned();
    move |source| TokenError::Io { action, path, source }
}
