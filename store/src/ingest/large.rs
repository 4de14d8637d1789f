//! A long file: windows of it are scanned side by side, and joined in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::elf;
use super::reliance::Reliance;
use super::scan::{Cut, Hint, Scanned, State, Window};
use super::source::{Folder, Item, Source};
use super::stitch::Stitch;
use crate::chunker::{CdcBounds, Cutter, HEAD_LEN};
use crate::content::{ChunkRef, Content, ContentBuilder, chunks_from};
use crate::error::Result;
use crate::object::ObjectSource;
use crate::pool::{Pending, Pool, Rank};

use super::deposit::Deposit;

/// Bytes of a window that is cut anew: the cuts at its start that are out of step cost a few per cent of it.
pub(super) const WINDOW_MAX: u64 = 4 << 20;
/// Bytes of a window that is in step from its start, because it is cut by pages or along an earlier version: less memory
/// is touched for the first time, which would cost a third of the time.
const WINDOW_IN_STEP: u64 = 1 << 20;

/// What the file, or the one of that name in an earlier version, held before.
pub(super) struct Prior {
    pub(super) content: Content,
    pub(super) size: u64,
}

/// A long file on its way into the store.
pub(super) struct Large {
    source: Arc<Source>,
    cutter: Cutter,
    sparse: bool,
    prior: Option<Prior>,
    machine: u16,
    /// Where the next window begins.
    next: u64,
    windows: VecDeque<(u64, Step)>,
    stitch: Stitch,
    content: ContentBuilder,
}

enum Step {
    Scanning(Pending<Result<Scanned>>),
    Hole { start: u64 },
}

impl Large {
    pub(super) fn open(
        folder: &Folder,
        item: &Item,
        bounds: CdcBounds,
        prior: Option<Prior>,
    ) -> Result<Self> {
        Self::of(Source::open(folder, item)?, item.allocated < item.stamp.size, bounds, prior)
    }

    pub(super) fn of(source: Source, sparse: bool, bounds: CdcBounds, prior: Option<Prior>) -> Result<Self> {
        let source = Arc::new(source);
        let mut head = vec![0; HEAD_LEN.min(usize::try_from(source.size()).unwrap_or(HEAD_LEN))];
        source.read_at(&mut head, 0)?;
        let cutter = Cutter::for_file(bounds, &head, source.size());
        Ok(Self {
            stitch: Stitch::new(Arc::clone(&source), cutter),
            sparse,
            cutter,
            // Cuts at pages need no hints.
            prior: prior.filter(|_| cutter.page().is_none()),
            machine: elf::machine(&head),
            next: 0,
            windows: VecDeque::new(),
            content: ContentBuilder::new(),
            source,
        })
    }

    /// Whether all of it was joined.
    pub(super) fn is_done(&self) -> bool {
        self.windows.is_empty() && self.next >= self.source.size()
    }

    /// Whether a window waits to be begun.
    pub(super) fn has_more(&self) -> bool {
        self.next < self.source.size()
    }

    /// Windows that were begun and not yet joined.
    pub(super) fn windows_begun(&self) -> usize {
        self.windows.len()
    }

    /// Begins scanning the next window; gives the bytes it holds in memory until it is joined.
    pub(super) fn begin_window(
        &mut self,
        pool: &Pool,
        held: &Arc<Reliance>,
        objects: &dyn ObjectSource,
    ) -> u64 {
        let start = self.next;
        let (end, hints) = self.plan(start, objects);
        self.next = end;
        if self.sparse
            && self.source.next_data(start) >= (end + self.cutter.max() as u64).min(self.source.size())
        {
            self.windows.push_back((end, Step::Hole { start }));
            return 0;
        }
        let window = Window { source: Arc::clone(&self.source), cutter: self.cutter, start, end, hints };
        let held = Arc::clone(held);
        let pending = pool.submit(Rank::Beginning, move |tools| window.scan(&tools.buffers, &held));
        self.windows.push_back((end, Step::Scanning(pending)));
        end - start
    }

    /// Where a window ends, and what is expected in it.
    fn plan(&mut self, start: u64, objects: &dyn ObjectSource) -> (u64, Vec<Hint>) {
        let page = self.cutter.page().map_or(1, u64::from);
        let in_step = self.cutter.page().is_some() || self.prior.is_some();
        let len = if in_step { WINDOW_IN_STEP } else { WINDOW_MAX };
        let goal = (start + len.next_multiple_of(page)).min(self.source.size());
        let Some(prior) = self.prior.as_ref().filter(|prior| start < prior.size) else {
            return (goal, Vec::new());
        };
        let mut hints = Vec::new();
        let mut end = goal;
        for chunk in chunks_from(&prior.content, prior.size, start, objects) {
            match chunk {
                Ok((offset, _)) if offset >= goal => {
                    // Where the earlier version had a boundary this window is in step when it ends; a hole ends anywhere.
                    if offset - goal <= self.cutter.max() as u64 {
                        end = offset.min(self.source.size());
                    }
                    break;
                }
                Ok((_, chunk)) if chunk.is_hole() => {}
                Ok((offset, chunk)) => {
                    let last = offset + u64::from(chunk.len) == prior.size;
                    hints.push(Hint { offset, len: chunk.len, id: chunk.id, last });
                }
                Err(error) => {
                    tracing::debug!(%error, "an earlier version cannot be read; the file is cut without it");
                    self.prior = None;
                    break;
                }
            }
        }
        if is_paged(&hints) {
            hints.clear();
        }
        (end, hints)
    }

    /// Joins the oldest window; gives the bytes of memory that this frees and the bytes of the file it covered.
    pub(super) fn join_window(
        &mut self,
        pool: &Pool,
        held: &Reliance,
        deposit: &mut Deposit,
    ) -> Result<(u64, u64)> {
        let Some((end, step)) = self.windows.pop_front() else { return Ok((0, 0)) };
        let (in_memory, scanned) = match step {
            Step::Scanning(pending) => {
                let scanned = pending.wait()?;
                (end - scanned.start, scanned)
            }
            Step::Hole { start } => {
                (0, Scanned { start, buffer: Vec::new(), cuts: Vec::new(), all_hole: true })
            }
        };
        let content = &mut self.content;
        self.stitch.take(&scanned, end, held, |cut, bytes| push(cut, bytes, content, deposit))?;
        let covered = end.min(self.source.size()) - scanned.start;
        pool.buffers().give(scanned.buffer);
        Ok((in_memory, covered))
    }

    /// Checks that the file stayed as it was, and gives what it holds and its ELF machine.
    pub(super) fn finish(self, deposit: &mut Deposit) -> Result<(Content, u16)> {
        self.source.check_unchanged()?;
        Ok((self.content.finish(deposit)?, self.machine))
    }
}

/// Whether the chunks may come from a file that was cut at its pages, so that they are no cuts of this one.
fn is_paged(hints: &[Hint]) -> bool {
    hints.windows(2).all(|pair| pair[0].len == pair[1].len)
}

/// Adds a chunk to a file's list, and to the store if it is new.
pub(super) fn push(
    cut: Cut,
    bytes: &[u8],
    content: &mut ContentBuilder,
    deposit: &mut Deposit,
) -> Result<()> {
    let chunk = match cut.state {
        State::Hole => ChunkRef::hole(cut.len),
        State::Held(id) => ChunkRef { id, len: cut.len },
        State::New(id) => {
            deposit.put_new_chunk(id, bytes)?;
            ChunkRef { id, len: cut.len }
        }
    };
    content.push(chunk, deposit)
}
