//! Ingests one file from a reader: it is cut and hashed as it comes, and compressed by the pool.
//!
//! A database that is cut by pages is cut differently where its length is no multiple of them, which a stream shows at
//! its end only: it is spooled to a nameless file in the store's cache and taken from there, so that the artifact is
//! the same as from a file.

use std::io::Read;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pwrite};

use super::assemble::Totals;
use super::deposit::Deposit;
use super::large::{Large, push};
use super::pipeline::Context;
use super::scan::{Cut, classify};
use super::source::{Item, Source};
use super::{IngestOptions, MetadataPolicy};
use crate::chunker::{Cutter, HEAD_LEN};
use crate::content::{Content, ContentBuilder, INLINE_BYTES_MAX};
use crate::error::{Error, Result};
use crate::id::TreeId;
use crate::tree::{Entry, FullMeta, Node, TreeBuilder};

/// Bytes that are read at a time.
const READ_LEN: usize = 1 << 20;

/// What a stream became.
type Streamed = (TreeId, Entry, Totals);

pub(super) fn run(
    context: &Context<'_>,
    deposit: &mut Deposit,
    store: &Path,
    name: String,
    executable: bool,
    reader: Box<dyn Read + Send>,
) -> Result<Streamed> {
    let path = Path::new(&name).to_owned();
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let reason = "it is not the name of a file".to_owned();
        return Err(Error::Invalid { what: "file name", given: name, reason });
    }
    let mut feed = Feed { reader, path: path.clone(), buffer: Vec::new(), at_end: false };
    feed.fill(HEAD_LEN)?;
    let is_inline = feed.at_end && feed.buffer.len() <= INLINE_BYTES_MAX;
    let (content, size, machine) = if !is_inline && Cutter::may_cut_pages(&feed.buffer) {
        spool(context, deposit, store, &mut feed)?
    } else {
        cut(context, deposit, &mut feed)?
    };
    let totals = Totals {
        entries: 1,
        files: 1,
        directories: 1,
        bytes: size,
        chunks: content.chunk_count(),
        machines: (machine != 0).then_some(machine).into_iter().collect(),
        ..Totals::default()
    };
    let full = full_meta(context.options);
    let mode = if executable { 0o755 } else { 0o644 };
    let file =
        Entry { name: name.into_bytes(), node: Node::File { size, content }, mode, full: full.clone() };
    let mut root = TreeBuilder::new();
    root.push(&file, deposit)?;
    let tree = root.finish(deposit)?;
    let entry = Entry { name: Vec::new(), node: Node::Dir { tree }, mode: 0o755, full };
    Ok((tree, entry, totals))
}

fn full_meta(options: &IngestOptions) -> Option<FullMeta> {
    (options.policy == MetadataPolicy::Full).then(FullMeta::default)
}

/// Bytes that were read and not yet taken.
struct Feed {
    reader: Box<dyn Read + Send>,
    path: std::path::PathBuf,
    buffer: Vec<u8>,
    at_end: bool,
}

impl Feed {
    /// Reads until `want` bytes are there, or the end.
    fn fill(&mut self, want: usize) -> Result<()> {
        while self.buffer.len() < want && !self.at_end {
            let missing = (want - self.buffer.len()) as u64;
            let read = (&mut self.reader)
                .take(missing)
                .read_to_end(&mut self.buffer)
                .map_err(|source| Error::Tree { action: "read", path: self.path.clone(), source })?;
            self.at_end = read == 0;
        }
        Ok(())
    }
}

fn cut(context: &Context<'_>, deposit: &mut Deposit, feed: &mut Feed) -> Result<(Content, u64, u16)> {
    let cutter = Cutter::content_defined(context.options.bounds);
    let machine = super::elf::machine(&feed.buffer);
    let mut builder = ContentBuilder::new();
    let mut size = 0;
    loop {
        if context.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        feed.fill(READ_LEN)?;
        if size == 0 && feed.at_end && feed.buffer.len() <= INLINE_BYTES_MAX {
            let bytes = std::mem::take(&mut feed.buffer);
            return Ok((Content::Inline(bytes.clone()), bytes.len() as u64, machine));
        }
        let (mut at, mut pieces) = (0, Vec::new());
        while at < feed.buffer.len() && (feed.at_end || feed.buffer.len() - at >= cutter.max()) {
            let len = cutter.cut(&feed.buffer[at..]);
            pieces.push(&feed.buffer[at..at + len]);
            at += len;
        }
        for (bytes, state) in pieces.iter().zip(classify(&pieces, &context.held)) {
            let len = u32::try_from(bytes.len()).expect("a short chunk");
            push(Cut { len, state }, bytes, &mut builder, deposit)?;
        }
        feed.buffer.drain(..at);
        size += at as u64;
        context.progress.advance(at as u64, 0);
        if feed.at_end && feed.buffer.is_empty() {
            return Ok((builder.finish(deposit)?, size, machine));
        }
    }
}

fn spool(
    context: &Context<'_>,
    deposit: &mut Deposit,
    store: &Path,
    feed: &mut Feed,
) -> Result<(Content, u64, u16)> {
    let failed = |action| {
        let dir = store.join("cache");
        move |errno: Errno| Error::io(action, dir)(errno.into())
    };
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file =
        openat(CWD, store.join("cache"), flags, Mode::RUSR | Mode::WUSR).map_err(failed("make a file in"))?;
    let mut size = 0;
    while !feed.buffer.is_empty() || !feed.at_end {
        if context.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let mut bytes = &feed.buffer[..];
        while !bytes.is_empty() {
            let written = match pwrite(&file, bytes, size) {
                Err(Errno::INTR) => 0,
                written => written.map_err(failed("write to a file in"))?,
            };
            bytes = &bytes[written..];
            size += written as u64;
        }
        feed.buffer.clear();
        feed.fill(READ_LEN)?;
    }
    let stat = rustix::fs::fstat(&file).map_err(failed("read a file in"))?;
    let source = Source::of_descriptor(file, feed.path.clone(), Item::new(Vec::new(), &stat).stamp);
    let mut large = Large::of(source, false, context.options.bounds, None)?;
    while !large.is_done() {
        if context.progress.cancelled() {
            return Err(Error::Cancelled);
        }
        while large.has_more() && large.windows_begun() < context.pool.threads() + 1 {
            large.begin_window(&context.pool, &context.held, context.objects);
        }
        let (_, covered) = large.join_window(&context.pool, &context.held, deposit)?;
        context.progress.advance(covered, 0);
    }
    let (content, machine) = large.finish(deposit)?;
    Ok((content, size, machine))
}
