//! What a daemon runs with: what its command line says, else what the daemon before it ran with, else the usual.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cairn_store::{ProfileName, Writer};
use serde::{Deserialize, Serialize};

use super::collector::CollectorArgs;
use super::config::{ConfigArgs, Schedule};
use super::optimiser::OptimiserArgs;
use super::scrub::ScrubArgs;
use crate::args::Global;
use crate::commands::daemon::DaemonArgs;
use crate::commands::serve::{ListenArg, ServeOptions, http_port};
use crate::error::Usage;
use crate::exchange::Background;
use crate::{app, client, wire};

/// Commands that run at a time where nothing is said.
const JOBS: NonZero<usize> = NonZero::new(16).expect("16 is not 0");
/// How long commands may take to end where nothing is said.
const GRACE: Duration = Duration::from_secs(10);
/// How long reads wait for peers where nothing is said.
const FETCH_MAX: Duration = Duration::from_secs(30);

/// The settings of a daemon. One that is taken over hands them on, as JSON: a field that is missing there is the usual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The control socket.
    #[serde(with = "wire::path")]
    pub(crate) socket: PathBuf,
    /// Whose members may give commands too.
    #[serde(default)]
    pub(crate) group: Option<u32>,
    /// It ends with its last mount.
    #[serde(default)]
    pub(crate) auto: bool,
    /// Bytes of whole files on disk.
    #[serde(default)]
    pub(crate) cache_max: Option<u64>,
    /// Commands that run at a time.
    #[serde(default)]
    jobs: Option<NonZero<usize>>,
    /// How long commands may take to end.
    #[serde(default)]
    grace_ms: Option<u64>,
    /// How peers are served.
    #[serde(default)]
    pub(crate) serve: ServeOptions,
    /// How long reads wait for peers.
    #[serde(default)]
    fetch_max_ms: Option<u64>,
    /// Whether what lacks of versions stays away until it is read.
    #[serde(default)]
    pub(crate) no_complete: bool,
    /// Profiles of which versions are shown as soon as their names are here.
    #[serde(default)]
    pub(crate) lazy: BTreeSet<ProfileName>,
    /// By what rule it collects by itself.
    #[serde(default)]
    pub(crate) collector: CollectorArgs,
    /// How it tells older versions in terms of newer ones.
    #[serde(default)]
    pub(crate) optimiser: OptimiserArgs,
    /// How it reads everything again.
    #[serde(default)]
    pub(crate) scrub: ScrubArgs,
    /// Which file says of what it takes snapshots.
    #[serde(default)]
    pub(crate) config: ConfigArgs,
    /// What that says, read when this daemon began.
    #[serde(skip)]
    pub(crate) snapshots: Vec<Schedule>,
}

impl Settings {
    /// For the store at `store`, after a daemon with the settings `before`, if one is taken over.
    pub(crate) fn new(
        global: &Global,
        args: &DaemonArgs,
        store: &Path,
        before: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let is_named = global.socket.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
        let named = client::socket(global).filter(|_| is_named).map(std::path::absolute).transpose()?;
        let group = args.socket_group.as_deref().map(group).transpose()?;
        let mut serve = match before {
            Some(before) => args.serve.clone().or(&before.serve),
            None => args.serve.clone(),
        };
        serve.make_paths_absolute().context("cannot tell which folder this is")?;
        serve.listen = serve.address(args.serves, http_port()?).map(ListenArg::from);
        let mut config =
            args.config.clone().or(&before.map(|before| before.config.clone()).unwrap_or_default());
        config.make_paths_absolute().context("cannot tell which folder this is")?;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            socket: named.or_else(|| Some(before?.socket.clone())).unwrap_or_else(|| store.join(app::SOCKET)),
            group: group.or_else(|| before?.group),
            // Whoever names mounts wants a daemon that stays.
            auto: args.auto || before.is_some_and(|before| before.auto && args.mount.is_empty()),
            cache_max: args.cache_max.or_else(|| before?.cache_max),
            jobs: args.jobs.or_else(|| before?.jobs),
            grace_ms: args.grace.map(millis).or_else(|| before?.grace_ms),
            serve,
            fetch_max_ms: args.fetch_max.map(millis).or_else(|| before?.fetch_max_ms),
            no_complete: args.no_complete || before.is_some_and(|before| before.no_complete),
            lazy: before.map(|before| before.lazy.clone()).unwrap_or_default(),
            collector: match before {
                Some(before) => args.collector.clone().or(&before.collector),
                None => args.collector.clone(),
            },
            optimiser: match before {
                Some(before) => args.optimiser.clone().or(&before.optimiser),
                None => args.optimiser.clone(),
            },
            scrub: match before {
                Some(before) => args.scrub.clone().or(&before.scrub),
                None => args.scrub.clone(),
            },
            snapshots: config.load(store)?.snapshots,
            config,
        })
    }

    /// Commands that run at a time.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.unwrap_or(JOBS).get()
    }

    /// How long commands may take to end.
    pub(crate) fn grace(&self) -> Duration {
        self.grace_ms.map_or(GRACE, Duration::from_millis)
    }

    /// What a daemon with these does with peers beside commands.
    pub(crate) fn background(&self, writer: &Writer) -> anyhow::Result<Arc<Background>> {
        let own = writer.signed(app::who(rustix::process::geteuid().as_raw()));
        Background::new(own, self.fetch_max(), !self.no_complete)
    }

    /// How long reads wait for peers.
    pub(crate) fn fetch_max(&self) -> Duration {
        self.fetch_max_ms.map_or(FETCH_MAX, Duration::from_millis)
    }

    /// As another daemon reads them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// As another daemon wrote them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(bytes).context("the settings of the daemon that runs are not understood")
    }
}

/// The number of a group, given by number or by name in the form of group(5).
fn group(given: &str) -> Result<u32, Usage> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = || {
        groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == given).then(|| fields.nth(1)?.parse().ok())?
        })
    };
    given.parse().ok().or_else(named).ok_or_else(|| Usage {
        problem: format!("there is no group {given}"),
        hint: "--socket-group takes a name of /etc/group, or a number",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_other_versions_are_read() {
        let settings = Settings::from_bytes(br#"{"socket":"/s/daemon.sock","colour":"green"}"#).unwrap();
        assert_eq!((settings.jobs(), settings.grace(), settings.auto), (16, GRACE, false));
        assert_eq!(Settings::from_bytes(&settings.to_bytes()).unwrap(), settings);
        assert!(Settings::from_bytes(b"").is_err());
    }
}
