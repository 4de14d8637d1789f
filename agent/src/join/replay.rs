//! Events are given to whoever applies them, in order, each once, and acknowledged: by a command that reads them from its
//! standard input, or by a program's own code.
//!
//! A command is given more than one event ahead, so that it need not wait between two of them; what is ahead is bounded. It
//! acknowledges each round by a line on its standard output, in order: `ROUND`, or `ROUND STATE_HASH` with what its state
//! hashes to after it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

use cairn_store::{Event, Name, StateHash};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::{JoinError, Result};

/// Events that a command is given before it has acknowledged the first of them, at most.
const AHEAD_MAX: usize = 256;
/// Their bytes, unless it is one.
const AHEAD_BYTES_MAX: usize = 4 << 20;
/// Longest line of an acknowledgement.
const LINE_MAX: usize = 1024;
/// How long a command that is no longer wanted may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often a wait looks whether it is to stop.
const PAUSE: Duration = Duration::from_millis(50);

/// Applies events: what a program gives that joins by itself.
pub trait Replay {
    /// Applies an event. Its round is one more than that of the one before, the first one's that of the snapshot and one.
    /// What was applied is durable, or will be applied again after a crash, from the snapshot on.
    ///
    /// # Errors
    /// What keeps it from being applied.
    fn apply(
        &mut self,
        event: &Event,
    ) -> std::result::Result<Option<StateHash>, Box<dyn std::error::Error + Send + Sync>>;
}

/// An event as a replay command reads it: its length after these 4 bytes, its round, its hash, its payload.
#[must_use]
pub fn frame(event: &Event) -> Vec<u8> {
    let head = event.head();
    let len = u32::try_from(8 + head.hash.0.len() + event.payload.len()).expect("an event is short");
    let mut bytes = Vec::with_capacity(4 + len as usize);
    bytes.extend(len.to_le_bytes());
    bytes.extend(event.round.to_le_bytes());
    bytes.extend(head.hash.0);
    bytes.extend(&event.payload);
    bytes
}

/// What was acknowledged.
pub(super) type Ack = (u64, Option<StateHash>);

/// A command that applies events.
pub(super) struct Replayer {
    child: Child,
    frames: Option<SyncSender<Vec<u8>>>,
    acks: Receiver<Result<Ack, String>>,
    ahead: VecDeque<(u64, usize)>,
    ahead_bytes: usize,
    time_max: Duration,
    /// When the last acknowledgement came, or there was nothing to acknowledge.
    heard: Instant,
}

impl Replayer {
    /// Begins a command in a process group of its own. What it says on standard error goes to that of this process.
    pub(super) fn start(
        command: &str,
        name: &Name,
        dir: &Path,
        round: u64,
        time_max: Duration,
    ) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).process_group(0);
        shell.env("CAIRN_NAME", name.as_str()).env("CAIRN_DIR", dir).env("CAIRN_ROUND", round.to_string());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().map_err(|error| failed(format!("it cannot be begun: {error}")))?;
        let (frames, given) = sync_channel(AHEAD_MAX);
        let (told, acks) = channel();
        let (input, output) = (child.stdin.take(), child.stdout.take());
        if let (Some(input), Some(output)) = (input, output) {
            let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
                std::thread::Builder::new().name(name.to_owned()).spawn(work)
            };
            let give = spawn("replay-in", Box::new(move || give(input, &given)));
            let hear = spawn("replay-out", Box::new(move || hear(output, |ack| told.send(ack).is_ok())));
            if let Err(error) = give.and(hear) {
                end(&mut child);
                return Err(failed(format!("no thread can be had for it: {error}")));
            }
        }
        let (ahead, heard) = (VecDeque::new(), Instant::now());
        Ok(Self { child, frames: Some(frames), acks, ahead, ahead_bytes: 0, time_max, heard })
    }

    /// Whether it may be given another event before it has acknowledged one.
    pub(super) fn has_room(&self) -> bool {
        self.ahead.len() < AHEAD_MAX && self.ahead_bytes < AHEAD_BYTES_MAX
    }

    /// Gives it an event. There has to be room.
    pub(super) fn give(&mut self, event: &Event) -> Result<()> {
        let frame = frame(event);
        if self.ahead.is_empty() {
            self.heard = Instant::now();
        }
        self.ahead.push_back((event.round, frame.len()));
        self.ahead_bytes += frame.len();
        let sent = self.frames.as_ref().map(|frames| frames.try_send(frame));
        match sent {
            Some(Ok(())) => Ok(()),
            // There are as many places as may be ahead.
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => Err(self.died()),
        }
    }

    /// The next acknowledgement; none if it does not come within `wait`.
    pub(super) fn heard(&mut self, wait: Duration) -> Result<Option<Ack>> {
        let Some((due, len)) = self.ahead.front().copied() else { return Ok(None) };
        match self.acks.recv_timeout(wait) {
            Ok(Ok((round, _))) if round != due => {
                Err(failed(format!("it acknowledged round {round} where {due} was due")))
            }
            Ok(Ok(ack)) => {
                self.ahead.pop_front();
                self.ahead_bytes -= len;
                self.heard = Instant::now();
                Ok(Some(ack))
            }
            Ok(Err(problem)) => Err(failed(problem)),
            Err(RecvTimeoutError::Timeout) if self.heard.elapsed() > self.time_max => Err(failed(format!(
                "it has not acknowledged round {due} within {:.0} s",
                self.time_max.as_secs_f64()
            ))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.died()),
        }
    }

    /// Tells it that nothing more comes, and waits until it has ended well.
    pub(super) fn finish(mut self, cancelled: &dyn Fn() -> bool) -> Result<()> {
        self.frames = None;
        let until = Instant::now() + self.time_max;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(format!("it ended with {status}"))),
                Ok(None) if cancelled() => return Err(JoinError::Cancelled),
                Ok(None) if Instant::now() > until => {
                    let time = self.time_max.as_secs_f64();
                    return Err(failed(format!("it did not end within {time:.0} s after its input had")));
                }
                Ok(None) => std::thread::sleep(PAUSE),
                Err(error) => return Err(failed(format!("it cannot be waited for: {error}"))),
            }
        }
    }

    /// Why it takes nothing more.
    fn died(&mut self) -> JoinError {
        // It has closed its end, and is about to end.
        let until = Instant::now() + Duration::from_secs(1);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    let due = self
                        .ahead
                        .front()
                        .map_or(String::new(), |(round, _)| format!(" before it acknowledged round {round}"));
                    return failed(format!("it ended{due}, with {status}"));
                }
                Ok(None) if Instant::now() < until => std::thread::sleep(PAUSE),
                _ => return failed("it closed its standard input or output".to_owned()),
            }
        }
    }
}

impl Drop for Replayer {
    fn drop(&mut self) {
        // Its input ends, which is what it ends by.
        self.frames = None;
        let until = Instant::now() + LAST_WORDS;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(PAUSE);
        }
        end(&mut self.child);
    }
}

fn failed(detail: String) -> JoinError {
    JoinError::Command { what: "replay", detail }
}

/// Ends a command and all that it began.
fn end(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(Some(_))) {
        // It may have ended just now.
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        let _ = child.wait();
    }
}

/// Writes frames until there are none, or nobody takes them.
fn give(input: ChildStdin, frames: &Receiver<Vec<u8>>) {
    let mut input = BufWriter::new(input);
    while let Ok(frame) = frames.recv() {
        let mut next = Some(frame);
        while let Some(frame) = next {
            if input.write_all(&frame).is_err() {
                return;
            }
            next = frames.try_recv().ok();
        }
        if input.flush().is_err() {
            return;
        }
    }
}

/// Reads acknowledgements until there are none, or nobody wants them.
fn hear(output: ChildStdout, tell: impl Fn(Result<Ack, String>) -> bool) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut output, LINE_MAX as u64);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if !tell(acknowledged(&line)) => return,
            Ok(_) => {}
        }
    }
}

fn acknowledged(line: &[u8]) -> Result<Ack, String> {
    let not_one = || {
        format!(
            "it wrote {:?}, which acknowledges no round",
            String::from_utf8_lossy(&line[..line.len().min(80)])
        )
    };
    let text = std::str::from_utf8(line).ok().and_then(|text| text.strip_suffix('\n')).ok_or_else(not_one)?;
    let mut words = text.split_whitespace();
    let round = words.next().and_then(|word| word.parse().ok()).ok_or_else(not_one)?;
    let state_hash = words.next().map(|word| word.parse::<StateHash>().map_err(|_| not_one())).transpose()?;
    if words.next().is_some() {
        return Err(not_one());
    }
    Ok((round, state_hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(round: u64) -> Event {
        Event { round, state_hash: None, payload: format!("event {round}").into_bytes() }
    }

    fn start(command: &str) -> Replayer {
        Replayer::start(command, &"net".parse().unwrap(), Path::new("/tmp"), 6, Duration::from_secs(30))
            .unwrap()
    }

    fn next(replayer: &mut Replayer) -> Result<Ack> {
        loop {
            if let Some(ack) = replayer.heard(Duration::from_secs(1))? {
                return Ok(ack);
            }
        }
    }

    #[test]
    fn acknowledgements_are_read_strictly() {
        let hash: StateHash = "ab01".parse().unwrap();
        assert_eq!(acknowledged(b"7\n"), Ok((7, None)));
        assert_eq!(acknowledged(b" 7 ab01 \n"), Ok((7, Some(hash))));
        for bad in ["7", "\n", "x\n", "-1\n", "7 xyz\n", "7 ab01 more\n", "18446744073709551616\n"] {
            assert!(acknowledged(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(acknowledged(b"7 \xff\n").is_err());
    }

    #[test]
    fn a_command_is_given_frames_and_its_lines_are_heard() {
        // 4 + 8 + 32 + 7 bytes each.
        let mut replayer = start("head -c 102 | wc -c; read rest; echo 8 ab; test \"$CAIRN_ROUND\" = 6");
        let frame = frame(&event(7));
        assert_eq!(frame.len(), 51);
        assert_eq!(frame[..12], [47, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        replayer.give(&event(7)).unwrap();
        replayer.give(&event(8)).unwrap();
        let error = next(&mut replayer).unwrap_err();
        assert!(error.to_string().contains("round 102 where 7"), "{error}");
    }

    #[test]
    fn events_are_acknowledged_one_after_the_other() {
        let mut replayer = start("echo 7; echo 8 ab01; cat > /dev/null");
        replayer.give(&event(7)).unwrap();
        replayer.give(&event(8)).unwrap();
        assert!(!replayer.ahead.is_empty());
        assert_eq!(next(&mut replayer).unwrap(), (7, None));
        assert_eq!(next(&mut replayer).unwrap(), (8, Some("ab01".parse().unwrap())));
        assert!(replayer.ahead.is_empty());
        replayer.finish(&|| false).unwrap();
    }

    #[test]
    fn what_is_ahead_is_bounded() {
        let mut replayer = start("cat > /dev/null");
        let mut given = 0;
        while replayer.has_room() {
            replayer.give(&event(given)).unwrap();
            given += 1;
        }
        assert_eq!(given, AHEAD_MAX as u64);
        let mut replayer = start("cat > /dev/null");
        replayer.give(&Event { round: 0, state_hash: None, payload: vec![0; AHEAD_BYTES_MAX] }).unwrap();
        assert!(!replayer.has_room());
    }

    #[test]
    fn who_dies_fails_or_says_nothing_is_told_apart() {
        let mut replayer = start("exit 3");
        replayer.give(&event(7)).unwrap();
        let error = next(&mut replayer).unwrap_err();
        assert!(error.to_string().contains("before it acknowledged round 7"), "{error}");
        assert!(start("exit 3").finish(&|| false).unwrap_err().to_string().contains("exit status: 3"));
        let mut replayer = start("sleep 1000");
        replayer.time_max = Duration::ZERO;
        replayer.give(&event(7)).unwrap();
        let error = replayer.heard(Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains("has not acknowledged round 7"), "{error}");
        assert!(matches!(start("sleep 1000").finish(&|| true), Err(JoinError::Cancelled)));
    }
}
