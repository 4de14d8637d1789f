//! The FUSE device, where fuser has no call for it: raw notifications, backing files by number, a device that another
//! process initialised, and reading threads that must let go of it; and the allocator's memory.
//!
//! All unsafe code of this crate is here, each piece with the reason why it is sound. Nothing here knows what is mounted.
//!
//! **Letting go.** fuser's threads block in `read(2)` of one descriptor and cannot be told to stop. [`Parking::park`]
//! puts a socket on which nothing ever arrives in that descriptor's place and interrupts the threads by a signal: a thread
//! whose handler has run since can only come to the socket, or into a handler of ours with what it read last.
//! [`Parking::unpark`] does the same the other way round. What was read and never answered stays with the kernel, which
//! sends it again after [`Device::resend`].
#![expect(
    unsafe_code,
    reason = "ioctls, dup2 onto a number, and signals to threads; each has its proof below"
)]

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fuser::{
    FileHandle, Filesystem, FopenFlags, InitFlags, Notifier, ReplyOpen, Session, SessionACL, Version,
};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, opcode};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// From this version of the FUSE protocol on, the kernel can be told that no name it cached is to be believed.
const EPOCH_SINCE: Version = Version(7, 44);
/// From include/uapi/linux/fuse.h.
const FUSE_NOTIFY_RESEND: i32 = 7;
const FUSE_NOTIFY_INC_EPOCH: i32 = 8;
const FUSE_INIT: u32 = 26;
const DEV_IOC_BACKING_CLOSE: Opcode = opcode::write::<u32>(229, 2);
/// How long a reading thread may take to be interrupted: it is in user space or in a wait that signals end.
const INTERRUPT_MAX: Duration = Duration::from_secs(2);

/// A descriptor of a FUSE connection, beside the one that its session reads.
#[derive(Debug)]
pub(crate) struct Device {
    fd: OwnedFd,
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Device {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Whether this kernel knows [`Self::increment_epoch`].
    pub(crate) fn has_epoch(abi: Version) -> bool {
        abi >= EPOCH_SINCE
    }

    /// Makes every name that the kernel has cached so far stale: the next look-up of each comes to us. One atomic
    /// increment in the kernel: it waits for nothing, so it may be called with locks held that look-ups wait for.
    pub(crate) fn increment_epoch(&self) -> Result<(), Errno> {
        self.notify(FUSE_NOTIFY_INC_EPOCH)
    }

    /// Has the kernel send once more all requests that were read from the device and not answered.
    pub(crate) fn resend(&self) -> Result<(), Errno> {
        self.notify(FUSE_NOTIFY_RESEND)
    }

    fn notify(&self, code: i32) -> Result<(), Errno> {
        // A `fuse_out_header`: its length, the code where an errno would be, and 0 for "answers no request".
        let mut header = [0; 16];
        header[..4].copy_from_slice(&16u32.to_ne_bytes());
        header[4..8].copy_from_slice(&code.to_ne_bytes());
        rustix::io::write(&self.fd, &header).map(|_| ())
    }

    /// Lets go of the connection, which is another process' now: as long as any descriptor leads to it, its mount does
    /// not notice if that process dies. Whatever is asked of this afterwards is an error.
    pub(crate) fn abandon(&self) -> Result<(), Errno> {
        let nothing = rustix::fs::open("/dev/null", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
        // SAFETY: the descriptor is this value's own and stays open: what it refers to is replaced in one step, and
        // `ManuallyDrop` keeps the second handle from closing it.
        let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.fd.as_raw_fd()) });
        rustix::io::dup3(nothing, &mut target, rustix::io::DupFlags::CLOEXEC)
    }

    /// Makes an open file one that the kernel can read by itself. The number is the connection's until it is closed,
    /// whichever process serves it.
    pub(crate) fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<BackingFile> {
        fuser::BackingId::create_raw(&self.fd, file).map(BackingFile)
    }

    /// Gives a number back. Files that are open through it stay so.
    pub(crate) fn close_backing(&self, file: BackingFile) -> Result<(), Errno> {
        // SAFETY: FUSE_DEV_IOC_BACKING_CLOSE reads one u32 behind the pointer, which `Setter` keeps alive for the call.
        unsafe { rustix::ioctl::ioctl(&self.fd, Setter::<DEV_IOC_BACKING_CLOSE, u32>::new(file.0)) }
    }
}

/// Gives pages of the heap on which nothing lies back to the system; takes a few milliseconds.
#[cfg(target_env = "gnu")]
pub(crate) fn trim_heap() {
    // SAFETY: it changes nothing that anybody can see but how much memory is free, and takes the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim_heap() {}

/// While it lives, this thread is not interrupted for others that only compute: somebody waits for a lock that it holds.
/// Where that is not allowed, it takes its chances.
#[derive(Debug)]
pub(crate) struct Urgent {
    _of_this_thread: PhantomData<*const ()>,
    is_set: bool,
}

impl Urgent {
    /// From now on.
    pub(crate) fn begin() -> Self {
        // SAFETY: a question about the calling thread.
        let is_usual = unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER;
        Self { _of_this_thread: PhantomData, is_set: is_usual && schedule(libc::SCHED_FIFO, 1) }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if self.is_set {
            // What could be set can be taken back.
            schedule(libc::SCHED_OTHER, 0);
        }
    }
}

/// Has the calling thread scheduled in another way; whether that is allowed. See sched(7).
fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: the call reads the structure, which lives as long as it takes.
    unsafe { libc::sched_setscheduler(0, policy, &raw const param) == 0 }
}

/// The number of a backing file in its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct BackingFile(u32);

/// Answers an open so that reads go straight to a backing file.
pub(crate) fn reply_passthrough(reply: ReplyOpen, handle: FileHandle, flags: FopenFlags, file: BackingFile) {
    // SAFETY: the number is open and belongs to the connection that the request came by. The wrapper would close it when
    // dropped: it is taken apart again instead, so the number's owner stays the table of open files.
    let id = unsafe { reply.wrap_backing(file.0) };
    reply.opened_passthrough(handle, flags, &id);
    let _ = id.into_raw();
}

/// What a kernel said at the beginning of a connection; the next process to serve it is told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Handshake {
    pub(crate) abi: (u32, u32),
    pub(crate) capabilities: u64,
}

/// The descriptor that a session reads and answers by; as long as this lives it is the session's, even if that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    number: RawFd,
    _keeps_it_open: Notifier,
}

impl Line {
    pub(crate) fn of<F: Filesystem>(session: &Session<F>) -> Self {
        Self { number: session.as_fd().as_raw_fd(), _keeps_it_open: session.notifier() }
    }

    /// Makes the descriptor lead to what `to` leads to.
    fn put(&self, to: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: the notifier keeps the descriptor open, so its number is nobody else's. What it refers to is replaced
        // in one step, and `ManuallyDrop` keeps this second handle from closing it.
        let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.number) });
        rustix::io::dup3(to, &mut target, rustix::io::DupFlags::CLOEXEC)
    }
}

/// A session for a connection that another process has initialised, which reads nothing yet: its descriptor leads to a
/// socket until [`Self::connect`].
///
/// fuser has no session without the handshake, so the kernel's part of it is played here on a socket pair.
pub(crate) struct Adopted<F: Filesystem> {
    session: Session<F>,
    _kernel: OwnedFd,
}

impl<F: Filesystem> Adopted<F> {
    pub(crate) fn new(files: F, handshake: Handshake, config: fuser::Config) -> io::Result<Self> {
        let (kernel, session) = socket_pair()?;
        rustix::net::send(&kernel, &init_request(handshake), SendFlags::empty())?;
        let session = Session::from_fd(files, session, SessionACL::All, config)?;
        // Its answer, which no kernel waits for.
        rustix::net::recv(&kernel, &mut [0; 256], RecvFlags::DONTWAIT)?;
        Ok(Self { session, _kernel: kernel })
    }

    /// From here on the session is the connection's.
    pub(crate) fn connect(self, device: BorrowedFd<'_>) -> Result<Session<F>, Errno> {
        Line::of(&self.session).put(device)?;
        Ok(self.session)
    }
}

/// `fuse_in_header` and `fuse_init_in`, as this machine's kernel would send them.
fn init_request(handshake: Handshake) -> [u8; 104] {
    let mut request = [0; 104];
    let words = [
        (0, 104),
        (4, FUSE_INIT),
        // The request's number, of which only the lower half is not 0.
        (8, 2),
        (40, handshake.abi.0),
        (44, handshake.abi.1),
        // The greatest read-ahead: settled long ago.
        (48, 128 << 10),
    ];
    for (at, word) in words {
        request[at..at + 4].copy_from_slice(&u32::to_ne_bytes(word));
    }
    // The lower half, which says that there is an upper one, comes first on every machine.
    let flags = handshake.capabilities | InitFlags::FUSE_INIT_EXT.bits();
    let flags = flags.to_le_bytes();
    for (at, half) in [(52, &flags[..4]), (56, &flags[4..])] {
        let half = half.first_chunk().map_or(0, |half| u32::from_le_bytes(*half));
        request[at..at + 4].copy_from_slice(&half.to_ne_bytes());
    }
    request
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// The lines of sessions, and the socket that takes the devices' place while others may serve them.
pub(crate) struct Parking {
    sessions: Vec<(Line, OwnedFd)>,
    /// Both ends: with the other one closed, a read would end instead of waiting.
    nothing: (OwnedFd, OwnedFd),
}

impl Parking {
    /// For sessions of this process, each with its device.
    pub(crate) fn new(sessions: Vec<(Line, OwnedFd)>) -> Result<Self, Errno> {
        catch_interrupts()?;
        Ok(Self { sessions, nothing: socket_pair()? })
    }

    /// After this no thread of this process reads any of the devices, nor can answer a request: whoever answers must
    /// be kept from it before, or the answer is lost.
    pub(crate) fn park(&self) -> Result<(), Errno> {
        for (line, _) in &self.sessions {
            line.put(self.nothing.1.as_fd())?;
        }
        interrupt_readers()
    }

    /// All is as before.
    pub(crate) fn unpark(&self) -> Result<(), Errno> {
        for (line, device) in &self.sessions {
            line.put(device.as_fd())?;
        }
        interrupt_readers()
    }
}

/// How often the signal has interrupted a thread.
static INTERRUPTED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn interrupted(_: libc::c_int) {
    INTERRUPTED.fetch_add(1, Ordering::SeqCst);
}

/// SIGURG is ignored where nobody asks for it, and nobody here reads out-of-band data.
fn catch_interrupts() -> Result<(), Errno> {
    // SAFETY: all zeros is a valid `sigaction`: no flags, so that system calls are not restarted, and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = interrupted as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler does one atomic increment, which is async-signal-safe, and lives as long as the program.
    match unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// Interrupts the threads that read devices, and returns when each has run the handler.
fn interrupt_readers() -> Result<(), Errno> {
    let before = INTERRUPTED.load(Ordering::SeqCst);
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let mut sent = 0;
    for thread in readers()? {
        // SAFETY: a signal that has a handler, to a thread of this process; one that has ended is an error and no more.
        if unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGURG) } == 0 {
            sent += 1;
        }
    }
    let begun = Instant::now();
    while INTERRUPTED.load(Ordering::SeqCst).wrapping_sub(before) < sent {
        if begun.elapsed() > INTERRUPT_MAX {
            return Err(Errno::TIMEDOUT);
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// The threads of this process that fuser named: `fuser-0` and so on.
fn readers() -> Result<Vec<libc::pid_t>, Errno> {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let tasks = rustix::fs::open("/proc/self/task", flags, rustix::fs::Mode::empty())?;
    let mut readers = Vec::new();
    for entry in rustix::fs::Dir::read_from(&tasks)? {
        let Some(number) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(name) = std::fs::read_to_string(format!("/proc/self/task/{number}/comm")) else { continue };
        let digits = name.trim_end().strip_prefix("fuser-");
        if digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            readers.push(number);
        }
    }
    Ok(readers)
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Ends this process at once: no destructor runs that would unmount or unlock what is another process's now.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> libc::c_int {
        // SAFETY: a question about the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn urgency_ends() {
        let usual = policy();
        let urgent = Urgent::begin();
        assert_eq!(urgent.is_set, policy() == libc::SCHED_FIFO && usual == libc::SCHED_OTHER);
        // Within another it changes nothing.
        drop(Urgent::begin());
        assert_eq!(urgent.is_set, policy() == libc::SCHED_FIFO && usual == libc::SCHED_OTHER);
        drop(urgent);
        assert_eq!(policy(), usual);
    }
}
