//! Which `cairn.toml` is meant, and what it declares.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cairn_sources::config::{self, Package};

use crate::app;
use crate::args::Global;
use crate::error::Usage;

/// The file's name.
pub(crate) const FILE: &str = "cairn.toml";
/// Longest file, in bytes.
const LEN_MAX: u64 = 1 << 20;

/// The packages that the file declares, and where it is: the one that is named, else the first one in this folder or above,
/// else the store's.
pub(crate) fn load(global: &Global, named: Option<&Path>) -> anyhow::Result<(PathBuf, Vec<Package>)> {
    let path = find(global, named)?;
    let text = read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let packages = config::parse(&path, &text)?;
    Ok((path, packages))
}

fn find(global: &Global, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named.filter(|path| !path.as_os_str().is_empty()) {
        return std::path::absolute(named).context("cannot tell which folder this is");
    }
    let here = std::env::current_dir().context("cannot tell which folder this is")?;
    let above = here.ancestors().map(|folder| folder.join(FILE));
    let store = app::locate_store(global.store.clone()).ok().map(|store| store.join(FILE));
    let found = above.chain(store).find(|path| path.is_file());
    found.ok_or_else(|| {
        let problem = format!("there is no {FILE} in {} or above it", here.display());
        Usage { problem, hint: "`cairn init` writes one; --config or $CAIRN_CONFIG names another" }.into()
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let mut text = String::new();
    if file.take(LEN_MAX + 1).read_to_string(&mut text)? as u64 > LEN_MAX {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it is longer than 1 MiB"));
    }
    Ok(text)
}
