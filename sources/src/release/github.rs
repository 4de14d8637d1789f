//! GitHub's API of releases, or one like it.

use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use super::absent::{clean, closest, listed};
use super::wanted::Wanted;
use super::{Ask, link};
use crate::config::{Origin, Package, Strategy};
use crate::error::{Error, Result};
use crate::http::{Get, Http, Text, Token, address};
use crate::sha256::Sha256;
use crate::template::{Template, Words};
use crate::watch::Watch;

/// Longest answer of the API, in bytes.
const ANSWER_LEN_MAX: usize = 16 << 20;
/// Pages of one listing, at most.
const PAGES_MAX: usize = 100;
/// Releases a page; each may have hundreds of files.
const RELEASES_A_PAGE: usize = 30;
/// Files a page: as many as GitHub gives.
const FILES_A_PAGE: usize = 100;
/// Versions that are named where another one is wanted.
pub(super) const VERSIONS_NAMED: usize = 10;

/// One repository.
pub(super) struct GitHub<'a> {
    http: &'a Http,
    watch: &'a dyn Watch,
    package: &'a Package,
    /// Without a slash at the end.
    api: String,
    repository: &'a str,
    tag: &'a Template,
    token_env: &'a [String],
    token: Option<Token>,
}

/// A release, as the API describes it. What is not looked at is left out.
#[derive(Debug, Deserialize)]
pub(super) struct Release {
    pub(super) tag_name: String,
    pub(super) html_url: String,
    assets_url: String,
    #[serde(default)]
    draft: bool,
}

/// A file of a release, as the API describes it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct File {
    pub(super) name: String,
    url: String,
    browser_download_url: String,
    pub(super) size: u64,
    #[serde(default)]
    state: Option<String>,
    /// `sha256:` and digits: what GitHub counted itself.
    #[serde(default)]
    digest: Option<String>,
}

impl File {
    /// What the server counted, if it says it.
    pub(super) fn sha256(&self) -> Option<Sha256> {
        self.digest.as_deref()?.strip_prefix("sha256:")?.parse().ok()
    }
}

impl<'a> GitHub<'a> {
    /// The repository of a package.
    pub(super) fn new(
        http: &'a Http,
        package: &'a Package,
        origin: &'a Origin,
        watch: &'a dyn Watch,
    ) -> Result<Self> {
        let Origin::GitHub { api, repository, tag, token_env } = origin else {
            return Err(Error::Usage {
                problem: format!("the releases of {} are not on GitHub", package.name),
                hint: String::new(),
            });
        };
        let part_fits = |part: &str| {
            let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !part.is_empty() && part.chars().all(is_fine) && part != "." && part != ".."
        };
        if !repository.split_once('/').is_some_and(|(owner, name)| part_fits(owner) && part_fits(name)) {
            return Err(Error::Usage {
                problem: format!("{:?} is no repository", clean(repository)),
                hint: "write it as OWNER/NAME".to_owned(),
            });
        }
        let url = address::parse(api)?;
        let token = http.token(token_env, &url, watch)?;
        let api = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, watch, package, api, repository, tag, token_env, token })
    }

    fn releases(&self, path: &str) -> Result<Url> {
        address::parse(&format!("{}/repos/{}/releases{path}", self.api, self.repository))
    }

    fn question(&self, url: Url) -> Get {
        let variable = self.token_env.first().cloned();
        Get { token: self.token.clone(), variable, is_api: true, ..Get::of(url) }
    }

    fn ask(&self, url: Url) -> Result<Option<Text>> {
        self.http.whole_kept(&self.question(url), ANSWER_LEN_MAX, self.watch)
    }

    /// The tag of a version.
    fn tag(&self, version: &str) -> String {
        let name = Some(self.package.name.as_str());
        self.tag.fill(&Words { name, version: Some(version), ..Words::default() })
    }

    /// The release of a version.
    pub(super) fn release(&self, ask: &Ask<'_>) -> Result<Release> {
        let tag = self.tag(ask.version);
        let text = self.ask(self.releases(&format!("/tags/{}", super::escape(&tag)))?)?;
        let release = text.map(|text| understand::<Release>(&text)).transpose()?;
        match release.filter(|release| !release.draft) {
            Some(release) if release.tag_name == tag => Ok(release),
            Some(release) => Err(Error::Unavailable {
                what: format!("{}/repos/{}", self.api, self.repository),
                reason: format!("asked for {}, it answers with {}", clean(&tag), clean(&release.tag_name)),
                hint: "see whether the address of the API is right".to_owned(),
            }),
            None => {
                let versions = self.versions(VERSIONS_NAMED)?;
                Err(self.no_version(ask.version, &versions))
            }
        }
    }

    fn no_version(&self, version: &str, versions: &[String]) -> Error {
        let name = &self.package.name;
        let place = format!("{} of {}", self.repository, self.api);
        let hint = match versions {
            [] => {
                let other = super::other_strategy(self.package, Strategy::Release);
                format!("no release is published there with a tag like {}{other}", self.tag)
            }
            versions => format!("there are {}", listed(versions, VERSIONS_NAMED)),
        };
        Error::Absent { what: format!("{name} has no release {} at {place}", clean(version)), hint }
    }

    fn no_repository(&self) -> Error {
        let what = format!("there is no repository {} at {}", self.repository, self.api);
        let hint = match (&self.token, self.token_env.first()) {
            (Some(token), _) => format!("if it is private, the token of ${} may not see it", token.variable),
            (None, Some(variable)) => format!("if it is private, it needs a token in ${variable}"),
            (None, None) => "if it is private, it needs a token: name its variable in token_env".to_owned(),
        };
        Error::Absent { what, hint }
    }

    /// The versions that have a release, newest first.
    pub(super) fn versions(&self, max: usize) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        let mut next = Some(self.releases(&format!("?per_page={RELEASES_A_PAGE}"))?);
        for _ in 0..PAGES_MAX {
            let Some(url) = next.take().filter(|_| versions.len() < max) else { break };
            let text = self.ask(url.clone())?.ok_or_else(|| self.no_repository())?;
            for release in understand::<Vec<Release>>(&text)?.iter().filter(|release| !release.draft) {
                versions.extend(self.version(&release.tag_name));
            }
            next = self.next(&url, &text)?;
        }
        versions.truncate(max);
        Ok(versions)
    }

    /// The version of a tag, if it is one.
    fn version(&self, tag: &str) -> Option<String> {
        let name = Some(self.package.name.as_str());
        let filled: Template = self.tag.fill(&Words { name, ..Words::default() }).parse().ok()?;
        let version = filled.find("version", tag)?;
        version.parse::<cairn_store::Version>().ok()?;
        Some(version.to_owned())
    }

    /// All files of a release.
    pub(super) fn files(&self, release: &Release) -> Result<Vec<File>> {
        let base = address::parse(&self.api)?;
        let mut first = self.follow(&base, &release.assets_url)?;
        first.query_pairs_mut().append_pair("per_page", &FILES_A_PAGE.to_string());
        let (mut files, mut next) = (Vec::new(), Some(first));
        for _ in 0..PAGES_MAX {
            let Some(url) = next.take() else { return Ok(files) };
            let text = self.ask(url.clone())?.ok_or_else(|| self.no_repository())?;
            files.extend(understand::<Vec<File>>(&text)?);
            next = self.next(&url, &text)?;
        }
        Err(Error::Unavailable {
            what: address::shown(&base),
            reason: format!("the list of the files of {} does not end", clean(&release.tag_name)),
            hint: "see whether the address of the API is right".to_owned(),
        })
    }

    fn next(&self, url: &Url, text: &Text) -> Result<Option<Url>> {
        text.link.as_deref().and_then(link::next).map(|next| self.follow(url, next)).transpose()
    }

    fn follow(&self, from: &Url, to: &str) -> Result<Url> {
        address::follow(from, to).map_err(|reason| Error::Unavailable {
            what: address::shown(from),
            reason,
            hint: "see whether the address of the API is right".to_owned(),
        })
    }

    /// Where a file is downloaded: from the API where a token is needed for it, else as everybody does.
    pub(super) fn url(&self, file: &File) -> Result<Url> {
        let base = address::parse(&self.api)?;
        self.follow(&base, if self.token.is_some() { &file.url } else { &file.browser_download_url })
    }

    /// What is asked for a file that is at `url`.
    pub(super) fn download(&self, url: Url) -> Get {
        request(&self.api, self.token.clone(), url)
    }

    /// The file of a name, exactly.
    pub(super) fn file<'f>(&self, files: &'f [File], wanted: &Wanted, tag: &str) -> Result<&'f File> {
        let name = &self.package.name;
        let Some(file) = files.iter().find(|file| file.name == wanted.name) else {
            let what = format!(
                "the release {} of {name} has no file {} {}",
                clean(tag),
                wanted.name,
                wanted.purpose()
            );
            let hint = closest(&wanted.name, files.iter().map(|file| file.name.as_str()));
            return Err(Error::Absent { what, hint });
        };
        if file.state.as_deref().is_some_and(|state| state != "uploaded") {
            return Err(Error::Unavailable {
                what: format!("{} of the release {} of {name}", wanted.name, clean(tag)),
                reason: "it is not uploaded to its end yet".to_owned(),
                hint: "try again later".to_owned(),
            });
        }
        Ok(file)
    }
}

/// What is asked for a file of a release that is at `url`.
pub(super) fn download(http: &Http, origin: &Origin, url: Url, watch: &dyn Watch) -> Result<Get> {
    let Origin::GitHub { api, token_env, .. } = origin else { return Ok(Get::of(url)) };
    let base = address::parse(api)?;
    let token = http.token(token_env, &base, watch)?;
    Ok(request(base.as_str().trim_end_matches('/'), token, url))
}

/// Files are had from the API where there is a token for it, and else without one.
fn request(api: &str, token: Option<Token>, url: Url) -> Get {
    let is_api = token.is_some() && url.as_str().starts_with(&format!("{api}/"));
    match is_api {
        true => Get { token, is_api, is_asset: true, ..Get::of(url) },
        false => Get::of(url),
    }
}

fn understand<'t, T: Deserialize<'t>>(text: &'t Text) -> Result<T> {
    serde_json::from_slice(&text.body).map_err(|error| Error::Unavailable {
        what: address::shown(&text.url),
        reason: format!("it answers {} with what is not understood: {error}", StatusCode::OK),
        hint: "see whether the address of the API is right".to_owned(),
    })
}
