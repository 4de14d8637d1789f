//! What `status` says of the reading of everything again, and of what that found. It is in the store, so that it is told
//! without a daemon too.

use cairn_store::scrub::{Noted, ScrubState};
use cairn_store::time::rfc3339;
use serde::Serialize;

use crate::output::Table;
use crate::text;

/// The JSON form.
#[derive(Serialize)]
pub(super) struct ScrubReport<'a> {
    /// Bytes a second; null where nobody does it.
    rate: Option<u64>,
    /// When the pass that runs began.
    began: Option<String>,
    packs: u64,
    bytes: u64,
    last: Option<PassReport>,
    lost_chunks: u64,
    damage: Vec<NotedReport<'a>>,
}

/// The last whole pass.
#[derive(Serialize)]
struct PassReport {
    began: String,
    ended: String,
    packs: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct NotedReport<'a> {
    pack: &'a str,
    offset: Option<u64>,
    chunks: &'a [String],
    lost: u64,
    detail: &'a str,
    found: String,
}

/// What there is to say; `rate` is that of the daemon, if it does it.
pub(super) struct Scrubbed {
    pub(super) state: ScrubState,
    pub(super) rate: Option<u64>,
}

impl Scrubbed {
    pub(super) fn report(&self) -> ScrubReport<'_> {
        let noted = |noted: &'_ Noted| rfc3339(noted.found_ms);
        let state = &self.state;
        ScrubReport {
            rate: self.rate,
            began: (state.began_ms != 0).then(|| rfc3339(state.began_ms)),
            packs: state.packs,
            bytes: state.bytes,
            last: state.last.map(|last| PassReport {
                began: rfc3339(last.began_ms),
                ended: rfc3339(last.ended_ms),
                packs: last.packs,
                bytes: last.bytes,
            }),
            lost_chunks: state.lost(),
            damage: state
                .damage
                .iter()
                .map(|one| NotedReport {
                    pack: &one.pack,
                    offset: one.offset,
                    chunks: &one.chunks,
                    lost: one.lost,
                    detail: &one.detail,
                    found: noted(one),
                })
                .collect(),
        }
    }

    /// The same for people.
    pub(super) fn tell(&self, facts: &mut Table) {
        let state = &self.state;
        let last = state.last.map(|last| format!("all was read again until {}", rfc3339(last.ended_ms)));
        let now = (state.began_ms != 0).then(|| {
            let packs = text::count(state.packs, "pack");
            format!("{} in {packs} so far since {}", text::size(state.bytes), rfc3339(state.began_ms))
        });
        let said: Vec<String> = [last, now].into_iter().flatten().collect();
        if !said.is_empty() || self.rate.is_some() {
            let said =
                if said.is_empty() { "nothing was read again so far".to_owned() } else { said.join("; ") };
            facts.fact("scrub", said);
        }
        for noted in &state.damage {
            let at = noted.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
            let lost = match noted.lost {
                0 => "nothing is lost by it".to_owned(),
                lost => format!("{} lost", text::count(lost, "chunk")),
            };
            let detail = text::path(noted.detail.as_bytes());
            facts.fact("damage", format!("pack {}{at}: {detail}; {lost}: `cairn repair`", &noted.pack));
        }
    }
}
