//! The order in which a directory that changes is listed.
//!
//! A name's cookie is a hash of it, and names come in the order of their cookies: what comes and goes between two reads
//! of a listing moves nothing else, and no reader needs a state of its own. Two names of one hash, which 62 bits make
//! unlikely among all names there are, stand side by side in the order of their bytes.

use super::Shows;
use crate::inode::Identities;

/// Bits of a cookie: it is a file offset to programs, and those are signed.
pub(crate) const COOKIE_BITS: u32 = 62;
/// Cookies of `.` and `..` come before those of names.
pub(crate) const FIRST_COOKIE: u64 = 3;

/// Names with their cookies, ascending by these.
pub(crate) struct Listing(Vec<(u64, Vec<u8>, Shows)>);

impl Listing {
    pub(crate) fn new(names: Vec<(Vec<u8>, Shows)>, identities: &Identities, bits: u32) -> Self {
        let cookie = |name: &[u8]| (identities.order(name) & ((1 << bits) - 1)) + FIRST_COOKIE;
        let mut listed: Vec<_> =
            names.into_iter().map(|(name, shows)| (cookie(&name), name, shows)).collect();
        listed.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for index in 1..listed.len() {
            let before = listed[index - 1].0;
            if listed[index].0 <= before {
                listed[index].0 = before + 1;
            }
        }
        Self(listed)
    }

    /// What comes after a cookie.
    pub(crate) fn after(self, cookie: u64) -> impl Iterator<Item = (u64, Vec<u8>, Shows)> {
        let first = self.0.partition_point(|(there, _, _)| *there <= cookie);
        self.0.into_iter().skip(first)
    }
}
