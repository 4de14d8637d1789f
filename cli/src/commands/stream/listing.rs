//! `cairn stream ls`.

use cairn_net::wire::StreamAnswer;

use super::{LsArgs, source};
use crate::app::App;
use crate::error::Outcome;
use crate::output::Align::{Left, Right};
use crate::output::Table;
use crate::text;

pub(super) fn run(app: &mut App, args: &LsArgs) -> anyhow::Result<Outcome> {
    let listed = match &args.from {
        Some(url) => app.net()?.streams(&source(app, url, &args.access)?, &*app.stopper())?,
        None => of_this_store(app)?,
    };
    let mut table = Table::new(&[("NAME", Left), ("FIRST", Right), ("NEXT", Right), ("SIZE", Right)]);
    for stream in &listed {
        if app.json() {
            app.out.object(stream)?;
        } else {
            let StreamAnswer { name, first_round, next_round, bytes } = stream;
            table.row([
                name.to_string(),
                first_round.to_string(),
                next_round.to_string(),
                text::size(*bytes),
            ]);
        }
    }
    app.out.table(&table)?;
    Ok(Outcome::Done)
}

fn of_this_store(app: &App) -> anyhow::Result<Vec<StreamAnswer>> {
    let writer = app.writer_of_existing(&app.meter("waiting"))?;
    let streams = app.streams(&writer)?;
    let mut listed = Vec::new();
    for name in streams.list()? {
        let Some(log) = streams.get(&name)? else { continue };
        let span = log.span();
        listed.push(StreamAnswer { name, first_round: span.first, next_round: span.next, bytes: span.bytes });
    }
    Ok(listed)
}
