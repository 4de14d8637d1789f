//! `cairn stream follow`.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use cairn_net::{FollowAsk, FollowItem, PeerUrl};
use cairn_store::{Error, Event, EventHead, EventLog, Name};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{absent, print, source};
use crate::app::App;
use crate::error::{Outcome, Usage};
use crate::exchange::AccessArgs;
use crate::output::OutputResult;

/// How often it is asked whether to stop.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of events that are read at a time.
const BATCH_BYTES: usize = 256 << 10;
/// Heads that are read at a time.
const BATCH_HEADS: usize = 1024;

/// Print events as they happen: round, hash, state hash and bytes of each
///
/// Without --from it is the stream of this store, whose daemon has to run for anything to come.
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowArgs {
    /// The stream
    pub(crate) name: Name,
    /// That of this peer [default: that of this store]
    #[arg(long, env = "CAIRN_STREAM_FROM", value_name = "URL", hide_env_values = true)]
    #[serde(default)]
    pub(crate) from: Option<PeerUrl>,
    /// Begin with this round [default: the next, and with --no-follow the oldest that is kept]
    #[arg(long, env = "CAIRN_FROM_ROUND", value_name = "N", hide_env_values = true)]
    #[serde(default)]
    pub(crate) from_round: Option<u64>,
    /// Leave payloads out
    #[arg(long, env = "CAIRN_HEADS", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    #[serde(default)]
    pub(crate) heads: bool,
    /// End when all that is kept was printed
    #[arg(long, env = "CAIRN_NO_FOLLOW", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    #[serde(default)]
    pub(crate) no_follow: bool,
    /// End after so many events
    #[arg(long, env = "CAIRN_COUNT", value_name = "N", hide_env_values = true)]
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Write the events themselves: length u32 (of what follows), round u64, hash, payload of each
    #[arg(long, env = "CAIRN_FRAMES", conflicts_with = "heads", value_parser = clap::builder::FalseyValueParser::new(), hide_env_values = true)]
    #[serde(default)]
    pub(crate) frames: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) access: AccessArgs,
}

pub(super) fn run(app: &mut App, args: &FollowArgs) -> anyhow::Result<Outcome> {
    if args.count == Some(0) {
        return Ok(Outcome::Done);
    }
    let mut printed = Printed { args, count: 0 };
    match &args.from {
        Some(url) => of_peer(app, url, &mut printed)?,
        None => of_this_store(app, &mut printed)?,
    }
    Ok(Outcome::Done)
}

/// What was printed so far.
struct Printed<'a> {
    args: &'a FollowArgs,
    count: u64,
}

impl Printed<'_> {
    fn event(&mut self, app: &mut App, event: &Event) -> OutputResult {
        self.count += 1;
        let head = event.head();
        if !self.args.frames {
            return print(app, &head, Some(event.payload.len() as u64));
        }
        // Payloads are far shorter than that.
        let len = u32::try_from(8 + 32 + event.payload.len()).unwrap_or(u32::MAX);
        app.out.bytes(&len.to_le_bytes())?;
        app.out.bytes(&event.round.to_le_bytes())?;
        app.out.bytes(&head.hash.0)?;
        app.out.bytes(&event.payload)
    }

    fn head(&mut self, app: &mut App, head: &EventHead) -> OutputResult {
        self.count += 1;
        print(app, head, None)
    }

    fn is_enough(&self) -> bool {
        self.args.count.is_some_and(|count| self.count >= count)
    }
}

fn of_peer(app: &mut App, url: &PeerUrl, printed: &mut Printed<'_>) -> anyhow::Result<()> {
    let args = printed.args;
    let (from, net, stopped) = (source(app, url, &args.access)?, app.net()?, app.stopper());
    let mut next = match args.from_round {
        Some(round) => round,
        None => {
            let span = net.stream_span(&from, &args.name, &*stopped)?;
            if args.no_follow { span.first } else { span.next }
        }
    };
    loop {
        let ask = FollowAsk { from_round: next, heads: args.heads, follow: !args.no_follow };
        let mut following = net.follow(&from, &args.name, ask)?;
        loop {
            // Nothing more is there at the moment: what was printed is to be seen.
            let item = match following.next(Duration::ZERO, &*stopped)? {
                None => {
                    app.out.flush()?;
                    following.next(PAUSE, &*stopped)?
                }
                item => item,
            };
            refuse_handover(app, next)?;
            match item {
                None if stopped() => return Err(Error::Cancelled.into()),
                None | Some(FollowItem::Span(_)) => {}
                Some(FollowItem::Event(event)) => {
                    printed.event(app, &event)?;
                    next = event.round + 1;
                }
                Some(FollowItem::Head(head)) => {
                    printed.head(app, &head)?;
                    next = head.round + 1;
                }
                Some(FollowItem::End) if args.no_follow => return Ok(()),
                // It stops, or another process answers there from now on.
                Some(FollowItem::End) => {
                    std::thread::sleep(PAUSE);
                    break;
                }
            }
            if printed.is_enough() {
                return Ok(());
            }
        }
    }
}

fn of_this_store(app: &mut App, printed: &mut Printed<'_>) -> anyhow::Result<()> {
    let args = printed.args;
    if app.daemon().is_none() && !args.no_follow {
        let problem = "no daemon has this store, so nothing can come".to_owned();
        let hint = "--no-follow prints what is kept; `cairn daemon --detach` lets events come";
        return Err(Usage { problem, hint }.into());
    }
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let log = app.streams(&writer)?.get(&args.name)?.ok_or_else(|| absent(&args.name))?;
    let (wake, woken) = sync_channel(1);
    let _watch = log.watch(Box::new(move |_| {
        // One signal is enough: whoever takes it looks at all there is.
        let _ = wake.try_send(());
    }));
    let span = log.span();
    let mut next = args.from_round.unwrap_or(if args.no_follow { span.first } else { span.next });
    let stopped = app.stopper();
    loop {
        let before = next;
        next = print_some(app, &log, next, printed)?;
        if printed.is_enough() || args.no_follow && next >= span.next {
            return Ok(());
        }
        if stopped() {
            return Err(Error::Cancelled.into());
        }
        refuse_handover(app, next)?;
        if next == before {
            app.out.flush()?;
            match woken.recv_timeout(PAUSE) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// Prints what there is of a log from a round on, a batch of it; gives the round after that.
fn print_some(app: &mut App, log: &EventLog, from: u64, printed: &mut Printed<'_>) -> anyhow::Result<u64> {
    let mut next = from;
    if printed.args.heads {
        for head in log.heads(from, BATCH_HEADS)? {
            printed.head(app, &head)?;
            next = head.round + 1;
            if printed.is_enough() {
                break;
            }
        }
        return Ok(next);
    }
    for event in log.read(from, BATCH_BYTES)? {
        printed.event(app, &event)?;
        next = event.round + 1;
        if printed.is_enough() {
            break;
        }
    }
    Ok(next)
}

/// A daemon that hands its store over waits for its commands, and this one would never end.
fn refuse_handover(app: &App, next: u64) -> Result<(), Error> {
    if !app.daemon().is_some_and(|daemon| daemon.is_leaving()) {
        return Ok(());
    }
    let detail = format!("another daemon takes the store over; go on with --from-round {next}");
    Err(Error::Unavailable { what: "what comes next".to_owned(), detail })
}
