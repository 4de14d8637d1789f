//! Making a store's folders, and putting right what a crash left in `packs/`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::io::Io;
use crate::pack::{self, UNSEALED};
use crate::store::check_format;

/// Makes the folders of a store, in an empty folder or one that is a store.
pub(super) fn make(io: &dyn Io, path: &Path) -> Result<()> {
    let is_new = !check_format(io, path)?;
    if is_new {
        match io.list(path) {
            Ok(listed) if listed.iter().any(|entry| !is_ours(&entry.name)) => {
                return Err(Error::Invalid {
                    what: "store",
                    given: path.display().to_string(),
                    reason: "the folder is neither empty nor a store".to_owned(),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("list", path)(error)),
        }
    }
    for dir in ["packs", "journal", "index", "cache"] {
        let dir = path.join(dir);
        io.create_dir_all(&dir).map_err(Error::io("create", dir))?;
    }
    io.sync_dir(path).map_err(Error::io("sync", path))?;
    if is_new { sync_names_above(io, path) } else { Ok(()) }
}

/// Makes the names that lead to a folder durable. Those that the user may not list were not made here.
fn sync_names_above(io: &dyn Io, path: &Path) -> Result<()> {
    for dir in path.ancestors().skip(1) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match io.sync_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(Error::io("sync", dir))?,
        }
    }
    Ok(())
}

/// What a crash in the middle of making a store leaves, and what may be said of a store before it is made.
fn is_ours(name: &str) -> bool {
    ["packs", "journal", "index", "cache", "catalogue", "lock", "reserve", "cairn-store.part", "cairn.toml"]
        .contains(&name)
}

/// Seals the data packs that a crash left open, so that what they hold need not be stored again; throws open metadata
/// packs away, since their objects may name chunks that were lost. Makes the names of all packs durable: an ingest that
/// was cut off may have sealed some whose names are not.
pub(super) fn recover_packs(io: &dyn Io, dir: &Path) -> Result<()> {
    for entry in io.list(dir).map_err(Error::io("list", dir))? {
        if entry.name.strip_suffix(UNSEALED).is_some_and(|stem| stem.ends_with('.')) {
            let path = dir.join(&entry.name);
            let sealed = match pack::recover(io, dir, &path) {
                // No room for a footer: what it holds is stored again when it is added again.
                Err(error) if error.is_disk_full() => {
                    io.remove(&path).map_err(Error::io("remove", &path))?;
                    None
                }
                recovered => recovered?,
            };
            tracing::info!(file = entry.name, pack = ?sealed, "recovered what an interrupted writer left");
        }
    }
    io.sync_dir(dir).map_err(Error::io("sync", dir))
}

/// Removes what an interrupted writer was about to replace files with: nobody else would, and a run of the index is long.
/// The journal does so by itself. Failing costs room only.
pub(super) fn remove_unfinished(io: &dyn Io, root: &Path) {
    for dir in [root.to_owned(), root.join("index"), root.join("cache")] {
        let names = io.names(&dir).unwrap_or_default();
        for path in names.iter().filter(|name| name.ends_with(".part")).map(|name| dir.join(name)) {
            if let Err(error) = io.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "an unfinished file stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::io::{Io, Sim};
    use crate::writer::{Writer, WriterOptions};

    #[test]
    fn what_an_interrupted_writer_left_unfinished_goes() {
        let (sim, root) = (Sim::new(1), std::path::Path::new("/store"));
        let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
        let open = || Writer::open_with(Arc::new(sim.clone()), root, &options).unwrap();
        drop(open());
        let left = ["cairn-store.part", "index/new.run.part", "cache/stat.part"].map(|name| root.join(name));
        left.iter().for_each(|path| drop(sim.create(path).unwrap()));
        let stays = root.join("cache/other");
        drop(sim.create(&stays).unwrap());
        drop(open());
        assert!(left.iter().all(|path| sim.open(path).is_err()) && sim.open(&stays).is_ok());
    }
}
