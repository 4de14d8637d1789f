//! casync: content-defined chunks, one file each.

use std::path::{Path, PathBuf};

use super::{Label, Repo, Tool};
use crate::error::Result;
use crate::harness::{Line, empty_folder};

pub(crate) struct Casync;

impl Casync {
    fn on(repo: &Repo, action: &str) -> Line {
        let mut store = std::ffi::OsString::from("--store=");
        store.push(repo.store().join("chunks"));
        repo.line("casync").arg(action).arg(store)
    }

    fn index(repo: &Repo, version: u32) -> PathBuf {
        repo.store().join(format!("{version}.caidx"))
    }
}

impl Tool for Casync {
    fn name(&self) -> &'static str {
        "casync"
    }

    fn version(&self) -> Result<String> {
        Line::new("casync").arg("--version").output()
    }

    fn create(&self, repo: &Repo) -> Result<()> {
        repo.fresh()?;
        empty_folder(&repo.store())
    }

    fn add(&self, repo: &Repo, tree: &Path, label: Label) -> Line {
        Casync::on(repo, "make").arg(Casync::index(repo, label.version)).arg(tree)
    }

    fn restore(&self, repo: &Repo, version: u32, into: &Path) -> Line {
        Casync::on(repo, "extract").arg(Casync::index(repo, version)).arg(into.join("tree"))
    }

    /// It has no check of a store; this reads, decompresses and hashes every chunk of what was added first.
    fn verify(&self, repo: &Repo) -> Line {
        Casync::on(repo, "digest").arg(Casync::index(repo, FIRST))
    }
}

/// What the bars that verify have in their store.
const FIRST: u32 = 1;
