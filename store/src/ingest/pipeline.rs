//! The sequencer: takes what the walk meets, keeps the workers supplied, and puts results into the store in the walk's
//! order, whatever order they come in. Bounded: [`IN_FLIGHT_BYTES`] of file bytes a worker and [`QUEUE_MAX`] entries.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use rustix::fs::FileType;

use super::IngestOptions;
use super::assemble::Assembly;
use super::batch::{self, BATCH_BYTES, BATCH_FILES, Batch, SMALL_MAX};
use super::deposit::Deposit;
use super::large::{Large, Prior, WINDOW_MAX, push};
use super::links::{Link, Links};
use super::reliance::Reliance;
use super::source::{Folder, Item};
use super::statcache::StatCache;
use super::still::Seen;
use super::walk::Event;
use crate::content::{ChunkRef, Content, ContentBuilder, chunks};
use crate::error::{Error, Result};
use crate::id::{ChunkId, TreeId};
use crate::object::ObjectSource;
use crate::pool::{Pending, Pool, Rank};
use crate::progress::Progress;
use crate::tree::{self, Entry, Node};

/// Bytes of files that are read ahead of what was put into the store for each worker, at most (and one window).
const IN_FLIGHT_BYTES: u64 = 16 << 20;
/// And for all of them.
const IN_FLIGHT_BYTES_MAX: u64 = 128 << 20;
/// Entries that wait for their turn, at most.
const QUEUE_MAX: usize = 4096;

/// What the pipeline works with.
pub(super) struct Context<'a> {
    pub(super) options: &'a IngestOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) objects: &'a dyn ObjectSource,
    pub(super) held: Arc<Reliance>,
    pub(super) pool: Arc<Pool>,
    /// The root of an earlier version, for hints.
    pub(super) prior: Option<TreeId>,
}

/// An entry that waits for its turn.
enum Slot {
    Enter(Arc<Folder>, Item),
    Leave,
    Ready(Arc<Folder>, Item, Node),
    Known(Arc<Folder>, Item, Content, u16),
    Small {
        folder: Arc<Folder>,
        item: Item,
        batch: Rc<RefCell<Batching>>,
        nth: usize,
    },
    Large(Arc<Folder>, Item, Box<Large>),
    /// Another name of a file that came before.
    Linked(Arc<Folder>, Item),
}

enum Batching {
    Collecting(Vec<(Arc<Folder>, Item)>, u64),
    Running(Pending<Batch>),
    Done(Batch),
}

/// An ingest under way.
pub(super) struct Pipeline<'a> {
    context: Context<'a>,
    pub(super) deposit: Deposit,
    pub(super) cache: StatCache,
    links: Links,
    queue: VecDeque<Slot>,
    in_flight: u64,
    in_flight_max: u64,
    collecting: Option<Rc<RefCell<Batching>>>,
    /// Directories of the earlier version, beside those that the walk is in.
    priors: Vec<Option<TreeId>>,
    pub(super) assembly: Assembly,
    /// What the walk met, where it is to be looked at again.
    pub(super) seen: Option<Seen>,
    /// Whether all that the cache remembers is held, so that nothing of it has to be looked for.
    is_all_held: bool,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(
        context: Context<'a>,
        deposit: Deposit,
        cache: StatCache,
        links: Links,
        seen: Option<Seen>,
    ) -> Self {
        let assembly = Assembly::new(context.options.policy);
        let is_all_held = !cache.packs().is_empty() && context.held.has_all_of(cache.packs());
        let in_flight_max = (IN_FLIGHT_BYTES * context.pool.threads() as u64).min(IN_FLIGHT_BYTES_MAX);
        Self {
            context,
            deposit,
            cache,
            links,
            queue: VecDeque::new(),
            in_flight: 0,
            in_flight_max,
            collecting: None,
            priors: Vec::new(),
            assembly,
            seen,
            is_all_held,
        }
    }

    /// Runs to the end of the walk; gives the root and its own entry.
    pub(super) fn run(&mut self, events: &Receiver<Result<Event>>) -> Result<(TreeId, Entry)> {
        let mut walking = true;
        loop {
            if self.context.progress.cancelled() {
                return Err(Error::Cancelled);
            }
            while walking && self.queue.len() < QUEUE_MAX && self.in_flight < self.in_flight_max {
                let event = if self.queue.is_empty() {
                    events.recv().map_err(|_| TryRecvError::Disconnected)
                } else {
                    events.try_recv()
                };
                match event {
                    Ok(event) => self.accept(event?)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => walking = false,
                }
            }
            match self.queue.pop_front() {
                Some(slot) => self.settle(slot)?,
                None if walking => {}
                None => break,
            }
        }
        Ok(self.assembly.take_root().expect("the walk leaves its root, or gives an error"))
    }

    fn accept(&mut self, event: Event) -> Result<()> {
        if let Some(seen) = &mut self.seen {
            seen.note(&event)?;
        }
        match event {
            Event::Enter(folder, item) => {
                let prior = match self.priors.last() {
                    None => self.context.prior,
                    Some(None) => None,
                    Some(Some(above)) => match tree::find(above, &item.name, self.context.objects) {
                        Ok(Some(Entry { node: Node::Dir { tree }, .. })) => Some(tree),
                        _ => None,
                    },
                };
                self.priors.push(prior);
                self.queue.push_back(Slot::Enter(folder, item));
            }
            Event::Leave => {
                self.priors.pop();
                self.queue.push_back(Slot::Leave);
            }
            Event::Leaf { folder, item, target } => self.accept_leaf(folder, item, target)?,
        }
        Ok(())
    }

    fn accept_leaf(&mut self, folder: Arc<Folder>, item: Item, target: Option<Vec<u8>>) -> Result<()> {
        let (major, minor) = item.device;
        let node = match (item.kind, target) {
            (FileType::RegularFile, _) => return self.accept_file(folder, item),
            (FileType::Symlink, Some(target)) => Node::Symlink { target },
            (FileType::Fifo, _) if self.context.options.special_files => Node::Fifo,
            (FileType::CharacterDevice, _) if self.context.options.special_files => {
                Node::Char { major, minor }
            }
            (FileType::BlockDevice, _) if self.context.options.special_files => Node::Block { major, minor },
            (FileType::Socket, _) if self.context.options.leave_sockets_out => return Ok(()),
            (kind, _) => {
                let what = match kind {
                    FileType::Fifo => "a named pipe",
                    FileType::Socket => "a socket",
                    FileType::CharacterDevice | FileType::BlockDevice => "a device",
                    _ => "of an unknown kind",
                };
                let problem = format!("it is {what}; only files, directories and symbolic links are stored");
                return Err(Error::Input { path: folder.path_of(&item.name), problem });
            }
        };
        self.queue.push_back(Slot::Ready(folder, item, node));
        Ok(())
    }

    fn accept_file(&mut self, folder: Arc<Folder>, item: Item) -> Result<()> {
        self.context.progress.expect(item.stamp.size, 1);
        if self.links.meet(&item) == Link::Again {
            self.queue.push_back(Slot::Linked(folder, item));
            return Ok(());
        }
        let remembered = self.cache.lookup(&item.stamp);
        if let Some(known) = remembered
            .as_ref()
            .filter(|known| known.unchanged && (self.is_all_held || self.is_held(&known.content, known.size)))
        {
            let slot = Slot::Known(folder, item, known.content.clone(), known.machine);
            self.queue.push_back(slot);
            return Ok(());
        }
        if item.stamp.size <= SMALL_MAX {
            self.accept_small(folder, item);
            return Ok(());
        }
        let prior = remembered
            .map(|known| Prior { content: known.content, size: known.size })
            .or_else(|| self.prior_of(&item.name));
        let mut large = Box::new(Large::open(&folder, &item, self.context.options.bounds, prior)?);
        self.begin_windows(&mut large);
        self.queue.push_back(Slot::Large(folder, item, large));
        Ok(())
    }

    fn accept_small(&mut self, folder: Arc<Folder>, item: Item) {
        let size = item.stamp.size;
        let is_full = |batching: &Rc<RefCell<Batching>>| match &*batching.borrow() {
            Batching::Collecting(files, bytes) => files.len() >= BATCH_FILES || bytes + size > BATCH_BYTES,
            _ => true,
        };
        if self.collecting.as_ref().is_some_and(is_full) {
            self.begin_batch();
        }
        let batch =
            self.collecting.get_or_insert_with(|| Rc::new(RefCell::new(Batching::Collecting(Vec::new(), 0))));
        let nth = match &mut *batch.borrow_mut() {
            Batching::Collecting(files, bytes) => {
                files.push((Arc::clone(&folder), item.clone()));
                *bytes += size;
                files.len() - 1
            }
            _ => unreachable!("a batch is collected until it begins"),
        };
        self.in_flight += size;
        self.queue.push_back(Slot::Small { folder, item, batch: Rc::clone(batch), nth });
    }

    fn begin_batch(&mut self) {
        let Some(batch) = self.collecting.take() else { return };
        let files = match &mut *batch.borrow_mut() {
            Batching::Collecting(files, _) => std::mem::take(files),
            _ => return,
        };
        let (bounds, held) = (self.context.options.bounds, Arc::clone(&self.context.held));
        let pending = self
            .context
            .pool
            .submit(Rank::Beginning, move |tools| batch::read(&files, bounds, &tools.buffers, &held));
        *batch.borrow_mut() = Batching::Running(pending);
    }

    /// Whether every chunk that is named, and every node that names them, is in a sealed pack: in one that is still filled
    /// it might be lost yet. From now on these packs stay. Long lists are read: where a pack was lost or not all of a file was fetched, whoever adds
    /// the file again makes it whole.
    fn is_held(&self, content: &Content, size: u64) -> bool {
        let held = |chunk: &ChunkRef| chunk.is_hole() || self.context.held.has(&chunk.id);
        match content {
            Content::Inline(_) => true,
            Content::Chunks(list) => list.iter().all(held),
            Content::Long { .. } => {
                let sealed = Sealed { objects: self.context.objects, held: &self.context.held };
                chunks(content, size, &sealed).all(|chunk| chunk.is_ok_and(|(_, chunk)| held(&chunk)))
            }
        }
    }

    /// What the earlier version has under this name.
    fn prior_of(&self, name: &[u8]) -> Option<Prior> {
        let above = self.priors.last().copied().flatten()?;
        match tree::find(&above, name, self.context.objects) {
            Ok(Some(Entry { node: Node::File { size, content }, .. })) => Some(Prior { content, size }),
            _ => None,
        }
    }

    /// Has the cache remember where all lies that it remembers, once everything is sealed.
    pub(super) fn keep_packs(&mut self) {
        let mut packs = self.context.held.relied_on();
        packs.extend(self.deposit.written());
        self.cache.set_packs(packs);
    }

    fn begin_windows(&mut self, large: &mut Large) {
        // One at least: what is behind it may have taken all of the budget.
        let enough = self.context.pool.threads() * 2 + 2;
        while large.has_more()
            && (large.windows_begun() == 0
                || large.windows_begun() < enough && self.in_flight + WINDOW_MAX <= self.in_flight_max)
        {
            let Context { pool, held, objects, .. } = &self.context;
            self.in_flight += large.begin_window(pool, held, *objects);
        }
    }

    /// Puts the oldest entry into its directory; a long file may come back to the front.
    fn settle(&mut self, slot: Slot) -> Result<()> {
        match slot {
            Slot::Enter(folder, item) => {
                self.assembly.enter(folder, item);
                Ok(())
            }
            Slot::Leave => self.assembly.leave(&mut self.deposit),
            Slot::Ready(folder, item, node) => {
                self.assembly.insert(&folder, &item, node, 0, &mut self.deposit)
            }
            Slot::Known(folder, item, content, machine) => {
                self.assembly.totals.unchanged_files += 1;
                self.context.progress.advance(item.stamp.size, 1);
                self.insert_file(&folder, &item, content, machine, false)
            }
            Slot::Small { folder, item, batch, nth } => self.settle_small(&folder, &item, &batch, nth),
            Slot::Large(folder, item, large) => self.settle_large(folder, item, large),
            Slot::Linked(folder, item) => {
                let (content, machine) = self.links.content(&item).ok_or_else(|| Error::Input {
                    path: folder.path_of(&item.name),
                    problem: "its other names changed while it was read".to_owned(),
                })?;
                self.context.progress.advance(item.stamp.size, 1);
                self.insert_file(&folder, &item, content, machine, false)
            }
        }
    }

    fn settle_small(
        &mut self,
        folder: &Arc<Folder>,
        item: &Item,
        batch: &RefCell<Batching>,
        nth: usize,
    ) -> Result<()> {
        if matches!(&*batch.borrow(), Batching::Collecting(..)) {
            self.begin_batch();
        }
        let batching = batch.replace(Batching::Collecting(Vec::new(), 0));
        let mut done = match batching {
            Batching::Running(pending) => pending.wait(),
            Batching::Done(done) => done,
            Batching::Collecting(..) => unreachable!("it was begun above"),
        };
        let small = done.files[nth].take().expect("each file of a batch is settled once")?;
        let bytes = &done.buffer[small.bytes];
        let content = if small.cuts.is_empty() {
            Content::Inline(bytes.to_vec())
        } else {
            let mut builder = ContentBuilder::new();
            let mut at = 0;
            for cut in &done.cuts[small.cuts] {
                push(*cut, &bytes[at..at + cut.len as usize], &mut builder, &mut self.deposit)?;
                at += cut.len as usize;
            }
            builder.finish(&mut self.deposit)?
        };
        if nth + 1 == done.files.len() {
            self.context.pool.buffers().give(done.buffer);
        } else {
            *batch.borrow_mut() = Batching::Done(done);
        }
        self.in_flight -= item.stamp.size;
        self.context.progress.advance(item.stamp.size, 1);
        self.insert_file(folder, item, content, small.machine, true)
    }

    fn settle_large(&mut self, folder: Arc<Folder>, item: Item, mut large: Box<Large>) -> Result<()> {
        self.begin_windows(&mut large);
        let Context { pool, held, .. } = &self.context;
        let (freed, covered) = large.join_window(pool, held, &mut self.deposit)?;
        self.in_flight -= freed;
        let is_done = large.is_done();
        self.context.progress.advance(covered, u64::from(is_done));
        if !is_done {
            self.queue.push_front(Slot::Large(folder, item, large));
            return Ok(());
        }
        let (content, machine) = large.finish(&mut self.deposit)?;
        self.insert_file(&folder, &item, content, machine, true)
    }

    fn insert_file(
        &mut self,
        folder: &Folder,
        item: &Item,
        content: Content,
        machine: u16,
        was_read: bool,
    ) -> Result<()> {
        self.cache.record(&item.stamp, &content, machine, was_read);
        self.links.keep(item, &content, machine);
        self.assembly.totals.machines.extend((machine != 0).then_some(machine));
        let node = Node::File { size: item.stamp.size, content };
        self.assembly.insert(folder, item, node, self.links.group(item), &mut self.deposit)
    }
}

/// Objects in packs that were sealed when the ingest began.
struct Sealed<'a> {
    objects: &'a dyn ObjectSource,
    held: &'a Reliance,
}

impl ObjectSource for Sealed<'_> {
    fn get(&self, id: &ChunkId) -> Result<Arc<[u8]>> {
        if !self.held.has(id) {
            return Err(Error::Absent { what: format!("object {id}") });
        }
        self.objects.get(id)
    }
}
