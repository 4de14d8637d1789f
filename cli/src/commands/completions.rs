//! `cairn completions`: what a shell needs to complete commands.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::OutputResult;

const EXAMPLES: &str = "\
Examples:
  cairn completions bash > ~/.local/share/bash-completion/completions/cairn
  cairn completions fish > ~/.config/fish/completions/cairn.fish";

/// Print a script that completes commands in a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Writes the script; it is about this program, not about a store, and so is no job.
pub(crate) fn run(args: &CompletionsArgs) -> OutputResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "cairn", &mut script);
    let mut stdout = std::io::stdout().lock();
    Ok(stdout.write_all(&script).and_then(|()| stdout.flush())?)
}
