//! Which chunks make up a range of a file. A short list is in the file's directory entry; of a long one, which is a tree
//! of nodes, the pieces that are being read are kept, so that not each read goes down the tree.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_store::content::chunks_from;
use cairn_store::{ChunkRef, Content, Error, Store};

use crate::files::{FileId, FileSpec};

/// Chunks in a piece: 4 MiB of a file in chunks of 16 KiB, 12 KiB of memory.
const WINDOW_CHUNKS: usize = 256;
/// Pieces of one file that are kept, at most.
const WINDOWS_PER_FILE: usize = 8;
/// Files of which pieces are kept, at most.
const FILES_MAX: usize = 128;

/// Chunks of a file that follow each other, each with its offset. Not empty.
pub(super) struct Window(Vec<(u64, ChunkRef)>);

impl Window {
    /// The chunks from the one that holds the byte at `at` on that begin before `end`.
    pub(super) fn until(&self, at: u64, end: u64) -> &[(u64, ChunkRef)] {
        let first = self.0.partition_point(|(start, chunk)| start + u64::from(chunk.len) <= at);
        let past = self.0.partition_point(|(start, _)| *start < end);
        self.0.get(first..past).unwrap_or_default()
    }

    fn contains(&self, at: u64) -> bool {
        let (first, last) = (self.0.first(), self.0.last());
        first.is_some_and(|(start, _)| *start <= at)
            && last.is_some_and(|(start, chunk)| at < start + u64::from(chunk.len))
    }
}

/// The pieces that are kept.
#[derive(Default)]
pub(super) struct Layouts(
    /// Guards the pieces; a leaf lock.
    Mutex<Kept>,
);

#[derive(Default)]
struct Kept {
    /// Latest piece first.
    files: HashMap<FileId, VecDeque<Arc<Window>>>,
    /// Files in the order in which they came.
    order: VecDeque<FileId>,
}

impl Layouts {
    /// A piece that holds the byte at `at`, which is before the file's end.
    pub(super) fn window(
        &self,
        store: &Store,
        file: &FileSpec,
        id: &FileId,
        at: u64,
    ) -> cairn_store::Result<Arc<Window>> {
        if let Some(window) = self.kept_window(file, id, at) {
            return Ok(window);
        }
        let list = chunks_from(&file.content, file.size, at, store).take(WINDOW_CHUNKS);
        let window = Arc::new(Window(list.collect::<cairn_store::Result<_>>()?));
        if !window.contains(at) {
            return Err(Error::Damaged {
                what: format!("the list of chunks of a file of {} bytes", file.size),
                chunk: None,
                pack: None,
                offset: None,
                detail: format!("it has none for the byte at {at}"),
            });
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(*id, Arc::clone(&window));
        Ok(window)
    }

    /// The same, if it needs no reading.
    pub(super) fn kept_window(&self, file: &FileSpec, id: &FileId, at: u64) -> Option<Arc<Window>> {
        if let Content::Chunks(list) = &file.content {
            let mut start = 0;
            let place = |chunk: &ChunkRef| {
                let at = start;
                start += u64::from(chunk.len);
                (at, *chunk)
            };
            let window = Window(list.iter().map(place).collect());
            return window.contains(at).then(|| Arc::new(window));
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = kept.files.get_mut(id)?;
        let found = windows.iter().position(|window| window.contains(at))?;
        if found > 0 {
            let window = windows.remove(found)?;
            windows.push_front(window);
        }
        windows.front().cloned()
    }
}

impl Kept {
    fn insert(&mut self, id: FileId, window: Arc<Window>) {
        if !self.files.contains_key(&id) {
            if self.order.len() == FILES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.files.remove(&oldest);
            }
            self.order.push_back(id);
        }
        let windows = self.files.entry(id).or_default();
        windows.truncate(WINDOWS_PER_FILE - 1);
        windows.push_front(window);
    }
}
