//! Joins the windows of a long file into the one sequence of chunks that cutting it from its start would give.

use std::sync::Arc;

use super::reliance::Reliance;
use super::scan::{Cut, Scanned, State, classify};
use super::source::Source;
use crate::chunker::Cutter;
use crate::error::Result;

/// The place in a file up to which its chunks are known.
pub(super) struct Stitch {
    source: Arc<Source>,
    cutter: Cutter,
    /// A boundary of the true sequence.
    at: u64,
    scratch: Vec<u8>,
}

impl Stitch {
    pub(super) fn new(source: Arc<Source>, cutter: Cutter) -> Self {
        Self { source, cutter, at: 0, scratch: Vec::new() }
    }

    /// Gives `each` the chunks that begin before `end`, with their bytes where they are not a hole. Windows come in
    /// order, and each ends where the next begins.
    pub(super) fn take(
        &mut self,
        window: &Scanned,
        end: u64,
        held: &Reliance,
        mut each: impl FnMut(Cut, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let end = end.min(self.source.size());
        if window.all_hole {
            return self.take_hole(end, each);
        }
        let (mut next, mut offset) = (0, window.start);
        while self.at < end {
            while offset < self.at && next < window.cuts.len() {
                offset += u64::from(window.cuts[next].len);
                next += 1;
            }
            if offset == self.at && next < window.cuts.len() {
                let cut = window.cuts[next];
                let start = usize::try_from(self.at - window.start).expect("within the window");
                each(cut, &window.buffer[start..start + cut.len as usize])?;
                self.at += u64::from(cut.len);
            } else {
                self.bridge(held, &mut each)?;
            }
        }
        Ok(())
    }

    /// One chunk where the window is out of step, read again.
    fn bridge(&mut self, held: &Reliance, each: &mut impl FnMut(Cut, &[u8]) -> Result<()>) -> Result<()> {
        let left = usize::try_from(self.source.size() - self.at).unwrap_or(usize::MAX);
        self.scratch.resize(self.cutter.max(), 0);
        let bytes = &mut self.scratch[..left.min(self.cutter.max())];
        self.source.read_at(bytes, self.at)?;
        let len = self.cutter.cut(bytes);
        let cut = Cut {
            len: u32::try_from(len).expect("a short chunk"),
            state: classify(&[&bytes[..len]], held)[0],
        };
        each(cut, &bytes[..len])?;
        self.at += len as u64;
        Ok(())
    }

    fn take_hole(&mut self, end: u64, mut each: impl FnMut(Cut, &[u8]) -> Result<()>) -> Result<()> {
        let zeros = vec![0; self.cutter.max()];
        let whole = self.cutter.cut(&zeros);
        while self.at < end {
            let left = usize::try_from(self.source.size() - self.at).unwrap_or(usize::MAX);
            let len = if left < zeros.len() { self.cutter.cut(&zeros[..left]) } else { whole };
            each(Cut { len: u32::try_from(len).expect("a short chunk"), state: State::Hole }, &[])?;
            self.at += len as u64;
        }
        Ok(())
    }
}
