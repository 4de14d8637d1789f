//! `cairn cat`: one file's bytes.

use std::ffi::OsString;

use clap::Args;
use clap::builder::{TypedValueParser, ValueParser};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{FileSpec, PlatformArg};
use crate::error::Outcome;
use crate::exchange::read_healing;

const EXAMPLES: &str = "\
Examples:
  cairn cat uv@stable:bin/uv > uv
  cairn cat 3f2a9c:README.md | less";

/// Bytes that are read and written at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// Write a file of an artifact to standard output
///
/// Every byte is verified before it is written. With --json, errors are JSON; the bytes are what they are.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatArgs {
    /// An artifact and a path in it, with a colon between them
    #[arg(value_name = "SPEC:PATH", value_parser = file_spec())]
    pub(crate) file: FileSpec,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) platform: PlatformArg,
}

fn file_spec() -> ValueParser {
    ValueParser::new(
        clap::builder::OsStringValueParser::new().try_map(|text: OsString| FileSpec::parse(text)),
    )
}

pub(crate) fn run(app: &mut App, args: &CatArgs) -> anyhow::Result<Outcome> {
    let mut printed = 0;
    let mut out = app.take_output();
    let result = read_healing(app, |store| {
        let (_, id) = store.view()?.resolve(&args.file.spec, args.platform.platform.as_ref())?;
        let _reading = app.hold(store, &id)?;
        let mut file = store.open_file(&id, &args.file.path)?;
        let mut window = vec![0; WINDOW_BYTES];
        loop {
            let read = file.read_at(printed, &mut window)?;
            if read == 0 {
                return Ok(Outcome::Done);
            }
            out.bytes(&window[..read])?;
            printed += read as u64;
        }
    });
    app.out = out;
    result
}
