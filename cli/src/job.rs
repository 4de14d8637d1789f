//! The other side of the router: a request becomes an [`App`] and a command that runs with it; what fails becomes text
//! and an exit code.

use cairn_server::{Caller, Commands, JobIo, Request};

use crate::app::{App, Place};
use crate::args::Command;
use crate::commands;
use crate::error::{self, Outcome};

/// The commands of cairn, for a store at one place.
pub(crate) struct Jobs {
    place: Place,
}

impl Jobs {
    pub(crate) fn new(place: Place) -> Self {
        Self { place }
    }
}

impl Commands for Jobs {
    type Command = Command;

    fn run(&self, request: Request<Command>, caller: Caller, io: JobIo) -> u8 {
        let json = request.json;
        let mut app = App::new(self.place.clone(), &request, caller, io.clone());
        let result =
            app.refuse_foreign(&request.command).and_then(|()| commands::run(&mut app, request.command));
        // What was printed before a failure belongs to the result: a report may be followed by an error.
        let flushed = app.out.flush();
        match result.and_then(|outcome| Ok(flushed.map(|()| outcome)?)) {
            Ok(Outcome::Done) => 0,
            Ok(Outcome::DamageFound) => error::DAMAGED,
            Err(error) => {
                let error = if app.daemon().is_some() { error::in_daemon(error) } else { error };
                let told = error::tell(&error, json);
                io.err(&told.text);
                told.code
            }
        }
    }
}
