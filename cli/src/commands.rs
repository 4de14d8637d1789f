//! One file per command: what it takes, what it does with the library, what it prints.

pub(crate) mod add;
pub(crate) mod cat;
pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod gc;
pub(crate) mod generations;
pub(crate) mod hold;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod install;
pub(crate) mod join;
pub(crate) mod log;
pub(crate) mod ls;
pub(crate) mod mount;
pub(crate) mod optimise;
pub(crate) mod peers;
pub(crate) mod pin;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod remove;
pub(crate) mod repair;
pub(crate) mod rm;
pub(crate) mod rollback;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod switch;
pub(crate) mod sync;
pub(crate) mod tag;
pub(crate) mod token;
pub(crate) mod umount;
pub(crate) mod unpin;
pub(crate) mod use_;
pub(crate) mod verify;

use crate::app::App;
use crate::args::Command;
use crate::error::Outcome;

/// Runs one command to its end.
pub(crate) fn run(app: &mut App, command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Add(args) => add::run(app, args),
        Command::Ls(args) => ls::run(app, &args),
        Command::Show(args) => show::run(app, &args),
        Command::Cat(args) => cat::run(app, &args),
        Command::Export(args) => export::run(app, &args),
        Command::Import(args) => import::run(app, &args),
        Command::Diff(args) => diff::run(app, &args),
        Command::Rm(args) => rm::run(app, &args),
        Command::Pull(args) => pull::run(app, &args),
        Command::Push(args) => push::run(app, &args),
        Command::Join(args) => join::run(app, &args),
        Command::Peers(command) => peers::run(app, &command),
        Command::Tag(args) => tag::run(app, &args),
        Command::Token(command) => token::run(app, &command),
        Command::Snapshot(command) => snapshot::run(app, command),
        Command::Use(args) => use_::run(app, &args),
        Command::Remove(args) => remove::run(app, &args),
        Command::Generations(args) => generations::run(app, &args),
        Command::Switch(args) => switch::run(app, &args),
        Command::Rollback(args) => rollback::run(app, &args),
        Command::Pin(args) => pin::run(app, &args),
        Command::Unpin(args) => unpin::run(app, &args),
        Command::Prune(args) => prune::run(app, &args),
        Command::Mount(args) => mount::run(app, &args),
        Command::Umount(args) => umount::run(app, &args),
        Command::Status(args) => status::run(app, &args),
        Command::Ps(args) => ps::run(app, &args),
        Command::Log(args) => log::run(app, &args),
        Command::Stats(args) => stats::run(app, &args),
        Command::Verify(args) => verify::run(app, &args),
        Command::Repair(args) => repair::run(app, &args),
        Command::Fetch(args) => fetch::run(app, &args),
        Command::Gc(args) => gc::run(app, &args),
        Command::Optimise(args) => optimise::run(app, &args),
        Command::Stream(command) => stream::run(app, command),
        Command::Install(args) => install::run(app, &args),
        Command::Demo(args) => demo::run(app, args),
    }
}
