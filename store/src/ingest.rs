//! From a source tree to an artifact: read, chunk, hash, look up, compress, append, on every core, in bounded memory.
//!
//! Roles: `walk` lists the tree in a thread of its own; the workers of the pool scan files (`batch` for small ones,
//! `scan` for windows of long ones) and compress blocks; `pipeline` puts results into the store in the walk's order,
//! so that packs lie in manifest order and ids depend on the input alone; `deposit` writes packs.
//!
//! Nothing that an ingest writes is visible: what it leaves when it fails is unnamed, is found again by the next ingest
//! of the same data, and is collected otherwise.

mod assemble;
mod batch;
mod deposit;
mod elf;
mod large;
mod links;
mod pipeline;
mod reliance;
mod scan;
mod source;
mod statcache;
mod still;
mod stitch;
mod stream;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FileType;

use self::assemble::Totals;
use self::deposit::{Deposit, Deposited};
use self::links::Links;
use self::pipeline::{Context, Pipeline};
use self::reliance::Reliance;
use self::source::Item;
use self::statcache::StatCache;
pub(crate) use self::statcache::decode_rows as decode_stat_cache;
use self::still::{Newest, Seen};
use self::walk::Roots;
pub use crate::artifact::MetadataPolicy;
use crate::artifact::{Artifact, ArtifactKind, Chunking, RootMeta};
use crate::chunker::{CdcBounds, PACKAGE_BOUNDS};
use crate::error::{Error, Result};
use crate::event::StateHash;
use crate::holds::Stake;
use crate::id::{ArtifactId, TreeId};
use crate::pool::Pool;
use crate::progress::Progress;
use crate::refs::{Name, Platform, RefKey, Version};
use crate::snapshots;
use crate::store::Store;
use crate::tree::Entry;

/// How an artifact is made.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// What it is for.
    pub kind: ArtifactKind,
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// Its platform; where none is given, that of the executables in it if they agree, else this machine's.
    pub platform: Option<Platform>,
    /// What is kept of files' metadata.
    pub policy: MetadataPolicy,
    /// Whether named pipes and devices are kept. They are refused otherwise.
    pub special_files: bool,
    /// Whether sockets are left out, which hold nothing and are made anew by whoever listens. They are refused otherwise.
    pub leave_sockets_out: bool,
    /// Facts about its origin; part of its id.
    pub provenance: BTreeMap<String, String>,
    /// Bounds of content-defined chunks.
    pub bounds: CdcBounds,
    /// Whether the tree has to stay as it is from the beginning to the end, and all of it is looked at again at the end. A
    /// file that changes while it is read is refused in any case.
    pub still: bool,
    /// What tells that a file has not changed.
    pub stamps: Stamps,
    /// Worker threads; one for each core where none are given.
    pub threads: Option<NonZero<usize>>,
}

/// What tells that a file is what it was when it was read before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stamps {
    /// Device, inode, length, modification time and change time.
    #[default]
    All,
    /// All but the change time, which making or removing another hard link changes too. For checkpoints of databases that
    /// link files which they never write again. Whoever changes a file in place and sets its modification time back is
    /// not noticed; without this he is.
    HardLinks,
}

impl IngestOptions {
    /// A package with the portable metadata policy.
    #[must_use]
    pub fn package(name: Name, version: Version) -> Self {
        Self {
            kind: ArtifactKind::Package,
            name,
            version,
            platform: None,
            policy: MetadataPolicy::Portable,
            special_files: false,
            leave_sockets_out: false,
            provenance: BTreeMap::new(),
            bounds: PACKAGE_BOUNDS,
            still: false,
            stamps: Stamps::All,
            threads: None,
        }
    }

    /// A state directory after a round, for every platform, with all metadata; sockets are left out.
    #[must_use]
    pub fn snapshot(name: Name, round: u64, state_hash: Option<&StateHash>) -> Self {
        let version = snapshots::key_of(&name, round).version;
        let mut provenance = BTreeMap::from([(snapshots::ROUND.to_owned(), round.to_string())]);
        provenance.extend(state_hash.map(|hash| (snapshots::STATE_HASH.to_owned(), hash.to_string())));
        Self {
            kind: ArtifactKind::Snapshot,
            platform: Some(Platform::any()),
            policy: MetadataPolicy::Full,
            provenance,
            special_files: true,
            leave_sockets_out: true,
            still: true,
            ..Self::package(name, version)
        }
    }
}

/// What is ingested.
pub enum Input {
    /// One directory, which becomes the artifact's root; or files, which lie at the root under their base names.
    Paths(Vec<PathBuf>),
    /// A stream, which becomes one file at the root.
    Reader {
        /// The file's name.
        name: String,
        /// Whether it is to be executable.
        executable: bool,
        /// Its bytes.
        reader: Box<dyn Read + Send>,
    },
}

/// An artifact that is durable in the store, and not visible until it is published.
#[derive(Debug, Clone)]
pub struct Ingested {
    /// Its id.
    pub artifact: ArtifactId,
    /// The name, version and platform that it was made for.
    pub key: RefKey,
    /// Regular files.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Chunks of all files.
    pub chunks: u64,
    /// Chunks that the store did not have.
    pub new_chunks: u64,
    /// Their plain bytes.
    pub new_bytes: u64,
    /// Bytes that they take in packs.
    pub stored_bytes: u64,
    /// Bytes that new trees, chunk lists and the artifact itself take in packs.
    pub metadata_bytes: u64,
    /// Files that were not read, since their status had not changed.
    pub unchanged_files: u64,
    /// The platforms that executables in it are for.
    pub platforms_seen: BTreeSet<Platform>,
    /// Keeps what it rests on from being collected until it is published or dropped.
    pub(crate) stake: Stake,
}

/// Ingests `input` into the store that the caller holds the lock of.
pub(crate) fn ingest(
    store: &Store,
    input: Input,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Ingested> {
    if let Some(reason) = options.bounds.problem() {
        let given = format!("{:?}", options.bounds);
        return Err(Error::Invalid { what: "chunking", given, reason: reason.to_owned() });
    }
    // Before anything is looked up, so that what is found stays.
    let stake = store.holds().begin();
    let named = store.holds().named();
    let local = store.local();
    let give_room_back = |deposit: &mut Deposit, error: &Error| {
        if error.is_disk_full() {
            give_room_back(store, deposit, named);
        }
    };
    // What is not here must not be fetched for the sake of hints.
    let store = &local;
    let held = Arc::new(Reliance::new(store.index_of_all()?, stake));
    let pool = Arc::new(Pool::new(options.threads));
    let packs = store.path().join("packs");
    let mut deposit = Deposit::new(store.io(), &packs, Arc::clone(&held), Arc::clone(&pool));
    let prior = prior_root(store, options);
    let context = Context { options, progress, objects: store, held, pool, prior };
    match input {
        Input::Paths(paths) => {
            let (mut deposit, ingested) = ingest_paths(store, context, deposit, &paths);
            ingested.inspect_err(|error| give_room_back(&mut deposit, error))
        }
        Input::Reader { name, executable, reader } => {
            let streamed = stream::run(&context, &mut deposit, store.path(), name, executable, reader);
            let ingested = streamed
                .and_then(|(root, entry, totals)| complete(&mut deposit, options, root, &entry, totals));
            ingested.inspect_err(|error| give_room_back(&mut deposit, error))
        }
    }
}

/// Gives what was deposited too, also after a failure.
fn ingest_paths(
    store: &Store,
    context: Context<'_>,
    deposit: Deposit,
    paths: &[PathBuf],
) -> (Deposit, Result<Ingested>) {
    let options = context.options;
    let begun = match Begun::of(paths, options) {
        Ok(begun) => begun,
        Err(error) => return (deposit, Err(error)),
    };
    let (bounds, stamps) = (options.bounds, options.stamps);
    let cache = StatCache::load(&**store.io(), store.path(), &begun.canonical, bounds, stamps, begun.at_ns);
    let mut pipeline = Pipeline::new(context, deposit, cache, begun.links, begun.seen);
    let ran = pipeline.run(&walk::walk(begun.roots, stamps == Stamps::All));
    let still = ran.and_then(|ran| match &pipeline.seen {
        Some(seen) => seen.check(walk::walk(resolve(paths)?.0, stamps == Stamps::All)).map(|()| ran),
        None => Ok(ran),
    });
    let totals = std::mem::take(&mut pipeline.assembly.totals);
    let ingested =
        still.and_then(|(root, entry)| complete(&mut pipeline.deposit, options, root, &entry, totals));
    if ingested.is_ok() {
        pipeline.keep_packs();
        pipeline.cache.save(&**store.io());
    }
    (pipeline.deposit, ingested)
}

/// What is known of a tree before any of it is read.
struct Begun {
    roots: Roots,
    /// Their absolute paths.
    canonical: Vec<PathBuf>,
    links: Links,
    seen: Option<Seen>,
    /// When reading begins.
    at_ns: i128,
}

impl Begun {
    fn of(paths: &[PathBuf], options: &IngestOptions) -> Result<Self> {
        let (mut roots, canonical) = resolve(paths)?;
        let (mut newest, mut links) = (Newest::default(), Links::default());
        let is_full = options.policy == MetadataPolicy::Full;
        if is_full || options.still {
            let mut ahead = newest.noting(walk::walk(roots.clone(), options.stamps == Stamps::All));
            if is_full {
                links = Links::count(ahead)?;
            } else {
                ahead.try_for_each(|event| event.map(drop))?;
            }
        }
        let mut seen = None;
        if options.still {
            seen = Some(Seen::begin(newest));
            // The roots once more: they were looked at before.
            roots = resolve(paths)?.0;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ns = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        Ok(Self { roots, canonical, links, seen, at_ns })
    }
}

/// Writes the artifact itself, and makes everything durable.
fn complete(
    deposit: &mut Deposit,
    options: &IngestOptions,
    root: TreeId,
    entry: &Entry,
    totals: Totals,
) -> Result<Ingested> {
    let platforms_seen: BTreeSet<_> =
        totals.machines.iter().filter_map(|machine| elf::platform(*machine)).collect();
    let platform = match (&options.platform, platforms_seen.first()) {
        (Some(platform), _) => platform.clone(),
        (None, Some(seen)) if platforms_seen.len() == 1 => seen.clone(),
        _ => Platform::current(),
    };
    let artifact = Artifact {
        kind: options.kind,
        name: options.name.clone(),
        version: options.version.clone(),
        platform: platform.clone(),
        policy: options.policy,
        chunking: chunking(options.bounds),
        root,
        root_meta: RootMeta { mode: entry.mode, full: entry.full.clone() },
        entries: totals.entries,
        files: totals.files,
        bytes: totals.bytes,
        chunks: totals.chunks,
        provenance: options.provenance.clone(),
    };
    let id = artifact.put(deposit)?;
    let Deposited { new_chunks, new_bytes, stored_bytes, metadata_bytes } = deposit.finish()?;
    Ok(Ingested {
        artifact: id,
        key: RefKey { name: options.name.clone(), version: options.version.clone(), platform },
        files: totals.files,
        directories: totals.directories,
        symlinks: totals.symlinks,
        bytes: totals.bytes,
        chunks: totals.chunks,
        new_chunks,
        new_bytes,
        stored_bytes,
        metadata_bytes,
        unchanged_files: totals.unchanged_files,
        platforms_seen,
        stake: deposit.stake().clone(),
    })
}

fn chunking(CdcBounds { min, avg, max }: CdcBounds) -> Chunking {
    Chunking { min, avg, max, paged: true }
}

/// Removes all that was written, where a full disk stopped it: nothing names it, and the room is wanted back. After any
/// other failure it stays, for the next attempt to find.
fn give_room_back(store: &Store, deposit: &mut Deposit, named: u64) {
    deposit.discard_open();
    let sealed = deposit.sealed();
    if !store.discard(&sealed, named) {
        tracing::warn!("sealed packs stay: what was named or found meanwhile may need them");
    }
}

/// The root of the version of the same name that was added last.
fn prior_root(store: &Store, options: &IngestOptions) -> Option<TreeId> {
    let view = store.view().ok()?;
    let (_, record) = view.refs_of(&options.name).max_by_key(|(_, record)| record.time_ms)?;
    let artifact = store.artifact(&record.artifact).ok()?;
    // Other bounds give other cuts, which would be wrong hints.
    (artifact.chunking == chunking(options.bounds)).then_some(artifact.root)
}

/// What the paths of a command line stand for, and their absolute form.
fn resolve(paths: &[PathBuf]) -> Result<(Roots, Vec<PathBuf>)> {
    let mut files = Vec::with_capacity(paths.len());
    let mut canonical = Vec::with_capacity(paths.len());
    for path in paths {
        // A root may be a link: it is what the user named.
        let stat = rustix::fs::stat(path).map_err(Error::tree("read", path))?;
        let absolute = path.canonicalize().map_err(|source| Error::Tree {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let misuse = |reason: &str| Error::Invalid {
            what: "path",
            given: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let name = base_name(path, &absolute).ok_or_else(|| misuse("it has no base name"))?;
        let item = Item::new(name, &stat);
        canonical.push(absolute);
        match item.kind {
            FileType::Directory if paths.len() == 1 => {
                let item = Item { name: Vec::new(), ..item };
                return Ok((Roots::Folder(path.clone(), item), canonical));
            }
            FileType::Directory => return Err(misuse("give one directory, or files")),
            _ => files.push((path.clone(), item)),
        }
    }
    if files.is_empty() {
        let reason = "give one directory, or files".to_owned();
        return Err(Error::Invalid { what: "path", given: String::new(), reason });
    }
    let mut names: Vec<_> = files.iter().map(|(_, item)| &item.name).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::Invalid {
            what: "path",
            given: String::from_utf8_lossy(pair[0]).into_owned(),
            reason: "two files have this base name, and both would lie at the root".to_owned(),
        });
    }
    Ok((Roots::Files(files), canonical))
}

fn base_name(path: &Path, absolute: &Path) -> Option<Vec<u8>> {
    path.file_name()
        .or(absolute.file_name())
        .map(|name| name.as_encoded_bytes().to_vec())
        .or(Some(Vec::new()))
}
