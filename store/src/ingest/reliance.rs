//! What is named may rest on packs that an ingest under way has sealed: whoever pulls an artifact finds their chunks and
//! does not fetch them. An ingest that a full disk stops must then leave them.

use std::sync::Mutex;

use crate::error::Result;
use crate::store::lock;

/// Counts what was named that may rest on packs of others.
#[derive(Default)]
pub(crate) struct Reliance(
    /// Guards the count, and what is found to be here until it is named. The names' lock is taken under it.
    Mutex<u64>,
);

impl Reliance {
    /// Finds out what is here and names it: until that is done no pack goes.
    pub(crate) fn name<T>(&self, name: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut count = lock(&self.0);
        let named = name();
        // Where it failed it may have been named all the same.
        *count += 1;
        named
    }

    /// How often something was named so far.
    pub(super) fn count(&self) -> u64 {
        *lock(&self.0)
    }

    /// Removes packs, unless something was named since `count`; whether it did.
    pub(super) fn remove_unless_named(&self, count: u64, remove: impl FnOnce()) -> bool {
        let now = lock(&self.0);
        if *now == count {
            remove();
        }
        *now == count
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::ingest::{IngestOptions, Input};
    use crate::io::Sim;
    use crate::writer::{Writer, WriterOptions};

    /// More than a pack, so that one is sealed before the end, and then whatever `at_end` does.
    struct Long<F: FnMut()> {
        left: usize,
        at_end: F,
    }

    impl<F: FnMut()> Read for Long<F> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.left == 0 {
                (self.at_end)();
                return Ok(0);
            }
            let len = buffer.len().min(self.left).min(1 << 16);
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.left.to_le_bytes()).finalize_xof().fill(&mut buffer[..len]);
            self.left -= len;
            Ok(len)
        }
    }

    #[test]
    fn a_full_disk_gives_back_what_nobody_named_meanwhile() {
        for named in [false, true] {
            let sim = Sim::new(1);
            let options = WriterOptions { wait: Duration::ZERO, command: String::new(), who: String::new() };
            let writer =
                Arc::new(Writer::open_with(Arc::new(sim.clone()), Path::new("/store"), &options).unwrap());
            let (meanwhile, disk) = (Arc::clone(&writer), sim.clone());
            let at_end = move || {
                if named {
                    meanwhile.owned_reliance().name(|| Ok(())).unwrap();
                }
                disk.full_from(1);
            };
            let reader = Box::new(Long { left: 150 << 20, at_end });
            let input = Input::Reader { name: "long".to_owned(), executable: false, reader };
            let package = IngestOptions::package("app".parse().unwrap(), "1".parse().unwrap());
            let error = writer.ingest(input, &package, &()).unwrap_err();
            assert!(error.is_disk_full(), "{error}");
            assert_eq!(writer.packs().unwrap().is_empty(), !named);
        }
    }
}
