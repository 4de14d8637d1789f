//! The same tree, shown by one file system after the other: native ext4, cairn's mount, kernel EROFS on a loop device,
//! squashfuse, casync's mount. Each has the tree under the same names below its root, at the same depth.

mod casync;
mod erofs;
mod mounted_cairn;
mod native;
mod squashfuse;

use std::path::{Path, PathBuf};

pub(crate) use mounted_cairn::MountedCairn;

use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::harness::{Cost, Entrant, Line, Mounted, Role, Score, Series, Service, remove, take_turns};

pub(crate) const NATIVE: &str = "ext4";
/// The package and its version that the tree is in: what cairn's mount calls the folder that the others copy.
pub(crate) const PACKAGE: &str = "bench";
pub(crate) const VERSION: &str = "1";

/// One file system with the tree. Dropping it takes the mount away.
pub(crate) struct Site {
    root: PathBuf,
    _service: Option<Service>,
    _mounted: Option<Mounted>,
}

/// All of them, in the order of their turns; those that cannot be had with the reason.
pub(crate) struct Sites {
    sites: Vec<(&'static str, Role, Result<Site>)>,
    native: PathBuf,
}

/// How the file systems that only the bars of the mount have say their versions.
pub(crate) fn versions() -> [(&'static str, Line); 1] {
    // mkfs.erofs has an option for it only since 1.6.
    [("mksquashfs", Line::new("mksquashfs").arg("-version"))]
}

impl Site {
    /// Where the tree is.
    pub(crate) fn tree(&self) -> PathBuf {
        self.root.join(PACKAGE).join(VERSION)
    }
}

impl Sites {
    /// `fill` writes the tree once, on ext4; the others are made from that. Without `peers` only ext4 and cairn.
    pub(crate) fn new(ground: &Ground, peers: bool, fill: impl FnOnce(&Path) -> Result<()>) -> Result<Sites> {
        let native = ground.join("native");
        remove(&native)?;
        let tree = native.join(PACKAGE).join(VERSION);
        std::fs::create_dir_all(&tree).map_err(Error::io("make the folder", &tree))?;
        fill(&tree)?;
        let mut sites = vec![
            (NATIVE, Role::Reference, native::show(&native)),
            ("cairn", Role::Candidate, MountedCairn::show(ground, &tree)),
        ];
        if peers {
            sites.push(("EROFS", Role::Peer, erofs::show(ground, &native)));
            sites.push(("squashfuse", Role::Peer, squashfuse::show(ground, &native)));
            sites.push(("casync", Role::Peer, casync::show(ground, &native)));
        }
        Ok(Sites { sites, native })
    }

    /// Measures `turn` on all of them, in turns.
    pub(crate) fn take_turns(
        &self,
        rounds: usize,
        judged: impl Fn(Vec<Cost>) -> Series,
        turn: impl Fn(&Site) -> Result<Cost>,
    ) -> Vec<Score> {
        let turn = &turn;
        let entrants = self.sites.iter().map(|(name, role, site)| match site {
            Ok(site) => Entrant::new(*name, *role, move || turn(site)),
            Err(error) => Entrant::out(*name, *role, error),
        });
        take_turns(entrants.collect(), rounds, judged)
    }

    /// Lets go of everything, and makes room.
    pub(crate) fn close(self) -> Result<()> {
        drop(self.sites);
        remove(&self.native)
    }
}
