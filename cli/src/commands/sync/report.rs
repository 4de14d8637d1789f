//! What is said at the end: a line for each package.

use std::collections::BTreeMap;

use serde::Serialize;

use super::package::{Row, Status};
use crate::args::Global;
use crate::error;
use crate::output::{Align, Table};
use crate::text;

/// The JSON form of a row.
#[derive(Serialize)]
struct Report<'a> {
    package: &'a str,
    strategy: Option<&'a str>,
    version: &'a str,
    platform: Option<&'a str>,
    status: &'static str,
    artifact: Option<&'a str>,
    new_bytes: u64,
    stored_bytes: u64,
    wire_bytes: u64,
    verified: &'a str,
    facts: &'a BTreeMap<String, String>,
    generation: Option<u64>,
    plan: &'a [String],
    error: Option<String>,
}

pub(super) fn print(global: &Global, rows: &[Row], dry_run: bool) -> anyhow::Result<()> {
    let mut out = String::new();
    if global.json {
        for row in rows {
            out += &serde_json::to_string(&report(row))?;
            out.push('\n');
        }
    } else if !global.quiet {
        out = table(rows, dry_run);
    }
    crate::output::print_all(out.as_bytes())
}

fn report(row: &Row) -> Report<'_> {
    Report {
        package: &row.package,
        strategy: row.strategy.map(|strategy| strategy.as_str()),
        version: &row.version,
        platform: row.platform.as_ref().map(|platform| platform.as_str()),
        status: word(&row.status),
        artifact: row.artifact.as_deref(),
        new_bytes: row.new_bytes,
        stored_bytes: row.stored_bytes,
        wire_bytes: row.wire_bytes,
        verified: &row.verified,
        facts: &row.facts,
        generation: row.generation,
        plan: &row.plan,
        error: match &row.status {
            Status::Failed(failure) => Some(error::message(failure)),
            _ => None,
        },
    }
}

fn word(status: &Status) -> &'static str {
    match status {
        Status::Added => "added",
        Status::Current => "current",
        Status::Planned => "planned",
        Status::Failed(_) => "failed",
    }
}

fn table(rows: &[Row], dry_run: bool) -> String {
    let mut table = Table::new(&[
        ("PACKAGE", Align::Left),
        ("STRATEGY", Align::Left),
        ("VERSION", Align::Left),
        (if dry_run { "WOULD COME" } else { "NEW" }, Align::Right),
        ("VERIFIED", Align::Left),
        ("GENERATION", Align::Right),
        ("", Align::Left),
    ]);
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    for row in rows {
        let status = match &row.status {
            Status::Added => "",
            Status::Current => "already current",
            Status::Planned => "not brought: --dry-run",
            Status::Failed(_) => "FAILED",
        };
        let is_failed = matches!(row.status, Status::Failed(_));
        table.row([
            row.package.clone(),
            row.strategy.map_or("-", |strategy| strategy.as_str()).to_owned(),
            dash(&row.version),
            if is_failed { "-".to_owned() } else { text::size(row.new_bytes) },
            dash(&row.verified),
            row.generation.map_or_else(|| "-".to_owned(), |number| number.to_string()),
            status.to_owned(),
        ]);
    }
    let mut out = table.text();
    for row in rows {
        for line in &row.plan {
            out += &format!("{}: {line}\n", row.package);
        }
    }
    out
}
