//! A running node: a thread that follows, a thread that produces, a socket for requests, and their end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::{Role, RunArgs};
use crate::control;
use crate::error::Error;
use crate::node::Node;
use crate::stream::{Heard, Stream};

/// How long nothing is asked of a daemon that did not answer: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Between looks at whether the node is to stop, while the stream is silent.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs a node until a signal ends it, or its rounds are made, or its state must not be gone on with.
pub(crate) fn run(args: &RunArgs) -> Result<(), Error> {
    let stream = Arc::new(Stream::new(&args.stream, args.token.as_deref())?);
    let node = Arc::new(Node::open(args.dir.clone())?);
    let socket = args.socket.clone().unwrap_or_else(|| control::beside(&args.dir));
    let produces = args.role != Role::Listener;
    let _socket = control::listen(&socket, &node, produces)?;
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|source| Error::Io { what: "signals".into(), source })?;
    let at = node.at();
    println!("{} at round {}, state {}, socket {}", args.role, at.round, at.hash().short(), socket.display());

    let follower = start(&node, {
        let (node, stream, role) = (Arc::clone(&node), Arc::clone(&stream), args.role);
        move || follow(&node, &stream, role)
    });
    let producer = produces.then(|| {
        let (for_it, stream, args) = (Arc::clone(&node), Arc::clone(&stream), args.clone());
        start(&node, move || produce(&for_it, &stream, &args))
    });
    let for_signals = Arc::clone(&node);
    let handle = signals.handle();
    let watcher = std::thread::spawn(move || signals.forever().take(1).for_each(|_| for_signals.stop()));

    let followed = join(follower);
    let produced = producer.map_or(Ok(()), join);
    handle.close();
    // It has nothing to fail at.
    let _ = watcher.join();
    node.close()?;
    let at = node.at();
    println!("stopped at round {}, state {}", at.round, at.hash());
    followed.and(produced)
}

/// A thread whose end is that of the node.
fn start(
    node: &Arc<Node>,
    work: impl FnOnce() -> Result<(), Error> + Send + 'static,
) -> JoinHandle<Result<(), Error>> {
    /// Stops the node, even if the thread panics.
    struct Stops(Arc<Node>);
    impl Drop for Stops {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    let stops = Stops(Arc::clone(node));
    std::thread::spawn(move || {
        let _stops = stops;
        match work() {
            Err(Error::Stopping) => Ok(()),
            ended => ended,
        }
    })
}

fn join(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Applies what the stream has, for ever. A daemon that does not answer is asked again.
fn follow(node: &Node, stream: &Stream, role: Role) -> Result<(), Error> {
    let mut pause = PAUSE_MIN;
    loop {
        match follow_once(node, stream, &mut pause) {
            Err(error) if Stream::is_absent(&error) && role == Role::Bootstrap && node.at().round == 0 => {
                // The first event makes the stream.
                node.heard_of(1);
                node.pause(PAUSE_MIN)?;
            }
            Err(error) if Stream::is_passing(&error) => {
                eprintln!("not following for {} ms: {}", pause.as_millis(), chain(&error));
                node.pause(pause)?;
                pause = PAUSE_MAX.min(pause * 2);
            }
            ended => ended?,
        }
    }
}

/// Follows until the daemon goes away.
fn follow_once(node: &Node, stream: &Stream, pause: &mut Duration) -> Result<(), Error> {
    let mut following = stream.follow(node.at().round + 1)?;
    while !node.is_stopping() {
        match following.hear(LOOK_EVERY)? {
            Heard::Events(events) => {
                node.apply(&events)?;
                node.heard_of(node.at().round + 1);
            }
            Heard::Next(next) => node.heard_of(next),
            Heard::Nothing => {}
            Heard::End => return node.pause(PAUSE_MIN),
        }
        *pause = PAUSE_MIN;
    }
    Err(Error::Stopping)
}

/// Appends rounds, one time after the other.
fn produce(node: &Node, stream: &Stream, args: &RunArgs) -> Result<(), Error> {
    let mut left = args.rounds.unwrap_or(u64::MAX);
    let mut due = Instant::now();
    while left > 0 {
        node.wait_until_caught_up()?;
        node.wait_for_a_wish(due.saturating_duration_since(Instant::now()))?;
        let count = args.burst.min(left);
        let writes = |round| args.load.writes(round, args.writes);
        match node.produce(count, writes, |events| stream.append(events)) {
            Ok(made) => left -= made,
            Err(error) if Stream::is_passing(&error) => {
                eprintln!("not appending for a second: {}", chain(&error));
                node.pause(Duration::from_secs(1))?;
            }
            Err(error) => return Err(error),
        }
        // What was late is not made up for.
        due = Instant::now().max(due + args.interval);
    }
    Ok(())
}

/// What went wrong, and why.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
