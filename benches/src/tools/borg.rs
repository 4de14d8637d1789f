//! borg: 2 MiB chunks on average, lz4, here without encryption.

use std::ffi::OsString;
use std::path::Path;

use super::{Label, Repo, Tool};
use crate::error::Result;
use crate::harness::Line;

pub(crate) struct Borg;

impl Borg {
    fn on(repo: &Repo, action: &str) -> Line {
        repo.line("borg")
            .env("BORG_BASE_DIR", repo.home())
            .env("BORG_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes")
            .arg(action)
    }

    /// An archive cannot be made twice under one name.
    fn archive(repo: &Repo, label: Label) -> OsString {
        let mut archive = repo.store().into_os_string();
        archive.push(format!("::{}-{}", label.version, label.turn));
        archive
    }
}

impl Tool for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn version(&self) -> Result<String> {
        Line::new("borg").arg("--version").output()
    }

    fn create(&self, repo: &Repo) -> Result<()> {
        repo.fresh()?;
        Borg::on(repo, "init").args(["-e", "none"]).arg(repo.store()).run().map(drop)
    }

    fn add(&self, repo: &Repo, tree: &Path, label: Label) -> Line {
        Borg::on(repo, "create").arg(Borg::archive(repo, label)).arg(tree)
    }

    fn restore(&self, repo: &Repo, version: u32, into: &Path) -> Line {
        Borg::on(repo, "extract").arg(Borg::archive(repo, Label::first(version))).folder(into)
    }

    fn verify(&self, repo: &Repo) -> Line {
        Borg::on(repo, "check").arg("--verify-data").arg(repo.store())
    }
}
