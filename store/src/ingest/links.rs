//! Hard links: which files of a tree are the same file, under the `full` metadata policy.

use std::collections::HashMap;

use rustix::fs::FileType;

use super::source::Item;
use super::walk::Event;
use crate::content::Content;
use crate::error::Result;

/// How a file was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// For the first time, or it has no other name in the tree.
    First,
    /// Under another name before.
    Again,
}

/// Files with several names in the tree. Groups are numbered from 1, in the order in which they are met.
#[derive(Debug, Default)]
pub(super) struct Links {
    groups: HashMap<(u64, u64), Group>,
    met: u32,
}

#[derive(Debug, Default)]
struct Group {
    names: u32,
    /// 0 until it is met.
    number: u32,
    content: Option<(Content, u16)>,
}

impl Links {
    /// Walks a tree once, ahead of the ingest: a file's other links may lie outside, and then it is no group.
    pub(super) fn count(events: impl IntoIterator<Item = Result<Event>>) -> Result<Self> {
        let mut groups: HashMap<_, Group> = HashMap::new();
        for event in events {
            if let Event::Leaf { item, .. } = event?
                && item.kind == FileType::RegularFile
                && item.links > 1
            {
                groups.entry((item.stamp.dev, item.stamp.ino)).or_default().names += 1;
            }
        }
        groups.retain(|_, group| group.names > 1);
        Ok(Self { groups, met: 0 })
    }

    pub(super) fn meet(&mut self, item: &Item) -> Link {
        match self.groups.get_mut(&(item.stamp.dev, item.stamp.ino)) {
            Some(group) if group.number == 0 => {
                self.met += 1;
                group.number = self.met;
                Link::First
            }
            Some(_) => Link::Again,
            None => Link::First,
        }
    }

    /// The number of the file's group, 0 if it has none.
    pub(super) fn group(&self, item: &Item) -> u32 {
        self.groups.get(&(item.stamp.dev, item.stamp.ino)).map_or(0, |group| group.number)
    }

    pub(super) fn keep(&mut self, item: &Item, content: &Content, machine: u16) {
        if let Some(group) = self.groups.get_mut(&(item.stamp.dev, item.stamp.ino)) {
            group.content.get_or_insert_with(|| (content.clone(), machine));
        }
    }

    pub(super) fn content(&self, item: &Item) -> Option<(Content, u16)> {
        self.groups.get(&(item.stamp.dev, item.stamp.ino))?.content.clone()
    }
}
