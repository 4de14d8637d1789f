//! What keeps something from being collected: the names, generations, processes and transfers that need it.
//!
//! An artifact is kept by what names it. A chunk, an object or a pack is kept by the artifacts that it is reached from, which
//! takes a walk over all of them; directories that do not lead there are entered once, however many artifacts share them.
//! It is also kept by what has chunks that are told in terms of it, until a collection has written these anew.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::content::{Content, chunks};
use crate::error::{Error, Result};
use crate::id::{ArtifactId, ChunkId, PackId, TreeId};
use crate::lease::{Held, Hold};
use crate::object::ObjectSource;
use crate::pack::SEALED;
use crate::progress::Progress;
use crate::refs::{ChannelKey, Name, ProfileName, RefKey, View};
use crate::store::Store;
use crate::tree::{Node, entries};

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// An artifact.
    Artifact(ArtifactId),
    /// A chunk, or a metadata object.
    Chunk(ChunkId),
    /// All that a pack holds.
    Pack(PackId),
}

/// One thing that keeps an artifact, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A version names it.
    Ref(RefKey),
    /// A channel leads to that version.
    Channel(ChannelKey),
    /// A generation has it.
    Generation {
        /// The profile.
        profile: ProfileName,
        /// The generation.
        number: u64,
        /// The package that it is there.
        package: Name,
        /// Whether the generation is shown.
        is_current: bool,
        /// Whether it is pinned.
        is_pinned: bool,
    },
    /// Somebody uses it: a process, a reader, a transfer. As whoever holds it says it.
    Use(String),
}

/// Something from which what is asked about is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    /// The artifact; none for a file or directory that is in use by itself.
    pub artifact: Option<ArtifactId>,
    /// What keeps it.
    pub reasons: Vec<Reason>,
    /// A path in it that leads to what is asked about; none where that is the artifact or one of its own objects.
    pub path: Option<Vec<u8>>,
    /// How many of the chunks and objects that are asked about it needs.
    pub chunks: u64,
    /// How many others it needs that lie in packs which stand on these.
    pub standing: u64,
}

impl Store {
    /// What keeps something, beside what `holds` say is in use. Nothing: it goes at the next collection.
    ///
    /// # Errors
    /// [`Error::Absent`] when it is not here, [`Error::Cancelled`], [`Error::Damaged`] when metadata on the way are,
    /// [`Error::Io`].
    pub fn explain(&self, asked: Asked, holds: &[Hold], progress: &dyn Progress) -> Result<Vec<Keeper>> {
        let (store, view) = (self.local(), self.view()?);
        let wanted = match asked {
            Asked::Artifact(id) => return explain_artifact(&store, &view, &id, holds),
            Asked::Chunk(id) => match store.locate(&id)? {
                Some(_) => HashSet::from([id]),
                None => return Err(Error::Absent { what: format!("chunk {id}") }),
            },
            Asked::Pack(id) => chunks_of_pack(&store, id)?,
        };
        let standing = store.standing_on(&wanted)?;
        let mut search = Search { store: &store, wanted, barren: HashSet::new(), progress };
        let mut above = (!standing.is_empty()).then(|| Search {
            store: &store,
            wanted: standing,
            barren: HashSet::new(),
            progress,
        });
        let (mut keepers, mut artifacts) = (Vec::new(), view.artifacts());
        artifacts.extend(holds.iter().filter_map(|hold| match &hold.held {
            Held::Artifact(id) => Some(*id),
            _ => None,
        }));
        for artifact in artifacts {
            let (chunks, path) = search.artifact(&artifact)?;
            let (standing, path_above) = match &mut above {
                Some(search) => search.artifact(&artifact)?,
                None => (0, None),
            };
            if chunks + standing > 0 {
                let (reasons, path) = (reasons(&view, &artifact, holds), path.or(path_above));
                keepers.push(Keeper { artifact: Some(artifact), reasons, path, chunks, standing });
            }
        }
        for hold in holds {
            let chunks = search.hold(&hold.held)?;
            let standing = match &mut above {
                Some(search) => search.hold(&hold.held)?,
                None => 0,
            };
            if chunks + standing > 0 {
                let reasons = vec![Reason::Use(hold.by.clone())];
                keepers.push(Keeper { artifact: None, reasons, path: None, chunks, standing });
            }
        }
        Ok(keepers)
    }
}

fn explain_artifact(store: &Store, view: &View, id: &ArtifactId, holds: &[Hold]) -> Result<Vec<Keeper>> {
    if store.locate(&(*id).into())?.is_none() && !view.names(id) {
        return Err(Error::Absent { what: format!("artifact {id}") });
    }
    let mut reasons = reasons(view, id, holds);
    let files: Vec<(&Content, &str)> = holds
        .iter()
        .filter_map(|hold| match &hold.held {
            Held::Content { content, .. } => Some((content, hold.by.as_str())),
            _ => None,
        })
        .collect();
    if !files.is_empty() {
        let mut by = BTreeSet::new();
        for step in store.artifact(id)?.walk(store) {
            if let Node::File { content, .. } = step?.1.node {
                by.extend(files.iter().filter(|(held, _)| **held == content).map(|(_, by)| *by));
            }
        }
        reasons.extend(by.into_iter().map(|by| Reason::Use(by.to_owned())));
    }
    if reasons.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Keeper { artifact: Some(*id), reasons, path: None, chunks: 1, standing: 0 }])
}

/// What names an artifact, or holds it as a whole.
fn reasons(view: &View, id: &ArtifactId, holds: &[Hold]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (key, _) in view.refs.iter().filter(|(_, record)| record.artifact == *id) {
        reasons.push(Reason::Ref(key.clone()));
        let of = |channel: &ChannelKey| (&channel.name, &channel.platform) == (&key.name, &key.platform);
        let channels =
            view.channels.iter().filter(|(channel, version)| of(channel) && **version == key.version);
        reasons.extend(channels.map(|(channel, _)| Reason::Channel(channel.clone())));
    }
    for (name, profile) in &view.profiles {
        for (number, generation) in &profile.generations {
            let packages = generation.packages.iter().filter(|(_, package)| package.artifact == *id);
            reasons.extend(packages.map(|(package, _)| Reason::Generation {
                profile: name.clone(),
                number: *number,
                package: package.clone(),
                is_current: *number == profile.current,
                is_pinned: profile.pins.contains(number),
            }));
        }
    }
    let holds_it = |hold: &&Hold| match &hold.held {
        Held::Artifact(held) => held == id,
        Held::Everything => true,
        _ => false,
    };
    reasons.extend(holds.iter().filter(holds_it).map(|hold| Reason::Use(hold.by.clone())));
    reasons
}

fn chunks_of_pack(store: &Store, id: PackId) -> Result<HashSet<ChunkId>> {
    let listed = crate::index::list_packs(&**store.io(), &store.packs_dir())?;
    if !listed.contains(&id) {
        return Err(Error::Absent { what: format!("pack {id}.{SEALED}") });
    }
    Ok(store.pack(id)?.footer().chunks.iter().map(|row| row.id).collect())
}

/// Looks for some chunks in one thing after another.
struct Search<'a> {
    store: &'a Store,
    wanted: HashSet<ChunkId>,
    /// Directories and chunk lists that do not lead there.
    barren: HashSet<ChunkId>,
    progress: &'a dyn Progress,
}

/// A source of objects that counts those that are looked for.
struct Counting<'a> {
    store: &'a Store,
    wanted: &'a HashSet<ChunkId>,
    found: AtomicU64,
}

impl ObjectSource for Counting<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        if self.wanted.contains(id) {
            self.found.fetch_add(1, Ordering::Relaxed);
        }
        self.store.get(id)
    }
}

impl Search<'_> {
    /// How much of what is wanted an artifact leads to, and a path to a part of it.
    fn artifact(&mut self, id: &ArtifactId) -> Result<(u64, Option<Vec<u8>>)> {
        let own = u64::from(self.wanted.contains(&(*id).into()));
        match self.store.artifact(id) {
            Ok(artifact) => self.tree(&artifact.root).map(|(count, path)| (own + count, path)),
            // A transfer holds what is not here yet.
            Err(Error::Absent { .. }) => Ok((own, None)),
            Err(error) => Err(error),
        }
    }

    fn tree(&mut self, root: &TreeId) -> Result<(u64, Option<Vec<u8>>)> {
        let counting = Counting { store: self.store, wanted: &self.wanted, found: AtomicU64::new(0) };
        let (mut entered, mut count, mut path) = (HashSet::new(), 0, None);
        let mut open = vec![(Vec::new(), *root)];
        while let Some((folder, tree)) = open.pop() {
            if self.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            if self.barren.contains(&tree.into()) || !entered.insert(tree.into()) {
                continue;
            }
            for entry in entries(&tree, &counting) {
                let entry = match entry {
                    Ok(entry) => entry,
                    // Of what is partial, or in a transfer.
                    Err(Error::Absent { .. }) => break,
                    Err(error) => return Err(error),
                };
                let below =
                    if folder.is_empty() { entry.name } else { [&folder[..], b"/", &entry.name].concat() };
                match entry.node {
                    Node::Dir { tree } => open.push((below, tree)),
                    Node::File { size, content } => {
                        let found = count_file(&counting, &self.barren, &mut entered, &content, size)?;
                        if found > 0 {
                            count += found;
                            path.get_or_insert(below);
                        }
                    }
                    _ => {}
                }
            }
        }
        count += counting.found.into_inner();
        if count == 0 {
            self.barren.extend(entered);
        }
        Ok((count, path))
    }

    fn hold(&mut self, held: &Held) -> Result<u64> {
        match held {
            Held::Everything => Ok(self.wanted.len() as u64),
            // Told with the artifacts.
            Held::Artifact(_) => Ok(0),
            Held::Tree(tree) => Ok(self.tree(tree)?.0),
            Held::Chunk(id) => Ok(u64::from(self.wanted.contains(id))),
            Held::Content { content, size } => {
                let counting = Counting { store: self.store, wanted: &self.wanted, found: AtomicU64::new(0) };
                let count = count_file(&counting, &self.barren, &mut HashSet::new(), content, *size)?;
                Ok(count + counting.found.into_inner())
            }
        }
    }
}

/// Chunks of a file that are looked for. Its lists are counted by the source.
fn count_file(
    counting: &Counting<'_>,
    barren: &HashSet<ChunkId>,
    entered: &mut HashSet<ChunkId>,
    content: &Content,
    size: u64,
) -> Result<u64> {
    if let Content::Long { root, .. } = content {
        let root: ChunkId = (*root).into();
        if barren.contains(&root) || !entered.insert(root) {
            return Ok(0);
        }
    }
    let (mut count, mut seen) = (0, HashSet::new());
    for chunk in chunks(content, size, counting) {
        match chunk {
            Ok((_, chunk)) => {
                count += u64::from(counting.wanted.contains(&chunk.id) && seen.insert(chunk.id));
            }
            Err(Error::Absent { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
