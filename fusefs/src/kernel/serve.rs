//! Where a request is worked on: at once, or on the pool, and answered inside the gate.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fuser::{INodeNo, ReplyData, ReplyOpen, ReplyXattr, Request};

use super::answer::{answer_open, answer_xattr};
use super::far::{can_be_brought, wait_far};
use super::{Core, Kernel};
use crate::attr::Ino;
use crate::errno::Errno;
use crate::files::ReadError;
use crate::fs::Xattr;
use crate::handle::OpenFile;
use crate::slow::Length;

impl Kernel {
    /// Does a job at once, if the store need not be read for it; else on the pool, which reads first. `name` as
    /// [`Fs::is_at_hand`] has it.
    pub(super) fn serve(
        &self,
        request: &Request,
        ino: INodeNo,
        name: Option<&OsStr>,
        job: impl FnOnce(&Arc<Core>, Option<&OsStr>) + Send + 'static,
    ) {
        // Without a core nobody has asked yet. A reply that is dropped is an EIO.
        let Some(core) = self.core.get() else { return };
        core.linger.came(request.pid());
        let bytes = name.map(OsStr::as_bytes);
        let is_at_hand = guarded_part("look", ino, || core.fs.is_at_hand(Ino(ino.0), bytes));
        if is_at_hand.unwrap_or(false) {
            job(core, name);
            core.linger.answered(core.device.as_fd());
        } else {
            let (owned, name) = (Arc::clone(core), name.map(OsStr::to_owned));
            core.pool.run(Length::Short, move || {
                let bytes = name.as_deref().map(OsStr::as_bytes);
                let fetched = guarded_part("fetch", ino, || owned.fs.fetch(Ino(ino.0), bytes));
                match fetched {
                    Ok(Err(error)) if can_be_brought(&owned, &error) => {
                        let wanted = name.clone();
                        let bring = move |core: &Arc<Core>| {
                            core.fs.bring(Ino(ino.0), wanted.as_deref().map(OsStr::as_bytes), &error);
                        };
                        let answer = move |core: &Arc<Core>, _| job(core, name.as_deref());
                        wait_far(&owned, ino, bring, answer, |_| ());
                    }
                    // What it cannot read the job itself will say.
                    _ => job(&owned, name.as_deref()),
                }
            });
        }
    }

    /// Runs one operation on an inode inside the gate and gives its result to `answer`, in there too.
    pub(super) fn handle<T>(
        &self,
        request: &Request,
        operation: &'static str,
        ino: INodeNo,
        run: impl FnOnce(&Arc<Core>) -> Result<T, Errno> + Send + 'static,
        answer: impl FnOnce(Result<T, fuser::Errno>) + Send + 'static,
    ) {
        self.serve(request, ino, None, move |core, _| core.answer(operation, ino, || run(core), answer));
    }

    /// Answers a question about extended attributes; whether there are any at all may take reading many artifacts.
    pub(super) fn xattr(
        &self,
        request: &Request,
        operation: &'static str,
        ino: INodeNo,
        run: impl FnOnce(&Arc<Core>) -> Result<Xattr, Errno> + Send + 'static,
        reply: ReplyXattr,
    ) {
        let Some(core) = self.core.get() else { return reply.error(fuser::Errno::EIO) };
        if core.fs.has_no_xattrs() {
            return self.handle(request, operation, ino, run, |value| answer_xattr(reply, value));
        }
        let job = Arc::clone(core);
        core.pool.run(Length::Short, move || {
            let fetched = guarded_part("fetch", ino, || job.fs.fetch_xattrs(Ino(ino.0)));
            let answer = move |core: &Arc<Core>, _| {
                core.answer(operation, ino, || run(core), |value| answer_xattr(reply, value));
            };
            match fetched {
                Ok(Err(error)) if can_be_brought(&job, &error) => {
                    let bring = move |core: &Arc<Core>| core.fs.bring(Ino(ino.0), None, &error);
                    wait_far(&job, ino, bring, answer, |_| ());
                }
                _ => answer(&job, None),
            }
        });
    }
}

impl Core {
    /// Runs one operation inside the gate and gives its result to `answer`, in there too.
    pub(super) fn answer<T>(
        &self,
        operation: &'static str,
        ino: INodeNo,
        run: impl FnOnce() -> Result<T, Errno>,
        answer: impl FnOnce(Result<T, fuser::Errno>),
    ) {
        let _inside = self.gate.pass();
        answer(guarded(operation, ino, run));
    }
}

/// Runs an operation; a panic is an EIO and one line in the log.
pub(super) fn guarded<T>(
    operation: &'static str,
    ino: INodeNo,
    run: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, fuser::Errno> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|errno| fuser::Errno::from_i32(errno.number())),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("");
            tracing::error!(operation, inode = ino.0, panic = text, "a handler of the mount panicked");
            Err(fuser::Errno::EIO)
        }
    }
}

/// Runs a part of an operation on the pool: its panic is its absence.
pub(super) fn guarded_part<T>(
    operation: &'static str,
    ino: INodeNo,
    run: impl FnOnce() -> T,
) -> Result<T, fuser::Errno> {
    guarded(operation, ino, || Ok(run()))
}

/// The end of an open that waits for a whole file, on the pool.
pub(super) fn open_slowly(core: &Arc<Core>, ino: INodeNo, file: &Arc<OpenFile>, reply: ReplyOpen) {
    let path = || core.fs.path_of(Ino(ino.0));
    let whole = guarded_part("open", ino, || core.opens.prepare(file, path));
    if whole.is_err() {
        // It was held first of all.
        core.files.release(&file.id);
    }
    let _inside = core.gate.pass();
    let way =
        whole.and_then(|whole| guarded_part("open", ino, || core.opens.finish(Ino(ino.0), file, whole)));
    answer_open(reply, way);
}

/// Reads what takes decoding, on the pool. What is not here, or not sound, other machines are asked for.
pub(super) fn read_slowly(
    core: &Arc<Core>,
    ino: INodeNo,
    file: Arc<OpenFile>,
    offset: u64,
    size: u32,
    reply: ReplyData,
) {
    let read = Read { ino, file, offset, size };
    with_buffer(|buffer| match read.try_here(core, buffer) {
        Ok(Err(error)) if error.is_of_store() && core.files.can_fetch() => read_far(core, read, reply, error),
        here => read.answer(core, reply, buffer, here),
    });
}

/// Has other machines asked for what a read lacks, and then reads.
fn read_far(core: &Arc<Core>, read: Read, reply: ReplyData, here: ReadError) {
    let file = Arc::clone(&read.file);
    file.set_partial();
    let (ino, offset, size, begun) = (read.ino, read.offset, read.size, Arc::clone(&file));
    let bring = move |core: &Arc<Core>| core.files.bring(&file.spec, offset, size);
    let answer = move |core: &Arc<Core>, came: Option<Result<Vec<ReadError>, ReadError>>| {
        let path = || core.fs.path_of(Ino(ino.0));
        let came = came.unwrap_or(Err(ReadError::Deadline));
        for healed in came.iter().flatten() {
            core.files.note_healed(healed, path);
        }
        with_buffer(|buffer| {
            let mut again = read.try_here(core, buffer);
            match (&again, came) {
                (Ok(Ok(())), Ok(healed)) if !healed.iter().any(|healed| healed.is_same(&here)) => {
                    core.files.note_healed(&here, path);
                }
                (Ok(Err(_)), Err(reason)) => {
                    core.files.note_out_of_reach(&read.file.spec, &reason, path);
                    // What is damaged here is listed so, whyever it cannot be healed.
                    again = Ok(Err(here));
                }
                _ => {}
            }
            read.answer(core, reply, buffer, again);
        });
    };
    wait_far(core, ino, bring, answer, move |core| {
        if offset == 0 {
            core.files.bring_program(&begun.spec);
        }
    });
}

/// A read that takes more than copying.
struct Read {
    ino: INodeNo,
    file: Arc<OpenFile>,
    offset: u64,
    size: u32,
}

impl Read {
    /// Reads what is here.
    fn try_here(&self, core: &Core, buffer: &mut Vec<u8>) -> Result<Result<(), ReadError>, fuser::Errno> {
        guarded_part("read", self.ino, || core.files.read(&self.file.spec, self.offset, self.size, buffer))
    }

    fn answer(
        &self,
        core: &Core,
        reply: ReplyData,
        buffer: &[u8],
        read: Result<Result<(), ReadError>, fuser::Errno>,
    ) {
        if let Ok(Err(error)) = &read {
            core.files.note_damage(error, || core.fs.path_of(Ino(self.ino.0)));
        }
        let _inside = core.gate.pass();
        match read {
            Ok(Ok(())) => reply.data(buffer),
            Ok(Err(_)) => reply.error(fuser::Errno::EIO),
            Err(errno) => reply.error(errno),
        }
    }
}

/// An empty buffer of this thread's, so that reads allocate nothing.
pub(super) fn with_buffer<T>(run: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            buffer.clear();
            run(&mut buffer)
        }
        Err(_) => run(&mut Vec::new()),
    })
}
