//! A summary of many modules, whose values are in the order of a hash that covers the path that a module was built at: for
//! all that is not seen outside of its module it is another one at each release, and so is the order. So hashes come
//! first, in the order of modules and of names in them, and what is told of values follows in that order.

use super::forms;
use super::names::{Names, mix};
use crate::DeltaError;

/// Values of a summary that is worth it.
const VALUES_MIN: usize = 16;
/// Bytes of a hash.
const HASH_LEN: usize = 8;

/// What a first walk finds.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Numbers and hashes, as they come.
    hashes: Vec<(u64, u64)>,
    /// Numbers, modules and hashes of names, as they come.
    entries: Vec<(u64, u64, u64)>,
}

impl Survey {
    pub(super) fn record(&mut self, code: u64, values: &[u64], module: impl Fn(u64) -> u64) {
        match (code, values) {
            (16, &[number, hash]) => self.hashes.push((number, hash)),
            (4..=6, &[number, of, ..]) => self.entries.push((number, module(of), 0)),
            (9, &[name]) => {
                if let Some(entry) = self.entries.last_mut() {
                    entry.2 = name;
                }
            }
            _ => {}
        }
    }

    /// What is told ahead, if the summary is one of those.
    pub(super) fn index(&self) -> Option<Index> {
        let are_numbered = (1..).zip(&self.hashes).all(|(number, hash)| hash.0 == number)
            && (1..).zip(&self.entries).all(|(number, entry)| entry.0 == number);
        let are_sorted = self.hashes.is_sorted_by(|a, b| a.1 < b.1);
        if self.hashes.len() < VALUES_MIN
            || self.hashes.len() != self.entries.len()
            || !are_numbered
            || !are_sorted
        {
            return None;
        }
        let values = self.hashes.iter().zip(&self.entries);
        let mut order: Vec<(u64, u64, u64, u64)> = values
            .map(|((_, hash), (_, module, name))| {
                (*module, if *name == 0 { *hash } else { *name }, *hash, *name)
            })
            .collect();
        order.sort_unstable();
        Some(Index::new(order.into_iter().map(|(_, _, hash, name)| (hash, name)).collect()))
    }
}

/// Hashes of values.
#[derive(Debug)]
pub(super) struct Index {
    /// Of each value its hash and that of its name, or 0, in the order in which they are told.
    told: Vec<(u64, u64)>,
    /// Where the values are there, by number less 1.
    ranks: Vec<u32>,
    /// The other way round.
    places: Vec<u32>,
    /// Those of which the hash was seen, and those of which more was.
    hashes: usize,
    entries: usize,
}

impl Index {
    fn new(told: Vec<(u64, u64)>) -> Self {
        let mut ranks: Vec<u32> = (0..).take(told.len()).collect();
        ranks.sort_by_key(|rank| told[*rank as usize].0);
        let mut places = vec![0; ranks.len()];
        for (place, rank) in (0..).zip(&ranks) {
            places[*rank as usize] = place;
        }
        Self { told, ranks, places, hashes: 0, entries: 0 }
    }

    /// The lists of names, of hashes without a name, and of those with one.
    pub(super) fn to_bytes(&self, out: &mut Vec<u8>) {
        forms::number(out, self.told.len() as u64);
        self.told.iter().for_each(|(_, name)| out.extend_from_slice(&name.to_le_bytes()));
        for is_named in [false, true] {
            let told = self.told.iter().filter(|(_, name)| (*name != 0) == is_named);
            told.for_each(|(hash, _)| out.extend_from_slice(&hash.to_le_bytes()));
        }
    }

    pub(super) fn from_bytes(bytes: &mut &[u8]) -> Result<Option<Self>, DeltaError> {
        let count = usize::try_from(forms::take_number(bytes)?).map_err(|_| DeltaError::Truncated)?;
        if count == 0 {
            return Ok(None);
        }
        let len = count.checked_mul(2 * HASH_LEN).ok_or(DeltaError::Truncated)?;
        let (lists, rest) = bytes.split_at_checked(len).ok_or(DeltaError::Truncated)?;
        *bytes = rest;
        let (words, _) = lists.as_chunks::<HASH_LEN>();
        let (names, hashes) = words.split_at(count);
        let mut told: Vec<(u64, u64)> = names.iter().map(|name| (0, u64::from_le_bytes(*name))).collect();
        let mut hashes = hashes.iter().map(|hash| u64::from_le_bytes(*hash));
        for is_named in [false, true] {
            for value in told.iter_mut().filter(|(_, name)| (*name != 0) == is_named) {
                value.0 = hashes.next().unwrap_or(0);
            }
        }
        Ok(Some(Self::new(told)))
    }

    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    fn of(&self, place: usize) -> (u64, u64) {
        self.ranks.get(place).map_or((0, 0), |rank| self.told[*rank as usize])
    }

    /// Names values that are known outside of their modules, which have numbers from 1 on.
    pub(super) fn name(&self, values: &mut Names) {
        values.push_nameless();
        for place in 0..self.ranks.len() {
            match self.of(place) {
                (hash, 0) => values.push(mix(hash, 5)),
                _ => values.push_nameless(),
            }
        }
    }

    /// Where what is told of the next value goes.
    pub(super) fn rank(&self) -> Option<usize> {
        self.ranks.get(self.entries).map(|rank| *rank as usize)
    }

    /// Where a value of this number is from the one that is told of.
    pub(super) fn distance(&self, number: u64) -> Option<i64> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        Some(i64::from(*self.ranks.get(place)?) - self.rank()? as i64)
    }

    /// The number of what is so far from it.
    pub(super) fn at_distance(&self, distance: i64) -> Option<u64> {
        let rank = usize::try_from((self.rank()? as i64).checked_add(distance)?).ok()?;
        self.places.get(rank).map(|place| u64::from(*place) + 1)
    }

    pub(super) fn next_number(&self, code: u64) -> u64 {
        let seen = if code == 16 { self.hashes } else { self.entries };
        seen as u64 + 1
    }

    pub(super) fn next_hash(&self) -> u64 {
        self.of(self.hashes).0
    }

    /// The hash of the name of the last value.
    pub(super) fn last_name(&self) -> u64 {
        self.entries.checked_sub(1).map_or(0, |last| self.of(last).1)
    }

    pub(super) fn record(&mut self, code: u64) {
        match code {
            16 => self.hashes += 1,
            4..=6 => self.entries += 1,
            _ => {}
        }
    }
}
