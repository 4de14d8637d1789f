//! A connection as the server sees it: what went over it, what it waits for, and when it is closed for that.
//!
//! A client may be slow to begin, slow to send, slow to take, or gone without a word. All of that is one question, asked
//! again and again by the task that serves the connection: is somebody waited for, and does he move? Answers that are
//! being prepared, and bytes that wait for their share of the bandwidth, are not the client's to answer for.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::peer_limits::PeerLimits;

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) address: SocketAddr,
    began: Instant,
    /// Requests whose answers have not been handed on to the end.
    open: AtomicU32,
    /// Those of them where the next step is the server's.
    ours: AtomicU32,
    requests: AtomicU64,
    is_http2: AtomicBool,
    read: AtomicU64,
    written: AtomicU64,
    /// When the last answer ended, in milliseconds since `began`.
    idle_since_ms: AtomicU64,
    /// It has to make room.
    evicted: Notify,
    is_evicted: AtomicBool,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            began: Instant::now(),
            open: AtomicU32::new(0),
            ours: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            is_http2: AtomicBool::new(false),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            idle_since_ms: AtomicU64::new(0),
            evicted: Notify::new(),
            is_evicted: AtomicBool::new(false),
        })
    }

    /// A request came, and is the server's to answer.
    pub(crate) fn begin(self: &Arc<Self>, is_http2: bool) -> Step {
        self.is_http2.store(is_http2, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.ours.fetch_add(1, Ordering::Relaxed);
        Step { connection: Arc::clone(self), is_ours: true }
    }

    /// Since when it has had no request, if it has none.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.open.load(Ordering::Relaxed) == 0 && !self.is_evicted.load(Ordering::Relaxed);
        is_idle.then(|| self.began + Duration::from_millis(self.idle_since_ms.load(Ordering::Relaxed)))
    }

    /// Has it closed.
    pub(crate) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        self.evicted.notify_one();
    }

    fn seen(&self) -> Seen {
        Seen {
            open: self.open.load(Ordering::Relaxed),
            ours: self.ours.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            is_http2: self.is_http2.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
        }
    }

    /// Waits until it is to be closed, and says why.
    pub(crate) async fn overdue(&self, limits: &PeerLimits) -> &'static str {
        let mut watch = Watch::new(limits, self.seen(), self.began);
        let least = limits.head_time_max.min(limits.idle_time_max).min(limits.stall_time_max);
        let mut ticks = tokio::time::interval((least / 4).max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.evicted.notified() => return "made room",
                _ = ticks.tick() => {}
            }
            if let Some(why) = watch.look(self.seen(), Instant::now()) {
                return why;
            }
        }
    }
}

/// A request on a connection. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Step {
    connection: Arc<Connection>,
    is_ours: bool,
}

impl Step {
    /// Whose the next step is: the server's or the client's.
    pub(crate) fn turn(&mut self, is_ours: bool) {
        if self.is_ours != is_ours {
            self.is_ours = is_ours;
            if is_ours {
                self.connection.ours.fetch_add(1, Ordering::Relaxed);
            } else {
                self.connection.ours.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.turn(false);
        let since = u64::try_from(self.connection.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.connection.idle_since_ms.store(since, Ordering::Relaxed);
        self.connection.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a look at a connection shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    open: u32,
    ours: u32,
    requests: u64,
    is_http2: bool,
    read: u64,
    written: u64,
}

/// Judges a connection from looks at it. Pure: the time is given.
#[derive(Debug)]
struct Watch {
    head_time_max: Duration,
    idle_time_max: Duration,
    stall_time_max: Duration,
    stall_bytes_min: u64,
    /// What was seen when the time that runs began.
    base: Seen,
    since: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was asked yet.
    New,
    /// Nothing is asked.
    Idle,
    /// A head has begun to come.
    Head,
    /// The client is waited for.
    Waiting,
    /// The server is.
    Ours,
}

impl Watch {
    fn new(limits: &PeerLimits, seen: Seen, now: Instant) -> Self {
        Self {
            head_time_max: limits.head_time_max,
            idle_time_max: limits.idle_time_max,
            stall_time_max: limits.stall_time_max,
            stall_bytes_min: limits.stall_bytes_min,
            base: seen,
            since: now,
            phase: Phase::New,
        }
    }

    /// Why the connection is to be closed, if it is.
    fn look(&mut self, seen: Seen, now: Instant) -> Option<&'static str> {
        let phase = self.phase_of(seen);
        let moved = (seen.read - self.base.read) + (seen.written - self.base.written);
        let begins = match phase {
            _ if phase != self.phase || seen.requests != self.base.requests => true,
            Phase::Idle => seen.written != self.base.written,
            Phase::Waiting => moved >= self.stall_bytes_min,
            Phase::New | Phase::Head | Phase::Ours => false,
        };
        if begins {
            (self.phase, self.base, self.since) = (phase, seen, now);
            return None;
        }
        let (max, why) = match phase {
            Phase::New | Phase::Head => (self.head_time_max, "slow head"),
            Phase::Idle => (self.idle_time_max, "idle"),
            Phase::Waiting => (self.stall_time_max, "stalled"),
            Phase::Ours => return None,
        };
        (now.duration_since(self.since) >= max).then_some(why)
    }

    fn phase_of(&self, seen: Seen) -> Phase {
        match (seen.requests, seen.open) {
            (0, _) => Phase::New,
            (_, 0) if self.phase == Phase::Head => Phase::Head,
            // Other frames of HTTP/2 may come at any time; its heads cannot be told from them here.
            (_, 0) if self.phase == Phase::Idle && !seen.is_http2 && seen.read > self.base.read => {
                Phase::Head
            }
            (_, 0) => Phase::Idle,
            (_, open) if seen.ours >= open => Phase::Ours,
            _ => Phase::Waiting,
        }
    }
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    stream: S,
    connection: Arc<Connection>,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.connection.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.connection.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts))?;
        self.connection.written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Clock {
        watch: Watch,
        start: Instant,
    }

    impl Clock {
        fn new() -> Self {
            let limits = PeerLimits {
                head_time_max: 10 * SECOND,
                idle_time_max: 60 * SECOND,
                stall_time_max: 30 * SECOND,
                stall_bytes_min: 1000,
                ..PeerLimits::default()
            };
            let start = Instant::now();
            Self { watch: Watch::new(&limits, Seen::default(), start), start }
        }

        fn at(&mut self, second: u32, seen: Seen) -> Option<&'static str> {
            self.watch.look(seen, self.start + second * SECOND)
        }
    }

    fn requests(requests: u64, open: u32, ours: u32) -> Seen {
        Seen { requests, open, ours, ..Seen::default() }
    }

    #[test]
    fn a_head_has_to_come_in_time_however_slowly_it_moves() {
        let mut clock = Clock::new();
        for second in 0..10 {
            let seen = Seen { read: u64::from(second) * 5000, ..Seen::default() };
            assert_eq!(clock.at(second, seen), None);
        }
        assert_eq!(clock.at(10, Seen { read: 1 << 20, ..Seen::default() }), Some("slow head"));
    }

    #[test]
    fn the_next_head_is_timed_from_its_first_byte() {
        let mut clock = Clock::new();
        assert_eq!(clock.at(9, Seen { read: 100, ..requests(1, 1, 1) }), None);
        assert_eq!(clock.at(20, Seen { read: 100, written: 50, ..requests(1, 0, 0) }), None);
        assert_eq!(clock.at(75, Seen { read: 100, written: 50, ..requests(1, 0, 0) }), None);
        assert_eq!(clock.at(76, Seen { read: 101, written: 50, ..requests(1, 0, 0) }), None);
        assert_eq!(clock.at(85, Seen { read: 150, written: 50, ..requests(1, 0, 0) }), None);
        assert_eq!(clock.at(86, Seen { read: 160, written: 50, ..requests(1, 0, 0) }), Some("slow head"));
    }

    #[test]
    fn who_asks_nothing_is_closed_after_a_while() {
        let mut clock = Clock::new();
        for is_http2 in [false, true] {
            let base = if is_http2 { 100 } else { 0 };
            let seen = |read| Seen { is_http2, read: if is_http2 { read } else { 9 }, ..requests(1, 0, 0) };
            assert_eq!(clock.at(base, Seen { requests: 1 + u64::from(base), ..seen(9) }), None);
            assert_eq!(clock.at(base + 59, Seen { requests: 1 + u64::from(base), ..seen(80) }), None);
            assert_eq!(clock.at(base + 60, Seen { requests: 1 + u64::from(base), ..seen(90) }), Some("idle"));
        }
    }

    #[test]
    fn who_does_not_take_what_he_asked_for_is_cut_off() {
        let mut clock = Clock::new();
        // The server takes its time: nobody is cut off for that.
        assert_eq!(clock.at(1, requests(1, 1, 1)), None);
        assert_eq!(clock.at(500, requests(1, 1, 1)), None);
        // He takes a little, too little, and then nothing.
        let taken = |written| Seen { written, ..requests(1, 1, 0) };
        assert_eq!(clock.at(501, taken(0)), None);
        assert_eq!(clock.at(530, taken(1000)), None);
        assert_eq!(clock.at(559, taken(1999)), None);
        assert_eq!(clock.at(560, taken(1999)), Some("stalled"));
    }

    #[test]
    fn a_stream_of_several_that_stalls_is_nobody_elses_matter_while_others_move() {
        let mut clock = Clock::new();
        for second in 0..200 {
            let seen = Seen { written: u64::from(second) * 100, is_http2: true, ..requests(2, 2, 0) };
            assert_eq!(clock.at(second, seen), None);
        }
    }
}
