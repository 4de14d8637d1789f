//! The steps of a history: made by chance before it begins, and given a meaning by what is there when each is taken, so that a
//! history without some of its steps is one too.

use harness::seed::Chance;

use crate::model::{Model, Series};
use crate::world::{BUILDS, BUILDS_FROM, FAR, LOCAL, VERSIONS, World};

const PROFILES: [&str; 2] = ["canary", "default"];
const CHANNELS: [&str; 2] = ["stable", "next"];

/// A step. Numbers choose among what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ingests a tree and names it, in place of what had the name.
    Add {
        name: u64,
        tree: u64,
    },
    /// Begins to ingest a tree and thinks better of it.
    AddCancelled {
        tree: u64,
        after: u64,
    },
    Tag {
        release: u64,
        channel: u64,
    },
    RemoveRef {
        release: u64,
    },
    RemoveChannel {
        channel: u64,
    },
    Pull {
        version: u64,
    },
    /// Names what is pulled before its files are here.
    PullObjects {
        version: u64,
    },
    /// Brings the files of what was named before.
    Complete {
        release: u64,
    },
    Use {
        profile: u64,
        set: [u64; 2],
        remove: Option<u64>,
    },
    Switch {
        profile: u64,
        to: u64,
    },
    Rollback {
        profile: u64,
    },
    Pin {
        profile: u64,
        number: u64,
    },
    Unpin {
        profile: u64,
        number: u64,
    },
    Prune {
        profile: u64,
        keep: u64,
    },
    /// Collects what nobody needs, or begins to; with how much of a pack has to be needed.
    Collect {
        percent: u64,
        stop: Option<u64>,
    },
    /// Tells older versions in terms of newer ones, or begins to.
    Optimise {
        stop: Option<u64>,
    },
    /// Ingests a tree, collects, and only then names it.
    AddAround {
        name: u64,
        tree: u64,
    },
    /// Receives what is pulled, collects, and only then names it; perhaps held meanwhile.
    PullAround {
        version: u64,
        held: bool,
    },
    /// Holds a release that is there, until the writer ends.
    Hold {
        release: u64,
    },
    /// A bit of a pack turns.
    Rot {
        pack: u64,
        place: u64,
    },
    /// Finds what is damaged and has it replaced.
    Repair,
    /// Reads everything while somebody is there to fetch from.
    ReadAndHeal,
    /// Writes a run of the index, or takes all of them away.
    WriteRun,
    RemoveRuns,
    /// Closes the writer and opens another.
    Reopen,
}

/// A change of names, told in the world's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Publish { release: usize },
    Pull { release: usize, partial: bool },
    Complete { release: usize },
    Tag { release: usize, channel: &'static str },
    RemoveRef { release: usize },
    RemoveChannel { package: String, channel: String },
    Use { profile: &'static str, set: Vec<usize>, remove: Vec<String> },
    Switch { profile: &'static str, to: u64 },
    Rollback { profile: &'static str, to: u64 },
    Pin { profile: &'static str, number: u64 },
    Unpin { profile: &'static str, number: u64 },
    Prune { profile: &'static str, keep: usize },
}

impl Step {
    /// Builds of one program as versions of one package, the older ones of which are told in terms of the newest.
    pub(crate) fn releases(chance: &mut Chance) -> [Self; 4] {
        let package = chance.below(LOCAL.len() as u64);
        let mut add = |version: u64| {
            // Both the package and the version come of this number.
            let name = (7 * version..).find(|name| name % LOCAL.len() as u64 == package).unwrap_or(0);
            Self::Add { name, tree: BUILDS_FROM + chance.below(u64::from(BUILDS)) }
        };
        [add(0), add(1), add(2), Self::Optimise { stop: None }]
    }

    pub(crate) fn by(chance: &mut Chance) -> Self {
        let mut any = || chance.below(1 << 16);
        match any() % 62 {
            0..8 => Self::Add { name: any(), tree: any() },
            8 => Self::AddCancelled { tree: any(), after: any() % 4 },
            9..11 => Self::Tag { release: any(), channel: any() },
            11..15 => Self::RemoveRef { release: any() },
            15 => Self::RemoveChannel { channel: any() },
            16..19 => Self::Pull { version: any() },
            19..21 => Self::PullObjects { version: any() },
            21 => Self::Complete { release: any() },
            22..26 => {
                let remove = Some(any()).filter(|pick| pick % 3 == 0);
                Self::Use { profile: any(), set: [any(), any()], remove }
            }
            26 => Self::Switch { profile: any(), to: any() },
            27 => Self::Rollback { profile: any() },
            28 => Self::Pin { profile: any(), number: any() },
            29 => Self::Unpin { profile: any(), number: any() },
            30..32 => Self::Prune { profile: any(), keep: any() % 3 },
            32 => Self::Rot { pack: any(), place: any() },
            33 => Self::Repair,
            34 => Self::ReadAndHeal,
            35 => Self::WriteRun,
            36 => Self::RemoveRuns,
            40..46 => {
                let stop = Some(any() % 30).filter(|stop| *stop < 6);
                Self::Collect {
                    percent: [0, 60, 60, 100][usize::from(any() % 2 == 0) + usize::from(any() % 3 == 0) * 2],
                    stop,
                }
            }
            46..48 => Self::AddAround { name: any(), tree: any() },
            48..50 => Self::PullAround { version: any(), held: any() % 2 == 0 },
            50..52 => Self::Hold { release: any() },
            52..62 => Self::Optimise { stop: Some(any() % 60).filter(|stop| *stop < 20) },
            _ => Self::Reopen,
        }
    }

    /// The change of names that it is now, if it is one and there is something to change.
    pub(crate) fn change(self, model: &Model, world: &World) -> Option<Change> {
        let names = &model.names;
        let change = match self {
            Self::Add { name, tree } | Self::AddAround { name, tree } => {
                let (package, version) = (of(&LOCAL, name)?, of(&VERSIONS, name / 7)?);
                let release = world.place(package, version, Some(pick(world.trees(), tree)?));
                Change::Publish { release }
            }
            Self::Tag { release, channel } => {
                let release = *nth(names.refs.values(), release)?;
                Change::Tag { release, channel: of(&CHANNELS, channel)? }
            }
            Self::RemoveRef { release } => Change::RemoveRef { release: *nth(names.refs.values(), release)? },
            Self::RemoveChannel { channel } => {
                let (package, channel) = nth(names.channels.keys(), channel)?.clone();
                Change::RemoveChannel { package, channel }
            }
            Self::Pull { version } | Self::PullAround { version, .. } => {
                Change::Pull { release: world.place(FAR, of(&VERSIONS, version)?, None), partial: false }
            }
            Self::PullObjects { version } => {
                Change::Pull { release: world.place(FAR, of(&VERSIONS, version)?, None), partial: true }
            }
            Self::Complete { release } => Change::Complete { release: *nth(model.partial.iter(), release)? },
            Self::Use { profile, set, remove } => usage(model, world, profile, set, remove)?,
            Self::Switch { profile, to } => {
                let (profile, series) = shown(model, profile)?;
                Change::Switch { profile, to: *nth(series.generations.keys(), to)? }
            }
            Self::Rollback { profile } => {
                let (profile, series) = shown(model, profile)?;
                let to = *series.generations.range(..series.current).next_back()?.0;
                Change::Rollback { profile, to }
            }
            Self::Pin { profile, number } => {
                let (profile, series) = shown(model, profile)?;
                Change::Pin { profile, number: *nth(series.generations.keys(), number)? }
            }
            Self::Unpin { profile, number } => {
                let (profile, series) = shown(model, profile)?;
                Change::Unpin { profile, number: *nth(series.pins.iter(), number)? }
            }
            Self::Prune { profile, keep } => {
                Change::Prune { profile: shown(model, profile)?.0, keep: pick(3, keep)? }
            }
            _ => return None,
        };
        Some(change)
    }
}

fn usage(model: &Model, world: &World, profile: u64, set: [u64; 2], remove: Option<u64>) -> Option<Change> {
    let profile = of(&PROFILES, profile)?;
    let whole = || model.names.refs.values().filter(|place| !model.partial.contains(place));
    let mut chosen: Vec<usize> = Vec::new();
    for place in set.into_iter().filter_map(|number| nth(whole(), number)) {
        if chosen.iter().all(|other| world.at(*other).package != world.at(*place).package) {
            chosen.push(*place);
        }
    }
    let series = model.names.profiles.get(profile);
    let packages = series.and_then(|series| series.generations.get(&series.current));
    let removable = packages.into_iter().flat_map(|(_, packages)| packages.keys());
    let gone = remove.and_then(|number| nth(removable, number));
    let gone = gone.filter(|name| chosen.iter().all(|place| world.at(*place).package != **name));
    let remove: Vec<String> = gone.into_iter().cloned().collect();
    let is_something = !chosen.is_empty() || !remove.is_empty();
    is_something.then_some(Change::Use { profile, set: chosen, remove })
}

/// A profile that shows something.
fn shown(model: &Model, number: u64) -> Option<(&'static str, &Series)> {
    let there = PROFILES.iter().filter_map(|name| Some((*name, model.names.profiles.get(*name)?)));
    nth(there, number)
}

/// One of so many.
pub(crate) fn pick(count: usize, number: u64) -> Option<usize> {
    let count = u64::try_from(count).ok()?;
    usize::try_from(number.checked_rem(count)?).ok()
}

fn of<T: Copy>(all: &[T], number: u64) -> Option<T> {
    Some(all[pick(all.len(), number)?])
}

fn nth<I: Iterator + Clone>(all: I, number: u64) -> Option<I::Item> {
    let place = pick(all.clone().count(), number)?;
    all.clone().nth(place)
}
