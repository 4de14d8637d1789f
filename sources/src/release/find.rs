//! From a version to the files that are wanted, each with what it has to hash to.

use super::absent::{clean, closest};
use super::github::{File, GitHub, Release};
use super::page::Page;
use super::trust::{self, TEXT_LEN_MAX, Texts, Trusted};
use super::wanted::{Wanted, wanted};
use super::{Ask, Asset, Found};
use crate::config::Origin;
use crate::error::{Error, Result};
use crate::http::{Get, Http, address};
use crate::watch::Watch;

pub(super) fn find(http: &Http, ask: &Ask<'_>, watch: &dyn Watch) -> Result<Found> {
    let wanted = wanted(ask)?;
    match &ask.source.origin {
        Origin::Http { url, .. } => on_page(&Page { http, watch, ask, url }, &wanted),
        origin @ Origin::GitHub { .. } => {
            let github = GitHub::new(http, ask.package, origin, watch)?;
            on_github(http, ask, &github, &wanted, watch)
        }
    }
}

fn on_page(page: &Page<'_>, wanted: &[Wanted]) -> Result<Found> {
    let trusted = trust::trusted(page.ask, page, wanted, page.watch)?;
    let mut places = Vec::new();
    for file in wanted {
        let size = page.length(file)?;
        places.push((page.address(&file.name, file)?.into(), size));
    }
    let folder = page.folder(&wanted[0])?;
    Ok(put_together(page.ask, folder, wanted, places, trusted))
}

fn on_github(
    http: &Http,
    ask: &Ask<'_>,
    github: &GitHub<'_>,
    wanted: &[Wanted],
    watch: &dyn Watch,
) -> Result<Found> {
    let release = github.release(ask)?;
    let files = github.files(&release)?;
    let mut chosen = Vec::new();
    for file in wanted {
        chosen.push(github.file(&files, file, &release.tag_name)?);
    }
    let texts = Tagged { http, ask, github, release: &release, files: &files, watch };
    let trusted = trust::trusted(ask, &texts, wanted, watch)?;
    let mut places = Vec::new();
    for ((file, wanted), hash) in chosen.iter().zip(wanted).zip(&trusted.hashes) {
        if let (Some(counted), Some(hash)) = (file.sha256(), hash)
            && counted != *hash
        {
            return Err(Error::Untrusted {
                what: format!("{} of {}", wanted.name, texts.label()),
                reason: format!("it has to hash to {hash}, and the server has one of {counted}"),
                hint: "the file or its checksum was changed after the other: ask the project".to_owned(),
            });
        }
        places.push((github.url(file)?.into(), Some(file.size)));
    }
    let page = match address::parse(&release.html_url) {
        Ok(page) => page.into(),
        Err(_) => clean(&release.html_url),
    };
    Ok(put_together(ask, page, wanted, places, trusted))
}

fn put_together(
    ask: &Ask<'_>,
    page: String,
    wanted: &[Wanted],
    places: Vec<(String, Option<u64>)>,
    trusted: Trusted,
) -> Found {
    let assets = wanted.iter().zip(places).zip(trusted.hashes);
    let assets = assets.map(|((file, (url, size)), sha256)| Asset {
        name: file.name.clone(),
        url,
        size,
        sha256,
        gives: file.gives.clone(),
    });
    Found {
        version: ask.version.to_owned(),
        page,
        assets: assets.collect(),
        verified: trusted.verified,
        signers: trusted.signers,
    }
}

/// The small files of a release on GitHub.
struct Tagged<'a> {
    http: &'a Http,
    ask: &'a Ask<'a>,
    github: &'a GitHub<'a>,
    release: &'a Release,
    files: &'a [File],
    watch: &'a dyn Watch,
}

impl Texts for Tagged<'_> {
    fn label(&self) -> String {
        format!("the release {} of {}", clean(&self.release.tag_name), self.ask.package.name)
    }

    fn text(&self, name: &str, wanted: &Wanted) -> Result<Vec<u8>> {
        let get = match super::is_address(name) {
            true => Get::of(address::parse(name)?),
            false => {
                let file = self.files.iter().find(|file| file.name == name).ok_or_else(|| Error::Absent {
                    what: format!(
                        "{} has no file {} that says what {} has to be",
                        self.label(),
                        clean(name),
                        wanted.name
                    ),
                    hint: closest(name, self.files.iter().map(|file| file.name.as_str())),
                })?;
                self.github.download(self.github.url(file)?)
            }
        };
        let text = self.http.whole(&get, TEXT_LEN_MAX, self.watch)?;
        let text = text.ok_or_else(|| Error::Absent {
            what: format!("there is no {}", address::shown(&get.url)),
            hint: format!("{} has to have it; see whether it was removed", self.label()),
        })?;
        Ok(text.body)
    }

    fn unlisted(&self, wanted: &Wanted, sums: &str, names: &[&str]) -> Error {
        trust::without_checksum(&self.label(), wanted, sums, names)
    }
}
