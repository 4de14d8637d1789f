//! What lacks of an artifact is looked for in files of the user before peers are asked for it: an old state directory, a
//! copy that came by other ways. Nothing is believed of them: what hashes to a chunk that is wanted is kept.

use std::path::PathBuf;

use cairn_store::repair::Folders;
use cairn_store::{Error as StoreError, Writer};

use crate::error::Result;
use crate::net::Net;
use crate::report::{Cancelling, Plan, Watch};
use crate::survey::survey;

/// Chunks that are looked for at a time, at most: they are in memory meanwhile.
const WANTED_MAX: usize = 1 << 20;

/// What files gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seeded {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks that were wanted and found.
    pub chunks: u64,
    /// Plain bytes that are still to come from peers.
    pub lacking_bytes: u64,
}

impl Net {
    /// Looks in files for what lacks of a plan's artifact, and keeps what it finds. Folders that are not there, or cannot be
    /// read, give nothing. Of an artifact that lacks more than a million chunks the first million are looked for.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Store`](crate::Error::Store) when what was found cannot be
    /// kept.
    pub fn seed(
        &self,
        writer: &Writer,
        plan: &Plan,
        folders: &[PathBuf],
        watch: &dyn Watch,
    ) -> Result<Seeded> {
        let look =
            |wanted_max| survey(&writer.store().local(), &plan.artifact, wanted_max, &|| watch.cancelled());
        let found = look(WANTED_MAX)?;
        let mut done = Seeded { lacking_bytes: found.bytes, ..Seeded::default() };
        for folder in folders {
            if found.lacking.is_empty() {
                break;
            }
            let wanted = writer.lacks(&found.lacking)?;
            let search = Folders { paths: vec![folder.clone()], hints: Vec::new() };
            match writer.reread(&search, &wanted, &[plan.artifact], &Cancelling(watch)) {
                Ok(read) => {
                    done.files += read.files;
                    done.bytes += read.bytes;
                    done.chunks += read.found;
                }
                Err(StoreError::Tree { path, source, .. }) => {
                    tracing::info!(path = %path.display(), error = %source, "gives nothing");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if done.chunks > 0 {
            done.lacking_bytes = look(0)?.bytes;
        }
        Ok(done)
    }
}
