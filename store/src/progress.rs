//! How long work tells its caller how far it is, and learns that it is to stop.

/// What the caller of a long operation gives it. Called from several threads, often: keep it cheap.
pub trait Progress: Sync {
    /// More work became known: `bytes` plain bytes in `files` files. Adds to earlier calls.
    fn expect(&self, bytes: u64, files: u64) {
        let _ = (bytes, files);
    }

    /// Work was done. Adds to earlier calls.
    fn advance(&self, bytes: u64, files: u64) {
        let _ = (bytes, files);
    }

    /// Whether to stop; asked at least every few MiB. The operation then ends with [`Error::Cancelled`] and leaves
    /// nothing visible.
    ///
    /// [`Error::Cancelled`]: crate::Error::Cancelled
    fn cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {}
