//! What the bars of the mount stand on: a folder on ext4, where the references, the store and the images of all are, and
//! where everything is mounted. A tmpfs has no cold reads, and passthrough to one is not what anybody runs.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::harness::{Cost, Janitor, Line, Scratch, file_system};
use crate::options::{Options, workspace};
use crate::tools::{Cairn, Repo};

const EXT4: &str = "ext4";
/// Trees, a store, four images, and a hundred versions of a package.
const ROOM_BYTES: u64 = 6 << 30;

pub(crate) struct Ground {
    // Dropped first: whatever is mounted inside the folder is gone before the folder is removed.
    janitor: Janitor,
    scratch: Scratch,
    cairn: Cairn,
}

impl Ground {
    pub(crate) fn new(options: &Options, cairn: &Cairn, probe: Option<&'static str>) -> Result<Ground> {
        let probe = probe.ok_or_else(|| Error::NotInstalled { program: "probe".into() })?;
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Unsuitable("passthrough, EROFS and cold caches take root".into()));
        }
        let scratch = Scratch::new(Some(&disk(options)?))?;
        if !options.scale.quick {
            scratch.need("the bars of the mount", ROOM_BYTES)?;
        }
        Ok(Ground { janitor: Janitor::start(Path::new(probe))?, scratch, cairn: cairn.clone() })
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    pub(crate) fn janitor(&self) -> &Janitor {
        &self.janitor
    }

    pub(crate) fn cairn(&self) -> &Cairn {
        &self.cairn
    }

    pub(crate) fn repo(&self, name: &str) -> Repo {
        Repo::new(self.join(name))
    }
}

/// `--disk`, else the first of the usual places that is on ext4.
fn disk(options: &Options) -> Result<PathBuf> {
    let places = match &options.disk {
        Some(disk) => vec![disk.clone()],
        None => vec![std::env::temp_dir(), workspace().join("target"), workspace()],
    };
    let on_ext4 = places.iter().find(|place| file_system(place) == EXT4);
    on_ext4.cloned().ok_or_else(|| Error::Unsuitable("no folder on ext4: name one with --disk".into()))
}

/// Forgets what the kernel has of any file: pages, names, inodes. Dirty pages stay, so they are written first.
pub(crate) fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    let path = Path::new("/proc/sys/vm/drop_caches");
    std::fs::write(path, "3").map_err(Error::io("write", path))
}

/// Runs a `probe` that measures itself; what it cost has the time that it says.
pub(crate) fn measured_inside(line: &Line) -> Result<Cost> {
    #[derive(serde::Deserialize)]
    struct Said {
        seconds: f64,
    }
    let (cost, text) = line.run_reading()?;
    let said: Said = serde_json::from_str(&text).map_err(|error| Error::Wrong {
        program: line.program_name(),
        what: format!("no figures: {error}"),
    })?;
    Ok(Cost { wall_s: said.seconds, ..cost })
}
