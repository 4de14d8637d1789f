//! Where two files differ, told by their chunk lists alone: no byte of either is read.

use std::iter::Peekable;
use std::ops::Range;

use crate::content::{ChunkRef, Chunks, Content, chunks};
use crate::error::Result;
use crate::object::ObjectSource;

/// What a file holds, and how long it is.
#[derive(Debug, Clone, Copy)]
pub struct FileSide<'a> {
    /// Its chunks, or its bytes.
    pub content: &'a Content,
    /// Its length in bytes.
    pub size: u64,
}

/// The ranges of bytes in which two files differ, ascending, none next to another. What is outside of them is equal. Files that are
/// kept by chunks may agree in a part of a range: it begins and ends where a chunk does in either. What only one of
/// them has is a range too.
///
/// Bytes are compared with those at the same place, as in a file that is written in place: what an insertion moved
/// differs.
///
/// # Errors
/// Whatever `source` returns, and damage of the lists.
pub fn ranges(
    before: FileSide<'_>,
    after: FileSide<'_>,
    source: &dyn ObjectSource,
) -> Result<Vec<Range<u64>>> {
    let mut found = Found::default();
    if let (Content::Inline(before), Content::Inline(after)) = (before.content, after.content) {
        let longest = before.len().max(after.len());
        for at in (0..longest).filter(|at| before.get(*at) != after.get(*at)) {
            found.add(at as u64..at as u64 + 1);
        }
        return Ok(found.ranges);
    }
    if before.content == after.content && before.size == after.size {
        return Ok(Vec::new());
    }
    let both = before.size.min(after.size);
    let (mut left, mut right) = (Side::of(&before, source), Side::of(&after, source));
    let mut at = 0;
    while at < both {
        // A side without chunks is inline: nothing is known of its parts.
        let (Some(one), Some(other)) = (left.covering(at)?, right.covering(at)?) else {
            found.add(at..both);
            break;
        };
        let end = one.end().min(other.end()).min(both);
        let is_equal = one == other || one.chunk.is_hole() && other.chunk.is_hole();
        if !is_equal {
            found.add(at..end);
        }
        at = end;
    }
    found.add(both..before.size.max(after.size));
    Ok(found.ranges)
}

#[derive(Default)]
struct Found {
    ranges: Vec<Range<u64>>,
}

impl Found {
    fn add(&mut self, range: Range<u64>) {
        match self.ranges.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }
}

/// A chunk at its place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Placed {
    start: u64,
    chunk: ChunkRef,
}

impl Placed {
    fn end(&self) -> u64 {
        self.start + u64::from(self.chunk.len)
    }
}

struct Side<'a> {
    chunks: Peekable<Chunks<'a>>,
    current: Option<Placed>,
}

impl<'a> Side<'a> {
    fn of(held: &FileSide<'a>, source: &'a dyn ObjectSource) -> Self {
        Self { chunks: chunks(held.content, held.size, source).peekable(), current: None }
    }

    /// The chunk that holds the byte at `at`; `at` never decreases.
    fn covering(&mut self, at: u64) -> Result<Option<Placed>> {
        while self.current.is_none_or(|current| current.end() <= at) {
            let Some(next) = self.chunks.next() else { return Ok(None) };
            let (start, chunk) = next?;
            self.current = Some(Placed { start, chunk });
        }
        Ok(self.current)
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range is what is found")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::ContentBuilder;
    use crate::id::ChunkId;
    use crate::object::MemoryObjects;

    /// Cuts `bytes` at the lengths that are given, over and over; runs of zeros are holes.
    fn build(objects: &mut MemoryObjects, mut bytes: &[u8], lens: &[usize]) -> (Content, u64) {
        let size = bytes.len() as u64;
        let mut builder = ContentBuilder::new();
        for len in lens.iter().cycle() {
            let (chunk, rest) = bytes.split_at((*len).min(bytes.len()));
            if chunk.is_empty() {
                break;
            }
            let len = u32::try_from(chunk.len()).unwrap();
            let is_zero = chunk.iter().all(|byte| *byte == 0);
            let id = ChunkId::of(chunk);
            let chunk = if is_zero { ChunkRef::hole(len) } else { ChunkRef { id, len } };
            builder.push(chunk, objects).unwrap();
            bytes = rest;
        }
        (builder.finish(objects).unwrap(), size)
    }

    fn of(objects: &MemoryObjects, before: &(Content, u64), after: &(Content, u64)) -> Vec<Range<u64>> {
        let held = |(content, size): &'_ (Content, u64)| (content.clone(), *size);
        let (before, after) = (held(before), held(after));
        let before = FileSide { content: &before.0, size: before.1 };
        ranges(before, FileSide { content: &after.0, size: after.1 }, objects).unwrap()
    }

    #[test]
    fn bytes_that_are_kept_inline_are_compared_one_by_one() {
        let objects = MemoryObjects::new();
        let inline = |bytes: &[u8]| (Content::Inline(bytes.to_vec()), bytes.len() as u64);
        assert_eq!(of(&objects, &inline(b"abcdef"), &inline(b"abXdYZ")), [2..3, 4..6]);
        assert_eq!(of(&objects, &inline(b"abc"), &inline(b"abcde")), [3..5]);
        assert_eq!(of(&objects, &inline(b""), &inline(b"")), []);
    }

    #[test]
    fn pages_that_changed_are_found_whatever_the_lists_are_like() {
        let mut objects = MemoryObjects::new();
        let old: Vec<u8> =
            (0..400_u32).flat_map(|page| [u8::try_from(page % 251 + 1).unwrap(); 10]).collect();
        let mut new = old.clone();
        new[155] = 0;
        new[160] = 0;
        new[3999] = 0;
        let (old, new) = (build(&mut objects, &old, &[10]), build(&mut objects, &new, &[10]));
        assert_eq!(of(&objects, &old, &new), [150..170, 3990..4000]);
        assert_eq!(of(&objects, &old, &old), []);
        let shorter = build(&mut objects, &[1; 25], &[10]);
        let longer = build(&mut objects, &[1; 45], &[10]);
        assert_eq!(of(&objects, &shorter, &longer), [20..45]);
        let inline = (Content::Inline(vec![1; 25]), 25);
        assert_eq!(of(&objects, &inline, &longer), [0..45]);
        let hole = (build(&mut objects, &[0; 45], &[45]), build(&mut objects, &[0; 45], &[10]));
        assert_eq!(of(&objects, &hole.0, &hole.1), []);
    }

    #[test]
    fn lists_that_are_lost_are_an_error() {
        let mut objects = MemoryObjects::new();
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let old = build(&mut objects, &bytes, &[10]);
        let new = build(&mut objects, &bytes[..19_000], &[10]);
        assert!(matches!(old.0, Content::Long { .. }));
        let lost = MemoryObjects::new();
        let before = FileSide { content: &old.0, size: old.1 };
        ranges(before, FileSide { content: &new.0, size: new.1 }, &lost).unwrap_err();
    }

    proptest! {
        #[test]
        fn what_is_outside_of_the_ranges_is_equal_and_ranges_are_close(
            old in prop::collection::vec(0_u8..3, 0..300),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in 0_usize..300,
            old_lens in prop::collection::vec(1_usize..40, 1..6),
            new_lens in prop::option::of(prop::collection::vec(1_usize..40, 1..6)),
        ) {
            let mut new = old.clone();
            new.truncate(old.len().max(1).min(cut + 200));
            for (at, byte) in &edits {
                if !new.is_empty() {
                    let at = at.index(new.len());
                    new[at] = *byte;
                }
            }
            let mut objects = MemoryObjects::new();
            let same_cuts = new_lens.is_none();
            let (before, after) = (
                build(&mut objects, &old, &old_lens),
                build(&mut objects, &new, new_lens.as_ref().unwrap_or(&old_lens)),
            );
            let found = of(&objects, &before, &after);
            let within = |at: usize| found.iter().any(|range| range.contains(&(at as u64)));
            for at in 0..old.len().max(new.len()) {
                prop_assert!(old.get(at) == new.get(at) || within(at), "{} of {:?}", at, found);
            }
            prop_assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
            if same_cuts {
                // Each range has a difference within a chunk of its ends.
                for range in &found {
                    let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
                    prop_assert!((start..end.min(start + 40)).any(|at| old.get(at) != new.get(at)), "{:?}", range);
                }
            }
        }
    }
}
