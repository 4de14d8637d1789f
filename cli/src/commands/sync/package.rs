//! One package, from where it comes to the store: what there is, whether that is here already, bringing it, adding it.
//!
//! An artifact has the programs in `bin/`, and says in its provenance where they come from: `source` (the strategy), `files` and, for a
//! release, `assets` (as `sha256sum` lists them), `verified`, `signed-by`; for a development build `development`, `commit`,
//! `tree` and `machine`. Nothing in it depends on when or where it was synced, so equal releases are equal artifacts.

use std::collections::BTreeMap;

use anyhow::Context;
use cairn_sources::choice::{self, Choice, Flags};
use cairn_sources::config::{Package, PeerSource, ReleaseSource, Signatures, Strategy};
use cairn_sources::release::Found;
use cairn_sources::{Error, Sha256, Watch, release};
use cairn_store::{Platform, Version};
use serde::Deserialize;

use super::facts::{ASSETS, FILES, SOURCE, list, listed, shorten};
use super::shelf::{BIN, Shelf};
use super::staging::{Staged, Staging};
use super::tell::{PackageWatch, Tell};
use super::{SharedHttp, SyncArgs};
use crate::args::{Command, Global, PlatformArg, ThreadsArg};
use crate::client;
use crate::commands::add::{AddArgs, Metadata};
use crate::commands::pull::PullArgs;
use crate::commands::tag::TagArgs;
use crate::error::Usage;
use crate::exchange::{DeltaArgs, FromArgs};
use crate::text;

/// Versions that are shown to somebody who named none.
const VERSIONS_SHOWN: usize = 10;

/// What all packages are brought with.
pub(super) struct Work<'a> {
    pub(super) global: &'a Global,
    pub(super) args: &'a SyncArgs,
    pub(super) platform: Option<&'a Platform>,
    pub(super) flags: Flags<'a>,
    pub(super) shelf: Shelf,
    pub(super) staging: &'a Staging,
    pub(super) http: SharedHttp,
    pub(super) tell: &'a Tell,
}

/// What became of a package.
pub(super) struct Row {
    pub(super) package: String,
    pub(super) strategy: Option<Strategy>,
    pub(super) version: String,
    pub(super) platform: Option<Platform>,
    pub(super) status: Status,
    pub(super) artifact: Option<String>,
    /// Plain bytes that the store did not have; what would come, where nothing is brought.
    pub(super) new_bytes: u64,
    pub(super) stored_bytes: u64,
    pub(super) wire_bytes: u64,
    /// By what it was verified, for people.
    pub(super) verified: String,
    /// The provenance of the artifact.
    pub(super) facts: BTreeMap<String, String>,
    pub(super) generation: Option<u64>,
    /// What would be brought.
    pub(super) plan: Vec<String>,
}

/// How it ended.
pub(super) enum Status {
    /// It is in the store now.
    Added,
    /// It was in the store, and is what the source has.
    Current,
    /// It was to be said, and not done.
    Planned,
    /// It is not in the store.
    Failed(anyhow::Error),
}

/// What is to become an artifact.
pub(super) struct Build<'a> {
    pub(super) package: &'a Package,
    pub(super) version: Version,
    pub(super) platform: Option<Platform>,
    pub(super) files: BTreeMap<String, Sha256>,
    pub(super) facts: BTreeMap<String, String>,
    pub(super) wire_bytes: u64,
}

/// Brings a package; whatever fails is in the row.
pub(super) fn sync(work: &Work<'_>, package: &Package) -> Row {
    let mut row = Row {
        package: package.name.to_string(),
        strategy: None,
        version: String::new(),
        platform: None,
        status: Status::Planned,
        artifact: None,
        new_bytes: 0,
        stored_bytes: 0,
        wire_bytes: 0,
        verified: String::new(),
        facts: BTreeMap::new(),
        generation: None,
        plan: Vec::new(),
    };
    let variable = |key: &str| std::env::var(key).ok();
    let brought = choice::choose(package, &work.flags, &variable).map_err(Into::into).and_then(|choice| {
        row.strategy = Some(choice.strategy);
        row.version = choice.version.clone().unwrap_or_default();
        Run { work, package, choice: &choice, watch: work.tell.of(package.name.as_str()) }.run(&mut row)
    });
    match brought {
        Ok(status) => row.status = status,
        Err(error) => row.status = Status::Failed(error),
    }
    row
}

/// One package on its way.
pub(super) struct Run<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) package: &'a Package,
    pub(super) choice: &'a Choice,
    pub(super) watch: PackageWatch<'a>,
}

impl Run<'_> {
    fn run(&self, row: &mut Row) -> anyhow::Result<Status> {
        let package = self.package;
        match self.choice.strategy {
            Strategy::Release => self.release(package.release.as_ref().context("it has a release")?, row),
            Strategy::Vm => self.machine(package.vm.as_ref().context("it has a machine")?, row),
            Strategy::Ssh => self.machine(package.ssh.as_ref().context("it has a machine")?, row),
            Strategy::Dir => self.folder(package.dir.as_ref().context("it has a folder")?, row),
            Strategy::Peer => self.peer(package.peer.as_ref().context("it has a peer")?, row),
        }
    }

    /// The platform that is wanted: the command line's, else the file's, else this machine's.
    fn platform(&self) -> Platform {
        let said = self.work.platform.or(self.package.platform.as_ref());
        said.cloned().unwrap_or_else(Platform::current)
    }

    fn release(&self, source: &ReleaseSource, row: &mut Row) -> anyhow::Result<Status> {
        let Work { http, shelf, staging, .. } = self.work;
        let (package, platform) = (self.package, self.platform());
        row.platform = Some(platform.clone());
        let said = match self.choice.version.as_deref() {
            Some(said) if said != "latest" => said,
            said => return Err(self.no_version(source, said)),
        };
        let version = source.version(said).to_owned();
        let named: Version = version.parse()?;
        row.version.clone_from(&version);
        let source = &with_key_files(source)?;
        let now = std::time::SystemTime::now();
        let ask = release::Ask { package, source, version: &version, platform: &platform, now };
        let found = release::find(http, &ask, &self.watch)?;
        row.verified.clone_from(&found.verified);
        if let Some(artifact) = shelf.artifact(&package.name, &named, &platform)
            && is_of(&artifact.provenance, &found, package)
        {
            row.facts.clone_from(&artifact.provenance);
            return self.current(row, &named, &platform, artifact.id().to_string());
        }
        if self.work.args.dry_run {
            row.new_bytes = found.assets.iter().filter_map(|asset| asset.size).sum();
            row.plan = found.assets.iter().map(planned).collect();
            return Ok(Status::Planned);
        }
        let staged = staging.begin(package.name.as_str())?;
        let bin = staged.make(BIN)?;
        let brought = release::bring(http, &found, source, staging.downloads(), &bin, shelf, &self.watch)?;
        let mut facts = BTreeMap::from([
            ("release".to_owned(), found.page.clone()),
            ("verified".to_owned(), found.verified.clone()),
        ]);
        if !found.signers.is_empty() {
            facts.insert("signed-by".to_owned(), shorten(&found.signers.join(" ")));
        }
        list(&mut facts, ASSETS, brought.assets.iter().map(|(name, sha256)| (name.as_str(), *sha256)))?;
        let files = brought.files.iter().map(|file| (file.binary.clone(), file.sha256)).collect();
        let wire_bytes = brought.wire_bytes;
        let build = Build { package, version: named, platform: Some(platform), files, facts, wire_bytes };
        self.add(build, &staged, row)
    }

    /// What is said where a release is wanted and no version is named.
    fn no_version(&self, source: &ReleaseSource, said: Option<&str>) -> anyhow::Error {
        let name = &self.package.name;
        let versions = release::versions(&self.work.http, source, self.package, VERSIONS_SHOWN, &self.watch);
        let there = match versions {
            Ok(versions) if versions.is_empty() => "there is no release yet".to_owned(),
            Ok(versions) => format!("there are {}", versions.join(", ")),
            Err(Error::Cancelled) => return Error::Cancelled.into(),
            Err(error) => format!("which versions there are could not be asked: {error}"),
        };
        let problem = match said {
            Some(said) => {
                format!("{name} is wanted as {said}, and a release is never guessed: it needs a version")
            }
            None => format!("no version of {name} is named, and a release is never guessed"),
        };
        let variable = choice::version_variable(name.as_str());
        let hint = format!("`cairn sync {name} --version V`, or `{variable}=V cairn sync {name}`; {there}");
        Error::Usage { problem, hint }.into()
    }

    pub(super) fn add(&self, build: Build<'_>, staged: &Staged, row: &mut Row) -> anyhow::Result<Status> {
        #[derive(Deserialize)]
        struct Added {
            artifact: String,
            platform: String,
            unchanged: bool,
            new_bytes: u64,
            stored_bytes: u64,
            warning: Option<String>,
        }
        let Build { package, version, platform, files, mut facts, wire_bytes } = build;
        facts.insert(SOURCE.to_owned(), self.choice.strategy.to_string());
        list(&mut facts, FILES, files.iter().map(|(name, sha256)| (name.as_str(), *sha256)))?;
        row.version = version.to_string();
        row.wire_bytes = wire_bytes;
        row.facts.clone_from(&facts);
        let command = Command::Add(AddArgs {
            paths: vec![staged.path().to_owned()],
            name: package.name.clone(),
            version: version.clone(),
            platform,
            metadata: Metadata::Portable,
            special_files: false,
            channel: package.channel.clone(),
            replace: self.work.args.replace,
            file_name: None,
            executable: false,
            provenance: facts.into_iter().collect(),
            threads: ThreadsArg::default(),
        });
        let answer = self.call(command)?;
        let added: Added =
            serde_json::from_slice(&answer).context("the answer to `add` is not understood")?;
        if let Some(warning) = added.warning {
            self.watch.warn(&warning);
        }
        (row.new_bytes, row.stored_bytes) = (added.new_bytes, added.stored_bytes);
        row.platform = Some(added.platform.parse()?);
        row.artifact = Some(added.artifact);
        if added.unchanged {
            return Ok(Status::Current);
        }
        self.watch.say(&format!(
            "added {}@{version}: {}, {} of them new",
            package.name,
            text::count(files.len() as u64, "program"),
            text::size(added.new_bytes),
        ));
        Ok(Status::Added)
    }

    /// What is here is what the source has; the channel says so too.
    pub(super) fn current(
        &self,
        row: &mut Row,
        version: &Version,
        platform: &Platform,
        artifact: String,
    ) -> anyhow::Result<Status> {
        let package = self.package;
        (row.version, row.artifact) = (version.to_string(), Some(artifact));
        let Some(channel) = &package.channel else { return Ok(Status::Current) };
        if !self.work.args.dry_run && !self.work.shelf.is_tagged(&package.name, channel, platform, version) {
            self.call(Command::Tag(TagArgs {
                spec: format!("{}@{version}", package.name).parse()?,
                channel: channel.clone(),
                platform: PlatformArg { platform: Some(platform.clone()) },
            }))?;
        }
        Ok(Status::Current)
    }

    fn peer(&self, source: &PeerSource, row: &mut Row) -> anyhow::Result<Status> {
        #[derive(Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        enum Told {
            Plan { version: String, platform: String, artifact: String, plain_bytes: u64, stored_bytes: u64 },
            Pulled { unchanged: bool, plain_bytes: u64, stored_bytes: u64, wire_bytes: u64 },
        }
        let name = source.name.as_ref().unwrap_or(&self.package.name);
        let tag = self.choice.version.clone().or_else(|| source.channel.as_ref().map(ToString::to_string));
        let Some(tag) = tag else {
            let problem = format!("neither a version nor a channel of {name} is named");
            let hint = "--version V, or channel = \"stable\" in the section peer, says which";
            return Err(Usage { problem, hint }.into());
        };
        if *name != self.package.name {
            let problem = format!("{name} is another name than {}", self.package.name);
            return Err(Usage {
                problem,
                hint: "what comes from a peer keeps its name: call the package so",
            }
            .into());
        }
        let from = source.from.iter().map(|url| url.parse()).collect::<Result<Vec<_>, _>>()?;
        let command = Command::Pull(PullArgs {
            spec: format!("{name}@{tag}").parse()?,
            from: FromArgs { from, ..FromArgs::default() },
            to_profile: None,
            dry_run: self.work.args.dry_run,
            lazy: false,
            delta: DeltaArgs::default(),
            replace: self.work.args.replace,
            platform: PlatformArg {
                platform: self.work.platform.or(self.package.platform.as_ref()).cloned(),
            },
        });
        let answer = self.call(command)?;
        row.verified = "BLAKE3 of the artifact".to_owned();
        let mut status = Status::Planned;
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line).context("the answer to `pull` is not understood")? {
                Told::Plan { version, platform, artifact, plain_bytes, stored_bytes } => {
                    row.version = version;
                    row.platform = Some(platform.parse()?);
                    row.artifact = Some(artifact);
                    (row.new_bytes, row.stored_bytes) = (plain_bytes, stored_bytes);
                }
                Told::Pulled { unchanged, plain_bytes, stored_bytes, wire_bytes } => {
                    (row.new_bytes, row.stored_bytes) = (plain_bytes, stored_bytes);
                    row.wire_bytes = wire_bytes;
                    status = if unchanged { Status::Current } else { Status::Added };
                }
            }
        }
        Ok(status)
    }

    fn call(&self, command: Command) -> anyhow::Result<Vec<u8>> {
        // One at a time: each has the store's lock for itself.
        let _turn = self.work.tell.turn();
        client::call(self.work.global, command, &|| self.watch.cancelled())
    }
}

/// Folders of keys as the files that are in them.
fn with_key_files(source: &ReleaseSource) -> anyhow::Result<ReleaseSource> {
    let mut source = source.clone();
    if let Some(Signatures { key_files, .. }) = &mut source.signatures {
        let mut files = Vec::new();
        for path in key_files.drain(..) {
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            let failed = || format!("cannot read the folder of keys {}", path.display());
            let entries =
                path.read_dir().with_context(failed)?.collect::<Result<Vec<_>, _>>().with_context(failed)?;
            let mut found: Vec<_> =
                entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            found.sort();
            if found.is_empty() {
                let problem = format!("there is no key in {}", path.display());
                return Err(Usage {
                    problem,
                    hint: "put the public keys there, each in a file: `gpg --export KEY`",
                }
                .into());
            }
            files.append(&mut found);
        }
        *key_files = files;
    }
    Ok(source)
}

/// Whether what is here is this release, with just the programs that count.
fn is_of(facts: &BTreeMap<String, String>, found: &Found, package: &Package) -> bool {
    let wanted: Option<BTreeMap<_, _>> =
        found.assets.iter().map(|asset| Some((asset.name.clone(), asset.sha256?))).collect();
    let mut programs: Vec<&str> = package.binaries.iter().map(String::as_str).collect();
    programs.sort_unstable();
    let here = listed(facts, FILES);
    wanted.is_some_and(|wanted| wanted == listed(facts, ASSETS))
        && here.keys().map(String::as_str).eq(programs)
        && facts.get("verified") == Some(&found.verified)
}

fn planned(asset: &release::Asset) -> String {
    let size = asset.size.map_or_else(String::new, |size| format!(", {}", text::size(size)));
    let hash =
        asset.sha256.map_or_else(|| "its checksum is waived".to_owned(), |hash| format!("SHA-256 {hash}"));
    let programs: Vec<&str> = asset.gives.iter().map(|given| given.binary.as_str()).collect();
    format!("{}{size}, for {}, {hash}, from {}", asset.name, programs.join(", "), asset.url)
}
