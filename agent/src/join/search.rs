//! What peers offer, and which snapshot is taken: all of them are asked at once, again and again until one will do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::choose::{Choice, Offers, Wishes, choose};
use super::network::Network;
use crate::error::{JoinError, Result};

/// How long others are waited for once one has said what it offers.
const GRACE: Duration = Duration::from_secs(3);
/// How often a snapshot that will do is asked for, while there is none.
const EVERY: Duration = Duration::from_secs(1);
/// How often a wait looks whether it is to stop.
const PAUSE: Duration = Duration::from_millis(50);

impl Attempt<'_> {
    /// What every peer offers that answers about as soon as the first.
    pub(super) fn survey(&self) -> Result<Vec<Offers>> {
        let (sender, answers) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let peers = self.network.peers();
        for peer in 0..peers {
            let (network, sender, is_over) =
                (Arc::clone(&self.network), sender.clone(), Arc::clone(&is_over));
            let ask = move || {
                // Nobody listens who has waited long enough.
                let _ = sender.send(network.offers(peer, &|| is_over.load(Ordering::Relaxed)));
            };
            let thread = std::thread::Builder::new().name(format!("ask-{peer}"));
            thread.spawn(ask).map_err(|source| JoinError::Io {
                action: "begin a thread for",
                path: "a peer".into(),
                source,
            })?;
        }
        drop(sender);
        let (mut asked, mut until) = (Vec::new(), None);
        let result = loop {
            match answers.recv_timeout(PAUSE) {
                Ok(answer) => {
                    if answer.is_ok() {
                        until.get_or_insert(Instant::now() + GRACE);
                    }
                    asked.push(answer);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
            if until.is_some_and(|until| Instant::now() > until) {
                break Ok(());
            }
            if let Err(error) = self.watch.check() {
                break Err(error);
            }
        };
        is_over.store(true, Ordering::Relaxed);
        result?;
        let (mut offers, mut faults) = (Vec::new(), Vec::new());
        for answer in asked {
            match answer {
                Ok(of) => offers.push(of),
                Err(error) => faults.push(error),
            }
        }
        // Whoever is first in the list counts, where nothing else decides.
        offers.sort_by_key(|of| of.peer);
        match faults.pop() {
            Some(only) if offers.is_empty() && faults.is_empty() => Err(only.into()),
            Some(last) if offers.is_empty() => {
                let detail =
                    faults.iter().chain([&last]).map(ToString::to_string).collect::<Vec<_>>().join("; ");
                Err(self.no_snapshot(detail))
            }
            _ => Ok(offers),
        }
    }

    /// A snapshot of this round or a later one. Where there is none, peers may be about to take one.
    pub(super) fn find(&self, round_min: u64) -> Result<Choice> {
        let until = Instant::now() + self.options.snapshot_wait;
        loop {
            let mut offers = self.survey()?;
            // Who was wrong is heard where he is not the only one left.
            let is_blamed = |of: &Offers| self.lessons.blamed.contains_key(&of.peer);
            if offers.iter().filter(|of| !is_blamed(of)).any(|of| !of.snapshots.is_empty()) {
                offers.retain(|of| !is_blamed(of));
            }
            let wishes = Wishes { agree: self.options.agree, round_min, excluded: &self.lessons.excluded };
            let no = match choose(&offers, &wishes) {
                Ok(choice) => {
                    for peer in &choice.dissenting {
                        let url = self.network.url(*peer);
                        self.watch.warn(&format!(
                            "{url} says something else of the state at round {} than others",
                            choice.round
                        ));
                    }
                    return Ok(choice);
                }
                Err(no) => no,
            };
            if Instant::now() >= until {
                return Err(match no.disagree {
                    Some((round, first, second)) => JoinError::Disagree {
                        first: self.network.url(first).clone(),
                        second: self.network.url(second).clone(),
                        what: format!("the state at round {round}"),
                    },
                    None => self.no_snapshot(no.reason),
                });
            }
            let next = Instant::now() + EVERY;
            while Instant::now() < next {
                self.watch.check()?;
                std::thread::sleep(PAUSE);
            }
        }
    }
}
