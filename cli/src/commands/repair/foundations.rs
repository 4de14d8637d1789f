//! What has to be right before a store can be opened to write: the file that says what it is, and its journal.

use cairn_store::journal::JournalRepair;
use cairn_store::time::rfc3339;
use cairn_store::{Error, Foundations};
use serde::Serialize;

use super::RepairArgs;
use crate::app::App;
use crate::error::{NoStore, Outcome, Usage};
use crate::output::{JsonPath, OutputResult};
use crate::text;

/// The JSON form of what is wrong, and what is done about it.
#[derive(Serialize)]
struct Report<'a> {
    r#type: &'static str,
    format: Option<&'a str>,
    journal: Option<JournalReport<'a>>,
    done: bool,
}

#[derive(Serialize)]
struct JournalReport<'a> {
    #[serde(flatten)]
    file: JsonPath<'a>,
    offset: Option<u64>,
    detail: &'a str,
    seq: u64,
    time: Option<String>,
    refs: usize,
    channels: usize,
    profiles: usize,
}

/// Puts right what is wrong, the journal only if that was asked for; gives the outcome where that is the end.
pub(super) fn mend(app: &mut App, args: &RepairArgs) -> anyhow::Result<Option<Outcome>> {
    let path = app.store_path()?;
    let found = Foundations::examine(&path).map_err(|error| match error {
        Error::Absent { .. } => NoStore(path.clone()).into(),
        error => anyhow::Error::from(error),
    })?;
    if found.are_sound() {
        return Ok(None);
    }
    let may_do = !args.dry_run && (found.journal.is_none() || args.yes);
    if found.journal.is_some() && app.daemon().is_some() {
        let problem = "the journal is damaged, and a daemon has the store open".to_owned();
        return Err(Usage { problem, hint: "stop the daemon, and run this again" }.into());
    }
    tell(app, &found, may_do)?;
    if !may_do {
        return Ok(Some(Outcome::DamageFound));
    }
    match app.daemon() {
        // It holds the lock.
        Some(_) => found.mend_on(&cairn_store::io::Os, &path)?,
        None => found.mend(&path, &app.writer_options(), &app.meter("waiting"))?,
    }
    Ok(None)
}

fn tell(app: &mut App, found: &Foundations, done: bool) -> OutputResult {
    if app.json() {
        let journal = found.journal.as_ref().map(report);
        let format = found.format.as_deref();
        app.out.object(&Report { r#type: "foundations", format, journal, done })?;
        return app.out.flush();
    }
    if let Some(detail) = &found.format {
        let will = if done { "it is written again" } else { "it would be written again" };
        app.out.line(format!("the file cairn-store, which says that this is a store: {detail}; {will}"))?;
    }
    if let Some(journal) = &found.journal {
        let file = text::path(JsonPath::of(&journal.file).0);
        let at = journal.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        app.out.line(format!("damaged {file}{at}: {}", journal.detail))?;
        let made = journal.time_ms.map(|time| format!(" of {}", rfc3339(time))).unwrap_or_default();
        let named = text::count(journal.view.refs.len() as u64, "version");
        app.out.line(format!("  its newest whole state is change {}{made}, with {named}", journal.seq))?;
        app.out.line(if done {
            "  the store goes back to it, and what is damaged goes to quarantine/"
        } else {
            "  `cairn repair --yes` goes back to it: changes after it are lost. Look first whether a backup has more"
        })?;
    }
    app.out.flush()
}

fn report(journal: &JournalRepair) -> JournalReport<'_> {
    JournalReport {
        file: JsonPath::of(&journal.file),
        offset: journal.offset,
        detail: &journal.detail,
        seq: journal.seq,
        time: journal.time_ms.map(rfc3339),
        refs: journal.view.refs.len(),
        channels: journal.view.channels.len(),
        profiles: journal.view.profiles.len(),
    }
}
