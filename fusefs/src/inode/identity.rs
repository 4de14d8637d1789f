//! What an inode is, as 128 bits: inode numbers are one half of a keyed hash, and the other half tells two of the same
//! number apart.
//!
//! The key is the mount's own and random, so that nobody can make trees whose inodes collide. Two processes that serve
//! one mount after another share it.

use cairn_store::tree::FullMeta;

/// An identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// Where its number is looked for first.
    pub(crate) home: u64,
    /// Tells it from others of the same number.
    pub(crate) check: u64,
}

/// What identities are made of. Regular files and links are what they hold, so that what does not change from one
/// version to the next keeps its place in the page cache; directories are places, since the kernel knows one path to
/// each; so are pipes and devices.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Being<'a> {
    Generations,
    Generation(u64),
    Bin(u64),
    Package(&'a [u8]),
    /// A version's root, in its package's directory.
    Version {
        package: &'a [u8],
        shown: &'a [u8],
        artifact: &'a [u8; 32],
    },
    /// What has its identity from where it is: the parent's number, and its name.
    Place {
        parent: u64,
        name: &'a [u8],
    },
    /// What has it from what it holds: encoded kind, size and content, and the metadata.
    Holding {
        body: &'a [u8],
        mode: u16,
        full: Option<&'a FullMeta>,
    },
    /// A link of the mount's own.
    Link(&'a [u8]),
}

/// Makes identities.
#[derive(Debug, Clone)]
pub(crate) struct Identities {
    key: [u8; 32],
}

impl Identities {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    pub(crate) fn of(&self, being: &Being<'_>) -> Identity {
        let mut bytes = Vec::with_capacity(128);
        put(being, &mut bytes);
        let [home, check, ..] = self.hash(&bytes);
        Identity { home, check }
    }

    /// Where a name stands in listings that change: any 64 bits that only the name decides.
    pub(crate) fn order(&self, name: &[u8]) -> u64 {
        let [_, _, order, _] = self.hash(name);
        order
    }

    fn hash(&self, bytes: &[u8]) -> [u64; 4] {
        let hash = blake3::keyed_hash(&self.key, bytes);
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(hash.as_bytes().as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }
}

/// One encoding per being: a tag, fixed fields, and at most one field of any length, at the end.
fn put(being: &Being<'_>, out: &mut Vec<u8>) {
    match *being {
        Being::Generations => out.push(1),
        Being::Generation(number) => {
            out.push(2);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Being::Bin(number) => {
            out.push(3);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Being::Package(name) => {
            out.push(4);
            out.extend_from_slice(name);
        }
        Being::Version { package, shown, artifact } => {
            out.push(5);
            out.extend_from_slice(artifact);
            out.extend_from_slice(package);
            // No name holds a slash.
            out.push(b'/');
            out.extend_from_slice(shown);
        }
        Being::Place { parent, name } => {
            out.push(6);
            out.extend_from_slice(&parent.to_le_bytes());
            out.extend_from_slice(name);
        }
        Being::Holding { body, mode, full } => {
            out.push(7);
            out.extend_from_slice(&mode.to_le_bytes());
            out.extend_from_slice(&(body.len() as u64).to_le_bytes());
            out.extend_from_slice(body);
            if let Some(full) = full {
                put_full(full, out);
            }
        }
        Being::Link(target) => {
            out.push(8);
            out.extend_from_slice(target);
        }
    }
}

fn put_full(full: &FullMeta, out: &mut Vec<u8>) {
    for word in [full.uid, full.gid, full.mtime_ns, full.link] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&full.mtime_s.to_le_bytes());
    for (name, value) in &full.xattrs {
        for part in [name, value] {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
}
