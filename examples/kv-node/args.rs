//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::generate::Load;
use crate::stream::StreamUrl;

const EXAMPLES: &str = "\
A network on one machine, once `cairn serve --store /srv/a --detach` runs (a store of its own for each machine):

  cairn token create --store /srv/a --scope publish > producer.token
  kv-node run --role bootstrap --dir kv1 --stream http://127.0.0.1:7001/v1/streams/kv --token producer.token
  kv-node put kv1.sock colour blue

A snapshot of it while it runs, and another node that joins from that and takes part:

  cairn snapshot create kv kv1 --store /srv/a --round-cmd 'kv-node round \"$CAIRN_DIR.sock\"' \\
      --freeze 'kv-node freeze \"$CAIRN_DIR.sock\"' --thaw 'kv-node thaw \"$CAIRN_DIR.sock\"'
  cairn join kv --store /srv/b --from http://127.0.0.1:7001 --to kv2 \\
      --verify 'kv-node hash \"$CAIRN_DIR\"' --replay 'kv-node apply \"$CAIRN_DIR\"'
  kv-node run --role validator --dir kv2 --stream http://127.0.0.1:7001/v1/streams/kv --token producer.token --seed 2

Exit codes: 0 done   1 failed   2 wrong usage   3 the state is not what it should be";

/// A small replicated key-value store: an example of a network that cairn keeps together
#[derive(Debug, Parser)]
#[command(name = "kv-node", version, after_help = EXAMPLES, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node until SIGTERM or Ctrl-C
    Run(RunArgs),
    /// Apply rounds that come framed on standard input: for `cairn join --replay`
    Apply {
        /// The state, which no node has open
        dir: PathBuf,
    },
    /// Go through a closed state; print its round and its hash: for `cairn join --verify`
    Hash {
        /// The state, which no node has open
        dir: PathBuf,
    },
    /// Print all keys and values of a closed state in order, a line each; equal states print equal bytes
    Dump {
        /// The state, which no node has open
        dir: PathBuf,
    },
    /// Make a state at round 0 that has something in it, for a network to begin with
    Init {
        /// The state's directory, which must have none
        dir: PathBuf,
        /// Entries
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        entries: u64,
        #[command(flatten)]
        load: Load,
    },
    /// Have a running node write a key; prints the round that did
    Put {
        /// The node's socket
        socket: PathBuf,
        key: String,
        value: String,
    },
    /// Have a running node delete a key; prints the round that did
    Delete {
        /// The node's socket
        socket: PathBuf,
        key: String,
    },
    /// Print the value of a key, as a running node has it
    Get {
        /// The node's socket
        socket: PathBuf,
        key: String,
    },
    /// Print the round and the hash of a running node's state: for `cairn snapshot create --round-cmd`
    Round {
        /// The node's socket
        socket: PathBuf,
    },
    /// Have a running node close its database until `thaw`: for `cairn snapshot create --freeze`
    Freeze {
        /// The node's socket
        socket: PathBuf,
        /// After this time it opens by itself, and `thaw` fails
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
        timeout: Duration,
    },
    /// Have it open its database again; fails if it had to by itself: for `cairn snapshot create --thaw`
    Thaw {
        /// The node's socket
        socket: PathBuf,
    },
}

/// What a node does in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Begins the stream if there is none, and produces
    Bootstrap,
    /// Produces once it has everything that others did
    Validator,
    /// Follows, and needs no permission to produce
    Listener,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bootstrap => "bootstrap",
            Self::Validator => "validator",
            Self::Listener => "listener",
        })
    }
}

/// What a running node takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// What the node does in its network
    #[arg(long, env = "KV_ROLE", value_name = "ROLE")]
    pub(crate) role: Role,
    /// The state's directory; an empty state is made where there is none
    #[arg(long, env = "KV_DIR", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The stream that all nodes share, at a daemon of cairn: http://HOST:PORT/v1/streams/NAME
    #[arg(long, env = "KV_STREAM", value_name = "URL")]
    pub(crate) stream: StreamUrl,
    /// A file with the token that lets us in there; producers need one of scope `publish`
    #[arg(long, env = "KV_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,
    /// Where requests come [default: DIR.sock]
    #[arg(long, env = "KV_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Between rounds of this producer
    #[arg(long, env = "KV_INTERVAL", value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    pub(crate) interval: Duration,
    /// End after so many rounds of this producer
    #[arg(long, env = "KV_ROUNDS", value_name = "COUNT")]
    pub(crate) rounds: Option<u64>,
    /// Rounds that are appended at once
    #[arg(long, env = "KV_BURST", value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) burst: u64,
    /// Writes of a round, besides those that are asked for
    #[arg(long, env = "KV_WRITES", value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) writes: u32,
    #[command(flatten)]
    pub(crate) load: Load,
}

/// `100ms`, `10s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[number.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("give a number and ms, s or m".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "give a whole number and ms, s or m".to_owned())?;
    let ms = number.checked_mul(unit_ms).ok_or("that is too long")?;
    Ok(Duration::from_millis(ms))
}
