//! Nodes by their numbers, in little more memory than they take themselves.
//!
//! A hash table of whole nodes is up to half empty. Here nodes lie one behind the other, in a vector that grows by an
//! eighth, and only their places are in a hash table: 49 to 66 bytes for each, not 57 to 112.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Node;

/// A vector grows by so many nodes at least.
const GROWTH_MIN: usize = 16;

/// What a [`HashMap`](std::collections::HashMap) of numbers to nodes does.
#[derive(Default)]
pub(super) struct NodeMap {
    nodes: Vec<(u64, Node)>,
    /// Places in `nodes`.
    places: HashTable<u32>,
}

/// Numbers are hashes; their high bits chose the shard, and a table wants to see its own in them.
fn hash(ino: u64) -> u64 {
    ino.rotate_left(32)
}

impl NodeMap {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn place(&self, ino: u64) -> Option<usize> {
        self.places.find(hash(ino), |place| self.nodes[*place as usize].0 == ino).map(|place| *place as usize)
    }

    pub(super) fn get(&self, ino: u64) -> Option<&Node> {
        self.place(ino).map(|place| &self.nodes[place].1)
    }

    pub(super) fn get_mut(&mut self, ino: u64) -> Option<&mut Node> {
        self.place(ino).map(|place| &mut self.nodes[place].1)
    }

    /// Puts a node in, and gives out the one that was there under its number.
    pub(super) fn insert(&mut self, ino: u64, node: Node) -> Option<Node> {
        let Self { nodes, places } = self;
        let is_it = |place: &u32| nodes[*place as usize].0 == ino;
        match places.entry(hash(ino), is_it, |place| hash(nodes[*place as usize].0)) {
            Entry::Occupied(there) => {
                let place = *there.get() as usize;
                Some(std::mem::replace(&mut nodes[place].1, node))
            }
            Entry::Vacant(free) => {
                free.insert(u32::try_from(nodes.len()).expect("4 billion inodes do not fit into memory"));
                if nodes.len() == nodes.capacity() {
                    nodes.reserve_exact((nodes.len() / 8).max(GROWTH_MIN));
                }
                nodes.push((ino, node));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, ino: u64) -> Option<Node> {
        let is_it = |place: &u32| self.nodes[*place as usize].0 == ino;
        let (place, _) = self.places.find_entry(hash(ino), is_it).ok()?.remove();
        let (_, node) = self.nodes.swap_remove(place as usize);
        // The last one took the place that became free.
        if let Some((moved, _)) = self.nodes.get(place as usize) {
            let last = self.nodes.len();
            let it = self.places.find_mut(hash(*moved), |place| *place as usize == last);
            *it.expect("each node has its place in the table") = place;
        }
        Some(node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.nodes.iter().map(|(ino, node)| (*ino, node))
    }

    pub(super) fn into_nodes(self) -> impl Iterator<Item = Node> {
        self.nodes.into_iter().map(|(_, node)| node)
    }

    /// Nodes that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    /// Gives room back, down to that for so many nodes.
    pub(super) fn shrink_to(&mut self, len: usize) {
        self.nodes.shrink_to(len);
        let Self { nodes, places } = self;
        places.shrink_to(len, |place| hash(nodes[*place as usize].0));
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<(u64, Node)>() + self.places.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::Body;
    use super::*;

    fn node(lookups: u32) -> Node {
        Node { check: 0, parent: 1, lookups, body: Body::Generations }
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..40u64, 0..4u32), 0..400)) {
            let (mut map, mut model) = (NodeMap::default(), HashMap::new());
            for (ino, step) in steps {
                match step {
                    0 => {
                        let removed = map.remove(ino).map(|node| node.lookups);
                        prop_assert_eq!(removed, model.remove(&ino));
                    }
                    1 => map.shrink_to(model.len()),
                    lookups => {
                        let before = map.insert(ino, node(lookups)).map(|node| node.lookups);
                        prop_assert_eq!(before, model.insert(ino, lookups));
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                for ino in 0..40 {
                    prop_assert_eq!(map.get(ino).map(|node| node.lookups), model.get(&ino).copied());
                }
            }
            let all: HashMap<_, _> = map.iter().map(|(ino, node)| (ino, node.lookups)).collect();
            prop_assert_eq!(all, model);
        }
    }

    #[test]
    fn a_node_takes_little_more_than_itself() {
        let mut map = NodeMap::default();
        for ino in 0..20_000u64 {
            map.insert(ino.wrapping_mul(0x9e37_79b9_7f4a_7c15), node(1));
            let each = map.bytes() / map.len();
            assert!(ino < 1000 || each <= 70, "{each} bytes each of {ino}");
        }
        map.shrink_to(0);
        assert!(map.bytes() / map.len() <= 66);
    }
}
