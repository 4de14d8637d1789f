//! `codec --codec prefix|reloc --old FILE --new FILE`: what one codec makes of a file and the one before, on one core and in a
//! process of its own, as one JSON object. For `benches/src/bars/deltas/codecs.rs`; it runs alone too.
//!
//! What it encoded is decoded again and compared.
#![expect(clippy::disallowed_methods, reason = "reads inputs; no store is near")]

mod prefix;
mod reloc;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use cairn_delta::Effort;
use serde::Serialize;

const USAGE: &str = "codec --codec prefix|reloc --old FILE --new FILE [--effort fast|normal|max]";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Task {
    codec: String,
    old: PathBuf,
    new: PathBuf,
    effort: Effort,
}

/// Where decoding starts from, and how it went to that.
struct Encoded<T> {
    encoded: T,
    bytes: u64,
}

#[derive(Serialize)]
struct Figures {
    /// Whether the codec found anything to tell the file by.
    is_related: bool,
    plain_bytes: u64,
    /// What is needed beside the old file: maps too.
    encoded_bytes: u64,
    /// All of it, what is analysed first too; until it gave up where nothing is related.
    encode_s: f64,
    decode_s: f64,
    /// The most that the process had when all was encoded. Both files are in memory.
    encode_peak_bytes: u64,
    /// The same once all was decoded again.
    peak_bytes: u64,
}

fn main() -> ExitCode {
    let done = parse(std::env::args_os().skip(1)).and_then(|task| {
        let figures = serde_json::to_value(run(&task)?)?;
        Ok(writeln!(io::stdout(), "{figures}")?)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Task> {
    let (mut codec, mut old, mut new, mut effort) = (None, None, None, Effort::Normal);
    while let Some(name) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        match name.to_str() {
            Some("--codec") => codec = value.into_string().ok(),
            Some("--old") => old = Some(PathBuf::from(value)),
            Some("--new") => new = Some(PathBuf::from(value)),
            Some("--effort") => {
                effort = match value.to_str() {
                    Some("fast") => Effort::Fast,
                    Some("normal") => Effort::Normal,
                    Some("max") => Effort::Max,
                    _ => return Err(USAGE.into()),
                }
            }
            _ => return Err(USAGE.into()),
        }
    }
    let (codec, (old, new)) = codec.zip(old.zip(new)).ok_or(USAGE)?;
    Ok(Task { codec, old, new, effort })
}

fn run(task: &Task) -> Result<Figures> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let (old, new) = (read(&task.old)?, read(&task.new)?);
    match task.codec.as_str() {
        "prefix" => measure(
            &new,
            || prefix::encode(&old, &new, task.effort),
            |blocks| prefix::decode(&old, &new, blocks),
        ),
        "reloc" => {
            measure(&new, || reloc::encode(&old, &new, task.effort), |file| reloc::decode(&old, &new, file))
        }
        _ => Err(USAGE.into()),
    }
}

fn measure<T>(
    new: &[u8],
    encode: impl FnOnce() -> Result<Option<Encoded<T>>>,
    decode: impl FnOnce(&T) -> Result<()>,
) -> Result<Figures> {
    let begun = Instant::now();
    let encoded = encode()?;
    let encode_s = begun.elapsed().as_secs_f64();
    let encode_peak_bytes = peak_bytes()?;
    let begun = Instant::now();
    if let Some(encoded) = &encoded {
        decode(&encoded.encoded)?;
    }
    Ok(Figures {
        is_related: encoded.is_some(),
        plain_bytes: new.len() as u64,
        encoded_bytes: encoded.map_or(0, |encoded| encoded.bytes),
        encode_s,
        decode_s: begun.elapsed().as_secs_f64(),
        encode_peak_bytes,
        peak_bytes: peak_bytes()?,
    })
}

fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmHWM")?;
    Ok(kib.parse::<u64>()? * 1024)
}
