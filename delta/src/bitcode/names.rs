//! Names for numbers: what stands for a type, a global or a constant is taken from what it is, not from how many came before
//! it, so that it stays the same when something is put in between.
//!
//! A name is a place in a table, found by hash; where others have it, the next ones are tried.

/// Places of a table: 60 first bytes, 256 second ones.
const PLACES: usize = 60 << 8;
/// Places that are tried.
const TRIED: usize = 16;
const NONE: u16 = u16::MAX;
const FREE: u32 = u32::MAX;

/// Mixes a value into a hash. Part of the form.
pub(super) fn mix(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash of bytes. Part of the form.
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |hash, byte| mix(hash, u64::from(*byte)))
}

/// Names for the numbers from 0 on.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// By number.
    hashes: Vec<u64>,
    places: Vec<u16>,
    /// By place; none before there is a name.
    numbers: Vec<u32>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { hashes: Vec::new(), places: Vec::new(), numbers: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Names the next number.
    pub(super) fn push(&mut self, hash: u64) {
        let number = u32::try_from(self.hashes.len()).unwrap_or(FREE);
        self.hashes.push(hash);
        if self.numbers.is_empty() {
            self.numbers.resize(PLACES, FREE);
        }
        let first = ((hash >> 32) as usize * PLACES) >> 32;
        let mut tried = (first..PLACES).chain(0..first).take(TRIED);
        let place = tried.find(|place| self.numbers[*place] == FREE).filter(|_| number != FREE);
        if let Some(place) = place {
            self.numbers[place] = number;
        }
        self.places.push(place.and_then(|place| u16::try_from(place).ok()).unwrap_or(NONE));
    }

    /// Leaves the next number without a name.
    pub(super) fn push_nameless(&mut self) {
        self.hashes.push(0);
        self.places.push(NONE);
    }

    /// Forgets the last numbers.
    pub(super) fn truncate(&mut self, len: usize) {
        for place in self.places.drain(len.min(self.places.len())..) {
            if place != NONE {
                self.numbers[usize::from(place)] = FREE;
            }
        }
        self.hashes.truncate(len);
    }

    /// Its hash, or 0 where it has none yet.
    pub(super) fn hash(&self, number: u64) -> u64 {
        usize::try_from(number).ok().and_then(|number| self.hashes.get(number)).copied().unwrap_or(0)
    }

    pub(super) fn place(&self, number: u64) -> Option<u16> {
        let place = self.places.get(usize::try_from(number).ok()?).copied();
        place.filter(|place| *place != NONE)
    }

    pub(super) fn number(&self, place: u16) -> Option<u64> {
        let number = self.numbers.get(usize::from(place)).copied();
        number.filter(|number| *number != FREE).map(u64::from)
    }
}
