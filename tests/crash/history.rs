//! Histories: a script of changes that is run on a simulated machine until something fails, a model of what has to be
//! there afterwards, and the comparison.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_store::io::Sim;
use cairn_store::{ArtifactId, Error, Node, PublishOptions, RefKey, Result, Store, View, Writer};
use harness::compare::Snapshot;
use harness::plan::{Fill, Folder, Plan, all_below, make};
use harness::scratch::Scratch;
use harness::stores::{at, options, read_file, restore, verify, with_threads, writer_on};

const STORE: &str = "/srv/store";

/// The trees that are added, which share files and chunks, and what is known of them.
pub(crate) struct World {
    scratch: Scratch,
    trees: Vec<Snapshot>,
    /// The bytes of each tree's files, by path.
    files: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The id that each tree has as each version, from a store where nothing fails.
    artifacts: BTreeMap<(usize, &'static str), ArtifactId>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            scratch: Scratch::in_memory(),
            trees: Vec::new(),
            files: Vec::new(),
            artifacts: BTreeMap::new(),
        };
        for (tree, folder) in folders().iter().enumerate() {
            let path = world.source(tree);
            make(&path, folder);
            world.trees.push(Snapshot::of(&path));
            let found = all_below(&path).into_iter().filter(|file| file.is_file());
            let relative = |file: &PathBuf| file.strip_prefix(&path).unwrap().as_os_str().as_bytes().to_vec();
            world.files.push(found.map(|file| (relative(&file), std::fs::read(&file).unwrap())).collect());
        }
        // So that the stat cache takes all of them for unchanged, each time.
        let last = all_below(world.scratch.path()).pop().unwrap();
        world.scratch.let_grain_pass(&last);
        let writer = writer_on(Sim::new(0), Path::new(STORE)).unwrap();
        for tree in 0..world.trees.len() {
            for version in ["1", "2", "3", "4", "5", "last"] {
                let options = with_threads(1, options("tree", version));
                let ingested = writer.ingest(at(&world.source(tree)), &options, &()).unwrap();
                world.artifacts.insert((tree, version), ingested.artifact);
            }
        }
        world
    }

    fn source(&self, tree: usize) -> PathBuf {
        self.scratch.join(tree.to_string())
    }

    fn artifact(&self, tree: usize, version: &str) -> ArtifactId {
        *self.artifacts.iter().find(|((of, known), _)| *of == tree && *known == version).unwrap().1
    }

    /// The tree of each version, as the ids of the artifacts tell.
    fn refs(&self, view: &View) -> Refs {
        let tree = |key: &RefKey, artifact: ArtifactId| {
            let is_it = |tree: &usize| self.artifact(*tree, key.version.as_str()) == artifact;
            let found = (0..self.trees.len()).find(is_it);
            found.unwrap_or_else(|| panic!("{key} is {artifact}, which was never added"))
        };
        view.refs.iter().map(|(key, record)| (key.version.to_string(), tree(key, record.artifact))).collect()
    }
}

fn folders() -> [Folder; 4] {
    let folder = |files: &[(&str, Fill, usize)]| -> Folder {
        let file = |(name, fill, len): &(&str, Fill, usize)| {
            (name.as_bytes().to_vec(), Plan::File(*fill, *len, 0o644))
        };
        files.iter().map(file).collect()
    };
    let small =
        folder(&[("a", Fill::Text(1), 3000), ("b", Fill::Noise(1), 20_000), ("tiny", Fill::Text(2), 20)]);
    let mut nested = folder(&[("b", Fill::Noise(1), 20_000), ("c", Fill::Noise(2), 9000)]);
    nested.insert(b"sub".to_vec(), Plan::Dir(small.clone(), 0o755));
    let long = folder(&[("long", Fill::Noise(3), 700_000), ("a", Fill::Text(1), 3000)]);
    let inline = folder(&[("tiny", Fill::Text(2), 20), ("holes", Fill::Zeros, 300_000)]);
    [small, nested, long, inline]
}

/// One change of a script.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Ingests and publishes a tree as a version.
    Add { tree: usize, version: &'static str },
    /// Replaces a version by another tree, and points a channel to it.
    Replace { tree: usize, version: &'static str },
    /// Takes a version away.
    Remove { version: &'static str },
    /// Closes the writer and opens another.
    Reopen,
}

/// What every test runs, if nothing stops it.
pub(crate) const SCRIPT: [Step; 8] = [
    Step::Add { tree: 0, version: "1" },
    Step::Add { tree: 1, version: "2" },
    Step::Reopen,
    Step::Add { tree: 2, version: "3" },
    Step::Replace { tree: 3, version: "1" },
    Step::Remove { version: "2" },
    Step::Add { tree: 1, version: "4" },
    Step::Add { tree: 0, version: "5" },
];

type Refs = BTreeMap<String, usize>;

/// What has to be in the store: the tree of each version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    acknowledged: Refs,
    /// The outcome of the change whose end was not seen.
    attempted: Option<Refs>,
}

impl Model {
    /// What the store says becomes what has to be there: it may be neither less nor more than what is allowed.
    fn settle(&mut self, world: &World, view: &View, context: &str) {
        let found = world.refs(view);
        let allowed = found == self.acknowledged || self.attempted.as_ref() == Some(&found);
        assert!(allowed, "{context}: found {found:?} and not {self:?}");
        *self = Self { acknowledged: found, attempted: None };
    }
}

/// Opens the store of a machine for writing.
pub(crate) fn open(sim: &Sim) -> Result<Writer> {
    writer_on(sim.clone(), Path::new(STORE))
}

fn key(version: &str) -> RefKey {
    let part = "tree".parse().unwrap();
    RefKey { name: part, version: version.parse().unwrap(), platform: "linux/x86_64".parse().unwrap() }
}

fn add(
    world: &World,
    writer: &Writer,
    model: &mut Model,
    tree: usize,
    version: &str,
    replace: bool,
) -> Result<()> {
    let options = with_threads(1, options("tree", version));
    let ingested = writer.ingest(at(&world.source(tree)), &options, &())?;
    let mut after = model.acknowledged.clone();
    after.insert(version.to_owned(), tree);
    model.attempted = Some(after.clone());
    let channel = replace.then(|| "stable".parse().unwrap());
    writer.publish(&ingested, &PublishOptions { replace, channel })?;
    *model = Model { acknowledged: after, attempted: None };
    Ok(())
}

fn take(world: &World, writer: &Writer, model: &mut Model, step: Step) -> Result<()> {
    match step {
        Step::Add { tree, version } => add(world, writer, model, tree, version, false),
        Step::Replace { tree, version } => add(world, writer, model, tree, version, true),
        Step::Remove { version } => {
            let mut after = model.acknowledged.clone();
            after.remove(version);
            model.attempted = Some(after.clone());
            writer.remove_ref(&key(version), true)?;
            *model = Model { acknowledged: after, attempted: None };
            Ok(())
        }
        Step::Reopen => Ok(()),
    }
}

/// Whether a step has had its effect: what a user would see before repeating it.
fn is_done(model: &Model, step: Step) -> bool {
    match step {
        Step::Add { tree, version } | Step::Replace { tree, version } => {
            model.acknowledged.get(version) == Some(&tree)
        }
        Step::Remove { version } => !model.acknowledged.contains_key(version),
        Step::Reopen => true,
    }
}

/// Opens the store and takes steps until one fails, or `patience` of them have: then each is tried again with the same
/// writer, as a program that lives on would.
pub(crate) fn run(
    world: &World,
    sim: &Sim,
    model: &mut Model,
    steps: &mut &[Step],
    patience: u32,
    context: &str,
) -> Result<()> {
    let mut patience = patience;
    let mut writer = open(sim)?;
    model.settle(world, &*writer.view()?, context);
    while let Some(step) = steps.first() {
        if matches!(step, Step::Reopen) {
            drop(writer);
            writer = open(sim)?;
            model.settle(world, &*writer.view()?, context);
        } else if !is_done(model, *step) {
            match take(world, &writer, model, *step) {
                Ok(()) => {}
                Err(_) if patience > 0 => {
                    patience -= 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        *steps = &steps[1..];
    }
    Ok(())
}

/// Operations and syncs of a whole run.
pub(crate) fn length(world: &World) -> (u64, u64) {
    let sim = Sim::new(0);
    let mut model = Model::default();
    run(world, &sim, &mut model, &mut &SCRIPT[..], 0, "a run without faults").unwrap();
    assert_eq!(model.acknowledged.len(), 4);
    (sim.operations(), sim.syncs())
}

/// Whoever opens the store to read sees a state that is allowed, and all of it whole. `restores` writes it to a real
/// file system too.
pub(crate) fn check(world: &World, sim: &Sim, model: &Model, restores: bool, context: &str) {
    let store = match Store::open_with(Arc::new(sim.clone()), Path::new(STORE)) {
        Err(Error::Absent { .. }) if model.acknowledged.is_empty() => return,
        opened => opened.unwrap_or_else(|error| panic!("{context}: {error}")),
    };
    let view = store.view().unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut model = model.clone();
    model.settle(world, &view, context);
    let report = verify(&store);
    assert!(report.is_clean(), "{context}: {:?} {:?}", report.damage, report.affected);
    for (version, tree) in &model.acknowledged {
        let artifact = world.artifact(*tree, version);
        check_bytes(world, &store, &artifact, *tree, context);
        if restores {
            let scratch = Scratch::in_memory();
            let dest = scratch.join("restored");
            restore(&store, &artifact, &dest);
            world.trees[*tree].assert_restored(&dest, cairn_store::MetadataPolicy::Portable);
        }
    }
}

fn check_bytes(world: &World, store: &Store, artifact: &ArtifactId, tree: usize, context: &str) {
    let mut files = BTreeMap::new();
    for step in store.artifact(artifact).unwrap().walk(store) {
        let (path, entry) = step.unwrap();
        if matches!(entry.node, Node::File { .. }) {
            let found =
                read_file(store, artifact, &path).unwrap_or_else(|error| panic!("{context}: {error}"));
            files.insert(path, found);
        }
    }
    assert!(files == world.files[tree], "{context}: tree {tree} has other bytes");
}

/// The machine works again: the store is opened, what is left of the script done, one more tree added, and everything
/// compared; then the plug is pulled once more, which may take nothing away.
pub(crate) fn go_on(
    world: &World,
    sim: &Sim,
    mut model: Model,
    mut steps: &[Step],
    seed: u64,
    context: &str,
) {
    sim.heal();
    run(world, sim, &mut model, &mut steps, 0, context)
        .unwrap_or_else(|error| panic!("{context}: {error:?}"));
    let writer = open(sim).unwrap();
    add(world, &writer, &mut model, 2, "last", false).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    drop(writer);
    let restores = seed.is_multiple_of(16);
    check(world, sim, &model, restores, context);
    let later = sim.reboot(seed);
    check(world, &later, &model, false, &format!("{context}, and after one more crash"));
    assert!(open(&later).is_ok(), "{context}");
}
