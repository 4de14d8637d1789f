//! Huffman codes of deflate (RFC 1951), and which of them zlib and gzip make of what a block holds: among codes that are equally
//! short, the one that comes of their heap, which orders equal frequencies by the depth of their trees.

use super::bits::{BitReader, BitWriter};
use crate::DeltaError;

pub(super) const LITERALS: usize = 286;
pub(super) const DISTANCES: usize = 30;
/// The symbol that ends a block.
pub(super) const END: usize = 256;
const LENGTH_CODES: usize = 19;
pub(super) const BITS_MAX: usize = 15;
const LENGTH_BITS_MAX: usize = 7;
/// The order in which the lengths of codes for lengths are sent.
const ORDER: [usize; LENGTH_CODES] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const DISTANCE_BASE: [u16; DISTANCES] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];

/// A symbol with the bits that follow it: their base and number.
pub(super) fn length(symbol: usize) -> Option<(u16, u32)> {
    let number = symbol.checked_sub(END + 1)?;
    Some((*LENGTH_BASE.get(number)?, u32::from(LENGTH_EXTRA[number])))
}

pub(super) fn distance(symbol: usize) -> Option<(u16, u32)> {
    Some((*DISTANCE_BASE.get(symbol)?, distance_extra(symbol)))
}

fn distance_extra(symbol: usize) -> u32 {
    u32::try_from(symbol / 2).map_or(0, |half| half.saturating_sub(1))
}

/// The symbol for a length of 3 to 258, and the bits behind it with their number.
pub(super) fn length_symbol(len: u16) -> (usize, u32, u32) {
    let number = LENGTH_BASE.partition_point(|base| *base <= len).saturating_sub(1);
    (END + 1 + number, u32::from(len - LENGTH_BASE[number]), u32::from(LENGTH_EXTRA[number]))
}

pub(super) fn distance_symbol(dist: u16) -> (usize, u32, u32) {
    let symbol = DISTANCE_BASE.partition_point(|base| *base <= dist).saturating_sub(1);
    (symbol, u32::from(dist - DISTANCE_BASE[symbol]), distance_extra(symbol))
}

/// How long the codes of a block's symbols are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) literals: Vec<u8>,
    pub(super) distances: Vec<u8>,
}

impl Lengths {
    pub(super) fn fixed() -> Self {
        let literals = (0..288).map(|symbol| match symbol {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        });
        Self { literals: literals.collect(), distances: vec![5; DISTANCES] }
    }

    /// What a header says.
    pub(super) fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let literals = bits.take(5)? as usize + 257;
        let distances = bits.take(5)? as usize + 1;
        let sent = bits.take(4)? as usize + 4;
        let mut lengths = [0; LENGTH_CODES];
        for place in &ORDER[..sent] {
            lengths[*place] = u8::try_from(bits.take(3)?).ok()?;
        }
        let decoder = Decoder::new(&lengths)?;
        let mut all: Vec<u8> = Vec::with_capacity(literals + distances);
        while all.len() < literals + distances {
            let (length, times) = match decoder.symbol(bits)? {
                16 => (*all.last()?, bits.take(2)? + 3),
                17 => (0, bits.take(3)? + 3),
                18 => (0, bits.take(7)? + 11),
                length => (u8::try_from(length).ok()?, 1),
            };
            all.extend((0..times).map(|_| length));
        }
        let in_range = literals <= LITERALS && distances <= DISTANCES && all.len() == literals + distances;
        in_range.then(|| Self { distances: all.split_off(literals), literals: all })
    }

    /// As zlib makes them for these frequencies.
    pub(super) fn of(literals: &[u32; LITERALS], distances: &[u32; DISTANCES]) -> Self {
        Self { literals: huffman(literals, BITS_MAX), distances: huffman(distances, BITS_MAX) }
    }

    /// The header as zlib writes it.
    pub(super) fn write(&self, bits: &mut BitWriter) -> Result<(), DeltaError> {
        let runs: Vec<Run> = runs(&self.literals).chain(runs(&self.distances)).collect();
        let mut frequencies = [0; LENGTH_CODES];
        runs.iter().for_each(|run| frequencies[run.symbol] += 1);
        let mut lengths = huffman(&frequencies, LENGTH_BITS_MAX);
        lengths.resize(LENGTH_CODES, 0);
        let sent = ORDER.iter().rposition(|place| lengths[*place] != 0).map_or(4, |last| (last + 1).max(4));
        let number = |count: usize, least: usize| u32::try_from(count - least).unwrap_or(0);
        bits.put(number(self.literals.len(), 257), 5)?;
        bits.put(number(self.distances.len(), 1), 5)?;
        bits.put(number(sent, 4), 4)?;
        for place in &ORDER[..sent] {
            bits.put(u32::from(lengths[*place]), 3)?;
        }
        let codes = codes(&lengths);
        for run in runs {
            let (code, len) = codes[run.symbol];
            bits.put(code, len)?;
            bits.put(run.extra, run.extra_bits)?;
        }
        Ok(())
    }
}

/// A code for lengths, and what follows it.
struct Run {
    symbol: usize,
    extra: u32,
    extra_bits: u32,
}

/// Lengths as zlib tells them: equal ones in runs, of which the first of each length is told by itself.
fn runs(lengths: &[u8]) -> impl Iterator<Item = Run> {
    let mut all = Vec::new();
    let (mut at, mut before) = (0, None);
    while let Some(length) = lengths.get(at).copied() {
        let same = lengths[at..].iter().take_while(|other| **other == length).count();
        // How long a run may be depends on what came before it.
        let most = match length {
            0 => 138,
            _ if before == Some(length) => 6,
            _ => 7,
        };
        let least = if length == 0 || before == Some(length) { 3 } else { 4 };
        let count = same.min(most);
        let told = |count: usize| u32::try_from(count).unwrap_or(0);
        if count < least {
            all.extend((0..count).map(|_| Run { symbol: usize::from(length), extra: 0, extra_bits: 0 }));
        } else if length != 0 {
            let is_new = before != Some(length);
            if is_new {
                all.push(Run { symbol: usize::from(length), extra: 0, extra_bits: 0 });
            }
            all.push(Run { symbol: 16, extra: told(count - usize::from(is_new) - 3), extra_bits: 2 });
        } else if count <= 10 {
            all.push(Run { symbol: 17, extra: told(count - 3), extra_bits: 3 });
        } else {
            all.push(Run { symbol: 18, extra: told(count - 11), extra_bits: 7 });
        }
        (at, before) = (at + count, Some(length));
    }
    all.into_iter()
}

/// Lengths of codes, up to the last symbol that has one.
fn huffman(frequencies: &[u32], bits_max: usize) -> Vec<u8> {
    let symbols = frequencies.len();
    let mut tree = Tree {
        frequency: frequencies.to_vec(),
        depth: vec![0; symbols],
        heap: (0..symbols).filter(|symbol| frequencies[*symbol] != 0).collect(),
    };
    let mut last = tree.heap.last().copied();
    // Two codes at least, or a decoder of old could not read them.
    while tree.heap.len() < 2 {
        let symbol = match last {
            None => 0,
            Some(symbol @ 0..2) => symbol + 1,
            Some(_) => 0,
        };
        last = last.max(Some(symbol));
        tree.frequency[symbol] = 1;
        tree.heap.push(symbol);
    }
    let last = last.unwrap_or(0);
    (0..tree.heap.len() / 2).rev().for_each(|place| tree.sift(place));
    // As they leave the heap, the rarest first; parents come after both of theirs.
    let (mut order, mut parent) = (Vec::with_capacity(2 * symbols), vec![0; symbols]);
    while tree.heap.len() >= 2 {
        let one = tree.heap.swap_remove(0);
        tree.sift(0);
        let other = tree.heap[0];
        order.extend([one, other]);
        let node = tree.frequency.len();
        tree.frequency.push(tree.frequency[one].saturating_add(tree.frequency[other]));
        tree.depth.push(tree.depth[one].max(tree.depth[other]) + 1);
        parent.push(0);
        (parent[one], parent[other]) = (node, node);
        tree.heap[0] = node;
        tree.sift(0);
    }
    order.push(tree.heap[0]);
    limited(&order, &parent, last, symbols, bits_max)
}

struct Tree {
    frequency: Vec<u32>,
    depth: Vec<u32>,
    heap: Vec<usize>,
}

impl Tree {
    fn is_smaller(&self, one: usize, other: usize) -> bool {
        (self.frequency[one], self.depth[one]) <= (self.frequency[other], self.depth[other])
    }

    fn sift(&mut self, mut place: usize) {
        let Some(moved) = self.heap.get(place).copied() else { return };
        loop {
            let mut child = 2 * place + 1;
            let Some(left) = self.heap.get(child).copied() else { break };
            if self.heap.get(child + 1).is_some_and(|right| self.is_smaller(*right, left)) {
                child += 1;
            }
            if self.is_smaller(moved, self.heap[child]) {
                break;
            }
            self.heap[place] = self.heap[child];
            place = child;
        }
        self.heap[place] = moved;
    }
}

/// Lengths from the tree, none above `bits_max`: leaves that are too deep move up, others down for them, as zlib does it.
fn limited(order: &[usize], parent: &[usize], last: usize, symbols: usize, bits_max: usize) -> Vec<u8> {
    let mut lengths = vec![0usize; parent.len()];
    let (mut counts, mut over) = ([0usize; BITS_MAX + 1], 0usize);
    for node in order.iter().rev().skip(1) {
        let mut bits = lengths[parent[*node]] + 1;
        if bits > bits_max {
            bits = bits_max;
            over += 1;
        }
        lengths[*node] = bits;
        if *node < symbols {
            counts[bits] += 1;
        }
    }
    if over > 0 {
        while over > 0 {
            let bits = (1..bits_max).rev().find(|bits| counts[*bits] > 0).unwrap_or(1);
            counts[bits] = counts[bits].saturating_sub(1);
            counts[bits + 1] += 2;
            counts[bits_max] = counts[bits_max].saturating_sub(1);
            over = over.saturating_sub(2);
        }
        let mut leaves = order.iter().filter(|node| **node < symbols);
        for bits in (1..=bits_max).rev() {
            leaves.by_ref().take(counts[bits]).for_each(|leaf| lengths[*leaf] = bits);
        }
    }
    lengths.truncate(last + 1);
    lengths.into_iter().map(|bits| u8::try_from(bits).unwrap_or(0)).collect()
}

/// The codes of these lengths, their first bit lowest, with how many bits they have: none where a symbol has no code.
pub(super) fn codes(lengths: &[u8]) -> Vec<(u32, u32)> {
    let mut counts = [0u32; BITS_MAX + 1];
    lengths.iter().filter(|length| **length > 0).for_each(|length| counts[usize::from(*length)] += 1);
    let (mut next, mut code) = ([0u32; BITS_MAX + 1], 0u32);
    for bits in 1..=BITS_MAX {
        code = (code + counts[bits - 1]) << 1;
        next[bits] = code;
    }
    let coded = |length: &u8| {
        let bits = u32::from(*length);
        if bits == 0 {
            return (0, 0);
        }
        let code = next[usize::from(*length)];
        next[usize::from(*length)] += 1;
        // A set of lengths that is too large has codes past their bits: they are cut.
        (code.reverse_bits() >> (32 - bits), bits)
    };
    lengths.iter().map(coded).collect()
}

/// Reads symbols bit by bit, as Mark Adler's puff does: slow, short, and total.
#[derive(Debug)]
pub(super) struct Decoder {
    counts: [u16; BITS_MAX + 1],
    symbols: Vec<u16>,
}

impl Decoder {
    /// `None` for more codes than there is room for.
    pub(super) fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0u16; BITS_MAX + 1];
        for length in lengths.iter().filter(|length| **length > 0) {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        let mut left = 1i32;
        for count in &counts[1..] {
            left = (left << 1) - i32::from(*count);
            if left < 0 {
                return None;
            }
        }
        let mut symbols: Vec<u16> = (0..).take(lengths.len()).collect();
        symbols.retain(|symbol| lengths[usize::from(*symbol)] > 0);
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        Some(Self { counts, symbols })
    }

    pub(super) fn symbol(&self, bits: &mut BitReader<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for count in &self.counts[1..] {
            let count = u32::from(*count);
            code |= bits.bit()?;
            if code < first + count {
                return self.symbols.get((index + code - first) as usize).map(|symbol| usize::from(*symbol));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}
