//! What a source is given: whom it tells what happens, and what it need not bring.

use std::io;
use std::path::Path;

use crate::sha256::Sha256;

/// Is told what happens, from several threads.
pub trait Watch: Sync {
    /// So many more bytes are to come over the network.
    fn expect(&self, _bytes: u64) {}

    /// So many bytes came over the network; taken back where a download begins again, so it may be negative.
    fn came(&self, _bytes: i64) {}

    /// Something was done, in one line for people: `downloaded a.tar.gz, 47.1 MiB`.
    fn say(&self, _line: &str) {}

    /// Something is not as it should be, though it goes on.
    fn warn(&self, _line: &str) {}

    /// Whether it is to stop. Asked often; whoever waits looks again at least every 100 ms.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWatch;

impl Watch for NoWatch {}

/// What is here already.
pub trait Held: Sync {
    /// Makes `to`, which is not there, a file of these bytes if they are here; says whether they are. The bytes are the caller's to
    /// verify.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn copy(&self, sha256: &Sha256, to: &Path) -> io::Result<bool>;

    /// Makes `to`, which is not there, the newest file that is here of a program of this name in the package: much of
    /// a new build is in it. Says whether there is one.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn copy_newest(&self, package: &str, binary: &str, to: &Path) -> io::Result<bool>;
}

/// Nothing is here.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingHeld;

impl Held for NothingHeld {
    fn copy(&self, _sha256: &Sha256, _to: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn copy_newest(&self, _package: &str, _binary: &str, _to: &Path) -> io::Result<bool> {
        Ok(false)
    }
}
