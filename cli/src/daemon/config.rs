//! The file that says what a daemon does by itself and no option has room for: which state directories it takes snapshots of.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::num::{NonZero, NonZeroU64};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_agent::snapshot::{CheckpointOptions, Freezing, HOOK_TIME, RoundFrom, SnapshotOptions};
use cairn_store::Name;
use clap::Args;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use toml::Spanned;

use crate::error::Usage;
use crate::{text, wire};

/// The file's name in the store, where no other is named.
const FILE: &str = "cairn.toml";
/// Longest file.
const LEN_MAX: u64 = 1 << 20;
/// How often it is asked for the round where snapshots are made every so many rounds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which file that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigArgs {
    /// A file that says of what the daemon takes snapshots by itself [default: cairn.toml in the store, if it is there]
    #[arg(long, env = "CAIRN_CONFIG", value_name = "FILE", hide_env_values = true)]
    #[serde(with = "wire::path_option")]
    pub(crate) config: Option<PathBuf>,
}

impl ConfigArgs {
    /// These, and what they do not say as `before` says it.
    pub(crate) fn or(self, before: &Self) -> Self {
        Self { config: self.config.or_else(|| before.config.clone()) }
    }

    /// Paths that mean the same in another folder.
    pub(crate) fn make_paths_absolute(&mut self) -> std::io::Result<()> {
        if let Some(path) = self.config.take().filter(|path| !path.as_os_str().is_empty()) {
            self.config = Some(std::path::absolute(path)?);
        }
        Ok(())
    }

    /// Reads the file. One that nobody named need not be there.
    pub(crate) fn load(&self, store: &Path) -> anyhow::Result<Config> {
        let path = self.config.clone().unwrap_or_else(|| store.join(FILE));
        match read(&path) {
            Ok(text) => Ok(Config::parse(&path, &text)?),
            Err(error) if error.kind() == ErrorKind::NotFound && self.config.is_none() => {
                Ok(Config::default())
            }
            Err(error) => Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display()))),
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let mut text = String::new();
    if file.take(LEN_MAX + 1).read_to_string(&mut text)? as u64 > LEN_MAX {
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it is longer than 1 MiB"));
    }
    Ok(text)
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// Of what snapshots are made, by name.
    pub(crate) snapshots: Vec<Schedule>,
}

/// When snapshots of a state are made, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The name that they are made under.
    pub(crate) name: Name,
    /// When.
    pub(crate) when: When,
    entry: Entry,
}

/// When a snapshot is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// So long after the last one was due.
    Every(Duration),
    /// When the round is so much more than that of the last one; it is looked so often.
    Rounds {
        /// How much more.
        rounds: NonZeroU64,
        /// How often it is looked.
        look_every: Duration,
    },
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {}", text::duration(*every)),
            Self::Rounds { rounds, .. } => write!(f, "every {}", text::count(rounds.get(), "round")),
        }
    }
}

impl Schedule {
    /// The command that says the round.
    pub(crate) fn round_cmd(&self) -> &str {
        &self.entry.round_cmd
    }

    /// The state directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.entry.dir
    }

    /// How long each command may take.
    pub(crate) fn hook_time(&self) -> Duration {
        self.entry.hook_time.map_or(HOOK_TIME, |Time(time)| time)
    }

    /// How one is made.
    pub(crate) fn options(&self) -> SnapshotOptions {
        let Entry { dir, round_cmd, freeze, thaw, checkpoint_cmd, checkpoint_in, keep, .. } = &self.entry;
        let round = RoundFrom::Command(round_cmd.clone());
        SnapshotOptions {
            freezing: freeze.clone().zip(thaw.clone()).map(|(freeze, thaw)| Freezing { freeze, thaw }),
            checkpoint: checkpoint_cmd
                .clone()
                .map(|command| CheckpointOptions { command, within: checkpoint_in.clone() }),
            keep: *keep,
            hook_time: self.hook_time(),
            // A state that goes on without a new round is no new snapshot.
            only_new_rounds: true,
            ..SnapshotOptions::new(self.name.clone(), dir.clone(), round)
        }
    }
}

/// A length of time as it is written: `10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text::parse_duration(&text) {
            Ok(Duration::ZERO) => Err(D::Error::custom("it is longer than no time")),
            Ok(time) => Ok(Self(time)),
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}

/// `[snapshots.NAME]`, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dir: PathBuf,
    every: Option<Time>,
    rounds: Option<NonZeroU64>,
    look_every: Option<Time>,
    round_cmd: String,
    freeze: Option<String>,
    thaw: Option<String>,
    checkpoint_cmd: Option<String>,
    checkpoint_in: Option<PathBuf>,
    keep: Option<NonZero<usize>>,
    hook_time: Option<Time>,
}

/// The whole file, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    snapshots: BTreeMap<String, Spanned<Entry>>,
    /// What `cairn sync` brings.
    #[serde(default, rename = "packages")]
    _packages: Option<IgnoredAny>,
}

impl Config {
    fn parse(path: &Path, text: &str) -> Result<Self, Usage> {
        let written: Written =
            toml::from_str(text).map_err(|error| bad(path, text, error.span(), error.message()))?;
        let mut snapshots = Vec::with_capacity(written.snapshots.len());
        for (name, entry) in written.snapshots {
            let span = entry.span();
            let schedule = Schedule::of(&name, entry.into_inner());
            let problem =
                |reason: String| bad(path, text, Some(span), &format!("[snapshots.{name}]: {reason}"));
            snapshots.push(schedule.map_err(problem)?);
        }
        Ok(Self { snapshots })
    }
}

impl Schedule {
    fn of(name: &str, entry: Entry) -> Result<Self, String> {
        let name: Name = name.parse().map_err(|error: cairn_store::Error| error.to_string())?;
        let when = match (entry.every, entry.rounds) {
            (Some(Time(every)), None) if entry.look_every.is_none() => When::Every(every),
            (Some(_), None) => return Err("look_every goes with rounds, not with every".to_owned()),
            (None, Some(rounds)) => {
                let look_every = entry.look_every.map_or(LOOK_EVERY, |Time(time)| time);
                When::Rounds { rounds, look_every }
            }
            (Some(_), Some(_)) => return Err("every and rounds are both given: it is one of them".to_owned()),
            (None, None) => return Err("neither every = \"10s\" nor rounds = N is given".to_owned()),
        };
        if entry.freeze.is_some() != entry.thaw.is_some() {
            return Err("freeze and thaw go together".to_owned());
        }
        if entry.checkpoint_in.is_some() && entry.checkpoint_cmd.is_none() {
            return Err("checkpoint_in goes with checkpoint_cmd".to_owned());
        }
        let paths =
            [Some(("dir", &entry.dir)), entry.checkpoint_in.as_ref().map(|dir| ("checkpoint_in", dir))];
        if let Some((key, path)) = paths.into_iter().flatten().find(|(_, path)| !path.is_absolute()) {
            return Err(format!("{key} = {:?} is not an absolute path", path.display().to_string()));
        }
        Ok(Self { name, when, entry })
    }
}

fn bad(path: &Path, text: &str, span: Option<Range<usize>>, problem: &str) -> Usage {
    let before = span.and_then(|span| text.get(..span.start));
    let place = before.map(|before| before.matches('\n').count()).map_or_else(String::new, |nth| {
        let line = text.lines().nth(nth).unwrap_or_default().trim();
        format!(", line {} ({line})", nth + 1)
    });
    let problem = problem.trim().replace('\n', " ");
    Usage {
        problem: format!("{}{place}: {problem}", path.display()),
        hint: "docs/cli.md says what the file may hold, under `daemon`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("cairn.toml"), text).map_err(|usage| usage.problem)
    }

    #[test]
    fn schedules_are_read() {
        let config = parse(
            "[snapshots.state]\ndir = \"/data\"\nevery = \"10s\"\nround_cmd = \"ctl height\"\nkeep = 3\n\
             freeze = \"ctl pause\"\nthaw = \"ctl resume\"\nhook_time = \"5s\"\n\n\
             [snapshots.rocks]\ndir = \"/rocks\"\nrounds = 100\nround_cmd = \"x\"\ncheckpoint_cmd = \"c\"\n",
        )
        .unwrap();
        let [rocks, state] = config.snapshots.as_slice() else { panic!("two: {config:?}") };
        assert_eq!(state.when, When::Every(Duration::from_secs(10)));
        let options = state.options();
        assert_eq!((options.keep, options.hook_time), (NonZero::new(3), Duration::from_secs(5)));
        assert!(options.freezing.is_some() && options.checkpoint.is_none() && options.only_new_rounds);
        assert!(matches!(rocks.when, When::Rounds { rounds, look_every: LOOK_EVERY } if rounds.get() == 100));
        assert!(rocks.options().checkpoint.is_some());
        assert_eq!(parse("").unwrap(), Config::default());
        assert_eq!(parse("# nothing\n[snapshots]\n").unwrap(), Config::default());
        assert_eq!(parse("[packages.app]\nbinaries = [\"app\"]\n").unwrap(), Config::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_key() {
        let good = "[snapshots.state]\ndir = \"/data\"\nround_cmd = \"x\"\n";
        for (more, line, word) in [
            ("evry = \"10s\"", 4, "evry"),
            ("every = \"soon\"", 4, "every = \"soon\""),
            ("every = \"0s\"", 4, "every"),
            ("every = 10", 4, "every = 10"),
            ("rounds = 0", 4, "rounds = 0"),
            ("keep = -1", 4, "keep = -1"),
            ("every = \"1s\"\nkeep = 0", 5, "keep = 0"),
            ("every = \"1s\"\nrounds = 1", 1, "one of them"),
            ("every = \"1s\"\nlook_every = \"1s\"", 1, "look_every"),
            ("", 1, "neither every"),
            ("every = \"1s\"\nfreeze = \"x\"", 1, "freeze and thaw"),
            ("every = \"1s\"\ncheckpoint_in = \"/x\"", 1, "checkpoint_in"),
            ("every = \"1s\"\n[snapshot.x]", 5, "snapshot"),
            ("every = \"1s\"\nthis is no toml", 5, "this is no toml"),
        ] {
            let problem = parse(&format!("{good}{more}\n")).unwrap_err();
            assert!(problem.starts_with(&format!("cairn.toml, line {line} (")), "{more}: {problem}");
            assert!(problem.contains(word), "{more}: {problem}");
        }
        for (text, line, word) in [
            ("[snapshots.State]\ndir = \"/d\"\nround_cmd = \"x\"\nevery = \"1s\"\n", 1, "State"),
            ("\n[snapshots.s]\ndir = \"d\"\nround_cmd = \"x\"\nevery = \"1s\"\n", 2, "dir = \"d\""),
            ("[snapshots.s]\ndir = \"/d\"\nevery = \"1s\"\n", 1, "round_cmd"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.starts_with(&format!("cairn.toml, line {line} (")), "{problem}");
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn a_file_that_is_named_has_to_be_there() {
        let store = tempfile::tempdir().unwrap();
        let mut args = ConfigArgs::default();
        assert_eq!(args.load(store.path()).unwrap(), Config::default());
        args.config = Some(store.path().join("other.toml"));
        let error = args.load(store.path()).unwrap_err();
        assert!(format!("{error:#}").contains("cannot read"), "{error:#}");
    }
}
