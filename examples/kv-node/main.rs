//! `kv-node`: a small replicated key-value store, as an example of how a network uses cairn.
//!
//! The network has one *stream* at a daemon of cairn: one event a round, in order, without gaps. An event is a batch of writes
//! ([`batch`]). Nodes apply all events in order to a database of their own ([`db`]), so all have the same contents after the same round, and
//! each event carries what the contents hash to ([`sum`]): a node that comes to something else stops at once and says so.
//!
//! - A *bootstrap* begins the stream and produces rounds. A *validator* is a producer that came later. A *listener* only
//!   follows. Producers agree by appending: the stream takes each round once ([`stream`]).
//! - A node that comes late gets a *snapshot* of somebody's database by `cairn join`, which has this program check it (`hash`) and apply the
//!   rounds behind it (`apply`, [`replay`]). From there on it runs like any other ([`run()`]).
//! - A snapshot is taken of a node at work: `freeze` and `thaw` keep its file still for a moment ([`node`]).
//!
//! What to learn from it: the state and the round that it is of change in one transaction, and that makes everything else simple.
//! Whatever is killed, at whatever point, asks for the next round and skips what it has.
//!
//! What it leaves out: who may produce is decided by tokens and not by votes, and the daemon that has the stream is one machine.

mod args;
mod batch;
mod control;
mod db;
mod error;
mod generate;
mod node;
mod replay;
mod run;
mod stream;
mod sum;

use std::io::{Write as _, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::control::{ask, at_line, hex, unhex};
use crate::db::{Closed, Db};
use crate::error::Error;
use crate::generate::Load;

/// Entries that are written in one transaction of `init`.
const INIT_STEP: u64 = 10_000;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv-node: {}", run::chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Apply { dir } => replay::apply(&dir, stdin().lock(), stdout().lock()),
        Command::Hash { dir } => print(&at_line(&Closed::open(&dir)?.check()?)),
        Command::Dump { dir } => {
            let mut out = std::io::BufWriter::new(stdout().lock());
            Closed::open(&dir)?.dump(&mut out)?;
            out.flush().map_err(Error::printing)
        }
        Command::Init { dir, entries, load } => init(&dir, entries, &load),
        Command::Put { socket, key, value } => {
            print(&ask(&socket, &format!("put {} {}", hex(key.as_bytes()), hex(value.as_bytes())))?)
        }
        Command::Delete { socket, key } => print(&ask(&socket, &format!("delete {}", hex(key.as_bytes())))?),
        Command::Get { socket, key } => {
            match ask(&socket, &format!("get {}", hex(key.as_bytes())))?.split_once(' ') {
                Some((_, value)) => print(&String::from_utf8_lossy(&unhex(value)?)),
                None => Err(Error::Refused(format!("there is no {key:?}"))),
            }
        }
        Command::Round { socket } => print(&ask(&socket, "round")?),
        Command::Freeze { socket, timeout } => {
            print(&ask(&socket, &format!("freeze {}", timeout.as_millis()))?)
        }
        Command::Thaw { socket } => print(&ask(&socket, "thaw")?),
    }
}

fn print(line: &str) -> Result<(), Error> {
    writeln!(stdout(), "{line}").map_err(Error::printing)
}

/// Makes a state of round 0.
fn init(dir: &Path, entries: u64, load: &Load) -> Result<(), Error> {
    let mut db = Db::create(dir)?;
    for first in (0..entries).step_by(usize::try_from(INIT_STEP).expect("it is small")) {
        let writes: Vec<_> =
            (first..entries.min(first + INIT_STEP)).map(|number| load.entry(number)).collect();
        let mut change = db.begin()?;
        change.apply(&writes)?;
        change.is_the_beginning();
        db.commit(change)?;
    }
    let line = at_line(db.at());
    db.close()?;
    print(&line)
}
