//! Room that the store keeps for the time when the disk is full: the file `reserve`, of which nothing is ever read. It
//! is given up, a piece at a time, for changes that take names away, so that something can be removed and collected when
//! there is not a byte left; and taken again as soon as there is room.
//!
//! Nothing depends on it: where it cannot be made or is lost, less can be done on a full disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::{Io, WriteFile, is_full};

/// The file in the store.
pub(crate) const FILE: &str = "reserve";
/// Bytes of it: a thousand removals and more, or a checkpoint of some thousands of names.
const BYTES: u64 = 1 << 20;
/// What is given up at a time.
const PIECE: u64 = 64 << 10;

/// The reserve of a store.
pub(crate) struct Reserve {
    io: Arc<dyn Io>,
    path: PathBuf,
    is_whole: bool,
}

impl Reserve {
    /// The reserve of the store in `root`, filled as far as there is room.
    pub(crate) fn open(io: Arc<dyn Io>, root: &Path) -> Self {
        let mut reserve = Self { io, path: root.join(FILE), is_whole: false };
        reserve.fill();
        reserve
    }

    /// Takes what it lacks, as far as there is room.
    pub(crate) fn fill(&mut self) {
        if self.is_whole {
            return;
        }
        match self.take() {
            Ok(()) => self.is_whole = true,
            Err(error) => {
                let path = self.path.display();
                tracing::debug!(%path, %error, "the reserve for a full disk is not whole");
            }
        }
    }

    fn take(&self) -> io::Result<()> {
        let file = match self.io.open_write(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.io.create(&self.path)?,
            opened => opened?,
        };
        let mut len = self.len()?;
        // All of it, also what is there: the copy of a store has a file of this length, and no room in it.
        match file.allocate(0, BYTES) {
            Ok(true) if len < BYTES => return file.set_len(BYTES),
            Ok(true) => return Ok(()),
            Ok(false) => return fill_with_noise(&*file, len),
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
        while len < BYTES {
            if let Err(error) = file.allocate(len, PIECE).and_then(|_| file.set_len(len + PIECE)) {
                // Less than a piece may have been taken behind the end.
                file.set_len(len)?;
                return Err(error);
            }
            len += PIECE;
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.io.open(&self.path)?.len()
    }

    /// Gives a piece up; false where there is none any more.
    pub(crate) fn give_up(&mut self) -> bool {
        self.is_whole = false;
        let given = self.len().and_then(|len| {
            if len == 0 {
                return Ok(false);
            }
            let file = self.io.open_write(&self.path)?;
            file.set_len(len.saturating_sub(PIECE))?;
            // Until then the file system may keep the room for what a crash would bring back.
            file.sync().map(|()| true)
        });
        match given {
            Ok(given) => given,
            Err(error) => {
                let path = self.path.display();
                tracing::debug!(%path, %error, "the reserve for a full disk cannot be given up");
                false
            }
        }
    }
}

/// Fills the file where room cannot be taken without writing. Zeros might be compressed to nothing.
fn fill_with_noise(file: &dyn WriteFile, len: u64) -> io::Result<()> {
    if len >= BYTES {
        return Ok(());
    }
    let mut noise = vec![0; usize::try_from(BYTES - len).map_err(io::Error::other)?];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let written = file.write_all_at(&noise, len).and_then(|()| file.sync());
    written.inspect_err(|_| drop(file.set_len(len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Sim;

    #[test]
    fn it_is_taken_given_up_by_pieces_and_taken_again() {
        let sim = Sim::new(1);
        let mut reserve = Reserve::open(Arc::new(sim.clone()), Path::new("/"));
        assert_eq!(sim.used(), BYTES);
        sim.fill();
        let mut pieces = 0;
        while reserve.give_up() {
            pieces += 1;
            assert_eq!(sim.used(), BYTES - pieces * PIECE);
        }
        assert_eq!((pieces, sim.used()), (BYTES / PIECE, 0));
        // Half of the room is another's by now.
        sim.set_capacity(Some(BYTES / 2));
        reserve.fill();
        assert!(!reserve.is_whole);
        assert_eq!(sim.used(), BYTES / 2);
        sim.set_capacity(None);
        reserve.fill();
        assert!(reserve.is_whole);
        assert_eq!(sim.used(), BYTES);
    }

    #[test]
    fn the_copy_of_one_is_filled() {
        let sim = Sim::new(1);
        let copy = sim.create(&Path::new("/").join(FILE)).unwrap();
        copy.set_len(BYTES).unwrap();
        assert!(Reserve::open(Arc::new(sim.clone()), Path::new("/")).is_whole);
        assert_eq!(sim.used(), BYTES);
    }

    #[test]
    fn a_disk_that_refuses_harms_nobody() {
        let sim = Sim::new(1);
        sim.set_capacity(Some(0));
        let mut reserve = Reserve::open(Arc::new(sim), Path::new("/"));
        assert!(!reserve.give_up());
        reserve.fill();
    }
}
