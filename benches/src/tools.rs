//! The programs that are measured, by their command lines.
//!
//! What stores trees is a [`Tool`], so that each bar is written once for cairn and its peers alike; what they are
//! compared with is in [`reference`]. Peers run with the settings that they have by default.

mod borg;
mod cairn;
mod casync;
pub(crate) mod differ;
pub(crate) mod kv_node;
pub(crate) mod reference;
mod restic;
pub(crate) mod servers;

use std::path::{Path, PathBuf};

pub(crate) use borg::Borg;
pub(crate) use cairn::Cairn;
pub(crate) use casync::Casync;
pub(crate) use restic::Restic;
pub(crate) use servers::Server;

use crate::error::Result;
use crate::harness::{Line, Role, copy_tree, empty_folder, remove, tree_bytes};

/// Where a tool stores, and the home that it is given so that nothing of the user's is read or written.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    folder: PathBuf,
}

/// What is added: the same content under the same version may be added again in later turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    pub(crate) version: u32,
    pub(crate) turn: u32,
}

impl Label {
    pub(crate) fn first(version: u32) -> Label {
        Label { version, turn: 0 }
    }
}

pub(crate) trait Tool {
    fn name(&self) -> &'static str;

    fn role(&self) -> Role {
        Role::Peer
    }

    /// What it says of its version. Not measured.
    fn version(&self) -> Result<String>;

    /// Makes an empty store in a fresh folder. Not measured.
    fn create(&self, repo: &Repo) -> Result<()>;

    fn add(&self, repo: &Repo, tree: &Path, label: Label) -> Line;

    /// Restores the first turn of `version` into `into`, an empty folder; the files' place inside it is the tool's.
    fn restore(&self, repo: &Repo, version: u32, into: &Path) -> Line;

    /// Reads and checks everything that is stored.
    fn verify(&self, repo: &Repo) -> Line;
}

impl Repo {
    pub(crate) fn new(folder: PathBuf) -> Repo {
        Repo { folder }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Empties it.
    fn fresh(&self) -> Result<()> {
        empty_folder(&self.home())?;
        remove(&self.store())
    }

    pub(crate) fn remove(&self) -> Result<()> {
        remove(&self.folder)
    }

    /// Everything in the store's folder, in bytes of files, whatever it is for.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        tree_bytes(&self.store())
    }

    /// Keeps what is there now, for [`Repo::reset`].
    pub(crate) fn save(&self) -> Result<()> {
        let saved = self.saved();
        remove(&saved)?;
        copy_tree(&self.folder, &saved)
    }

    /// Back to what was saved, under the same path: some tools know their store by it.
    pub(crate) fn reset(&self) -> Result<()> {
        remove(&self.folder)?;
        copy_tree(&self.saved(), &self.folder)
    }

    pub(crate) fn forget_saved(&self) -> Result<()> {
        remove(&self.saved())
    }

    fn saved(&self) -> PathBuf {
        let mut name = self.folder.as_os_str().to_owned();
        name.push(".saved");
        name.into()
    }

    fn line(&self, program: impl Into<PathBuf>) -> Line {
        let home = self.home();
        let line = ["CAIRN_", "RESTIC_", "BORG_"].into_iter().fold(Line::new(program), Line::keep_from);
        line.env("HOME", &home)
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_DATA_HOME", home.join("data"))
    }
}
