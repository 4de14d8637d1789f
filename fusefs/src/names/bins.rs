//! The commands of generations, packed and kept up to a number of bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_store::Generation;

/// Bytes of commands that are kept.
const BYTES_MAX: usize = 8 << 20;

/// Links of one directory, ascending by name.
pub(crate) struct Links {
    /// Names and targets, one after the other.
    texts: Box<[u8]>,
    /// Where each name and each target ends.
    ends: Box<[(u32, u32)]>,
}

impl Links {
    /// What `bin` of a generation shows.
    fn of(generation: &Generation) -> Self {
        let (mut texts, mut ends) = (Vec::new(), Vec::new());
        let end = |texts: &Vec<u8>| u32::try_from(texts.len()).ok();
        for (command, (package, path)) in generation.commands() {
            texts.extend_from_slice(command);
            let name_end = end(&texts);
            texts.extend_from_slice(b"../");
            texts.extend_from_slice(package.as_str().as_bytes());
            texts.push(b'/');
            texts.extend_from_slice(path);
            // A generation is one journal record, far below 4 GiB.
            let (Some(name_end), Some(target_end)) = (name_end, end(&texts)) else { break };
            ends.push((name_end, target_end));
        }
        Self { texts: texts.into_boxed_slice(), ends: ends.into_boxed_slice() }
    }

    /// A name and its target, by its place.
    pub(crate) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let (name_end, target_end) = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (name_end, target_end) = (name_end as usize, target_end as usize);
        Some((&self.texts[start as usize..name_end], &self.texts[name_end..target_end]))
    }

    /// The target of a name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&[u8]> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            let (there, target) = self.get(middle)?;
            match there.cmp(name) {
                std::cmp::Ordering::Equal => return Some(target),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn bytes(&self) -> usize {
        self.texts.len() + self.ends.len() * size_of::<(u32, u32)>() + size_of::<Self>()
    }
}

#[derive(Default)]
struct Kept {
    /// By number, with when it was last asked for.
    links: HashMap<u64, (Arc<Links>, u64)>,
    bytes: usize,
    clock: u64,
}

/// The commands of a profile's generations. Numbers are never given twice, so a number stands for its generation.
#[derive(Default)]
pub(crate) struct Bins {
    /// Guards what is kept. A leaf lock: nothing is made under it.
    kept: Mutex<Kept>,
}

impl Bins {
    pub(super) fn get(&self, number: u64, generation: &Generation) -> Arc<Links> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.clock += 1;
            let now = kept.clock;
            if let Some((links, used)) = kept.links.get_mut(&number) {
                *used = now;
                return Arc::clone(links);
            }
        }
        let links = Arc::new(Links::of(generation));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = kept.clock;
        kept.bytes += links.bytes();
        if let Some((old, _)) = kept.links.insert(number, (Arc::clone(&links), now)) {
            kept.bytes -= old.bytes();
        }
        while kept.bytes > BYTES_MAX && kept.links.len() > 1 {
            let oldest = kept.links.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number);
            let Some((old, _)) = oldest.and_then(|oldest| kept.links.remove(&oldest)) else { break };
            kept.bytes -= old.bytes();
        }
        links
    }
}
