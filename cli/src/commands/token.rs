//! `cairn token`: who is let in by a server of this store, and to what.

use std::path::PathBuf;
use std::time::Duration;

use cairn_server::tokens::{Glob, NewToken, Scope, Token, TokenFile, TokenId};
use cairn_store::time::{now_ms, rfc3339};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::Outcome;
use crate::output::Align::Left;
use crate::output::Table;
use crate::{text, wire};

const EXAMPLES: &str = "\
A token is shown once, when it is made; the file of tokens has only its hash. A server reads the file again when it
changes: what is made or revoked counts from then on.

Examples:
  cairn token create --scope read > token
  cairn token create --scope publish --names 'bitcoin*' --expires 30d
  cairn token ls
  cairn token revoke 3f2a9c0d11aa";

/// The file of tokens in the store.
pub(crate) const TOKENS: &str = "tokens.json";

/// Make, list and revoke the tokens that a server of this store lets in
#[derive(Debug, Subcommand, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenCommand {
    Create(CreateArgs),
    Ls(LsArgs),
    Revoke(RevokeArgs),
}

/// Make a token, and print it: it is shown only now
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateArgs {
    /// What it is good for
    #[arg(long, value_enum)]
    pub(crate) scope: ScopeArg,
    /// Only for packages of these names, with * and ?; may be repeated [default: all]
    #[arg(long, value_name = "PATTERN")]
    #[serde(default)]
    pub(crate) names: Vec<Glob>,
    /// For how long: 30d, 12h [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = text::parse_duration)]
    #[serde(default, with = "wire::millis_option")]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) file: TokensArg,
}

/// List the tokens, and when each was last used
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    #[serde(default)]
    pub(crate) file: TokensArg,
}

/// Let a token in no more
#[derive(Debug, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevokeArgs {
    /// Its id, as `ls` shows it
    pub(crate) id: String,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) file: TokensArg,
}

/// Which file the tokens are in.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TokensArg {
    /// The file of tokens [default: what the daemon serves with, else tokens.json in the store]
    #[arg(long = "token-file", env = "CAIRN_TOKENS", value_name = "FILE", hide_env_values = true)]
    #[serde(with = "wire::path_option")]
    pub(crate) path: Option<PathBuf>,
}

/// `--scope`.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScopeArg {
    /// To pull, and to look at what there is
    Read,
    /// To push too
    Publish,
    /// Everything, the metrics too
    Admin,
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Read => Self::Read,
            ScopeArg::Publish => Self::Publish,
            ScopeArg::Admin => Self::Admin,
        }
    }
}

impl TokenCommand {
    /// The file that the command line names.
    pub(crate) fn file(&self) -> &Option<PathBuf> {
        match self {
            Self::Create(CreateArgs { file, .. })
            | Self::Ls(LsArgs { file })
            | Self::Revoke(RevokeArgs { file, .. }) => &file.path,
        }
    }

    /// The same, to be made absolute.
    pub(crate) fn file_mut(&mut self) -> &mut Option<PathBuf> {
        match self {
            Self::Create(CreateArgs { file, .. })
            | Self::Ls(LsArgs { file })
            | Self::Revoke(RevokeArgs { file, .. }) => &mut file.path,
        }
    }
}

/// The JSON form of a token; only a new one is shown itself.
#[derive(Serialize)]
struct Line {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    scope: String,
    names: Vec<String>,
    created: String,
    expires: Option<String>,
    expired: bool,
    last_used: Option<String>,
}

/// The JSON form of a revocation.
#[derive(Serialize)]
struct Revoked<'a> {
    id: &'a str,
    revoked: bool,
}

pub(crate) fn run(app: &mut App, command: &TokenCommand) -> anyhow::Result<Outcome> {
    match command {
        TokenCommand::Create(args) => create(app, args)?,
        TokenCommand::Ls(args) => list(app, args)?,
        TokenCommand::Revoke(args) => revoke(app, args)?,
    }
    Ok(Outcome::Done)
}

fn open(app: &App, args: &TokensArg) -> anyhow::Result<TokenFile> {
    let path = match &args.path {
        Some(path) => path.clone(),
        None => app.tokens_path()?,
    };
    Ok(TokenFile::open(&path)?)
}

fn create(app: &mut App, args: &CreateArgs) -> anyhow::Result<()> {
    if args.file.path.is_none() {
        // The first token may be made before anything else is.
        app.make_store()?;
    }
    let file = open(app, &args.file)?;
    let now = now_ms();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let new = NewToken {
        scope: args.scope.into(),
        names: args.names.clone(),
        expires_ms: args.expires.map(|time| now.saturating_add(millis(time))),
    };
    let kept = new.clone();
    let (id, secret) = file.create(new, now)?;
    if app.json() {
        let token = Token {
            id,
            scope: kept.scope,
            names: kept.names,
            created_ms: now,
            expires_ms: kept.expires_ms,
            last_used_ms: None,
        };
        let line = Line { token: Some(secret.reveal().to_owned()), ..line(&token, now) };
        app.out.object(&line)?;
        return Ok(());
    }
    app.out.line(secret.reveal())?;
    if !app.quiet() {
        app.out.flush()?;
        let until = kept.expires_ms.map_or_else(String::new, |at| format!(", until {}", rfc3339(at)));
        let names = names(&kept.names).join(", ");
        app.say(&format!("token {id}: {} of {names}{until}; it is not shown again", kept.scope));
    }
    Ok(())
}

/// The patterns, or what it means if there are none.
fn names(globs: &[Glob]) -> Vec<String> {
    if globs.is_empty() { vec!["*".to_owned()] } else { globs.iter().map(ToString::to_string).collect() }
}

fn line(token: &Token, now: u64) -> Line {
    Line {
        id: token.id.to_string(),
        token: None,
        scope: token.scope.to_string(),
        names: names(&token.names),
        created: rfc3339(token.created_ms),
        expires: token.expires_ms.map(rfc3339),
        expired: token.expires_ms.is_some_and(|expires| expires <= now),
        last_used: token.last_used_ms.map(rfc3339),
    }
}

fn list(app: &mut App, args: &LsArgs) -> anyhow::Result<()> {
    let tokens = open(app, &args.file)?.list()?;
    let now = now_ms();
    if app.json() {
        tokens.iter().try_for_each(|token| app.out.object(&line(token, now)))?;
        return Ok(());
    }
    let mut table = Table::new(&[
        ("ID", Left),
        ("SCOPE", Left),
        ("NAMES", Left),
        ("CREATED", Left),
        ("EXPIRES", Left),
        ("LAST USED", Left),
    ]);
    for token in &tokens {
        let Line { id, scope, names, created, expires, expired, last_used, .. } = line(token, now);
        let expires = match expires {
            Some(at) if expired => format!("{at} (over)"),
            Some(at) => at,
            None => "never".to_owned(),
        };
        let last_used = last_used.unwrap_or_else(|| "never".to_owned());
        table.row([id, scope, names.join(","), created, expires, last_used]);
    }
    app.out.table(&table)?;
    Ok(())
}

fn revoke(app: &mut App, args: &RevokeArgs) -> anyhow::Result<()> {
    open(app, &args.file)?.revoke(&TokenId::from(args.id.as_str()))?;
    if app.json() {
        app.out.object(&Revoked { id: &args.id, revoked: true })?;
    } else if !app.quiet() {
        app.out.line(format!("revoked {}", text::path(args.id.as_bytes())))?;
    }
    Ok(())
}
