//! How zlib and gzip look for matches (J. Gailly and M. Adler: `deflate.c` of either): chains of the places that begin with the
//! same three bytes, from the nearest on, so many of them; and whether a match is put off for a longer one a byte later.
//!
//! It goes on from what was really taken, so that it finds its way back wherever something else was.

use crate::DeltaError;

const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
const WINDOW: usize = 1 << 15;
/// Nearer than the window by what zlib looks ahead.
const DISTANCE_MAX: usize = WINDOW - MAX_MATCH - MIN_MATCH - 1;
/// A match of three bytes that is farther away is none.
const TOO_FAR: usize = 4096;
/// Steps along chains for each byte, at most, where comparing so many bytes counts as one more.
const STEPS_PER_BYTE: u64 = 256;
const STEP_BYTES: usize = 16;
const STEPS_FREE: u64 = 1 << 20;

/// A byte as it is, or a match: `len` is 0 for a byte, else 3 to 258.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) len: u16,
    pub(super) dist: u16,
}

impl Token {
    pub(super) const LITERAL: Token = Token { len: 0, dist: 0 };

    /// Bytes that it stands for.
    pub(super) fn bytes(self) -> usize {
        usize::from(self.len.max(1))
    }
}

/// A level of zlib, and how many bits its hashes have: 15, or 16 where it was given more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level(u8);

/// A match of this length: looks less far, is not put off, ends the search; places looked at.
struct Tuning {
    good: usize,
    lazy: usize,
    nice: usize,
    chain: u32,
    is_lazy: bool,
}

const TUNINGS: [(usize, usize, usize, u32); 9] = [
    (4, 4, 8, 4),
    (4, 5, 16, 8),
    (4, 6, 32, 32),
    (4, 4, 16, 16),
    (8, 16, 32, 32),
    (8, 16, 128, 128),
    (8, 32, 128, 256),
    (32, 128, 258, 1024),
    (32, 258, 258, 4096),
];
const MORE_MEMORY: u8 = 16;

impl Level {
    pub(super) fn all() -> impl Iterator<Item = Level> {
        (1..=9).chain(MORE_MEMORY + 1..=MORE_MEMORY + 9).map(Level)
    }

    pub(super) fn from_byte(byte: u8) -> Result<Level, DeltaError> {
        Level::all().find(|level| level.0 == byte).ok_or(DeltaError::Invalid("no such level"))
    }

    pub(super) fn to_byte(self) -> u8 {
        self.0
    }

    pub(super) fn number(self) -> u8 {
        self.0 % MORE_MEMORY
    }

    fn tuning(self) -> Tuning {
        let (good, lazy, nice, chain) = TUNINGS[usize::from(self.number().clamp(1, 9)) - 1];
        Tuning { good, lazy, nice, chain, is_lazy: self.number() > 3 }
    }

    fn hash_bits(self) -> u32 {
        if self.0 > MORE_MEMORY { 16 } else { 15 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Match {
    len: usize,
    dist: usize,
}

const NO_MATCH: Match = Match { len: MIN_MATCH - 1, dist: 0 };

pub(super) struct Search<'a> {
    plain: &'a [u8],
    tuning: Tuning,
    hash_bits: u32,
    /// The last place with each hash; 0 is none, as in zlib, which so never finds the first byte.
    head: Vec<u32>,
    /// The place before with the same hash.
    prev: Vec<u32>,
    /// Places before it are in the chains, or were left out of them.
    inserted: usize,
    /// Where the next token begins.
    at: usize,
    /// The match that was found there already, as a byte was put before it.
    here: Option<Match>,
    /// What is found a byte later, once that was looked for.
    next: Option<Match>,
    expected: Token,
    steps_left: u64,
}

impl<'a> Search<'a> {
    pub(super) fn new(plain: &'a [u8], level: Level) -> Self {
        let hash_bits = level.hash_bits();
        Self {
            plain,
            tuning: level.tuning(),
            hash_bits,
            head: vec![0; 1 << hash_bits],
            prev: vec![0; WINDOW],
            inserted: 0,
            at: 0,
            here: None,
            next: None,
            expected: Token::LITERAL,
            steps_left: STEPS_FREE + STEPS_PER_BYTE * plain.len() as u64,
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The token that comes next; `None` where nothing is left, or it was looked for too long.
    pub(super) fn expected(&mut self) -> Option<Token> {
        if self.at >= self.plain.len() {
            return None;
        }
        let here = match self.here {
            Some(here) => here,
            None => self.find(self.at, NO_MATCH.len)?,
        };
        self.next = None;
        let is_put_off = if !self.tuning.is_lazy {
            false
        } else if here.len < self.tuning.lazy {
            let next = self.find(self.at + 1, here.len)?;
            self.next = Some(next);
            next.len > here.len
        } else {
            self.next = Some(NO_MATCH);
            false
        };
        self.expected = match (here.len, u16::try_from(here.dist)) {
            (MIN_MATCH..=MAX_MATCH, Ok(dist)) if !is_put_off => {
                Token { len: u16::try_from(here.len).unwrap_or(0), dist }
            }
            _ => Token::LITERAL,
        };
        Some(self.expected)
    }

    /// Goes on behind what was taken, after [`Search::expected`].
    pub(super) fn take(&mut self, token: Token) {
        let is_expected = token == self.expected;
        // zlib leaves what is in a long match out of its chains at the levels that do not put off.
        if !self.tuning.is_lazy && usize::from(token.len) > self.tuning.lazy {
            self.insert_before(self.at + 1);
            self.inserted = self.inserted.max(self.at + token.bytes());
        }
        self.at += token.bytes();
        self.here = self.next.take().filter(|_| is_expected && token == Token::LITERAL);
    }

    /// Goes on behind bytes that no token told.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
        (self.here, self.next) = (None, None);
    }

    fn hash(&self, at: usize) -> usize {
        let shift = self.hash_bits.div_ceil(3);
        let bytes = &self.plain[at..at + MIN_MATCH];
        let hash = bytes.iter().fold(0u32, |hash, byte| hash << shift ^ u32::from(*byte));
        (hash & ((1 << self.hash_bits) - 1)) as usize
    }

    fn insert_before(&mut self, end: usize) {
        let last = self.plain.len().saturating_sub(MIN_MATCH - 1);
        while self.inserted < end.min(last) {
            let (at, hash) = (self.inserted, self.hash(self.inserted));
            self.prev[at % WINDOW] = self.head[hash];
            // Content is far shorter than 4 GiB.
            self.head[hash] = u32::try_from(at).unwrap_or(0);
            self.inserted += 1;
        }
    }

    /// The first longest match at a place that is longer than `before`; `None` if that takes too long.
    fn find(&mut self, at: usize, before: usize) -> Option<Match> {
        let none = Match { len: before, dist: 0 };
        if at + MIN_MATCH > self.plain.len() {
            return Some(NO_MATCH);
        }
        self.insert_before(at + 1);
        let ahead = self.plain.len() - at;
        let (mut chain, mut best) = (self.tuning.chain, none);
        if before >= self.tuning.good {
            chain >>= 2;
        }
        let nice = self.tuning.nice.min(ahead);
        let farthest = at.saturating_sub(DISTANCE_MAX);
        let mut place = self.prev[at % WINDOW] as usize;
        // The nearest place may be a byte farther away than the others, as zlib has it.
        if place == 0 || place >= at || at - place > DISTANCE_MAX {
            return Some(NO_MATCH);
        }
        let here = &self.plain[at..];
        loop {
            self.steps_left = self.steps_left.checked_sub(1)?;
            let there = &self.plain[place..];
            if best.len >= ahead {
                break;
            }
            if there[best.len] == here[best.len] && there[best.len - 1] == here[best.len - 1] {
                let len =
                    here.iter().zip(there).take(MAX_MATCH).take_while(|(one, other)| one == other).count();
                self.steps_left = self.steps_left.checked_sub((len / STEP_BYTES) as u64)?;
                if len > best.len {
                    best = Match { len, dist: at - place };
                    if len >= nice || len >= MAX_MATCH {
                        break;
                    }
                }
            }
            let farther = self.prev[place % WINDOW] as usize;
            chain -= 1;
            if farther <= farthest || farther >= place || chain == 0 {
                break;
            }
            place = farther;
        }
        if self.tuning.is_lazy && best.len == MIN_MATCH && best.dist > TOO_FAR {
            return Some(NO_MATCH);
        }
        Some(best)
    }
}
