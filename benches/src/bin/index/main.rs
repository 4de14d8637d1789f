//! `index --chunks N --work DIR`: what an index of N chunks costs, as one JSON object. For `benches/src/bars/index.rs`;
//! it runs alone too.
//!
//! It makes a store of sealed packs whose footers are real and whose frames are holes, and opens the index in fresh
//! processes: from the footers alone, as a reader does that meets packs which no run covers; from as many runs as a
//! writer ever leaves that adds a little at a time; and from one run. Everything is warm: the files were just written.
//! Figures are medians over the processes.

mod fill;
mod measure;
mod synthetic;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Map, Value, json};

use measure::Figures;

const USAGE: &str = "index --chunks N --work DIR [--processes N]";
const PROCESSES_DEFAULT: usize = 5;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What this process is to do.
enum Task {
    /// Make the store and measure it in other processes.
    Whole { chunks: u64, work: PathBuf, processes: usize },
    /// Open the index of a store, look up, and say what that cost.
    Open { store: PathBuf, chunks: u64 },
    /// Write the index of a store as a run, and say what that cost.
    Persist { store: PathBuf, chunks: u64 },
    /// Fill a store with artifacts of so many chunks, and take some away.
    Fill { store: PathBuf, chunks: u64 },
    /// Add packs of so many chunks to a store whose frames are holes.
    Packs { store: PathBuf, chunks: u64 },
}

fn main() -> ExitCode {
    let done = parse(std::env::args_os().skip(1)).and_then(|task| {
        let figures = match task {
            Task::Whole { chunks, work, processes } => whole(chunks, &work, processes)?,
            Task::Open { store, chunks } => serde_json::to_value(measure::open(&store, chunks)?)?,
            Task::Persist { store, chunks } => serde_json::to_value(measure::persist(&store, chunks)?)?,
            Task::Fill { store, chunks } => fill::fill(&store, chunks).map(|()| Value::Null)?,
            Task::Packs { store, chunks } => json!(synthetic::add_packs(&store, chunks)?),
        };
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
    let (mut chunks, mut work, mut processes, mut task) = (None, None, PROCESSES_DEFAULT, None);
    while let Some(name) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        let number = || value.to_str().and_then(|text| text.parse::<u64>().ok()).ok_or(USAGE);
        match name.to_str() {
            Some("--chunks") => chunks = Some(number()?),
            Some("--work") => work = Some(PathBuf::from(value)),
            Some("--processes") => processes = usize::try_from(number()?)?.max(1),
            Some("--task") => task = value.into_string().ok(),
            _ => return Err(USAGE.into()),
        }
    }
    let (chunks, work) = chunks.filter(|chunks| *chunks > 0).zip(work).ok_or(USAGE)?;
    match task.as_deref() {
        None => Ok(Task::Whole { chunks, work, processes }),
        Some("open") => Ok(Task::Open { store: work, chunks }),
        Some("persist") => Ok(Task::Persist { store: work, chunks }),
        Some("fill") => Ok(Task::Fill { store: work, chunks }),
        Some("packs") => Ok(Task::Packs { store: work, chunks }),
        Some(_) => Err(USAGE.into()),
    }
}

fn whole(chunks: u64, work: &Path, processes: usize) -> Result<Value> {
    let folder = tempfile::Builder::new().prefix("index-").tempdir_in(work)?;
    let store = folder.path();
    let packs = synthetic::make_store(store, chunks)?;
    let footers = medians(store, chunks, processes)?;
    synthetic::in_stages(store, || in_a_process("persist", store, chunks).map(drop))?;
    let tiers = medians(store, chunks, processes)?;
    synthetic::remove_runs(store)?;
    let persist: Value = serde_json::from_str(&in_a_process("persist", store, chunks)?)?;
    let mut figures = medians(store, chunks, processes)?;
    figures.insert("footers".into(), footers.into());
    figures.insert("tiers".into(), tiers.into());
    figures.insert("persist".into(), persist);
    figures.insert("chunks".into(), json!(chunks));
    figures.insert("packs".into(), json!(packs));
    figures.insert("processes".into(), json!(processes));
    Ok(figures.into())
}

/// Each figure's median over some processes that open the same index.
fn medians(store: &Path, chunks: u64, processes: usize) -> Result<Map<String, Value>> {
    let mut runs: Vec<Figures> = Vec::with_capacity(processes);
    for _ in 0..processes {
        runs.push(serde_json::from_str(&in_a_process("open", store, chunks)?)?);
    }
    let mut medians = Map::new();
    for name in runs.first().into_iter().flat_map(Figures::keys) {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        medians.insert(name.clone(), json!(values[values.len() / 2]));
    }
    Ok(medians)
}

fn in_a_process(task: &str, store: &Path, chunks: u64) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--task", task, "--chunks", &chunks.to_string(), "--work"]).arg(store);
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{task}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
