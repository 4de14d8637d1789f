//! From the command line to the table.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its table, and what it is doing"
)]

use std::ffi::OsString;
use std::process::ExitCode;

use crate::bars::Bench;
use crate::error::Result;
use crate::harness::{Outcome, Report, Role, Row, Verdict, pin_to_two_cores};
use crate::options::{Options, USAGE, workspace};

/// This package's other programs, where they were built.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// Measures the index.
    pub index: Option<&'static str>,
    /// Measures the codecs.
    pub codec: Option<&'static str>,
    /// Makes states of databases.
    pub chunking: Option<&'static str>,
    /// Measures from inside a process, and cleans up after the bench.
    pub probe: Option<&'static str>,
}

/// Measures what `args` (without the program's name) ask for, prints the table and writes it.
///
/// Ends with 0 if all that was asked for was measured, whether or not it passed; 1 if something could not be; 2 for a
/// wrong command line.
pub fn main(args: impl Iterator<Item = OsString>, programs: Programs) -> ExitCode {
    let options = match Options::parse(args, std::env::var_os("CAIRN_CORPUS")) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{}\n\n{USAGE}", error.chain());
            return ExitCode::from(2);
        }
    };
    match measure(options, programs) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was measured.
fn measure(options: Options, programs: Programs) -> Result<bool> {
    let cores = pin_to_two_cores();
    let bench = Bench::new(options, programs)?;
    let options = bench.options();
    eprintln!("working in {} (remove it if you interrupt this)", bench.work().display());
    let machine = bench.machine(cores);
    let (rows, subjects) = bench.run(&|what| eprintln!("{what}"));
    let stem =
        options.output.clone().unwrap_or_else(|| workspace().join("benches/results").join(&machine.date));
    let report = Report {
        machine,
        repetitions: options.repetitions,
        quick: options.scale.quick,
        subjects,
        rows,
        hidden: vec![
            (bench.work().display().to_string(), "WORK"),
            (options.corpus.display().to_string(), "CORPUS"),
            (std::env::temp_dir().join("cairn-bars").display().to_string(), "DISK"),
            (workspace().display().to_string(), "."),
        ],
    };
    println!("{}", report.to_markdown());
    report.write(&stem)?;
    eprintln!("written to {0}.md and {0}.json", stem.display());
    Ok(report.rows.iter().all(is_measured))
}

/// A peer that fails leaves the bar measured; a peer that is not installed is no failure at all.
fn is_measured(row: &Row) -> bool {
    let failed = row.one(Role::Candidate).is_none_or(|score| matches!(score.outcome, Outcome::Failed(_)));
    !failed && row.verdict() != Verdict::NotMeasured
}
