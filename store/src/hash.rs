//! BLAKE3 of many short strings at once.
//!
//! A core hashes sixteen 1 KiB leaves at a time (AVX-512), and a pass over fewer of them takes as long. `blake3::hash`
//! makes one pass for each power of two in the number of leaves that are left: three for 7. Here a pass is made over
//! the rest as a whole, the surplus lanes hashing something twice; where many inputs have a few leaves left, as pages of
//! 4 KiB do, the nth leaf of each of them shares a pass; and the parents of a level of all trees do. The compression
//! functions are the blake3 crate's own; only the order of calls is ours.
//!
//! Source of the tree's shape: the BLAKE3 paper, section 2.1. Adjacent nodes are merged level by level and an odd one is
//! carried up, which is the same tree as "the left subtree is the largest power of two".

use blake3::IncrementCounter;
use blake3::hazmat::HasherExt;
use blake3::platform::Platform;

use crate::id::{ChunkId, ID_LEN};

const LEAF_LEN: usize = 1024;
/// Leaves that the widest vectors hash at a time.
const LANES: usize = 16;
/// Inputs that are gone through together: 32 chunks of 20 KiB stay in a core's second-level cache.
const TOGETHER: usize = 32;
/// Chaining value of an unkeyed hash: the initial values of SHA-256.
const IV: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;

type Value = [u8; ID_LEN];

/// The ids of `inputs`, in their order.
pub(crate) fn ids(inputs: &[&[u8]]) -> Vec<ChunkId> {
    let mut ids = Vec::with_capacity(inputs.len());
    let platform = Platform::detect();
    for inputs in inputs.chunks(TOGETHER) {
        ids.extend(together(platform, inputs));
    }
    ids
}

fn together(platform: Platform, inputs: &[&[u8]]) -> Vec<ChunkId> {
    let mut trees: Vec<Vec<Value>> = inputs.iter().map(|input| leaves_of(input)).collect();
    hash_leaves(platform, inputs, &mut trees);
    while trees.iter().any(|tree| tree.len() > 2) {
        merge_level(platform, &mut trees);
    }
    merge_roots(platform, &mut trees);
    let id = |(tree, input): (Vec<Value>, &&[u8])| match tree[..] {
        [root] => ChunkId(root),
        // A single leaf is its own root.
        _ => ChunkId::of(input),
    };
    trees.into_iter().zip(inputs).map(id).collect()
}

/// Room for the leaves' chaining values; none where the input is one leaf.
fn leaves_of(input: &[u8]) -> Vec<Value> {
    if input.len() <= LEAF_LEN { Vec::new() } else { vec![[0; ID_LEN]; input.len().div_ceil(LEAF_LEN)] }
}

fn hash_leaves(platform: Platform, inputs: &[&[u8]], trees: &mut [Vec<Value>]) {
    let mut rests = Vec::with_capacity(inputs.len());
    for (owner, (input, tree)) in inputs.iter().zip(trees.iter_mut()).enumerate() {
        if tree.is_empty() {
            continue;
        }
        let (leaves, end) = input.as_chunks::<LEAF_LEN>();
        if !end.is_empty() {
            let offset = (leaves.len() * LEAF_LEN) as u64;
            tree[leaves.len()] =
                blake3::Hasher::new().set_input_offset(offset).update(end).finalize_non_root();
        }
        let (passes, rest) = leaves.as_chunks::<LANES>();
        for (nth, (pass, values)) in passes.iter().zip(tree.as_chunks_mut::<LANES>().0).enumerate() {
            hash_pass(platform, &pass.each_ref(), nth * LANES, IncrementCounter::Yes, |at, value| {
                values[at] = value
            });
        }
        if !rest.is_empty() {
            rests.push((leaves.len() - rest.len(), owner, rest));
        }
    }
    rests.sort_by_key(|(first, ..)| *first);
    for group in rests.chunk_by(|a, b| a.0 == b.0) {
        hash_rests(platform, group, trees);
    }
}

/// The last leaves of inputs, fewer than a pass of each, all beginning with the same leaf's number.
fn hash_rests(platform: Platform, group: &[(usize, usize, &[[u8; LEAF_LEN]])], trees: &mut [Vec<Value>]) {
    let most = group.iter().map(|(_, _, rest)| rest.len()).max().unwrap_or(0);
    if most * group.len().div_ceil(LANES) >= group.len() {
        for (first, owner, rest) in group {
            let lanes: Vec<_> = rest.iter().collect();
            hash_pass(platform, &lanes, *first, IncrementCounter::Yes, |nth, value| {
                trees[*owner][first + nth] = value
            });
        }
        return;
    }
    for leaf in 0..most {
        let there: Vec<_> = group
            .iter()
            .filter_map(|(first, owner, rest)| Some((first + leaf, *owner, rest.get(leaf)?)))
            .collect();
        for pass in there.chunks(LANES) {
            let lanes: Vec<_> = pass.iter().map(|(_, _, leaf)| *leaf).collect();
            let number = pass[0].0;
            hash_pass(platform, &lanes, number, IncrementCounter::No, |nth, value| {
                trees[pass[nth].1][number] = value
            });
        }
    }
}

/// Hashes up to [`LANES`] leaves, numbered from `first` on, or all `first`.
fn hash_pass(
    platform: Platform,
    leaves: &[&[u8; LEAF_LEN]],
    first: usize,
    increment: IncrementCounter,
    mut give: impl FnMut(usize, Value),
) {
    let mut lanes = [leaves[0]; LANES];
    lanes[..leaves.len()].copy_from_slice(leaves);
    let width = leaves.len().next_power_of_two();
    let mut out = [0; LANES * ID_LEN];
    platform.hash_many(&lanes[..width], &IV, first as u64, increment, 0, CHUNK_START, CHUNK_END, &mut out);
    for (nth, value) in out.as_chunks().0[..leaves.len()].iter().enumerate() {
        give(nth, *value);
    }
}

/// Replaces each pair of nodes by its parent, in every tree of more than two nodes.
fn merge_level(platform: Platform, trees: &mut [Vec<Value>]) {
    let merging = |tree: &&mut Vec<Value>| tree.len() > 2;
    let pairs: Vec<[u8; 64]> =
        trees.iter_mut().filter(merging).flat_map(|tree| tree.as_chunks::<2>().0.iter().map(join)).collect();
    let parents = hash_parents(platform, &pairs, PARENT);
    let mut parents = parents.into_iter();
    for tree in trees.iter_mut().filter(merging) {
        let odd = (tree.len() % 2 == 1).then(|| tree[tree.len() - 1]);
        let pairs = tree.len() / 2;
        tree.clear();
        tree.extend(parents.by_ref().take(pairs).chain(odd));
    }
}

/// Replaces the last two nodes of each tree by its root.
fn merge_roots(platform: Platform, trees: &mut [Vec<Value>]) {
    let pairs: Vec<[u8; 64]> =
        trees.iter().filter_map(|tree| <&[Value; 2]>::try_from(&tree[..]).ok()).map(join).collect();
    let roots = hash_parents(platform, &pairs, PARENT | ROOT);
    for (tree, root) in trees.iter_mut().filter(|tree| tree.len() == 2).zip(roots) {
        *tree = vec![root];
    }
}

fn join(pair: &[Value; 2]) -> [u8; 64] {
    pair.as_flattened().try_into().expect("twice 32 bytes")
}

fn hash_parents(platform: Platform, pairs: &[[u8; 64]], flags: u8) -> Vec<Value> {
    let lanes: Vec<&[u8; 64]> = pairs.iter().collect();
    let mut out = vec![0; pairs.len() * ID_LEN];
    platform.hash_many(&lanes, &IV, 0, IncrementCounter::No, flags, 0, 0, &mut out);
    out.as_chunks().0.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_blake3_for_all_shapes_of_trees() {
        let mut bytes = vec![0; 70 << 10];
        blake3::Hasher::new().update(b"hash").finalize_xof().fill(&mut bytes);
        let lengths: Vec<usize> =
            (0..=70).flat_map(|kib| [0, 1, 63, 64, 65, 1023].map(|more| kib * 1024 + more)).collect();
        let inputs: Vec<&[u8]> = lengths.iter().map(|len| &bytes[..(*len).min(bytes.len())]).collect();
        let expected: Vec<_> = inputs.iter().map(|input| ChunkId::of(input)).collect();
        assert_eq!(ids(&inputs), expected);
        for (at, input) in inputs.iter().enumerate() {
            assert_eq!(ids(&[input]), expected[at..=at]);
        }
        let mixed: Vec<_> = (0..inputs.len()).map(|at| at * 131 % inputs.len()).collect();
        let shuffled: Vec<&[u8]> = mixed.iter().map(|at| inputs[*at]).collect();
        assert_eq!(ids(&shuffled), mixed.iter().map(|at| expected[*at]).collect::<Vec<_>>());
        assert!(ids(&[]).is_empty());
    }
}
