//! `cairn init`: a `cairn.toml` to begin with, and links under the names of the scripts that it replaces.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::sync::{self, FILE};
use crate::args::Global;
use crate::error::Usage;
use crate::{output, shim};

/// What is written.
const TEMPLATE: &str = include_str!("init/cairn.toml");

const EXAMPLES: &str = "\
Examples:
  cairn init                          ./cairn.toml, to be edited
  cairn init --to /etc/cairn/cairn.toml
  cairn init --shims /usr/local/bin   links sync-NAME-bins for the packages of cairn.toml, each of which does
                                      what `cairn sync NAME --use` does, so that scripts that call them keep working";

/// Write a commented cairn.toml, for Bitcoin Core and for a project on GitHub with a build machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// The file to write
    #[arg(long, env = "CAIRN_CONFIG", value_name = "FILE", default_value = FILE, hide_env_values = true)]
    pub(crate) to: PathBuf,
    /// Write it also where there is one
    #[arg(long)]
    pub(crate) force: bool,
    /// Make links in this folder for the packages of the file that is there, and write none
    #[arg(long, value_name = "DIR", conflicts_with = "force")]
    pub(crate) shims: Option<PathBuf>,
}

/// The JSON form of what was made.
#[derive(Serialize)]
struct Report {
    wrote: Option<String>,
    shims: Vec<String>,
}

pub(crate) fn run(global: &Global, args: &InitArgs) -> anyhow::Result<u8> {
    let report = match &args.shims {
        Some(folder) => Report { wrote: None, shims: link(global, args, folder)? },
        None => {
            write(&args.to, args.force)?;
            Report { wrote: Some(args.to.display().to_string()), shims: Vec::new() }
        }
    };
    let told = if global.json {
        serde_json::to_string(&report)? + "\n"
    } else if global.quiet {
        String::new()
    } else if let Some(wrote) = &report.wrote {
        format!("wrote {wrote}: edit it, then `cairn sync NAME --version V`\n")
    } else {
        report.shims.iter().map(|path| format!("{path} is `cairn sync --use` of its package now\n")).collect()
    };
    output::print_all(told.as_bytes())?;
    Ok(0)
}

fn write(to: &Path, force: bool) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", to.display());
    let mut options = OpenOptions::new();
    options.write(true).mode(0o644);
    let opened = if force { options.create(true).truncate(true) } else { options.create_new(true) }.open(to);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let problem = format!("{} is there already", to.display());
            return Err(Usage { problem, hint: "--force writes over it; --to names another file" }.into());
        }
        opened => opened.with_context(failed)?,
    };
    file.write_all(TEMPLATE.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)
}

/// Makes the links that are not there; what is there and leads elsewhere is left alone.
fn link(global: &Global, args: &InitArgs, folder: &Path) -> anyhow::Result<Vec<String>> {
    // The default is where a file is written, not where it is looked for.
    let named = Some(args.to.as_path()).filter(|path| *path != Path::new(FILE));
    let (_, packages) = sync::load(global, named)?;
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut made = Vec::new();
    for package in packages {
        let path = folder.join(shim::name(package.name.as_str()));
        match std::os::unix::fs::symlink(&program, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if path.read_link().ok().as_deref() != Some(&*program) {
                    let problem = format!("{} is there already, and is something else", path.display());
                    return Err(Usage { problem, hint: "move it away, or choose another folder" }.into());
                }
            }
            linked => linked.with_context(|| format!("cannot make {}", path.display()))?,
        }
        made.push(path.display().to_string());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_written_is_one_that_is_understood() {
        let packages = cairn_sources::config::parse(Path::new("/x/cairn.toml"), TEMPLATE).unwrap();
        let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["app", "bitcoin"]);
        let strategies: Vec<&str> =
            packages[0].strategies().iter().map(|strategy| strategy.as_str()).collect();
        assert_eq!(strategies, ["release", "vm"]);
        // What is commented out is right too, but for the prose.
        let uncommented: String = TEMPLATE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let packages = cairn_sources::config::parse(Path::new("/x/cairn.toml"), &uncommented).unwrap();
        assert!(
            packages.iter().any(|package| {
                package.release.as_ref().is_some_and(|release| release.signatures.is_some())
            })
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test makes files as it likes")]
    fn a_file_that_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cairn.toml");
        std::fs::write(&path, "mine").unwrap();
        assert!(write(&path, false).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        write(&path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), TEMPLATE.as_bytes());
    }
}
