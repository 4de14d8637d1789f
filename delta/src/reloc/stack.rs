//! Where the variables of a function went on its stack. Another compilation often gives them other places, and each of
//! them the same one wherever it is used, so what one instruction shows foretells the others.

use super::operand::Kind;

/// Places that are remembered.
const PLACES: usize = 1024;

/// What is known of the function at hand.
#[derive(Debug)]
pub(super) struct Stack {
    /// The number of the function that it holds of, the old place, the new one.
    places: Box<[(u64, u64, u64)]>,
    function: u64,
}

impl Default for Stack {
    fn default() -> Self {
        Self { places: vec![(0, 0, 0); PLACES].into_boxed_slice(), function: 1 }
    }
}

/// A place as 64 bits, if it is one.
fn place(kind: Kind, value: u64) -> Option<u64> {
    matches!(kind, Kind::Stack8 | Kind::Stack32).then(|| kind.difference(0, value).cast_unsigned())
}

fn index(old: u64) -> usize {
    usize::try_from((old >> 3 ^ old << 5) % PLACES as u64).unwrap_or(0)
}

impl Stack {
    /// What an operand should be, of what it was or has been predicted to be.
    pub(super) fn guess(&self, kind: Kind, value: u64) -> u64 {
        let Some(old) = place(kind, value) else { return value };
        let (function, known, new) = self.places[index(old)];
        let fits = place(kind, new) == Some(new);
        if function == self.function && known == old && fits { new } else { value }
    }

    /// Learns what it was.
    pub(super) fn learn(&mut self, kind: Kind, old: u64, new: u64) {
        if matches!(kind, Kind::Frame8 | Kind::Frame32) {
            self.function += 1;
        }
        if let (Some(old), Some(new)) = (place(kind, old), place(kind, new)) {
            self.places[index(old)] = (self.function, old, new);
        }
    }
}
