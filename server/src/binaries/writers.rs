//! Whether somebody has a file open for writing: a question that only a lease answers.
//!
//! The kernel grants a read lease (`fcntl(2)`, `F_SETLEASE`) if and only if nobody has the file open for writing, which
//! covers writable mappings too. It is given back at once. This module is the only `unsafe` code of the crate.
#![expect(unsafe_code, reason = "neither std nor rustix has F_SETLEASE")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `fcntl(2)`: which signal a holder of a lease gets (`F_SETSIG` of `<linux/fcntl.h>`, the same on every architecture).
const F_SETSIG: libc::c_int = 10;

/// Whether somebody has the file open for writing; `None` where the kernel does not say: a file of another user's without
/// `CAP_LEASE`, or a file system without leases. The file has to be open for reading alone.
pub(super) fn has_writer(file: &File) -> Option<bool> {
    let descriptor = file.as_raw_fd();
    // Who opens the file for writing while the lease is held waits for it, and the holder gets a signal: by default SIGIO,
    // which would end the process. SIGURG is ignored unless a program asks for it.
    //
    // SAFETY: `fcntl` with these commands reads an integer and no memory; the descriptor is open, since `file` is.
    let ask =
        |command: libc::c_int, argument: libc::c_int| unsafe { libc::fcntl(descriptor, command, argument) };
    if ask(F_SETSIG, libc::SIGURG) != 0 {
        return None;
    }
    if ask(libc::F_SETLEASE, libc::F_RDLCK) == 0 {
        ask(libc::F_SETLEASE, libc::F_UNLCK);
        return Some(false);
    }
    (io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock).then_some(true)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "files of a test")]
    fn a_writer_is_seen_for_as_long_as_it_has_the_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        let file = File::open(&path).unwrap();
        let Some(before) = has_writer(&file) else {
            eprintln!("SKIPPED: no leases on this file system");
            return;
        };
        assert!(!before);
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert_eq!(has_writer(&file), Some(true));
        drop(writer);
        assert_eq!(has_writer(&file), Some(false));
        // Another reader is none.
        let _reader = File::open(&path).unwrap();
        assert_eq!(has_writer(&file), Some(false));
    }
}
