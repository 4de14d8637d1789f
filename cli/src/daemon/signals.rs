//! What tells a daemon to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT; SIGHUP is heard and means nothing, so that a terminal that closes ends no daemon.
pub(super) struct Signals {
    heard: [Signal; 2],
    _ignored: Signal,
}

impl Signals {
    pub(super) fn watch() -> anyhow::Result<Self> {
        let heard = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        Ok(Self { heard, _ignored: signal(SignalKind::hangup())? })
    }

    pub(super) async fn next(&mut self) {
        let [term, int] = &mut self.heard;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}
