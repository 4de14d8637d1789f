//! The parts of a file that are not known yet, and the blocks that they are cut into; the other side counts in the same way.

use std::ops::Range;

/// Parts of a file, in its order, without overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// One part, or none if it is empty.
    pub(super) fn whole(bytes: u64) -> Self {
        let mut whole = Self(Vec::new());
        whole.push(0..bytes);
        whole
    }

    /// How many bytes they are.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The parts.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    /// How many whole blocks are in them.
    pub(super) fn block_count(&self, block_bytes: u64) -> u64 {
        self.0.iter().map(|range| (range.end - range.start) / block_bytes).sum()
    }

    /// Where the whole blocks begin.
    pub(super) fn blocks(&self, block_bytes: u64) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(move |range| {
            let count = (range.end - range.start) / block_bytes;
            (0..count).map(move |at| range.start + at * block_bytes)
        })
    }

    /// What is left when of the whole blocks only those stay of which it is said so, in their order. What is behind the last whole
    /// block of a part stays.
    pub(super) fn keep(&self, block_bytes: u64, mut stays: impl FnMut() -> bool) -> Self {
        let mut kept = Self(Vec::new());
        for range in &self.0 {
            let mut start = range.start;
            while range.end - start >= block_bytes {
                if stays() {
                    kept.push(start..start + block_bytes);
                }
                start += block_bytes;
            }
            kept.push(start..range.end);
        }
        kept
    }

    fn push(&mut self, range: Range<u64>) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.0.push(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_and_ends_stay() {
        let whole = Ranges::whole(10);
        assert_eq!((whole.block_count(4), whole.blocks(4).collect::<Vec<_>>()), (2, vec![0, 4]));
        let mut stays = [false, true].into_iter();
        let rest = whole.keep(4, || stays.next().unwrap());
        assert_eq!(rest.iter().cloned().collect::<Vec<_>>(), [Range { start: 4, end: 10 }]);
        let mut stays = [true, false, true].into_iter();
        let rest = rest.keep(2, || stays.next().unwrap());
        assert_eq!(rest, Ranges(vec![4..6, 8..10]));
        assert_eq!((rest.bytes(), rest.block_count(2), rest.block_count(3)), (4, 2, 0));
        assert_eq!(Ranges::whole(0), Ranges(Vec::new()));
    }
}
