//! cairn's mount: a store on the same ext4, a generation that has the tree, and a daemon that shows it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{PACKAGE, Site, VERSION};
use crate::error::Result;
use crate::ground::Ground;
use crate::harness::{Mounted, Service, is_mounted};
use crate::tools::{Label, Repo, Tool as _};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A daemon with its mounts.
pub(crate) struct MountedCairn {
    // Dropped in this order: the daemon takes its mounts away itself; they are taken away after it if it did not.
    service: Service,
    mounts: Vec<Mounted>,
}

impl MountedCairn {
    pub(super) fn show(ground: &Ground, tree: &Path) -> Result<Site> {
        let repo = ground.repo("cairn");
        let cairn = ground.cairn();
        cairn.create(&repo)?;
        cairn.add(&repo, tree, Label::first(1)).run()?;
        cairn.use_packages(&repo, None, [format!("{PACKAGE}@{VERSION}")]).run()?;
        let MountedCairn { service, mut mounts } =
            MountedCairn::start(ground, &repo, &[("cairn-mount", None)])?;
        let mounted = mounts.pop();
        let root = mounted.as_ref().map_or_else(PathBuf::new, |mounted| mounted.dir().to_owned());
        Ok(Site { root, _service: Some(service), _mounted: mounted })
    }

    /// Starts a daemon that mounts each folder of the ground with its profile, and returns when all of them are
    /// there.
    pub(crate) fn start(
        ground: &Ground,
        repo: &Repo,
        mounts: &[(&str, Option<&str>)],
    ) -> Result<MountedCairn> {
        let mut dirs: Vec<OsString> = Vec::new();
        let mut held = Vec::new();
        for (name, profile) in mounts {
            let mounted = Mounted::on(&ground.join(name), ground.janitor())?;
            let mut arg = mounted.dir().as_os_str().to_owned();
            if let Some(profile) = profile {
                arg.push("=");
                arg.push(profile);
            }
            dirs.push(arg);
            held.push(mounted);
        }
        let mut service = Service::start(ground.cairn().daemon(repo, &dirs), ground.janitor())?;
        service.wait_until(READY_WITHIN, || held.iter().all(|mounted| is_mounted(mounted.dir())))?;
        Ok(MountedCairn { service, mounts: held })
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    pub(crate) fn dir(&self, mount: usize) -> &Path {
        self.mounts[mount].dir()
    }

    /// Ends the daemon, and sees that it took its mounts away.
    pub(crate) fn stop(self) -> Result<()> {
        self.service.stop()
    }
}
