//! Reads that heal, without a daemon: what is damaged or absent is fetched from peers where the store knows any, and the
//! same read goes on.
//!
//! As long as all is well nothing is locked and nobody is asked.

use cairn_net::Peers;
use cairn_store::{Error, Kind, Store};

use super::background::fetcher;
use crate::app::App;

/// Runs `read` with the store, and once more with one that fetches if something was damaged or absent. It begins again
/// where it likes.
pub(crate) fn read_healing<T>(
    app: &App,
    mut read: impl FnMut(&Store) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let store = app.store()?;
    let error = match read(&store) {
        Err(error) if app.daemon().is_none() && may_help(&error) => error,
        // A daemon's store fetches by itself.
        result => return result,
    };
    let sources = Peers::open(store.path()).sources().unwrap_or_default();
    if sources.is_empty() {
        return Err(error);
    }
    tracing::info!(error = format!("{error:#}"), "peers are asked");
    // Whoever writes the store now, and keeps this one from it, is waited for as always.
    let writer = app.writer(&app.meter("waiting"))?;
    writer.set_fetch(Some(fetcher(&app.net()?, &writer, sources)));
    let result = read(writer.store());
    writer.set_fetch(None);
    // What came stays, whatever became of the read.
    let flushed = writer.intake().flush();
    let value = result?;
    flushed?;
    Ok(value)
}

/// Whether what failed may succeed with the help of peers.
fn may_help(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<Error>().map(Error::kind);
    matches!(kind, Some(Kind::Damaged | Kind::Unavailable))
}
