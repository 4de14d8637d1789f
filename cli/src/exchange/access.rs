//! Who is asked, and what lets us in there: what the command line says, else the peers that the store knows.

use std::path::{Path, PathBuf};

use cairn_net::{KnownPeer, PeerUrl, Peers, Secret, Source};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::wire;

/// Longest file of a token, in bytes.
const TOKEN_LEN_MAX: u64 = 4096;
/// The variable that holds a token itself.
const TOKEN: &str = "CAIRN_TOKEN";

/// What lets us in at a peer, and how it is known.
///
/// The token is read by the process of the command line: a daemon needs no right to read the file.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AccessArgs {
    /// A file with the token that lets us in; $CAIRN_TOKEN is the token itself
    #[arg(
        long = "token-file",
        env = "CAIRN_TOKEN_FILE",
        value_name = "FILE",
        value_parser = TokenFileParser,
        hide_env_values = true
    )]
    pub(crate) token: Option<Secret>,
    /// Certificates (PEM) by which alone the peer is known [default: those that the system trusts]
    #[arg(long, env = "CAIRN_CA", value_name = "FILE", hide_env_values = true)]
    #[serde(with = "wire::path_option")]
    pub(crate) ca: Option<PathBuf>,
}

impl AccessArgs {
    /// Takes the token of the environment where the command line names none.
    pub(crate) fn complete(&mut self) -> anyhow::Result<()> {
        let given = std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty());
        if let (None, Some(given)) = (&self.token, given) {
            self.token = Some(given.parse()?);
        }
        Ok(())
    }

    /// A peer that these are for.
    pub(crate) fn source(&self, url: PeerUrl) -> Source {
        Source { url, token: self.token.clone(), ca: self.ca.clone() }
    }
}

/// Reads a token from the file that an argument names.
#[derive(Debug, Clone)]
struct TokenFileParser;

impl clap::builder::TypedValueParser for TokenFileParser {
    type Value = Secret;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Secret, clap::Error> {
        let read = clap::builder::PathBufValueParser::new().try_map(|path| read_token(&path));
        read.parse_ref(command, argument, value)
    }
}

fn read_token(path: &Path) -> Result<Secret, String> {
    use std::io::Read;
    let opened = rustix::fs::open(path, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let file = opened.map_err(|errno| std::io::Error::from(errno).to_string())?;
    let mut text = String::new();
    let read = std::fs::File::from(file).take(TOKEN_LEN_MAX).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    text.parse().map_err(|error: cairn_net::Error| error.to_string())
}

/// Who is asked.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FromArgs {
    /// Ask this peer, and no other; may be repeated [default: the peers that the store knows]
    #[arg(long, value_name = "URL")]
    pub(crate) from: Vec<PeerUrl>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

impl FromArgs {
    /// Those who are asked, in this order. A peer that the store knows is asked as the store says, unless the command line
    /// says more.
    pub(crate) fn sources(&self, store: &Path) -> anyhow::Result<Vec<Source>> {
        let known = Peers::open(store);
        if self.from.is_empty() {
            return Ok(known.sources()?);
        }
        let known = known.list()?;
        let source = |url: &PeerUrl| {
            let mut source = self.access.source(url.clone());
            if let Some(known) = known.iter().find(|known| known.url == *url).map(KnownPeer::source) {
                (source.token, source.ca) = (source.token.or(known.token), source.ca.or(known.ca));
            }
            source
        };
        Ok(self.from.iter().map(source).collect())
    }
}
