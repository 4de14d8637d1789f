//! restic: 1 MiB chunks on average, zstd, always encrypted. Without its local cache, since the repository is local.

use std::path::Path;

use super::{Label, Repo, Tool};
use crate::error::Result;
use crate::harness::Line;

pub(crate) struct Restic;

impl Restic {
    fn on(repo: &Repo, action: &str) -> Line {
        repo.line("restic")
            .env("RESTIC_PASSWORD", "bench")
            .args(["--no-cache", "-q", "-r"])
            .arg(repo.store())
            .arg(action)
    }

    /// What its data takes, as JSON.
    pub(crate) fn stats(repo: &Repo) -> Line {
        Restic::on(repo, "stats").args(["--mode", "raw-data", "--json"])
    }
}

impl Tool for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn version(&self) -> Result<String> {
        Line::new("restic").arg("version").output()
    }

    /// Repository format 2, the one that compresses: older restics make format 1 unless they are told.
    fn create(&self, repo: &Repo) -> Result<()> {
        repo.fresh()?;
        Restic::on(repo, "init").args(["--repository-version", "2"]).run().map(drop)
    }

    fn add(&self, repo: &Repo, tree: &Path, label: Label) -> Line {
        Restic::on(repo, "backup").arg("--tag").arg(label.version.to_string()).arg(tree)
    }

    fn restore(&self, repo: &Repo, version: u32, into: &Path) -> Line {
        Restic::on(repo, "restore")
            .args(["latest", "--tag"])
            .arg(version.to_string())
            .arg("--target")
            .arg(into)
    }

    fn verify(&self, repo: &Repo) -> Line {
        Restic::on(repo, "check").arg("--read-data")
    }
}
