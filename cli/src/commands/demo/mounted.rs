//! The demo's mount: both releases shown side by side, the current one exchanged, and back.

#![expect(clippy::disallowed_methods, reason = "reads through the mount as any program does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cairn_fusefs::{CacheOptions, Files, Mount, MountOptions, Spread};
use cairn_store::generation::{Switched, UseOptions};
use cairn_store::{ProfileName, Writer};

use super::material::{OWN, SAYS_RELEASE};
use super::scratch::Scratch;
use super::{NAME, say, spec};
use crate::app::App;
use crate::changes;
use crate::text;

/// How long a command of a release may run.
const RUN_MAX: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What the mount came to.
pub(super) enum Shown {
    /// It cannot be made here.
    Refused(String),
    /// It was, and flipped.
    Flipped(Spread),
}

/// Mounts the demo's profile, runs a command of each release through it, and rolls back.
pub(super) fn show(app: &mut App, scratch: &Scratch, sources: [&Path; 2]) -> anyhow::Result<Shown> {
    let dir = scratch.path().join("bins");
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let writer = app.writer(&app.meter("waiting"))?;
    say(app, &["", "$ cairn use demo@1"])?;
    let first = switch(app, || use_release(&writer, "1"))?;
    say(app, &["", &format!("$ cairn mount {}", dir.display())])?;
    let mount = match mount(&writer, scratch, &dir) {
        Ok(mount) => Arc::new(mount),
        Err(error) => {
            let why = format!("{error:#}");
            say(app, &[&format!("not shown: nothing can be mounted here: {why}")])?;
            return Ok(Shown::Refused(why));
        }
    };
    let shown = Arc::clone(&mount);
    writer.observe(Box::new(move |view| {
        shown.publish(view);
    }));
    let names = list(&dir)?;
    say(app, &[&format!("mounted; it has {names}, and {NAME} has {}", list(&dir.join(NAME))?)])?;
    let commands = commands_of(&writer, &first)?;
    run_current(app, scratch, &dir, &commands, sources[0])?;
    say(app, &["", "$ cairn use demo@2"])?;
    switch(app, || use_release(&writer, "2"))?;
    run_current(app, scratch, &dir, &commands, sources[1])?;
    say(app, &["", "$ cairn rollback"])?;
    switch(app, || Ok(writer.rollback(&ProfileName::default(), None)?))?;
    run_current(app, scratch, &dir, &commands, sources[0])?;
    let flips = mount.status().flips;
    let held = |duration: Duration| format!("{:.1} us", duration.as_secs_f64() * 1e6);
    let (p50, max) = (held(flips.p50), held(flips.max));
    say(
        app,
        &["", &format!("{} flips; look-ups were held back for {p50} (median), {max} at most", flips.count)],
    )?;
    mount.unmount(false).with_context(|| format!("cannot unmount {}", dir.display()))?;
    Ok(Shown::Flipped(flips))
}

fn mount(writer: &Writer, scratch: &Scratch, dir: &Path) -> anyhow::Result<Mount> {
    let cache = CacheOptions::new(scratch.path().join("cache"));
    let files = Files::open(writer.store().clone(), cache)?;
    let options = MountOptions::new(dir.to_owned(), ProfileName::default());
    Ok(Mount::new(writer.store().clone(), writer.names(), files, options)?)
}

fn use_release(writer: &Writer, version: &str) -> anyhow::Result<Switched> {
    let (key, artifact) = writer.names().resolve(&spec(version)?, None)?;
    let key = key.context("the release has no name")?;
    Ok(writer.use_packages(&UseOptions {
        profile: ProfileName::default(),
        set: vec![(key, artifact)],
        remove: Vec::new(),
        prefer: Vec::new(),
        if_current: None,
        platform: None,
        allow_partial: false,
    })?)
}

/// Changes the profile, and tells of it with the time that it took.
fn switch(app: &mut App, change: impl FnOnce() -> anyhow::Result<Switched>) -> anyhow::Result<Switched> {
    let since = Instant::now();
    let switched = change()?;
    let took = text::duration(since.elapsed());
    say(app, &[&format!("{}, durable and to be seen after {took}", changes::heading(&switched))])?;
    Ok(switched)
}

/// The names of a folder of the mount, in one line.
fn list(dir: &Path) -> anyhow::Result<String> {
    let read = fs::read_dir(dir).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names: Vec<_> = read.with_context(|| format!("cannot list {}", dir.display()))?;
    names.sort();
    Ok(names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(", "))
}

/// The commands of a release that are run: the one that says which release it is of and this program itself, else its
/// first one.
fn commands_of(writer: &Writer, first: &Switched) -> anyhow::Result<Vec<String>> {
    let package = first.changes.first().and_then(|change| change.to.as_ref());
    let Some(package) = package else { return Ok(Vec::new()) };
    let commands = writer.store().commands(&package.artifact)?;
    let names: Vec<&str> = commands.keys().filter_map(|name| std::str::from_utf8(name).ok()).collect();
    let ours =
        [SAYS_RELEASE, OWN].into_iter().filter(|name| names.contains(&SAYS_RELEASE) && names.contains(name));
    let mut wanted: Vec<String> = ours.map(ToOwned::to_owned).collect();
    if wanted.is_empty() {
        wanted.extend(names.first().map(|name| (*name).to_owned()));
    }
    Ok(wanted)
}

/// Runs commands through the mount, and holds what `current` shows of them against the release's folder.
fn run_current(
    app: &mut App,
    scratch: &Scratch,
    dir: &Path,
    commands: &[String],
    source: &Path,
) -> anyhow::Result<()> {
    commands.iter().try_for_each(|command| run_one(app, scratch, dir, command, source))
}

fn run_one(app: &mut App, scratch: &Scratch, dir: &Path, command: &str, source: &Path) -> anyhow::Result<()> {
    let path = dir.join("bin").join(command);
    let shown = fs::canonicalize(&path).with_context(|| format!("cannot find {}", path.display()))?;
    let version = dir.join("current").join(NAME);
    let version = fs::canonicalize(&version).with_context(|| format!("cannot find {}", version.display()))?;
    let within = shown.strip_prefix(&version).context("the command leads out of its release")?;
    let read = |path: PathBuf| fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    ensure!(read(shown.clone())? == read(source.join(within))?, "the mount shows another {command}");
    let relative = |path: &Path| path.strip_prefix(scratch.path()).unwrap_or(path).display().to_string();
    say(app, &[&format!("$ {} --version    # {}", relative(&path), relative(&shown))])?;
    let said = run(scratch, &path)?;
    say(app, &[said.lines().next().unwrap_or("(it says nothing)")])?;
    Ok(())
}

/// What a program says of its version, or how it ended without a word.
fn run(scratch: &Scratch, program: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let asked = scratch.stop_if_asked();
        if asked.is_err() || since.elapsed() > RUN_MAX {
            // It may have ended meanwhile.
            let _ = child.kill();
            child.wait()?;
            asked?;
            return Ok(format!("(it was still running after {} s)", RUN_MAX.as_secs()));
        }
        std::thread::sleep(ASK_EVERY);
    };
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(if said.trim().is_empty() { format!("({status})") } else { said })
}
