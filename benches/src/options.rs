//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(crate) const USAGE: &str = "\
Measures the bars and prints their table.

  cargo bench -p cairn-benches -- [OPTIONS] [BAR...]

  --corpus DIR        the corpora that benches/fetch-corpus.sh made [env CAIRN_CORPUS; default: corpus]
  --work DIR          measure in a fresh folder inside DIR [default: /dev/shm if it is a tmpfs, else the temporary folder]
  --disk DIR          measure the bars of the mount in a fresh folder inside DIR, which is on ext4
                      [default: the temporary folder, target/ or the workspace, whichever is]
  --bar N[,N...]      only these bars, of 1 to 28; 8 to 28 are also called mount, metadata, flip, generations, upgrade,
                      speed, swarm, lazy, collect, verify, recovery, deltas, codecs, unrelated, optimise, snapshots,
                      join, events, joiners, machine and release
  --only NAME[,...]   bars 1 to 5 on these corpora alone: uv-all, uv-one, esbuild, state, small-files; 19 and 20 on these:
                      uv, esbuild, libssl3, postgresql-15, state, or any package in the corpus's deb/
  --repetitions N     turns of each entrant, 5 or more [default: 7]
  --no-peers          leave casync, restic and borg out of all but bar 5, EROFS and squashfuse of 8 and 9
  --output STEM       write STEM.md and STEM.json [default: benches/results/DATE]
  --quick             tiny inputs and one turn: shows that the bench works, measures nothing

Relative paths start at the root of the workspace. CAIRN_BIN names the cairn to measure; otherwise the release binary
of this workspace is built and measured.";

const NAMED_BARS: [(&str, u8); 21] = [
    ("mount", 8),
    ("metadata", 9),
    ("flip", 10),
    ("generations", 11),
    ("upgrade", 12),
    ("speed", 13),
    ("swarm", 14),
    ("lazy", 15),
    ("collect", 16),
    ("verify", 17),
    ("recovery", 18),
    ("deltas", 19),
    ("codecs", 20),
    ("unrelated", 21),
    ("optimise", 22),
    ("snapshots", 23),
    ("join", 24),
    ("events", 25),
    ("joiners", 26),
    ("machine", 27),
    ("release", 28),
];
const REPETITIONS_MIN: usize = 5;
const REPETITIONS_DEFAULT: usize = 7;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) corpus: PathBuf,
    pub(crate) work: Option<PathBuf>,
    pub(crate) disk: Option<PathBuf>,
    bars: Vec<u8>,
    corpora: Vec<String>,
    pub(crate) repetitions: usize,
    pub(crate) peers: bool,
    pub(crate) output: Option<PathBuf>,
    pub(crate) scale: Scale,
}

/// How large what the bench itself makes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
    pub(crate) small_files: u32,
    pub(crate) big_file_bytes: u64,
    pub(crate) artifacts: u32,
    /// Turns for each repetition of what ends within milliseconds.
    pub(crate) starts: usize,
    /// Files in a tree of which all are looked at, and in one folder that is listed.
    pub(crate) names: u32,
    pub(crate) flips: u64,
    /// Names that readers look up, at least, while that goes on.
    pub(crate) lookups: u64,
    /// Packages in the larger of two profiles.
    pub(crate) packages: u32,
    pub(crate) generations: u32,
    /// What moves to an empty store.
    pub(crate) pulled_bytes: u64,
    /// Chunks of a store that is collected.
    pub(crate) collected_chunks: u64,
    /// Chunks of a store that is opened after a crash: 16 KiB each.
    pub(crate) crashed_chunks: u64,
    /// What is damaged and mended.
    pub(crate) repaired_bytes: u64,
    /// Files of a state, each a database of so many rows.
    pub(crate) databases: u32,
    pub(crate) database_rows: u32,
    /// A state that is joined beside events, and the events behind which another is joined.
    pub(crate) joined_bytes: u64,
    pub(crate) backlog_bytes: u64,
    /// A state that many join at once.
    pub(crate) shared_bytes: u64,
}

impl Scale {
    const FULL: Scale = Scale {
        quick: false,
        small_files: 32_000,
        big_file_bytes: 4 << 30,
        artifacts: 1_000,
        starts: 15,
        names: 20_000,
        flips: 10_000,
        lookups: 1_000_000,
        packages: 1_000,
        generations: 100,
        pulled_bytes: 1 << 30,
        collected_chunks: 1_000_000,
        crashed_chunks: 6_500_000,
        repaired_bytes: 62 << 20,
        databases: 16,
        database_rows: 300_000,
        joined_bytes: 2 << 30,
        backlog_bytes: 1 << 30,
        shared_bytes: 16 << 20,
    };
    const QUICK: Scale = Scale {
        quick: true,
        small_files: 300,
        big_file_bytes: 32 << 20,
        artifacts: 10,
        starts: 1,
        names: 300,
        flips: 50,
        lookups: 500,
        packages: 10,
        generations: 3,
        pulled_bytes: 8 << 20,
        collected_chunks: 20_000,
        crashed_chunks: 65_000,
        repaired_bytes: 16 << 20,
        databases: 3,
        database_rows: 3_000,
        joined_bytes: 8 << 20,
        backlog_bytes: 8 << 20,
        shared_bytes: 2 << 20,
    };
}

impl Options {
    /// None if what to measure was not said: no argument at all, as when `cargo test` starts every target.
    pub(crate) fn parse(
        args: impl Iterator<Item = OsString>,
        corpus_env: Option<OsString>,
    ) -> Result<Option<Options>> {
        let mut args = args.peekable();
        if args.peek().is_none() {
            return Ok(None);
        }
        let mut options = Options {
            corpus: in_workspace(corpus_env.unwrap_or_else(|| "corpus".into())),
            work: None,
            disk: None,
            bars: Vec::new(),
            corpora: Vec::new(),
            repetitions: 0,
            peers: true,
            output: None,
            scale: Scale::FULL,
        };
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().ok_or_else(|| Error::Usage(format!("{} needs a value", arg.display())));
            match arg.to_str().unwrap_or_default() {
                // What cargo itself adds.
                "--bench" => {}
                "--corpus" => options.corpus = in_workspace(value()?),
                "--work" => options.work = Some(in_workspace(value()?)),
                "--disk" => options.disk = Some(in_workspace(value()?)),
                "--output" => options.output = Some(in_workspace(value()?)),
                "--bar" => options.bars.extend(list(&value()?, bar)?),
                "--only" => options.corpora.extend(list(&value()?, |name| Ok(name.to_owned()))?),
                "--repetitions" => options.repetitions = number(&value()?)?,
                "--no-peers" => options.peers = false,
                "--quick" => options.scale = Scale::QUICK,
                name if !name.is_empty() && !name.starts_with('-') => options.bars.push(bar(name)?),
                _ => return Err(Error::Usage(format!("unknown option {}", arg.display()))),
            }
        }
        options.settle_repetitions()?;
        Ok(Some(options))
    }

    pub(crate) fn wants_bar(&self, bar: u8) -> bool {
        self.bars.is_empty() || self.bars.contains(&bar)
    }

    /// Whether a corpus was named, so that one is measured which otherwise is not.
    pub(crate) fn names_corpus(&self, name: &str) -> bool {
        self.corpora.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn wants_corpus(&self, name: &str) -> bool {
        self.corpora.is_empty() || self.names_corpus(name)
    }

    /// For a bar that makes its own input: unless it is named itself, naming a corpus leaves it out.
    pub(crate) fn wants_own_bar(&self, bar: u8) -> bool {
        if self.bars.is_empty() { self.corpora.is_empty() } else { self.wants_bar(bar) }
    }

    fn settle_repetitions(&mut self) -> Result<()> {
        match (self.repetitions, self.scale.quick) {
            (0, true) => self.repetitions = 1,
            (0, false) => self.repetitions = REPETITIONS_DEFAULT,
            (1..REPETITIONS_MIN, false) => {
                return Err(Error::Usage(format!("--repetitions is {REPETITIONS_MIN} or more, or --quick")));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The root of the workspace; cargo starts a bench in the folder of its package.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn in_workspace(path: OsString) -> PathBuf {
    workspace().join(path)
}

fn list<T>(value: &OsString, one: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    value.to_string_lossy().split(',').map(|item| one(item.trim())).collect()
}

fn bar(text: &str) -> Result<u8> {
    if let Some((_, bar)) = NAMED_BARS.iter().find(|(name, _)| *name == text) {
        return Ok(*bar);
    }
    match text.parse() {
        Ok(bar @ 1..=28) => Ok(bar),
        _ => Err(Error::Usage(format!("no bar {text}: they are 1 to 28"))),
    }
}

fn number(value: &OsString) -> Result<usize> {
    let text = value.to_string_lossy();
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(Error::Usage(format!("{text} is no number of repetitions"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Options>> {
        Options::parse(args.iter().map(OsString::from), None)
    }

    #[test]
    fn nothing_asked_nothing_measured() {
        assert!(parse(&[]).unwrap().is_none());
        assert!(parse(&["--bench"]).unwrap().is_some());
    }

    #[test]
    fn filters() {
        let all = parse(&["--bench"]).unwrap().unwrap();
        assert!(all.wants_bar(7) && all.wants_corpus("state"));
        let some = parse(&["--bar", "1,3", "--bar", "6", "--only", "uv-all"]).unwrap().unwrap();
        assert!(some.wants_bar(3) && some.wants_bar(6) && !some.wants_bar(2));
        assert!(some.wants_own_bar(6) && !some.wants_own_bar(7));
        assert!(!parse(&["--only", "state"]).unwrap().unwrap().wants_own_bar(6));
        assert!(some.wants_corpus("uv-all") && !some.wants_corpus("state"));
    }

    #[test]
    fn bars_have_names() {
        let some = parse(&["mount", "--bar", "flip,7"]).unwrap().unwrap();
        assert!([7, 8, 10].iter().all(|bar| some.wants_own_bar(*bar)) && !some.wants_own_bar(9));
    }

    #[test]
    fn few_repetitions_only_when_nothing_is_measured() {
        assert_eq!(parse(&["--bench"]).unwrap().unwrap().repetitions, 7);
        assert_eq!(parse(&["--quick"]).unwrap().unwrap().repetitions, 1);
        assert!(parse(&["--repetitions", "3"]).is_err());
        assert_eq!(parse(&["--repetitions", "3", "--quick"]).unwrap().unwrap().repetitions, 3);
    }

    #[test]
    fn mistakes_are_named() {
        for args in [&["--bar", "29"][..], &["mounts"], &["--bar"], &["--repetitions", "0"], &["--what"]] {
            assert!(matches!(parse(args), Err(Error::Usage(_))), "{args:?}");
        }
    }
}
