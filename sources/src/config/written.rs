//! `[packages.NAME]` as it is written, and what is wrong with it.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cairn_store::{Channel, Name, Platform};
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::{
    Checksums, FolderSource, MachineSource, Origin, Package, PeerSource, ReleaseSource, Signatures, Strategy,
};
use crate::error::{Error, Result};
use crate::sha256::Sha256;
use crate::template::Template;

/// The public API.
const GITHUB_API: &str = "https://api.github.com";
/// Where a token is looked for.
const GITHUB_TOKENS: [&str; 2] = ["GITHUB_TOKEN", "GH_TOKEN"];
/// Programs of a package, at most.
const BINARIES_MAX: usize = 256;

/// The whole file. What a daemon does is its business.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    packages: BTreeMap<String, Spanned<Entry>>,
    #[serde(default, rename = "snapshots")]
    _snapshots: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    binaries: Vec<String>,
    strategy: Option<String>,
    platform: Option<String>,
    #[serde(default)]
    platforms: BTreeMap<String, String>,
    channel: Option<String>,
    release: Option<Release>,
    vm: Option<Machines>,
    ssh: Option<Machines>,
    dir: Option<Folder>,
    peer: Option<Peer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    github: Option<String>,
    api: Option<String>,
    tag: Option<Template>,
    token_env: Option<String>,
    url: Option<Template>,
    versions: Option<String>,
    version_link: Option<Template>,
    asset: Option<Template>,
    member: Option<Template>,
    #[serde(default)]
    strip: usize,
    checksums: Option<Template>,
    #[serde(default)]
    sha256: BTreeMap<String, Sha256>,
    #[serde(default)]
    unverified: Vec<Template>,
    signatures: Option<Template>,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    minisign_keys: Vec<String>,
    signatures_required: Option<NonZero<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Machines {
    machines: Vec<String>,
    path: Template,
    tree: Option<String>,
    user: Option<String>,
    ssh: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    path: Template,
    tree: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    #[serde(default)]
    from: Vec<String>,
    name: Option<String>,
    channel: Option<String>,
}

/// The packages of the file at `path`, in the order of their names.
///
/// # Errors
/// [`Error::Config`] with the line of what is wrong.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Package>> {
    let bad = |span: Option<Range<usize>>, problem: &str| {
        let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
        let problem = problem.trim().replace('\n', " ");
        Error::Config { path: path.to_owned(), line: before.matches('\n').count() + 1, problem }
    };
    let file: File = toml::from_str(text).map_err(|error| bad(error.span(), error.message()))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut packages = Vec::with_capacity(file.packages.len());
    for (name, entry) in file.packages {
        let span = entry.span();
        let package = entry.into_inner().package(&name, base);
        packages.push(
            package.map_err(|problem| bad(Some(span.clone()), &format!("[packages.{name}]: {problem}")))?,
        );
    }
    Ok(packages)
}

impl Entry {
    fn package(self, name: &str, base: &Path) -> Result<Package, String> {
        let name: Name = read(name)?;
        check_binaries(&self.binaries)?;
        let has_one_program = self.binaries.len() == 1;
        let release = self.release.map(|release| release.source(base)).transpose();
        let machines = |machines: Option<Machines>, is_multipass| {
            machines.map(|machines| machines.source(is_multipass, has_one_program)).transpose()
        };
        let mut package = Package {
            name,
            platforms: self
                .platforms
                .into_iter()
                .map(|(ours, theirs)| Ok((read::<Platform>(&ours)?, theirs)))
                .collect::<Result<_, String>>()?,
            platform: self.platform.as_deref().map(read).transpose()?,
            strategy: Strategy::Release,
            channel: self.channel.as_deref().map(read).transpose()?,
            release: release.map_err(|problem| format!("release: {problem}"))?,
            vm: machines(self.vm, true).map_err(|problem| format!("vm: {problem}"))?,
            ssh: machines(self.ssh, false).map_err(|problem| format!("ssh: {problem}"))?,
            dir: self.dir.map(|folder| folder.source(base, has_one_program)).transpose()?,
            peer: self.peer.map(Peer::source).transpose()?,
            binaries: self.binaries,
        };
        let has = package.strategies();
        let names = || has.iter().map(|strategy| strategy.as_str()).collect::<Vec<_>>().join(", ");
        package.strategy = match (self.strategy, has.first()) {
            (_, None) => {
                return Err(format!(
                    "it says nowhere where it comes from: a section [packages.{}.release], or vm, ssh, dir, peer",
                    package.name
                ));
            }
            (None, Some(first)) => *first,
            (Some(said), Some(_)) => *has
                .iter()
                .find(|strategy| strategy.as_str() == said)
                .ok_or_else(|| format!("strategy = {said:?} has no section here; it has {}", names()))?,
        };
        Ok(package)
    }
}

fn read<T>(text: &str) -> Result<T, String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn check_binaries(binaries: &[String]) -> Result<(), String> {
    if binaries.is_empty() || binaries.len() > BINARIES_MAX {
        return Err(format!("binaries are 1 to {BINARIES_MAX} names of programs"));
    }
    for (nth, binary) in binaries.iter().enumerate() {
        let is_plain = !binary.is_empty()
            && binary.len() <= 255
            && !binary.starts_with('.')
            && !binary.contains(|c: char| c == '/' || c.is_control());
        if !is_plain {
            return Err(format!("{binary:?} in binaries is no file name"));
        }
        if binaries[..nth].contains(binary) {
            return Err(format!("{binary:?} is twice in binaries"));
        }
    }
    Ok(())
}

impl Release {
    fn source(self, base: &Path) -> Result<ReleaseSource, String> {
        let checksums = Checksums {
            file: self.checksums.clone(),
            pinned: self.sha256.clone(),
            waived: self.unverified.clone(),
        };
        let signatures = self.signatures_of(base)?;
        let (origin, asset) = self.origin()?;
        let Self { member, strip, .. } = self;
        if checksums.file.is_none() && checksums.pinned.is_empty() && checksums.waived.is_empty() {
            return Err(
                "it says nothing of checksums: checksums = \"SHA256SUMS\" or \"{asset}.sha256\", or \
                        sha256 = { \"FILE\" = \"HEX\" }; unverified = [\"FILE\"] takes a file without"
                    .to_owned(),
            );
        }
        let member = match member {
            Some(member) => member,
            None => read("{binary}")?,
        };
        Ok(ReleaseSource { origin, asset, member, strip, checksums, signatures })
    }

    fn origin(&self) -> Result<(Origin, Template), String> {
        match (&self.github, &self.url) {
            (Some(repository), None) => {
                let is_pair = repository.split('/').filter(|part| !part.is_empty()).count() == 2
                    && repository.matches('/').count() == 1;
                if !is_pair {
                    return Err(format!("github = {repository:?} is not OWNER/REPOSITORY"));
                }
                let asset =
                    self.asset.clone().ok_or("asset = \"{binary}-{platform}\" lacks: a file's name")?;
                let api = self.api.as_deref().unwrap_or(GITHUB_API).trim_end_matches('/');
                check_url("api", api)?;
                let tag = self.tag.clone().map_or_else(|| read("v{version}"), Ok)?;
                let token_env = match &self.token_env {
                    Some(name) => vec![name.clone()],
                    None => GITHUB_TOKENS.map(str::to_owned).to_vec(),
                };
                let api = api.to_owned();
                if !tag.has("version") {
                    return Err(format!("tag = {tag:?} has no {{version}}", tag = tag.as_str()));
                }
                Ok((Origin::GitHub { api, repository: repository.clone(), tag, token_env }, asset))
            }
            (None, Some(url)) => self.web(url),
            (Some(_), Some(_)) => Err("github and url are both given: it is one of them".to_owned()),
            (None, None) => {
                Err("neither github = \"OWNER/REPOSITORY\" nor url = \"https://…\" is given".to_owned())
            }
        }
    }

    fn web(&self, url: &Template) -> Result<(Origin, Template), String> {
        check_url("url", url.as_str())?;
        if let Some(key) = [("api", &self.api), ("token_env", &self.token_env)]
            .iter()
            .find_map(|(key, value)| value.as_ref().map(|_| key))
        {
            return Err(format!("{key} goes with github, not with url"));
        }
        if !url.has("version") {
            return Err("url has no {version}".to_owned());
        }
        let last = url.as_str().rsplit('/').next().unwrap_or_default();
        let asset = match &self.asset {
            Some(asset) if !url.has("asset") => {
                let asset = asset.as_str();
                return Err(format!("asset = {asset:?} is said, and url has no {{asset}}"));
            }
            Some(asset) => asset.clone(),
            None if last.is_empty() || url.has("asset") => {
                return Err("url ends with no file's name, and asset says none".to_owned());
            }
            None => read(last)?,
        };
        let versions = match (&self.versions, &self.version_link) {
            (Some(page), Some(link)) if link.has("version") => Some((page.clone(), link.clone())),
            (Some(_), Some(link)) => {
                return Err(format!("version_link = {:?} has no {{version}}", link.as_str()));
            }
            (None, None) => None,
            _ => {
                return Err(
                    "versions (a page) and version_link (what links on it look like) go together".to_owned()
                );
            }
        };
        Ok((Origin::Http { url: url.clone(), versions }, asset))
    }

    fn signatures_of(&self, base: &Path) -> Result<Option<Signatures>, String> {
        let has_keys = !self.keys.is_empty() || !self.minisign_keys.is_empty();
        let Some(file) = self.signatures.clone() else {
            return match has_keys || self.signatures_required.is_some() {
                true => {
                    Err("keys, and signatures = \"SHA256SUMS.asc\" that says what they signed, go together"
                        .to_owned())
                }
                false => Ok(None),
            };
        };
        if !has_keys {
            return Err(
                "signatures are of no use without keys = [\"FILE\"] or minisign_keys = [\"RW…\"]".to_owned()
            );
        }
        if self.checksums.is_none() {
            return Err(
                "signatures are over the file that checksums = \"…\" names, and it names none".to_owned()
            );
        }
        if !self.sha256.is_empty() || !self.unverified.is_empty() {
            return Err("what is signed is neither pinned by sha256 nor unverified".to_owned());
        }
        Ok(Some(Signatures {
            file,
            key_files: self.keys.iter().map(|path| base.join(path)).collect(),
            minisign_keys: self.minisign_keys.clone(),
            required: self.signatures_required.unwrap_or(NonZero::<usize>::MIN),
        }))
    }
}

fn check_url(key: &str, text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => Err(format!("{key} = {text:?} is no address: https://HOST/…")),
    }
}

/// A path for several programs says which.
fn check_path(path: &Template, has_one_program: bool) -> Result<(), String> {
    if path.has("binary") || has_one_program {
        return Ok(());
    }
    Err(format!("path = {:?} has no {{binary}}, and there are several", path.as_str()))
}

impl Machines {
    fn source(self, is_multipass: bool, has_one_program: bool) -> Result<MachineSource, String> {
        check_path(&self.path, has_one_program)?;
        if self.machines.is_empty() {
            return Err("machines = [] names none".to_owned());
        }
        if let Some(bad) = self.machines.iter().find(|name| name.is_empty() || name.starts_with('-')) {
            return Err(format!("{bad:?} in machines is no name of a machine"));
        }
        let ssh = self.ssh.unwrap_or_else(|| vec!["ssh".to_owned()]);
        if ssh.first().is_none_or(String::is_empty) {
            return Err("ssh = [] names no program".to_owned());
        }
        let Self { machines, path, tree, user, .. } = self;
        Ok(MachineSource { machines, user, path, tree, ssh, is_multipass })
    }
}

impl Folder {
    fn source(self, base: &Path, has_one_program: bool) -> Result<FolderSource, String> {
        check_path(&self.path, has_one_program)?;
        let path = match base.join(self.path.as_str()).to_str() {
            Some(path) => read(path)?,
            None => return Err("dir: the path is not UTF-8".to_owned()),
        };
        Ok(FolderSource { path, tree: self.tree.map(|tree| base.join(tree)) })
    }
}

impl Peer {
    fn source(self) -> Result<PeerSource, String> {
        let name = self.name.as_deref().map(read::<Name>).transpose()?;
        let channel = self.channel.as_deref().map(read::<Channel>).transpose()?;
        Ok(PeerSource { from: self.from, name, channel })
    }
}
