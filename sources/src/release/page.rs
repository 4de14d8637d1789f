//! Releases that are files of a web server: addresses by a template, versions by the links of a page.

use std::collections::BTreeSet;

use cairn_store::Version;
use url::Url;

use super::Ask;
use super::absent::{clean, closest, listed};
use super::github::VERSIONS_NAMED;
use super::trust::{TEXT_LEN_MAX, Texts};
use super::wanted::Wanted;
use crate::config::{Origin, Package, ReleaseSource};
use crate::error::{Error, Result};
use crate::http::{Get, Http, address};
use crate::template::{Template, Words};
use crate::watch::Watch;

/// Longest page of versions, in bytes.
const PAGE_LEN_MAX: usize = 16 << 20;

/// The release of a version on a web server.
pub(super) struct Page<'a> {
    pub(super) http: &'a Http,
    pub(super) watch: &'a dyn Watch,
    pub(super) ask: &'a Ask<'a>,
    pub(super) url: &'a Template,
}

impl Page<'_> {
    /// The address of a file, beside that of a file that is wanted.
    pub(super) fn address(&self, name: &str, wanted: &Wanted) -> Result<Url> {
        let binary = wanted.gives.first().map(|given| given.binary.as_str());
        let escaped = super::escape(name);
        let words = Words { binary, asset: Some(&escaped), ..self.ask.words() };
        let url = address::parse(&self.ask.fill(self.url, &words)?)?;
        if self.url.has("asset") {
            return Ok(url);
        }
        url.join(&escaped).map_err(|error| Error::Usage {
            problem: format!("{} has no address beside {url}: {error}", clean(name)),
            hint: "see url in the configuration".to_owned(),
        })
    }

    /// The folder of the release, for people.
    pub(super) fn folder(&self, wanted: &Wanted) -> Result<String> {
        let url = self.address(&wanted.name, wanted)?;
        Ok(url.join(".").map_or_else(|_| address::shown(&url), |folder| address::shown(&folder)))
    }

    /// The length of a file in bytes, if the server tells it; an error where it has no such file.
    pub(super) fn length(&self, wanted: &Wanted) -> Result<Option<u64>> {
        let url = self.address(&wanted.name, wanted)?;
        match self.http.length(&url, self.watch)? {
            Some(length) => Ok(length),
            None => Err(self.absent(&wanted.name, wanted)?),
        }
    }

    /// What it means that the server has no such file: there is no such version, or the release lacks it.
    fn absent(&self, name: &str, wanted: &Wanted) -> Result<Error> {
        let (package, version) = (&self.ask.package.name, clean(self.ask.version));
        let folder = self.folder(wanted)?;
        let known = match &self.ask.source.origin {
            Origin::Http { versions: Some(_), .. } => {
                versions(self.http, self.ask.source, self.ask.package, usize::MAX, self.watch)?
            }
            _ => Vec::new(),
        };
        if !known.is_empty() && !known.iter().any(|known| known == self.ask.version) {
            let what = format!("{package} has no release {version} at {folder}");
            return Ok(Error::Absent { what, hint: format!("there are {}", listed(&known, VERSIONS_NAMED)) });
        }
        if known.is_empty() {
            let what = format!("{package} has no release {version} with a file {} at {folder}", clean(name));
            let hint = "see at that address whether the version and the name are right".to_owned();
            return Ok(Error::Absent { what, hint });
        }
        let purpose = match name == wanted.name {
            true => wanted.purpose(),
            false => format!("that says what {} has to be", wanted.name),
        };
        let what = format!("the release {version} of {package} has no file {} {purpose}", clean(name));
        Ok(Error::Absent { what, hint: format!("see what there is at {folder}") })
    }
}

impl Texts for Page<'_> {
    fn label(&self) -> String {
        format!("the release {} of {}", self.ask.version, self.ask.package.name)
    }

    fn text(&self, name: &str, wanted: &Wanted) -> Result<Vec<u8>> {
        let url = match super::is_address(name) {
            true => address::parse(name)?,
            false => self.address(name, wanted)?,
        };
        match self.http.whole(&Get::of(url), TEXT_LEN_MAX, self.watch)? {
            Some(text) => Ok(text.body),
            None => Err(self.absent(name, wanted)?),
        }
    }

    fn unlisted(&self, wanted: &Wanted, sums: &str, names: &[&str]) -> Error {
        if names.is_empty() {
            return super::trust::without_checksum(&self.label(), wanted, sums, names);
        }
        let what = format!("{} has no file {} {}", self.label(), wanted.name, wanted.purpose());
        Error::Absent {
            what,
            hint: format!("by {}, {}", clean(sums), closest(&wanted.name, names.iter().copied())),
        }
    }
}

/// The versions that the page of a source links to, newest first.
pub(super) fn versions(
    http: &Http,
    source: &ReleaseSource,
    package: &Package,
    max: usize,
    watch: &dyn Watch,
) -> Result<Vec<String>> {
    let name = &package.name;
    let Origin::Http { versions: Some((page, link)), .. } = &source.origin else {
        return Err(Error::Usage {
            problem: format!("nothing says where the versions of {name} are listed"),
            hint: format!("name a page with links to them: versions in [packages.{name}.release]"),
        });
    };
    let page = address::parse(&Template::fill(
        &page_template(page)?,
        &Words { name: Some(name.as_str()), ..Words::default() },
    ))?;
    let text =
        http.whole_kept(&Get::of(page.clone()), PAGE_LEN_MAX, watch)?.ok_or_else(|| Error::Absent {
            what: format!("there is no page {}", address::shown(&page)),
            hint: format!("see versions in [packages.{name}.release]"),
        })?;
    let filled = link.fill(&Words { name: Some(name.as_str()), ..Words::default() });
    let link: Template = filled.parse().map_err(|problem| Error::Usage {
        problem,
        hint: format!("see versions in [packages.{name}.release]"),
    })?;
    let body = String::from_utf8_lossy(&text.body);
    let found: BTreeSet<Version> =
        links(&body).filter_map(|target| linked(&link, target)?.parse().ok()).collect();
    Ok(found.into_iter().rev().take(max).map(String::from).collect())
}

fn page_template(page: &str) -> Result<Template> {
    page.parse()
        .map_err(|problem| Error::Usage { problem, hint: "see versions in the configuration".to_owned() })
}

/// Where the links of a page lead, as they are written.
fn links(html: &str) -> impl Iterator<Item = &str> {
    html.match_indices("href").chain(html.match_indices("HREF")).filter_map(|(at, word)| {
        let value = html[at + word.len()..].trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next()?;
        match quote {
            '"' | '\'' => value[1..].split_once(quote).map(|(target, _)| target),
            _ => value.split(|c: char| c.is_whitespace() || c == '>').next(),
        }
    })
}

/// The version of a link that looks like the template: as many of its last parts as that has. A template of a folder is for folders.
fn linked(template: &Template, target: &str) -> Option<String> {
    let path = target.split(['?', '#']).next()?;
    if template.as_str().ends_with('/') && !path.ends_with('/') {
        return None;
    }
    let path = path.trim_end_matches('/');
    let pattern = template.as_str().trim_end_matches('/');
    let parts = pattern.split('/').count();
    let start = path.rmatch_indices('/').nth(parts - 1).map_or(0, |(at, _)| at + 1);
    let tail = super::unescape(&path[start..])?;
    pattern.parse::<Template>().ok()?.find("version", &tail).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_as_servers_write_them() {
        let html = "<a href=\"../\">../</a> <A HREF='bitcoin-core-29.0/'>x</A> <a class=b href = bitcoin-core-28.1/>y</a> href";
        let mut found: Vec<_> = links(html).collect();
        found.sort_unstable();
        assert_eq!(found, ["../", "bitcoin-core-28.1/", "bitcoin-core-29.0/"]);
        assert_eq!(links("href=\"open").count(), 0);
        assert_eq!(links("hrefhrefhref=é").collect::<Vec<_>>(), ["é"]);
    }

    #[test]
    fn versions_are_read_out_of_links() {
        let version = |template: &str, target: &str| linked(&template.parse().unwrap(), target);
        let found = |text: &str| Some(text.to_owned());
        for target in [
            "bitcoin-core-29.0/",
            "/bin/bitcoin-core-29.0/",
            "https://a.b/bin/bitcoin-core-29.0/?x#y",
            "./bitcoin-core-29.0/",
        ] {
            assert_eq!(version("bitcoin-core-{version}/", target), found("29.0"), "{target}");
        }
        assert_eq!(version("v{version}/app.tar.gz", "/dl/v1.0%2B1/app.tar.gz"), found("1.0+1"));
        for target in [
            "",
            "/",
            "other-29.0/",
            "bitcoin-core-29.0",
            "bitcoin-core-3.2-notes.txt",
            "bitcoin-core-/",
            "x-bitcoin-core-29.0",
            "a%zz",
            "%ff",
        ] {
            assert_eq!(version("bitcoin-core-{version}/", target), None, "{target}");
        }
    }
}
