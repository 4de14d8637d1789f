//! The only mapping from what went wrong to what a system call says.

use cairn_store::Error;
use rustix::io::Errno as Raw;

/// What a failed system call says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0}")]
pub struct Errno(pub Raw);

impl Errno {
    /// There is no such name.
    pub const NOENT: Self = Self(Raw::NOENT);
    /// What is named is damaged, or not here.
    pub const IO: Self = Self(Raw::IO);
    /// It is not a directory.
    pub const NOTDIR: Self = Self(Raw::NOTDIR);
    /// It is a directory.
    pub const ISDIR: Self = Self(Raw::ISDIR);
    /// It is not what the operation is for.
    pub const INVAL: Self = Self(Raw::INVAL);
    /// The name is longer than any that there could be.
    pub const NAMETOOLONG: Self = Self(Raw::NAMETOOLONG);
    /// There is no such inode any more.
    pub const STALE: Self = Self(Raw::STALE);
    /// There is no such attribute.
    pub const NODATA: Self = Self(Raw::NODATA);
    /// The answer is longer than there is room for.
    pub const RANGE: Self = Self(Raw::RANGE);
    /// Not here, and not to be asked for again.
    pub const NOSYS: Self = Self(Raw::NOSYS);
    /// Nothing of this can be changed.
    pub const ROFS: Self = Self(Raw::ROFS);

    /// The number that the kernel knows it by, as in `errno.h`.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.raw_os_error()
    }
}

impl From<&Error> for Errno {
    /// What reading a file or a directory says when the store failed. Absent content is an I/O error, since its name is
    /// there; who reads gets one answer for all that keeps its bytes away.
    fn from(error: &Error) -> Self {
        match error {
            Error::Cancelled => Self(Raw::INTR),
            Error::Invalid { .. } | Error::Ambiguous { .. } => Self::INVAL,
            Error::Busy { .. } => Self(Raw::BUSY),
            Error::Io { source, .. } if source.raw_os_error() == Some(Raw::NOMEM.raw_os_error()) => {
                Self(Raw::NOMEM)
            }
            _ => Self::IO,
        }
    }
}

impl From<Error> for Errno {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_keeps_bytes_away_is_an_input_output_error() {
        let absent = Error::Absent { what: "chunk".into() };
        let damaged = Error::Damaged {
            what: "chunk".into(),
            chunk: None,
            pack: None,
            offset: None,
            detail: String::new(),
        };
        let io = |raw: Raw| Error::Io { action: "read", path: "pack".into(), source: raw.into() };
        for error in [absent, damaged, io(Raw::NOENT), io(Raw::ACCESS), io(Raw::MFILE)] {
            assert_eq!(Errno::from(&error), Errno::IO, "{error}");
        }
        assert_eq!(Errno::from(io(Raw::NOMEM)).number(), 12);
        assert_eq!(Errno::from(Error::Cancelled).number(), 4);
    }
}
