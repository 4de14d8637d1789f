//! The hash of a state, kept up to date with each write instead of read from all contents after each round.
//!
//! Every entry is stretched by BLAKE3 to 1,024 numbers of 16 bits, and a state's sum is the sum of those of all its entries, number
//! by number. So an entry is added and taken away without a look at the others, in any order, and the same contents have the same sum however
//! they came to be. The state's hash is the BLAKE3 of the sum. That nobody can find other contents with the same sum rests on a problem of
//! lattices: this is LtHash16 of Bellare and Micciancio, 1997, with the parameters of Lewi, Kim, Maykov and Weis, "Securing
//! Update Propagation with Homomorphic Hashing", 2019.

use cairn_store::event::StateHash;

const NUMBERS: usize = 1024;
/// Bytes of a sum.
pub(crate) const SUM_LEN: usize = 2 * NUMBERS;
/// What sets these hashes apart from all others that somebody makes of the same bytes.
const CONTEXT: &str = "cairn kv-node 1 entry of a state";

/// What all entries of a state sum up to; zeros for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateSum(Box<[u16; NUMBERS]>);

impl StateSum {
    pub(crate) fn empty() -> Self {
        Self(Box::new([0; NUMBERS]))
    }

    /// An entry that was not there is there from now on.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        for (number, other) in self.0.iter_mut().zip(stretched(key, value)) {
            *number = number.wrapping_add(other);
        }
    }

    /// An entry that was there is gone.
    pub(crate) fn take_away(&mut self, key: &[u8], value: &[u8]) {
        for (number, other) in self.0.iter_mut().zip(stretched(key, value)) {
            *number = number.wrapping_sub(other);
        }
    }

    /// The state's hash.
    pub(crate) fn hash(&self) -> StateHash {
        let hash = blake3::hash(&self.to_bytes());
        StateHash::new(hash.as_bytes()).expect("32 bytes are a state hash")
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// None for anything but [`SUM_LEN`] bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let numbers: Vec<_> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
        if rest.is_empty() { Some(Self(numbers.try_into().ok()?)) } else { None }
    }
}

fn stretched(key: &[u8], value: &[u8]) -> impl Iterator<Item = u16> {
    let mut bytes = [0; SUM_LEN];
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    // With its length ahead of the key no two entries are the same bytes.
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
    hasher.finalize_xof().fill(&mut bytes);
    (0..NUMBERS).map(move |at| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_counts() {
        let (mut one, mut two) = (StateSum::empty(), StateSum::empty());
        one.add(b"a", b"1");
        one.add(b"b", b"2");
        two.add(b"b", b"3");
        two.add(b"c", b"4");
        two.add(b"a", b"1");
        assert_ne!(one.hash(), two.hash());
        two.take_away(b"c", b"4");
        two.take_away(b"b", b"3");
        two.add(b"b", b"2");
        assert_eq!(one, two);
        assert_eq!(StateSum::from_bytes(&one.to_bytes()).unwrap(), two);
        assert_eq!(StateSum::from_bytes(&[0; SUM_LEN - 1]), None);
        assert_eq!(StateSum::from_bytes(&[0; SUM_LEN]), Some(StateSum::empty()));
    }

    #[test]
    fn keys_and_values_are_told_apart() {
        let (mut one, mut two) = (StateSum::empty(), StateSum::empty());
        one.add(b"ab", b"c");
        two.add(b"a", b"bc");
        assert_ne!(one, two);
    }
}
